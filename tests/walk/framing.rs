//! Requests that lie about their length, end in trailers, or stop in the middle: what was checked is what is sent, or
//! nothing is (`mesh.md` §0.1 facts 3, 5, 6).

use std::time::Duration;

use bulkhead_tests::client::{Answer, Part};
use bulkhead_tests::configuration::{portable_only, replaced};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::upstream::Seen;
use serde_json::json;

/// Its edits make it longer; this is what the upstream must get of it.
const GROWS: (&str, &str) = (
    r#"{"model":"llama-3.1-8b","messages":[{"role":"user","content":"hi [tokens=1]"}]}"#,
    r#"{"max_completion_tokens":16384,"model":"llama-3.1-8b","messages":[{"role":"user","content":"hi [tokens=1]"}]}"#,
);
/// It needs no edit.
const STAYS: &str =
    r#"{"model":"llama-3.1-8b","max_completion_tokens":7,"messages":[{"role":"user","content":"hi [tokens=1]"}]}"#;

/// What no client may say, in any place, and what it may.
const TRAILERS: [(&str, &str); 7] = [
    ("x-bulkhead-tenant", "globex"),
    ("x-bulkhead-route", "model-upstream-2"),
    ("x-tenant-id", "globex"),
    ("authorization", "Bearer stolen"),
    ("x-gateway-inference-fairness-id", "globex"),
    ("content-length", "1"),
    ("x-checksum", "abc"),
];

fn head(bearer: &str, lines: &str) -> String {
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: ai.example\r\nauthorization: {bearer}\r\ncontent-type: application/json\r\n{lines}\r\n\r\n"
    )
}

fn chunked(body: &str, trailers: &[(&str, &str)]) -> String {
    let trailers: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{:x}\r\n{body}\r\n0\r\n{trailers}\r\n", body.len())
}

async fn h2(gateway: &Gateway, more: &[(&str, &str)], parts: Vec<Part>) -> anyhow::Result<Answer> {
    let bearer = gateway.bearer("acme");
    let headers = [&[("authorization", bearer.as_str()), ("content-type", "application/json")], more].concat();
    gateway.h2().await.request("POST", CHAT, &headers, parts).await
}

