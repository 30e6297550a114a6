//! One allow and one deny, and what every room left behind of them.

use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{Gateway, chat_body};
use bulkhead_tests::policies::GPU_POOL_KEY;

#[tokio::test]
async fn one_is_admitted_and_settled_and_one_is_refused() {
    let gateway = Gateway::builder().start().await;

    let answer = gateway.chat("acme", &chat_body("hello [tokens=7] [prompt=5]")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["usage"]["total_tokens"], 12);
    let seen = gateway.upstream.record();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {GPU_POOL_KEY}")));
    assert_eq!(seen[0].header("x-bulkhead-tenant").as_deref(), Some("acme"));

    let refused = gateway.post("/v1/chat/completions", &[], chat_body("hello").to_string()).await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "missing_credential"));
    assert_eq!(refused.json()["error"]["request_id"].as_str(), refused.header("x-request-id"));
    assert_eq!(gateway.upstream.record().len(), 1);

    eventually("acme's settlement", async || {
        let usage = gateway.service().usage("acme").await;
        (usage["inputTokens"] == 5 && usage["outputTokens"] == 7).then_some(())
    })
    .await;
    assert!(gateway.is_whole().await);
}
