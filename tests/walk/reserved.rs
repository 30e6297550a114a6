//! What only Bulkhead and Envoy may say (A3): a client's identity, routing and fairness headers reach no upstream in any
//! spelling, as header or as trailer; what the gateway says survives `Connection:`; and nothing that names a tenant in a
//! query or a body decides anything.

use bulkhead_tests::books::Books;
use bulkhead_tests::client::{Answer, Part, Shot, volley};
use bulkhead_tests::gateway::{Gateway, chat_body};
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";
/// The value of every reserved header that a client sends here: nowhere behind the gateway may it be read.
const CANARY: &str = "canary-2c9f";

/// Reserved names, and one name under each reserved prefix that nobody has thought of.
const RESERVED: &[&str] = &[
    "x-bulkhead-tenant",
    "x-bulkhead-route",
    "x-bulkhead-grant",
    "x-bulkhead-proxy",
    "x-bulkhead-whatever",
    "x-envoy-original-path",
    "x-envoy-internal",
    "x-envoy-external-address",
    "x-envoy-retry-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-auth-partial-body",
    "x-envoy-decorator-operation",
    "x-envoy-peer-metadata",
    "x-envoy-original-dst-host",
    "x-gateway-inference-fairness-id",
    "x-gateway-inference-objective",
    "x-gateway-destination-endpoint",
    "x-gateway-model-name",
    "x-ai-eg-model",
    "x-portkey-custom-host",
    "x-forwarded-client-cert",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-real-ip",
    "x-client-ip",
    "x-request-id",
    "true-client-ip",
    "forwarded",
    "cookie",
    "baggage",
    "api-key",
    "proxy-authorization",
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
];

/// All that an upstream may be told in headers; of a client's own only what says how the body is to be read.
const ARRIVING: &[&str] = &[
    "accept",
    "authorization",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "x-bulkhead-tenant",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-gateway-inference-fairness-id",
    "x-request-id",
    "x-tenant-id",
];

fn shot(gateway: &Gateway) -> Shot {
    let body = chat_body("[prompt=2] [tokens=1]").to_string();
    Shot::post(CHAT, body).header("authorization", gateway.bearer("acme"))
}

/// Every spelling of a reserved header that Envoy takes.
fn spellings(gateway: &Gateway, name: &str) -> Vec<Shot> {
    let mixed: String =
        name.char_indices().map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
    let plain = shot(gateway).header(name, CANARY);
    vec![
        plain.clone(),
        Shot { http2: true, ..plain.clone() },
        shot(gateway).header(&name.to_ascii_uppercase(), CANARY),
        shot(gateway).header(&mixed, CANARY),
        shot(gateway).header(name, CANARY).header(name, format!("{CANARY}-2")),
        Shot { http2: true, ..plain.header(name, format!("{CANARY}, {CANARY}")) },
        shot(gateway).header(name, CANARY).header("connection", format!("keep-alive, {name}")),
    ]
}

/// No canary behind the gateway, no header but those that may be there, and every one of ours as the gateway says it.
fn nothing_leaked(gateway: &Gateway) {
    for seen in gateway.upstream.record().into_iter().chain(gateway.upstream_2.record()) {
        let shown = seen.shown();
        assert!(!shown.to_string().contains(CANARY), "a client's word arrived: {shown:#}");
        for (name, _) in &seen.headers {
            assert!(ARRIVING.contains(&name.as_str()), "`{name}` arrived: {shown:#}");
        }
        let tenant = if seen.version == "HTTP/1.1" { "acme" } else { "initech" };
        for name in ["x-tenant-id", "x-bulkhead-tenant", "x-gateway-inference-fairness-id"] {
            assert_eq!(seen.header(name).as_deref(), Some(tenant), "{name}: {shown:#}");
        }
        assert_eq!(seen.path, CHAT);
    }
}

