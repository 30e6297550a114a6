//! Refusals say little to strangers and enough to the authenticated (E7): who proves nothing learns the same whether a
//! tenant, a model or a key exists; who proves who they are learns which field or limit it was, and of others nothing.

use std::collections::BTreeSet;

use bulkhead_tests::books::refusal;
use bulkhead_tests::client::{Answer, Shot, volley};
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::policies::MODEL;
use gateway_core::denial::Code;
use serde_json::{Value, json};

/// All that a stranger's refusal may have in its head.
const HEAD: &[&str] = &[
    "cache-control",
    "connection", // `close`, where the answer came before the request was read to its end
    "content-length",
    "content-type",
    "date",
    "www-authenticate",
    "x-content-type-options",
    "x-request-id",
];

async fn answers(gateway: &Gateway, shots: &[Shot]) -> Vec<Answer> {
    volley(gateway.addr, shots, 2).await.into_iter().map(|answer| answer.expect("an answer")).collect()
}

/// Everything of an answer but its id and its date.
fn told(answer: &Answer) -> String {
    let id = answer.header("x-request-id").unwrap_or_default();
    let mut head: Vec<String> = answer.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    head.retain(|line| !line.starts_with("date:"));
    head.sort_unstable();
    format!("{} {head:?} {}", answer.status, answer.text()).replace(id, "")
}

#[tokio::test]
async fn strangers_learn_nothing() {
    let gateway = Gateway::builder().start().await;
    let body = chat_body("hi").to_string();
    let predict = |tenant: &str, model: &str| format!("/api/v1/tenants/{tenant}/models/{model}/predict");
    let bad_body = json!({"model": "gpt-4o-mini", "max_tokens": -1}).to_string();
    let nobody = [
        Shot::post(CHAT, body.clone()),
        Shot::post(CHAT, bad_body),
        Shot::post(CHAT, "{"),
        Shot::post(CHAT, ""),
        Shot::post(predict("acme", MODEL), body.clone()),
        Shot::post(predict("nobody", MODEL), body.clone()),
        Shot::post(predict("acme", "gpt-9"), body.clone()),
        Shot::post(CHAT, body.clone()).header("x-tenant-id", "acme"),
        Shot::post(CHAT, body.clone()).header("x-tenant-id", "nobody"),
    ];
    let (acme, globex) = (gateway.keys["acme"].as_str(), gateway.keys["globex"].as_str());
    let revoked = gateway.service().create_key("acme", &[]).await;
    let id = |key: &str| key.split('_').nth(1).expect("an id").to_owned();
    gateway.service().command(&["key", "revoke", &id(&revoked)]).await;
    let crossed = acme.replace(&id(acme), &id(globex));
    let made_up = format!("bh_{}_{}", "a".repeat(12), "b".repeat(49));
    let forged: Vec<Shot> = [revoked.as_str(), &crossed, &made_up, "bh_", "sk-proj-1", &format!("{acme}x")]
        .iter()
        .flat_map(|key| {
            let shot = Shot::post(predict("acme", MODEL), body.clone());
            [shot.clone().header("x-api-key", key), shot.header("authorization", format!("Bearer {key}"))]
        })
        .chain([Shot::post(CHAT, body.clone()).header("authorization", format!("{}x", gateway.jwt("acme")))])
        .collect();

    for (shots, code) in [(&nobody[..], Code::MissingCredential), (&forged, Code::InvalidCredential)] {
        let answers = answers(&gateway, shots).await;
        for (shot, answer) in shots.iter().zip(&answers) {
            let what = String::from_utf8_lossy(&shot.bytes()).into_owned();
            refusal(answer, code.row().status, code.row().code, &what);
            generic(answer, code, &what);
        }
        assert_eq!(answers.iter().map(told).collect::<BTreeSet<_>>().len(), 1, "one answer to them all");
    }
    assert!(gateway.upstream.record().is_empty());
}

/// The table's public words and nothing else, in body and head.
fn generic(answer: &Answer, code: Code, what: &str) {
    let error = answer.json()["error"].clone();
    assert_eq!((&error["message"], &error["param"]), (&code.row().message.into(), &Value::Null), "{what}");
    for (name, _) in &answer.headers {
        assert!(HEAD.contains(&name.as_str()), "{what}: a stranger reads `{name}`");
    }
    let all = format!("{:?} {}", answer.headers, answer.text());
    for secret in ["acme", "globex", "nobody", "llama", "gpt", "premium", "edge-1", "gpu-pool", "envoy"] {
        assert!(!all.contains(secret), "{what}: a stranger reads `{secret}`: {all}");
    }
}

