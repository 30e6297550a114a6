//! What Envoy refuses by itself wears our shape; what service and module refuse is left as it is.

use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::Profile;
use bulkhead_tests::fake_service::{Word, allow, deny};
use bulkhead_tests::gateway::Gateway;

/// Something that the service is asked about.
const KEY: [(&str, &str); 1] = [("authorization", "Bearer x")];

/// Held against the table row by row in `configuration.rs`; here: that the mapper meets the refusal it is meant for.
fn is(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

async fn ask(gateway: &Gateway, head: &str) -> Answer {
    let text = format!("{head}\r\nhost: ai.example\r\n\r\n");
    gateway.raw(text.as_bytes()).await.expect("an answer")
}

#[tokio::test]
async fn before_the_chain() {
    let gateway = Gateway::builder().fake_service(Word::Exactly(Box::default())).start().await;
    is(&ask(&gateway, "GET /a%2fb HTTP/1.1").await, 400, "bad_request");
    is(&ask(&gateway, "GET / HTTP/1.1\r\nx_y: 1").await, 400, "bad_request");
    is(&ask(&gateway, "GET / HTTP/1.0").await, 400, "bad_request");
    is(&ask(&gateway, "GET / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked").await, 400, "bad_request");
    is(&ask(&gateway, &format!("GET / HTTP/1.1\r\nx-long: {}", "x".repeat(40_000))).await, 431, "headers_too_large");
    let upgrade = "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: eA==";
    is(&ask(&gateway, upgrade).await, 403, "refused");
    assert!(gateway.fake().asked().is_empty(), "none of them is the service's to decide");
    assert!(gateway.upstream.record().is_empty());
}

#[tokio::test]
async fn around_the_service() {
    let gateway = Gateway::builder().fake_service(Word::Exactly(Box::default())).start().await;
    let body = "x".repeat(4 * 1024 * 1024 + 1);
    let large = gateway.post("/v1/chat/completions", &KEY, body).await;
    match gateway.profile {
        Profile::Portable => {
            is(&large, 413, "body_too_large");
            assert!(gateway.fake().asked().is_empty(), "a body over the limit is not sent to the service");
        }
        Profile::Inline => is(&large, 403, "not_admitted"), // decided before the body is looked at
    }

    is(&gateway.get("/v1/models", &KEY).await, 403, "not_admitted");
    gateway.fake().say(Word::Hang);
    let late = gateway.get("/v1/models", &KEY).await;
    is(&late, 503, "service_unavailable");
    assert_eq!(late.header("retry-after"), Some("1"));
    assert_eq!(late.json()["error"]["request_id"].as_str(), late.header("x-request-id"));

    let theirs = r#"{"error":{"code":"theirs"}}"#;
    for status in [400, 403, 404, 429, 503] {
        gateway.fake().say(Word::Exactly(Box::new(deny(7, status, theirs, &[]))));
        let denied = gateway.get("/v1/models", &KEY).await;
        assert_eq!((i32::from(denied.status), denied.text().as_str()), (status, theirs));
    }
    assert!(gateway.upstream.record().is_empty());
}

#[tokio::test]
async fn the_module_without_a_grant() {
    let said = allow(&[("bulkhead_decision", "allow-v1")], &[("x-bulkhead-route", "model-upstream")]);
    let gateway = Gateway::builder().fake_service(Word::Exactly(Box::new(said))).start().await;
    let answer = gateway.get("/v1/models", &KEY).await;
    assert!(answer.status >= 400, "{}", answer.text());
    assert!(!answer.code().is_empty() && answer.code() != "refused", "the module's own words: {}", answer.text());
    assert!(gateway.upstream.record().is_empty());
    assert!(gateway.is_whole().await);
}
