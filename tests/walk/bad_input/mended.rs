//! What Envoy mends before anybody reads it, and what is odd but harmless: admitted, and everybody behind reads the same.

use bulkhead_tests::books::{Books, text};
use bulkhead_tests::client::{Part, Raw};
use bulkhead_tests::gateway::{Gateway, chat_body};

use super::{CHAT, JSON, request};

const PREDICT: &str = "/api/v1/tenants/acme/models/llama/predict";

/// Targets, and the one spelling of each that service, route, upstream and audit know.
const TARGETS: &[(&str, &str)] = &[
    ("/v1/./chat/completions", CHAT),
    ("/v1/x/../chat/completions", CHAT),
    ("//v1///chat/completions", CHAT),
    ("/v1/%63hat/completions", CHAT),
    ("/v1/%2e/chat/completions", CHAT),
    ("/v1\\chat\\completions", CHAT),
    ("/api/v1/tenants/globex/../acme/models/llama/predict", PREDICT),
    ("/api/v1/tenants/%61cme/models/%6clama/predict", PREDICT),
    ("http://ai.example/v1/chat/completions", CHAT),
    ("http://user:secret-7d1@ai.example/v1/chat/completions", CHAT),
];

/// Name and value.
type Field = (&'static str, &'static [u8]);

/// Further headers, and the name and value that may arrive of them.
const HEADERS: &[(&[u8], Option<Field>)] = &[
    (b"x-note: \xff\xfe\xc3\x28", Some(("x-note", b"\xff\xfe\xc3\x28"))),
    (b"x-note: acm\xe9, \xf0\x9f\x90\x99", Some(("x-note", b"acm\xe9, \xf0\x9f\x90\x99"))),
    (b"x-note:", Some(("x-note", b""))),
    (b"x-tenant-id: acme\nx-envoy-retry-on: 5xx", None),
    (b"expect: 100-continue", None),
    (b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__", None),
];

#[tokio::test]
async fn all_read_the_same() {
    let gateway = Gateway::builder().start().await;
    let body = chat_body("[prompt=2] [tokens=1]").to_string();
    let mut ids = Vec::new();
    let mut ask = async |what: &str, bytes: Vec<u8>| {
        let mut connection = Raw::connect(gateway.addr).await;
        connection.send(&bytes).await;
        let answer = connection.answer().await.unwrap_or_else(|| panic!("{what}: closed"));
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        ids.push(answer.header("x-request-id").unwrap_or_default().to_owned());
    };
    for (target, _) in TARGETS {
        ask(target, request(&gateway, &format!("POST {target}"), JSON, body.as_bytes())).await;
    }
    for (header, _) in HEADERS {
        let whole = request(&gateway, &format!("POST {CHAT}"), JSON, body.as_bytes());
        let line = whole.windows(2).position(|two| two == b"\r\n").expect("a line") + 2;
        let bytes = [&whole[..line], header, b"\r\n", &whole[line..]].concat();
        ask(&String::from_utf8_lossy(header), bytes).await;
    }

    let books = Books::closed(&gateway, &ids).await;
    for (id, (target, canonical)) in ids.iter().zip(TARGETS) {
        assert_eq!(text(books.line(id), "path"), *canonical, "{target}");
        let [seen] = books.seen(id) else { panic!("{target}: sent once") };
        assert_eq!((seen.path.as_str(), seen.authority.as_str()), (CHAT, "ai.example"), "{target}");
        assert_eq!(seen.header("x-tenant-id").as_deref(), Some("acme"), "{target}");
        assert!(!seen.shown().to_string().contains("secret-7d1"), "{target}: {:#}", seen.shown());
    }
    for (id, (header, arrives)) in ids[TARGETS.len()..].iter().zip(HEADERS) {
        let what = String::from_utf8_lossy(header);
        let [seen] = books.seen(id) else { panic!("{what}: sent once") };
        for name in ["x-envoy-retry-on", "expect", "upgrade", "http2-settings", "connection"] {
            assert_eq!(seen.header(name), None, "{what}");
        }
        if let Some((name, value)) = arrives {
            let found = seen.headers.iter().find(|(have, _)| have == name);
            assert_eq!(found.map(|(_, value)| value.as_slice()), Some(*value), "{what}");
        }
    }
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn a_second_host_over_http2_decides_nothing() {
    let gateway = Gateway::builder().start().await;
    let body = chat_body("[prompt=2] [tokens=1]").to_string();
    let bearer = gateway.bearer("acme");
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str()), ("host", "evil.example")];
    let answer = gateway.h2().await.request("POST", CHAT, &headers, vec![Part::Last(body.into())]).await;
    if let Ok(answer) = &answer {
        assert!(matches!(answer.status, 200 | 400), "{}", answer.text());
    }
    for seen in gateway.upstream.record() {
        assert!(!seen.shown().to_string().contains("evil.example"), "{:#}", seen.shown());
    }
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn head_is_refused_without_a_body() {
    let gateway = Gateway::builder().start().await;
    let answer = gateway.request("HEAD", CHAT, &[("authorization", &gateway.bearer("acme"))], "").await;
    assert_eq!((answer.status, answer.body.len()), (405, 0));
    assert!(gateway.upstream.record().is_empty());
}

/// Some Envoys read `..;` as `..`, others leave it alone: another tenant's path, or none at all (A14).
#[tokio::test]
async fn a_parameter_behind_two_dots() {
    let gateway = Gateway::builder().start().await;
    let body = chat_body("hi").to_string();
    let target = "/api/v1/tenants/acme/..;/globex/models/llama/predict";
    let answer =
        gateway.raw(&request(&gateway, &format!("POST {target}"), JSON, body.as_bytes())).await.expect("an answer");
    let said = (answer.status, answer.code());
    assert!([(403, "tenant_conflict".to_owned()), (400, "bad_request".to_owned())].contains(&said), "{said:?}");
    let id = answer.header("x-request-id").expect("an id").to_owned();
    let books = Books::closed(&gateway, std::slice::from_ref(&id)).await;
    books.refused(&answer, said.0, &said.1, target);
}