fn trailer_names(seen: &Seen) -> Vec<&str> {
    seen.trailers.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn trailers_end_a_request_like_any_other() {
    for cluster in ["model-upstream", "model-upstream-2"] {
        let gateway = Gateway::builder()
            .policies(|set| set.spec("Provider", "gpu-pool")["cluster"] = json!(cluster))
            .start()
            .await;
        let upstream = if cluster == "model-upstream" { &gateway.upstream } else { &gateway.upstream_2 };
        // HTTP/1.1 carries trailers behind a chunked body only: an edited one is counted there, and they are gone
        let (after_edit, untouched): (&[&str], &[&str]) =
            if cluster == "model-upstream" { (&[], &["x-checksum"]) } else { (&["x-checksum"], &["x-checksum"]) };
        for (body, arrived, kept) in [(GROWS.0, GROWS.1, after_edit), (STAYS, STAYS, untouched)] {
            upstream.clear();
            let mut connection = gateway.connect().await;
            let text = head(&gateway.bearer("acme"), "te: trailers\r\ntransfer-encoding: chunked");
            // a second one in the same breath: it must not be taken for anything of the first
            connection.send(format!("{text}{}", chunked(body, &TRAILERS)).as_bytes()).await;
            connection.send(format!("{text}{}", chunked(STAYS, &[])).as_bytes()).await;
            for _ in 0..2 {
                assert_eq!(connection.answer().await.expect("an answer").status, 200);
            }
            // in HTTP/2 a `content-length` is no trailer at all
            let trailers = TRAILERS.into_iter().filter(|(name, _)| *name != "content-length").collect();
            let parts = vec![Part::Data(body.into()), Part::Pause(Duration::from_millis(30)), Part::Trailers(trailers)];
            assert_eq!(h2(&gateway, &[], parts).await.expect("an answer").status, 200);

            let seen = upstream.record();
            assert_eq!(seen.len(), 3, "{cluster}: {seen:?}");
            for (seen, (want, kept)) in seen.iter().zip([(arrived, kept), (STAYS, &[][..]), (arrived, kept)]) {
                assert_eq!(String::from_utf8_lossy(&seen.body), want, "{cluster}");
                assert!(seen.complete);
                assert_eq!(trailer_names(seen), kept, "{cluster}: {want}");
                assert_eq!(seen.header("x-bulkhead-tenant").as_deref(), Some("acme"));
            }
        }
        // without a body
        let (h2_status, before) =
            (h2(&gateway, &[], vec![Part::Trailers(TRAILERS[..5].to_vec())]).await, upstream.record().len());
        assert_eq!(h2_status.expect("an answer").code(), "missing_body");
        assert_eq!(upstream.record().len(), before);
        assert_eq!(upstream.connection_errors(), Vec::<String>::new());
        assert!(gateway.is_whole().await);
    }
}

#[tokio::test]
async fn one_frame_that_is_past_the_limit_is_refused() {
    if portable_only("ext_authz takes no body, and cuts none") {
        return;
    }
    // so small a limit that header, body and end of stream fit one frame each: Envoy passes the first bytes on (fact 5)
    let small = |text: String| replaced(&text, "max_request_bytes: 4194304", "max_request_bytes: 8192");
    let gateway = Gateway::builder().envoy(small).start().await;
    for (size, status) in [(8191, 200), (8192, 200), (8193, 413), (9000, 413), (16_000, 413)] {
        let short = chat_body("[tokens=1]").to_string();
        let body = short.replace("[tokens=1]", &format!("[tokens=1]{}", "x".repeat(size - short.len())));
        assert_eq!(body.len(), size);
        let length = size.to_string();
        for more in [&[][..], &[("content-length", length.as_str())], &[("x-envoy-auth-partial-body", "false")]] {
            let parts = vec![Part::Last(body.clone().into())];
            let answer = h2(&gateway, more, parts).await.expect("an answer");
            assert_eq!(answer.status, status, "{size} {more:?}: {}", answer.text());
            assert!(status == 200 || answer.code() == "body_too_large", "{}", answer.text());
        }
    }
    // what fits would be a whole request by itself
    let whole = format!("{}{}", GROWS.0, " ".repeat(8192 - GROWS.0.len()));
    let answer = h2(&gateway, &[], vec![Part::Last(format!("{whole}, and more").into())]).await.expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    let seen = gateway.upstream.record();
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|seen| seen.headers.iter().all(|(name, _)| !name.starts_with("x-envoy-"))), "{seen:?}");
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn an_edit_that_outgrows_envoys_buffer_is_an_answer_and_no_crash() {
    // an operator's mistake: a buffer with no room for the edits of a body that is at the limit
    let tight = |text: String| {
        let text =
            replaced(&text, "per_connection_buffer_limit_bytes: 5242880", "per_connection_buffer_limit_bytes: 8192");
        text.replace("max_request_bytes: 4194304", "max_request_bytes: 8192")
    };
    let gateway = Gateway::builder().envoy(tight).start().await;
    for size in [8100, 8191, 8192] {
        let short = chat_body("[tokens=1]").to_string();
        let body = short.replace("[tokens=1]", &format!("[tokens=1]{}", "x".repeat(size - short.len())));
        let counted = gateway.chat("acme", &serde_json::from_str(&body).expect("JSON")).await;
        let framed = h2(&gateway, &[], vec![Part::Last(body.into())]).await.expect("an answer");
        for answer in [counted, framed] {
            assert!(
                answer.status == 200 || answer.code() == "body_too_large",
                "{size}: {} {}",
                answer.status,
                answer.text()
            );
        }
    }
    for seen in gateway.upstream.record() {
        assert_eq!(seen.header("content-length"), Some(seen.body.len().to_string()));
        assert_eq!(seen.json()["max_completion_tokens"], 16384);
    }
    assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200);
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn a_length_that_lies_reaches_nobody() {
    let gateway = Gateway::builder().start().await;
    let bearer = gateway.bearer("acme");
    let size = GROWS.0.len();

    // announced more than was sent, then the end: HTTP/1.1 waits for the rest, HTTP/2 is reset
    let mut connection = gateway.connect().await;
    connection
        .send(format!("{}{}", head(&bearer, &format!("content-length: {}", size + 10)), GROWS.0).as_bytes())
        .await;
    connection.finish().await;
    assert!(connection.answer().await.is_none_or(|answer| answer.status == 400));
    for lie in [size - 1, size + 1, 0] {
        let lie = lie.to_string();
        let answer = h2(&gateway, &[("content-length", &lie)], vec![Part::Last(GROWS.0.into())]).await;
        assert!(answer.is_err(), "HTTP/2 with content-length {lie}: {answer:?}");
    }
    assert!(gateway.upstream.record().is_empty());

    // announced less: the rest is the next request, and it is none
    let mut connection = gateway.connect().await;
    let surplus =
        format!("{}{}GET /v1/models HTTP/1.1\r\n", head(&bearer, &format!("content-length: {}", size - 5)), GROWS.0);
    connection.send(surplus.as_bytes()).await;
    let first = connection.answer().await.expect("an answer");
    assert_eq!(first.code(), "invalid_json", "{}", first.text());
    assert!(connection.answer().await.is_none_or(|answer| answer.status == 400));
    assert!(gateway.upstream.record().is_empty());

    // both framings, and a body that a framing hides
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "content-length: 5\r\ncontent-length: 6",
        "transfer-encoding: gzip, chunked",
    ] {
        let answer = gateway.raw(format!("{}{}", head(&bearer, lines), chunked(GROWS.0, &[])).as_bytes()).await;
        let answer = answer.expect("an answer");
        assert!((400..=501).contains(&answer.status), "{lines}: {}", answer.status);
    }
    assert!(gateway.upstream.record().is_empty());
    assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200);
    eventually("nothing of the lies is admitted, and the last one is", async || {
        (gateway.service().usage("acme").await["admitted"] == 1).then_some(())
    })
    .await;
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn expect_100_continue_is_answered_and_goes_no_further() {
    let gateway = Gateway::builder().start().await;
    for (body, arrived) in [GROWS, (STAYS, STAYS)] {
        gateway.upstream.clear();
        let mut connection = gateway.connect().await;
        let lines = format!("expect: 100-continue\r\ncontent-length: {}", body.len());
        connection.send(head(&gateway.bearer("acme"), &lines).as_bytes()).await;
        let told = connection.interim().await;
        assert_eq!(told.map(|answer| answer.status), Some(100), "the client waits for this before it sends its body");
        connection.send(body.as_bytes()).await;
        assert_eq!(connection.answer().await.expect("an answer").status, 200);
        let seen = gateway.upstream.record();
        assert_eq!(String::from_utf8_lossy(&seen[0].body), arrived);
        assert_eq!((seen.len(), seen[0].header("expect")), (1, None));
    }
}