#[tokio::test]
async fn as_headers() {
    let gateway = Gateway::builder().start().await;
    let shots: Vec<Shot> = RESERVED.iter().flat_map(|name| spellings(&gateway, name)).collect();
    let mut admitted = 0;
    for (shot, answer) in shots.iter().zip(volley(gateway.addr, &shots, 8).await) {
        let answer = answer.unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(&shot.bytes())));
        let nominated = shot.headers.iter().any(|(name, value)| name == "connection" && value.ends_with(b"-host"));
        // Envoy takes it for an attack when a hop may drop who the client was
        let refused = nominated && (answer.status, answer.code().as_str()) == (400, "bad_request");
        admitted += usize::from(answer.status == 200);
        assert!(answer.status == 200 || refused, "{}: {}", String::from_utf8_lossy(&shot.bytes()), answer.text());
    }
    assert_eq!(gateway.upstream.record().len(), admitted);
    nothing_leaked(&gateway);

    // the same with `_`, which some servers read as `-`: refused by Envoy, on HTTP/2 with a reset
    gateway.upstream.clear();
    let underscored = |name: &str| {
        let half = name.replacen('-', "_", 1);
        [name.replace('-', "_"), half].map(|name| shot(&gateway).header(&name, CANARY))
    };
    let names = RESERVED.iter().chain(&["x-tenant-id"]).filter(|name| name.contains('-'));
    let shots: Vec<Shot> = names.flat_map(|name| underscored(name)).collect();
    let shots: Vec<Shot> = shots.iter().flat_map(|one| [one.clone(), Shot { http2: true, ..one.clone() }]).collect();
    for (shot, answer) in shots.iter().zip(volley(gateway.addr, &shots, 8).await) {
        match answer {
            Some(answer) => assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{shot:?}"),
            None => assert!(shot.http2, "no answer to {shot:?}"),
        }
    }
    assert_eq!(gateway.upstream.record().len(), 0);
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn as_trailers() {
    let gateway = Gateway::builder()
        .policies(|set| {
            set.spec("Tenant", "initech")["plan"] = "premium".into();
        })
        .start()
        .await;
    let twins = RESERVED.iter().chain(&["x-tenant-id", "x-api-key"]).map(|name| &*name.replace('-', "_").leak());
    let names = RESERVED.iter().copied().chain(["x-tenant-id", "authorization", "x-api-key"]).chain(twins);
    let body = chat_body("[prompt=2] [tokens=1]").to_string();
    let mut connection = gateway.connect().await;
    let mut h2 = gateway.h2().await;
    // acme's upstream speaks HTTP/1.1, initech's HTTP/2
    for (name, tenant) in names.flat_map(|name| [(name, "acme"), (name, "initech")]) {
        let bearer = gateway.bearer(tenant);
        let chunked = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: ai.example\r\nauthorization: {bearer}\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nx-plain: yes\r\n{name}: {CANARY}\r\n\r\n",
            body.len()
        );
        connection.send(chunked.as_bytes()).await;
        let answer = connection.answer().await.unwrap_or_else(|| panic!("{name} in a trailer: closed"));
        if name.contains('_') {
            assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{name} in a trailer");
            connection = gateway.connect().await;
        } else {
            assert_eq!(answer.status, 200, "{name} in a trailer: {}", answer.text());
        }

        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        let parts = vec![Part::Data(body.clone().into()), Part::Trailers(vec![("x-plain", "yes"), (name, CANARY)])];
        match h2.request("POST", CHAT, &headers, parts).await {
            Ok(answer) => assert_eq!(answer.status, 200, "{name} in a trailer over HTTP/2: {}", answer.text()),
            Err(error) => assert!(name.contains('_'), "{name} in a trailer over HTTP/2: {error}"),
        }
    }
    let plain = |seen: &bulkhead_tests::upstream::Seen| seen.trailers.iter().any(|(name, _)| name == "x-plain");
    assert!(gateway.upstream_2.record().iter().all(plain), "the harness sees trailers where they arrive");
    nothing_leaked(&gateway);
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn nominated_hop_by_hop() {
    let gateway = Gateway::builder().start().await;
    let ours =
        ["x-tenant-id", "x-bulkhead-tenant", "x-bulkhead-route", "x-gateway-inference-fairness-id", "x-request-id"];
    let shots: Vec<Shot> =
        ours.map(|name| shot(&gateway).header("connection", name).header("x-tenant-id", "acme")).into();
    for (shot, answer) in shots.iter().zip(volley(gateway.addr, &shots, 1).await) {
        assert_eq!(answer.map(|answer| answer.status), Some(200), "{shot:?}");
    }
    assert_eq!(gateway.upstream.record().len(), ours.len());
    nothing_leaked(&gateway);

    let shots = ["authorization", "keep-alive, Authorization"].map(|name| shot(&gateway).header("Connection", name));
    for answer in volley(gateway.addr, &shots, 1).await {
        assert_eq!(answer.map(|answer| answer.code()), Some("missing_credential".into()), "a credential is not lost");
    }
}

#[tokio::test]
async fn in_the_query_and_in_the_body() {
    let gateway = Gateway::builder().start().await;
    let with = |field: &str, value: serde_json::Value| {
        let mut body = chat_body("[prompt=2] [tokens=1]");
        body[field] = value;
        let bearer = gateway.bearer("acme");
        Shot::post(CHAT, body.to_string()).header("authorization", bearer)
    };
    let queries = ["?tenant=globex", "?tenant_id=globex&tenant=acme", "?x-tenant-id=globex", "?model=gpt-4o-mini", "?"];
    let mut inert: Vec<Shot> =
        queries.iter().map(|query| Shot { path: format!("{CHAT}{query}"), ..shot(&gateway) }).collect();
    inert.push(with("user", json!("globex")));
    inert.push(with("metadata", json!({"tenant": "globex", "x-tenant-id": "globex", "api_base": "http://x"})));
    let root = ["tenant", "tenant_id", "x-tenant-id", "api_base", "base_url", "api_key", "extra_headers", "__proto__"];
    let refused: Vec<Shot> = root.iter().map(|field| with(field, json!("globex"))).collect();

    let mut ids = Vec::new();
    for (shot, answer) in inert.iter().zip(volley(gateway.addr, &inert, 1).await) {
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{shot:?}: {}", answer.text());
        ids.push(answer.header("x-request-id").unwrap_or_default().to_owned());
    }
    let answers = volley(gateway.addr, &refused, 1).await;
    let answers: Vec<Answer> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    ids.extend(answers.iter().map(|one| one.header("x-request-id").unwrap_or_default().to_owned()));
    let books = Books::closed(&gateway, &ids).await;
    assert!(ids.iter().all(|id| books.line(id)["tenant"] == "acme"));
    for (field, answer) in root.iter().zip(&answers) {
        books.refused(answer, 400, "unknown_field", field);
    }
    assert_eq!(books.sent(), inert.len());
    nothing_leaked(&gateway);
    assert_eq!(gateway.service().usage("globex").await["admitted"], 0);
}
