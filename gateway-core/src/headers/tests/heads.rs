//! Heads made at random, mostly of what is served and partly of what attackers send, through the whole syntax step: what
//! passes is what DESIGN §3 says of it, told by rules of this file alone.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::claims::{PathTemplate, agree_tenant};

const TEMPLATES: [&str; 3] = ["/v1/chat/completions", "/v1/models", "/api/v1/tenants/{tenant}/models/{model}/predict"];

#[derive(Clone, Debug)]
struct Arrival {
    method: String,
    authority: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
}

fn path() -> impl Strategy<Value = String> {
    let tenant = select(vec!["acme", "globex", "Acme", "ac%6de", "", ".", "..", "acme;a", "a", "root"]);
    let model = select(vec!["gpt-4o", "m:1", "a%2fb", "a/b", "*", "é"]);
    let served = (prop_oneof![1 => select(&TEMPLATES[..2]), 2 => Just(TEMPLATES[2])], tenant, model)
        .prop_map(|(path, tenant, model)| path.replace("{tenant}", tenant).replace("{model}", model));
    let end =
        select(vec!["", "", "", "", "/", "//", "/..", "/%2e", "\\", "#a", "?", "?a=%31&b", "?%6bey=k", "?a=%", "?a b"]);
    let any = "/?([a-z./%;\\\\?= 25efEF\\PC]{0,24})";
    prop_oneof![9 => (served, end).prop_map(|(path, end)| format!("{path}{end}")), 1 => any]
}

fn header() -> impl Strategy<Value = (String, Vec<u8>)> {
    const SERVED: &[(&str, &str)] = &[
        ("authorization", "Bearer a.b-c"),
        ("authorization", "bearer bh_x=="),
        ("x-api-key", "k"),
        ("x-goog-api-key", "k"),
        ("x-tenant-id", "acme"),
        ("x-tenant-id", "globex"),
        ("content-length", "12"),
        ("host", "api.example"),
        ("content-encoding", "identity"),
        ("x-note", "caf\u{e9}, twice"),
        ("cookie", "a=b"),
    ];
    const HOSTILE: &[(&str, &str)] = &[
        ("authorization", "Bearer a, Bearer b"),
        ("authorization", "Basic dTpw"),
        ("x-api-key", "a,b"),
        ("x-tenant-id", "acme,globex"),
        ("x-tenant-id", " acme"),
        ("x-tenant-id", "-acme"),
        ("x_tenant_id", "acme"),
        ("X-Tenant-Id", "acme"),
        ("x-bulkhead-tenant", "acme"),
        ("host", "other.example"),
        ("content-encoding", "gzip"),
        ("content-length", "+1"),
        ("upgrade", "websocket"),
    ];
    let known = |pairs: &'static [(&str, &str)]| {
        select(pairs).prop_map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
    };
    prop_oneof![
        12 => known(SERVED),
        2 => known(HOSTILE),
        1 => ("[a-zA-Z_:-]{0,12}", vec(any::<u8>(), 0..12)),
        1 => (select(vec!["x-tenant-id", "x-api-key", "authorization"]).prop_map(str::to_owned), vec(any::<u8>(), 0..12)),
    ]
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let json = ("content-type".to_owned(), b"application/json".to_vec());
    let method = prop_oneof![4 => Just("POST"), 4 => Just("GET"), 1 => select(vec!["get", "CONNECT", "PUT", ""])];
    let authority = prop_oneof![8 => Just("api.example"), 1 => select(vec!["u@api.example", "a,b", "", "[::1]:80"])];
    (method, authority, path(), vec(header(), 0..4)).prop_map(move |(method, authority, path, mut headers)| {
        headers.push(json.clone());
        Arrival { method: method.into(), authority: authority.into(), path, headers }
    })
}

/// What a reader makes of a path that decodes, takes `\` for `/`, cuts `;` parameters, merges slashes and resolves dots.
fn read_loosely(path: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = path.as_bytes();
    while let [byte, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|_| *byte == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    let decoded = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    for part in decoded.split('/').map(|part| part.split([';', '?', '#']).next().unwrap()) {
        match part {
            "" | "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    let end = if decoded.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

fn is_tenant(name: &str) -> bool {
    let inner = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    inner && (2..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-')
}

/// Whether it passed; panics when it should not have.
fn holds(arrival: &Arrival) -> bool {
    let headers: Vec<(&str, &[u8])> =
        arrival.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let head = Head { method: &arrival.method, authority: &arrival.authority, path: &arrival.path, headers: &headers };
    let Ok(checked) = check(&head, wire::CLAIM_HEADER) else { return false };
    let values = |names: &[&str]| -> Vec<&[u8]> {
        headers
            .iter()
            .filter(|(name, _)| names.contains(&name.to_ascii_lowercase().as_str()))
            .map(|(_, v)| *v)
            .collect()
    };

    assert!(matches!(head.method, "GET" | "POST") && !head.authority.contains(['@', ',', ' ']));
    assert_eq!(read_loosely(checked.path), checked.path);
    assert_eq!(checked.query.map_or(checked.path.to_owned(), |query| format!("{}?{query}", checked.path)), head.path);
    for name in ONCE {
        assert!(values(&[name]).len() <= 1, "{name}");
    }
    assert!(headers.iter().all(|(name, _)| !name.starts_with("x-bulkhead-") && !name.contains('_')));

    match (checked.credential, values(&CREDENTIAL_CARRIERS).as_slice()) {
        (Credential::None, []) => {}
        (Credential::Bearer(secret) | Credential::ApiKey(secret), [value]) => {
            assert!(value.ends_with(secret.as_bytes()));
            assert!(!secret.is_empty() && secret.bytes().all(|b| b.is_ascii_graphic() && b != b','));
        }
        (credential, values) => panic!("{} values, read as {credential:?}", values.len()),
    }
    assert_eq!(values(&[wire::CLAIM_HEADER]), Vec::from_iter(checked.claim.map(str::as_bytes)));
    assert!(checked.claim.is_none_or(is_tenant));
    holds_of_claims(&checked);
    true
}

/// One endpoint at most, and no tenant for whom two claims could both be right.
fn holds_of_claims(checked: &Checked<'_>) {
    let found: Vec<_> =
        TEMPLATES.iter().filter_map(|text| PathTemplate::parse(text).unwrap().matches(checked.path)).collect();
    assert!(found.len() <= 1);
    let in_path = found.first().and_then(|claims| claims.tenant);
    assert!(in_path.is_none_or(|name| !name.is_empty() && !name.contains('/') && checked.path.contains(name)));
    for decided in ["acme", "globex"] {
        let agrees = agree_tenant(&TenantName::parse(decided).unwrap(), in_path, checked.claim).is_ok();
        let equal = [in_path, checked.claim].into_iter().flatten().all(|name| name == decided);
        assert_eq!(agrees, equal, "{in_path:?} {:?}", checked.claim);
    }
}

/// `security.md` A33.
#[test]
fn what_passes_is_canonical_and_unambiguous() {
    let passed = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(8192) });
    let ran = runner.run(&arrival(), |arrival| {
        passed.set(passed.get() + u32::from(holds(&arrival)));
        Ok(())
    });
    ran.unwrap();
    assert!((800..7400).contains(&passed.get()), "{passed:?} of 8192 passed: the test sees one side only");
}
