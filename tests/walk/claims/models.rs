//! The model of path and body, each by alias, by its own name, unknown, another one, another tenant's, malformed or not
//! there at all: the model that was checked is the one that is priced, routed, sent and written down.

use bulkhead_tests::books::{Books, text};
use bulkhead_tests::client::{Answer, Shot, volley};
use bulkhead_tests::gateway::Gateway;
use gateway_core::denial::Code;

/// What one place says of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    /// A name of the price book's, by this canonical name.
    Known(&'static str),
    Unknown(&'static str),
    /// No model could be called so.
    NoName,
    /// Refused where it stands, with this code.
    Broken(&'static str),
}

const SMALL: &str = "llama-3.1-8b";
const LARGE: &str = "llama-3.1-70b";
const MINI: &str = "gpt-4o-mini";

/// Segments of the path, and what they say.
const IN_PATH: &[(&str, Said)] = &[
    ("", Said::Nothing),
    ("llama", Said::Known(SMALL)),
    ("small", Said::Known(SMALL)),
    ("llama-3.1-8b", Said::Known(SMALL)),
    ("llama-3.1-70b", Said::Known(LARGE)),
    ("gpt-4o-mini", Said::Known(MINI)),
    ("no-such-model", Said::Unknown("no-such-model")),
    ("LLAMA", Said::Unknown("LLAMA")),
    ("llama!", Said::NoName),
    ("-llama", Said::NoName),
    ("llama%25", Said::Broken("bad_request")),
    ("llama/llama", Said::Broken("not_found")),
];

/// Members of the body, and what they say.
const IN_BODY: &[(&str, Said)] = &[
    ("", Said::Nothing),
    (r#""model":"llama","#, Said::Known(SMALL)),
    (r#""model":"ll\u0061ma","#, Said::Known(SMALL)),
    (r#""model" : "llama-3.1-8b" ,"#, Said::Known(SMALL)),
    (r#""model":"llama-3.1-70b","#, Said::Known(LARGE)),
    (r#""model":"gpt-4o-mini","#, Said::Known(MINI)),
    (r#""model":"no-such-model","#, Said::Unknown("no-such-model")),
    (r#""model":"LLAMA","#, Said::Unknown("LLAMA")),
    (r#""model":"llama 8b","#, Said::Broken("model_not_found")),
    (r#""model":"","#, Said::Broken("model_not_found")),
    (r#""model":7,"#, Said::Broken("invalid_body")),
    (r#""model":["llama"],"#, Said::Broken("invalid_body")),
    (r#""model":null,"#, Said::Broken("invalid_body")),
    (r#""model":"llama","model":"llama","#, Said::Broken("invalid_json")),
    (r#""model":"llama","mod\u0065l":"llama","#, Said::Broken("invalid_json")),
    (r#""model":"llama","Model":"llama","#, Said::Broken("invalid_body")),
];

/// What the standard policies say of a tenant: which models, at which provider by which name, at which price for the
/// tokens that are used here (a million in, two out), in millionths of a dollar.
fn target(tenant: &str, model: &str) -> Option<(&'static str, u64)> {
    match (tenant, model) {
        ("acme", SMALL) => Some((SMALL, 180_002)),
        ("acme", LARGE) => Some((LARGE, 880_003)),
        ("initech", SMALL) => Some(("meta-llama/Llama-3.1-8B-Instruct", 180_002)),
        ("initech", MINI) => Some((MINI, 150_003)),
        _ => None,
    }
}

fn verdict(tenant: &str, path: Said, body: Said) -> Result<&'static str, &'static str> {
    if let Said::Broken(code) = path {
        return Err(code);
    }
    if let Said::Broken(code) = body {
        return Err(code);
    }
    let model = match (path, body) {
        (Said::Nothing, Said::Nothing) => return Err("invalid_body"),
        (Said::NoName, _) => return Err("model_not_found"),
        (Said::Nothing, one) | (one, Said::Nothing) => one,
        (one, other) if one == other => one,
        _ => return Err("model_conflict"),
    };
    match model {
        Said::Known(name) if target(tenant, name).is_some() => Ok(name),
        _ => Err("model_not_found"),
    }
}

struct Case {
    tenant: &'static str,
    path: (&'static str, Said),
    body: (&'static str, Said),
    shot: Shot,
}

fn cases(gateway: &Gateway) -> Vec<Case> {
    let mut cases = Vec::new();
    for tenant in ["acme", "initech"] {
        for path in IN_PATH {
            for body in IN_BODY {
                let target = match path.0 {
                    "" => "/v1/chat/completions".to_owned(),
                    model => format!("/api/v1/tenants/{tenant}/models/{model}/predict"),
                };
                let text = r#"[{"role":"user","content":"[prompt=1000000] [tokens=2]"}]"#;
                let json = format!(r#"{{{}"messages":{text}}}"#, body.0);
                let mut shot = Shot::post(target, json).header("authorization", gateway.bearer(tenant));
                shot.http2 = cases.len() % 3 == 2;
                cases.push(Case { tenant, path: *path, body: *body, shot });
            }
        }
    }
    cases
}

#[tokio::test]
async fn the_model_of_path_and_body() {
    let gateway = Gateway::builder()
        .policies(|set| {
            set.spec("Tenant", "initech")["plan"] = "premium".into();
        })
        .start()
        .await;
    let cases = cases(&gateway);
    let shots: Vec<Shot> = cases.iter().map(|case| case.shot.clone()).collect();
    let answers = volley(gateway.addr, &shots, 8).await;
    let answers: Vec<Answer> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    let ids: Vec<String> = answers.iter().map(|one| one.header("x-request-id").unwrap_or_default().into()).collect();
    let books = Books::closed(&gateway, &ids).await;
    let mut admitted = 0;
    for (case, (answer, id)) in cases.iter().zip(answers.iter().zip(&ids)) {
        let what = format!("{}: path `{}`, body `{}`", case.tenant, case.path.0, case.body.0);
        match verdict(case.tenant, case.path.1, case.body.1) {
            Err(code) => {
                let row = Code::named(code).expect("a code of the table").row();
                books.refused(answer, row.status, code, &what);
            }
            Ok(model) => {
                admitted += 1;
                is_one_model(case, answer, model, id, &books, &what);
            }
        }
    }
    assert_eq!(books.sent(), admitted);
    assert!(admitted > 20, "{admitted}");
    eprintln!("models: {} requests, {admitted} admitted", cases.len());
}

fn is_one_model(case: &Case, answer: &Answer, model: &str, id: &str, books: &Books, what: &str) {
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    let (sent, price) = target(case.tenant, model).expect("a target");
    assert_eq!(answer.header("x-bulkhead-model"), Some(model), "{what}");
    let line = books.line(id);
    let (provider, region) = if case.tenant == "acme" { ("gpu-pool", "eu-central") } else { ("hosted", "us-east") };
    assert_eq!(
        (text(line, "model"), text(line, "provider"), text(line, "region")),
        (model, provider, region),
        "{what}: {line}"
    );
    assert_eq!(line["charged"]["microUsd"], price, "{what}: {line}");
    let [seen] = books.seen(id) else { panic!("{what}: upstream saw it {} times", books.seen(id).len()) };
    assert_eq!(seen.version, if case.tenant == "acme" { "HTTP/1.1" } else { "HTTP/2.0" }, "{what}: routed");
    assert_eq!((seen.path.as_str(), &seen.json()["model"]), ("/v1/chat/completions", &sent.into()), "{what}");
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    assert_eq!(body.matches("\"model\"").count(), 1, "{what}: {body}");
}