#[tokio::test]
async fn syntax_is_told_alike_to_all() {
    let gateway = Gateway::builder().start().await;
    let shot = || Shot::post(CHAT, chat_body("hi").to_string());
    let twice = || shot().header("x-tenant-id", "acme").header("x-tenant-id", "globex");
    let cases = [
        (twice(), Code::DuplicateHeader),
        (shot().header("x-tenant-id", "Acme"), Code::MalformedHeader),
        (Shot { path: format!("{CHAT};x"), ..shot() }, Code::BadRequest),
        (Shot { path: format!("{CHAT}?key=1"), ..shot() }, Code::CredentialInUrl),
        (Shot { path: "/v1/frobnicate".into(), ..shot() }, Code::NotFound),
        (Shot { method: "PUT".into(), ..shot() }, Code::MethodNotAllowed),
        (shot().header("content-encoding", "gzip"), Code::UnsupportedEncoding),
    ];
    for (shot, code) in cases {
        let known = shot.clone().header("authorization", gateway.bearer("acme"));
        let answers = answers(&gateway, &[shot, known]).await;
        for answer in &answers {
            refusal(answer, code.row().status, code.row().code, code.row().code);
            generic(answer, code, code.row().code);
        }
        assert_eq!(told(&answers[0]), told(&answers[1]), "{}", code.row().code);
    }
}

#[tokio::test]
async fn the_authenticated_learn_which_field_or_limit_it_was() {
    let gateway = Gateway::builder()
        .policies(|set| {
            set.spec("Plan", "trial")["caps"]["promptTokens"] = 200.into();
            set.spec("Plan", "trial")["caps"]["bodyBytes"] = "2Ki".into();
            set.limit("trial", "spend-per-day")["amount"] = 1.into();
        })
        .start()
        .await;
    let narrow = gateway.service().create_key("acme", &["--model", MODEL, "--endpoint", "chat"]).await;
    let with = |field: &str, value: Value| {
        let mut body = chat_body("hi");
        body[field] = value;
        Shot::post(CHAT, body.to_string()).header("authorization", gateway.bearer("acme"))
    };
    let initech =
        |text: &str| Shot::post(CHAT, chat_body(text).to_string()).header("authorization", gateway.bearer("initech"));
    let large = json!({"model": "llama-3.1-70b", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let models = Shot { method: "GET".into(), path: "/v1/models".into(), ..Shot::default() };
    let cases = [
        (with("max_tokens", json!(-1)), "invalid_body", json!("max_tokens"), "integer from 1"),
        (with("max_tokens", json!("8")), "invalid_body", json!("max_tokens"), "integer from 1"),
        (with("frobnicate", json!(1)), "unknown_field", json!("frobnicate"), ""),
        (with("n", json!(5)), "invalid_body", json!("n"), "4 at most"),
        (with("model", json!("gpt-9")), "model_not_found", json!("model"), ""),
        (initech(&"x".repeat(1_500)), "prompt_too_large", json!("messages"), "200 are allowed"),
        (initech(&"x".repeat(3_000)), "body_too_large", Value::Null, "2048 bytes"),
        (initech("hi"), "insufficient_quota", Value::Null, "`spend-per-day` allows 1 micro-usd"),
        (Shot::post(CHAT, large).header("x-api-key", &narrow), "model_not_allowed", json!("model"), ""),
        (models.header("x-api-key", &narrow), "endpoint_not_allowed", Value::Null, ""),
    ];
    for (shot, code, param, detail) in cases {
        let answer = answers(&gateway, std::slice::from_ref(&shot)).await.remove(0);
        let row = Code::named(code).expect("a code of the table").row();
        refusal(&answer, row.status, code, code);
        let error = answer.json()["error"].clone();
        let message = error["message"].as_str().expect("a message");
        assert_eq!(error["param"], param, "{code}: {error}");
        assert!(message.starts_with(row.message) && message.contains(detail), "{code}: {message}");
        assert_eq!(message != row.message, !detail.is_empty(), "{code}: {message}");
    }
}

#[tokio::test]
async fn not_yours_and_not_there_are_one_answer() {
    let gateway = Gateway::builder().start().await;
    let shot = |path: String, model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}).to_string();
        Shot::post(path, body).header("authorization", gateway.bearer("acme"))
    };
    let predict = |tenant: &str| format!("/api/v1/tenants/{tenant}/models/llama/predict");
    let pairs = [
        [shot(CHAT.into(), "gpt-4o-mini"), shot(CHAT.into(), "gpt-9")],
        [shot(predict("globex"), "llama"), shot(predict("nobody"), "llama")],
        [
            shot(CHAT.into(), "llama").header("x-tenant-id", "globex"),
            shot(CHAT.into(), "llama").header("x-tenant-id", "nobody"),
        ],
        [shot(predict("globex"), "gpt-9"), shot(predict("nobody"), "gpt-4o-mini")],
    ];
    for pair in pairs {
        let answers = answers(&gateway, &pair).await;
        assert!(answers[0].status == 403 || answers[0].status == 404, "{}", answers[0].text());
        assert_eq!(told(&answers[0]), told(&answers[1]));
        assert!(!answers[0].text().contains("globex"));
    }
}
