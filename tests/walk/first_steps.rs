//! One allow and one deny, and what every room left behind of them.

use bulkhead_tests::client::Part;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{Gateway, chat_body};
use bulkhead_tests::mint::Alg;
use bulkhead_tests::policies::{GPU_POOL_KEY, issuer};

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

#[tokio::test]
async fn every_algorithm_and_carrier() {
    let gateway = Gateway::builder().start().await;
    let body = chat_body("hello [tokens=1]").to_string();
    for alg in Alg::ALL {
        let token = format!("Bearer {}", issuer("globex").token(alg));
        let answer = gateway.post("/v1/chat/completions", &[("authorization", &token)], body.clone()).await;
        assert_eq!(answer.status, 200, "{}: {}", alg.name(), answer.text());
    }
    let key = gateway.keys["globex"].clone();
    for carrier in ["x-api-key", "x-goog-api-key"] {
        let answer = gateway.post("/v1/chat/completions", &[(carrier, &key)], body.clone()).await;
        assert_eq!(answer.status, 200, "{carrier}: {}", answer.text());
    }
    let tenants: Vec<_> = gateway.upstream.record().iter().map(|seen| seen.header("x-bulkhead-tenant")).collect();
    assert_eq!(tenants, vec![Some("globex".to_owned()); 8]);
}

#[tokio::test]
async fn a_stream_stays_a_stream() {
    let gateway = Gateway::builder().start().await;
    let mut body = chat_body("hello [tokens=20] [drip=50ms]");
    body["stream"] = true.into();
    let mut streamed = gateway.chat_stream("acme", &body).await;
    assert_eq!(streamed.status, 200);
    streamed.until("brav").await;
    let seen = gateway.upstream.record();
    assert!(seen[0].pieces_sent < 20, "the second word came when the model had not said the last: {seen:?}");
    drop(streamed);
    eventually("the hang-up reaches the model", async || {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let before = gateway.upstream.record()[0].pieces_sent;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        (gateway.upstream.record()[0].pieces_sent == before).then_some(())
    })
    .await;
    assert!(!gateway.upstream.record()[0].answered);
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn http_2_with_a_body_in_pieces_and_trailers() {
    let gateway = Gateway::builder().start().await;
    let bearer = gateway.bearer("acme");
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let body = chat_body("hello [tokens=3]").to_string();
    let (first, second) = body.split_at(20);
    let parts = vec![
        Part::Data(first.to_owned().into()),
        Part::Pause(std::time::Duration::from_millis(50)),
        Part::Data(second.to_owned().into()),
        Part::Trailers(vec![("x-checksum", "1")]),
    ];
    let answer = gateway.h2().await.request("POST", "/v1/chat/completions", &headers, parts).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(gateway.upstream.record()[0].json()["messages"][0]["content"], "hello [tokens=3]");
    assert!(gateway.is_whole().await);
}
