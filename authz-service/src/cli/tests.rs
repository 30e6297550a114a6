use clap::CommandFactory as _;

use super::*;
use crate::admin::double::start;

/// Runs a command line as `main` does, except for the process's own streams.
fn command(line: &str) -> (Result<(), CliError>, String) {
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    let mut out = Vec::new();
    let outcome = execute(cli, None, &mut out);
    (outcome, String::from_utf8(out).unwrap())
}

/// The same against a running admin API. The command blocks, so it runs beside the API's own runtime.
async fn asked(path: &std::path::Path, line: &str) -> (Result<(), CliError>, String) {
    let line = format!("bulkhead --admin unix:{} {line}", path.display());
    tokio::task::spawn_blocking(move || command(&line)).await.unwrap()
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn serve_is_told_everything() {
    let line = "bulkhead serve --policies p --state s.db --kek-file k --proxies unix:/r/p.sock --admin unix:/r/a.sock --http 127.0.0.1:1 --failed-logins-per-minute 7";
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    let Command::Serve(args) = cli.command else { panic!("{cli:?}") };
    let options = args.into_options(admin_socket(cli.admin, None).unwrap());
    let expected = ServeOptions {
        policies: "p".into(),
        state: "s.db".into(),
        kek_file: "k".into(),
        proxies: "unix:/r/p.sock".parse().unwrap(),
        proxies_tls: None,
        listed: Vec::new(),
        admin: "unix:/r/a.sock".parse().unwrap(),
        http: "127.0.0.1:1".parse().unwrap(),
        mesh: None,
        issuer: "https://bulkhead.internal".into(),
        failed_logins_per_minute: 7.try_into().unwrap(),
    };
    assert_eq!(options, expected);

    let tls = "--proxies-tls 0.0.0.0:1 --tls-cert c --tls-key k --tls-client-ca a --proxy e=spiffe://t/p --proxy f";
    let cli = Cli::try_parse_from(format!("{line} {tls}").split_whitespace()).unwrap();
    let Command::Serve(args) = cli.command else { panic!("{cli:?}") };
    let options = args.into_options(admin_socket(cli.admin, None).unwrap());
    let files = TlsFiles { certificate: "c".into(), key: "k".into(), client_ca: "a".into() };
    let listed = vec!["e=spiffe://t/p".parse().unwrap(), "f".parse().unwrap()];
    let proxies_tls = Some(("0.0.0.0:1".parse().unwrap(), files));
    assert_eq!(options, ServeOptions { proxies_tls, listed, ..expected });
    // half of it is none: nobody listens in plaintext by mistake
    for left_out in ["--tls-cert c", "--tls-key k", "--tls-client-ca a", "--proxies-tls 0.0.0.0:1"] {
        let line = format!("{line} {}", tls.replace(left_out, ""));
        assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{left_out}");
    }
    let nobody = tls.split("--proxy ").next().unwrap();
    assert!(Cli::try_parse_from(format!("{line} {nobody}").split_whitespace()).is_err());
    let plaintext = Cli::try_parse_from(line.replace("unix:/r/p.sock", "0.0.0.0:9000").split_whitespace()).unwrap_err();
    assert!(plaintext.to_string().contains("plaintext is refused") && plaintext.to_string().contains("--proxies-tls"));
}

#[test]
fn the_flag_wins_over_the_variable_and_that_over_the_default() {
    let flag: UnixAddr = "unix:/flag".parse().unwrap();
    let socket = |flag: Option<&UnixAddr>, variable: Option<&str>| {
        admin_socket(flag.cloned(), variable.map(Into::into)).map(|address| address.to_string())
    };
    assert_eq!(socket(Some(&flag), Some("unix:/variable")).unwrap(), "unix:/flag");
    assert_eq!(socket(None, Some("unix:/variable")).unwrap(), "unix:/variable");
    assert_eq!(socket(None, Some("")).unwrap(), DEFAULT_ADMIN);
    assert_eq!(socket(None, None).unwrap(), DEFAULT_ADMIN);
    assert!(matches!(socket(None, Some("/variable")), Err(CliError::Variable(_))));
}

#[test]
fn exit_codes_tell_done_from_failed_from_misused() {
    let ran = |line: &str, variable: Option<&str>| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run_to(line.split_whitespace().map(Into::into), variable.map(Into::into), &mut out, &mut err);
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    };
    assert_eq!(ran("bulkhead version", None), (0, format!("bulkhead {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    let (code, help, err) = ran("bulkhead --help", None);
    assert!(code == 0 && help.contains("BULKHEAD_ADMIN") && err.is_empty(), "{help}");
    for failed in ["bulkhead usage --admin unix:/nowhere/admin.sock", "bulkhead check /nowhere"] {
        let (code, _, err) = ran(failed, None);
        assert!(code == 1 && err.starts_with("bulkhead: ") && err.contains("nowhere"), "{failed}: {code} {err}");
    }
    assert_eq!(ran("bulkhead usage", Some("/run/admin.sock")).0, 2);
    for misused in [
        "bulkhead",
        "bulkhead frobnicate",
        "bulkhead usage --admin /nowhere",
        "bulkhead usage --output xml",
        "bulkhead key create",
        "bulkhead vault put --tenant acme",
        "bulkhead audit tail --limit 0",
        "bulkhead serve --policies p",
    ] {
        let (code, out, err) = ran(misused, None);
        assert!(code == 2 && out.is_empty() && !err.is_empty(), "{misused}: {code} {out}{err}");
    }
}

#[test]
fn no_command_takes_a_secret_as_an_argument() {
    assert!(Cli::try_parse_from("bulkhead vault put --tenant a --provider b sk-1".split(' ')).is_err());
}

#[tokio::test]
async fn a_key_is_printed_once_for_people_and_for_programs() {
    let running = start();
    let (outcome, text) = asked(&running.path, "key create --tenant acme --ttl 48h").await;
    outcome.unwrap();
    assert!(
        text.starts_with("key      bh_sesame\nid       k1\nexpires  1970-01-01T00:00:00Z\nfile     keys/k1.yaml\n"),
        "{text}"
    );
    let (outcome, text) = asked(&running.path, "key create --tenant acme --output json").await;
    outcome.unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["key"], "bh_sesame");
    assert!(running.operations.said()[0].starts_with("create 172800 for acme"));
}

#[tokio::test]
async fn a_refusal_is_the_services_own_words() {
    let running = start();
    for (line, message) in [
        ("key create --tenant acm", "unknown tenant `acm`, did you mean `acme`?"),
        ("key create --tenant acme --ttl 73h", "ttl `73h` is not a duration from 1m to 72h"),
        ("key revoke k2", "unknown key `k2`, did you mean `k1`?"),
    ] {
        let (outcome, text) = asked(&running.path, line).await;
        assert_eq!(outcome.unwrap_err().to_string(), message);
        assert_eq!(text, "");
    }
    let (outcome, _) = asked(&running.path, "reload").await;
    assert!(outcome.unwrap_err().to_string().contains("\n  tenants.yaml:3: unknown field `plann`"));
}

#[tokio::test]
async fn audit_as_json_is_one_record_a_line_as_it_was_written() {
    let running = start();
    let (outcome, text) = asked(&running.path, "audit tail --output json --limit 3").await;
    outcome.unwrap();
    assert_eq!(text, "{\"z\":1,\"a\":2}\n");
    assert_eq!(running.operations.said(), ["audit None 3"]);
}

#[tokio::test]
async fn usage_and_keys_are_printed() {
    let running = start();
    let (outcome, text) = asked(&running.path, "usage").await;
    outcome.unwrap();
    assert!(text.contains("$0.001234"), "{text}");
    let (outcome, text) = asked(&running.path, "usage --output json").await;
    outcome.unwrap();
    assert!(text.contains(r#""microUsd":1234"#), "{text}");
    let (outcome, text) = asked(&running.path, "key list --tenant acme").await;
    outcome.unwrap();
    assert!(text.contains("revoked"), "{text}");
}

#[tokio::test]
async fn a_provider_key_is_read_from_a_stream_and_not_printed() {
    let running = start();
    let mut out = Vec::new();
    vault::put_from(&mut &b"sk-live-1\n"[..], &running.client, "acme", "openai", &mut out).await.unwrap();
    assert_eq!(running.operations.said(), ["put acme/openai sk-live-1"]);
    assert_eq!(String::from_utf8(out).unwrap(), "the key of acme for openai is stored\n");
}
