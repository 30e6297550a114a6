//! Bodies in profile `inline`: at the limits and past them, in every framing, ended by trailers or by nothing, refused while
//! they are held. What was checked is what is sent, with its own length, or nothing is (`mesh.md` §0.1 facts 3 to 6).

use std::time::Duration;

use bulkhead_tests::client::Raw;
use bulkhead_tests::fake_service::GateWord;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use gateway_core::wire::MAX_BODY_BYTES;
use serde_json::json;

use crate::inline_stage::{
    BEARER, Client, Framing, good, grant, held, late, lends, refused, sound, staged, upstream, word,
};

/// What admission puts into a body that does not bound its output: it grows by as much.
const EDIT: &str = r#""max_completion_tokens":16384,"#;
/// What no client may say in a trailer, and what it may.
const TRAILERS: [(&str, &str); 6] = [
    ("x-bulkhead-tenant", "globex"),
    ("x-bulkhead-route", "model-upstream-2"),
    ("x-tenant-id", "globex"),
    ("authorization", "Bearer stolen"),
    ("x-gateway-inference-fairness-id", "globex"),
    ("x-checksum", "abc"),
];

/// A chat of exactly so many bytes, and what of it reaches the upstream.
fn sized(bytes: usize, grows: bool) -> (String, String) {
    let mut body = chat_body("[tokens=1]");
    if !grows {
        body["max_completion_tokens"] = json!(7);
    }
    let short = body.to_string();
    let text = short.replace("[tokens=1]", &format!("[tokens=1]{}", "x".repeat(bytes - short.len())));
    assert_eq!(text.len(), bytes);
    let sent = if grows { text.replacen('{', &format!("{{{EDIT}"), 1) } else { text.clone() };
    (text, sent)
}

/// The one request upstream since the last time, whole, as long as it says.
fn arrived(gateway: &Gateway, want: &str, what: &str) {
    let seen = upstream(gateway);
    assert_eq!(seen.len(), 1, "{what}");
    assert!(seen[0].complete && seen[0].body == want.as_bytes(), "{what}: {} bytes arrived", seen[0].body.len());
    let length = seen[0].header("content-length").map(|length| length.parse::<usize>().expect("a length"));
    assert!(length.is_none_or(|length| length == want.len()), "{what}: {length:?}");
    assert!(seen[0].header("x-bulkhead-tenant").as_deref() == Some("acme"), "{what}");
    gateway.upstream.clear();
}

/// Sends a body in pieces of so many bytes.
async fn send(gateway: &Gateway, version: u8, framing: Framing, text: &str, piece: usize) -> Client {
    let mut client = Client::open(gateway, version, framing).await;
    let mut pieces = text.as_bytes().chunks(piece).peekable();
    while let Some(part) = pieces.next() {
        client.data(part, pieces.peek().is_none());
    }
    client
}

/// Grants from now on are for one request each, and for bodies of so many bytes.
fn allows_bodies_of(gateway: &Gateway, limit: usize) {
    let mine = grant(gateway, |grant| {
        grant.hold_ms = 0;
        grant.terms.as_mut().expect("terms").body_bytes = limit as u64;
    });
    gateway.fake().say(word(&mine));
}

#[tokio::test]
async fn at_the_limits_of_plan_and_gateway() {
    let gateway = staged(|builder| builder).await;
    for (limit, small) in [(65_536, 1_000), (MAX_BODY_BYTES as usize, 150_000)] {
        allows_bodies_of(&gateway, limit);
        for (version, grows) in [(1, true), (2, true), (1, false), (2, false)] {
            for bytes in [limit - 1, limit, limit + 1] {
                for (open, piece) in [(false, bytes), (true, bytes), (true, small), (false, small)] {
                    let what = format!("{bytes} of {limit} bytes, HTTP/{version}, open: {open}, pieces of {piece}");
                    let (text, sent) = sized(bytes, grows);
                    let framing = if open { Framing::Open } else { Framing::Counted(bytes) };
                    let answer = send(&gateway, version, framing, &text, piece).await.answer().await;
                    if bytes > limit {
                        refused(answer.as_ref(), 413, "body_too_large", &what);
                        assert!(upstream(&gateway).is_empty(), "{what}");
                    } else {
                        assert_eq!(answer.as_ref().map(|answer| answer.status), Some(200), "{what}: {answer:?}");
                        arrived(&gateway, &sent, &what);
                    }
                }
            }
        }
        assert!(gateway.is_whole().await, "{limit}");
    }
}

/// The plan allows anything: the gateway's own maximum holds while the body grows, long before its end.
#[tokio::test]
async fn growing_past_the_limit() {
    let gateway = staged(|builder| builder).await;
    for limit in [65_536, usize::MAX] {
        allows_bodies_of(&gateway, limit);
        let most = limit.min(MAX_BODY_BYTES as usize);
        for (version, framing) in
            [(1, Framing::Open), (2, Framing::Open), (1, Framing::Counted(9_000_000)), (2, Framing::Counted(9_000_000))]
        {
            let what = format!("{limit}, HTTP/{version}, {framing:?}");
            let mut client = Client::open(&gateway, version, framing).await;
            client.data(sized(most, true).0.as_bytes(), false);
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.data(&[b' '; 30_000], false);
            // its end never comes: what is refused is what has come
            refused(client.answer().await.as_ref(), 413, "body_too_large", &what);
        }
    }
    assert!(upstream(&gateway).is_empty());
    sound(&gateway).await;
}

/// Envoy's own buffer is smaller than the body allowed: whoever refuses, nobody crashes and nothing goes on.
#[tokio::test]
async fn a_buffer_smaller_than_the_body() {
    let small = |text: String| {
        text.replace("per_connection_buffer_limit_bytes: 5242880", "per_connection_buffer_limit_bytes: 65536")
    };
    let gateway = staged(|builder| builder.envoy(small)).await;
    held(&gateway).await;
    gateway.upstream.clear();
    for word in [lends(), late(50)] {
        gateway.fake().lease(word);
        for version in [1, 2] {
            for bytes in [65_000, 65_536 - EDIT.len(), 65_530, 65_535, 65_536, 65_537, 70_000, 200_000] {
                let what = format!("{bytes} bytes, HTTP/{version}");
                let (text, sent) = sized(bytes, true);
                let client = send(&gateway, version, Framing::Counted(bytes), &text, bytes).await;
                let answer = client.answer().await.unwrap_or_else(|| panic!("{what}: no answer"));
                match answer.status {
                    200 => arrived(&gateway, &sent, &what),
                    _ => refused(Some(&answer), 413, "body_too_large", &what),
                }
                assert!(upstream(&gateway).is_empty(), "{what}");
            }
        }
    }
    assert!(gateway.is_whole().await);
    fine(&gateway).await;
}

/// What was forgotten of the upstream's record cannot be compared any more; the rest of [`sound`].
async fn fine(gateway: &Gateway) {
    gateway.fake().gate(lends());
    good(gateway).await;
    assert!(gateway.is_whole().await, "{}", gateway.envoy.tail());
}

#[tokio::test]
async fn every_byte_by_itself() {
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    for (version, grows) in [(1, true), (2, true), (1, false), (2, false)] {
        gateway.upstream.clear();
        let (text, sent) = sized(160, grows);
        let mut client = Client::open(&gateway, version, Framing::Open).await;
        for byte in text.as_bytes() {
            client.data(&[*byte], false);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        client.data(b"", true); // the end by itself
        assert_eq!(client.answer().await.map(|answer| answer.status), Some(200));
        arrived(&gateway, &sent, &format!("HTTP/{version}, grows: {grows}"));
    }
    fine(&gateway).await;
}

#[tokio::test]
async fn trailers_end_a_held_body_and_free_nothing() {
    let gateway = staged(|builder| builder).await;
    let (late, lends) = (late(300), lends());
    for hold_ms in [0, 10_000] {
        gateway.fake().say(word(&grant(&gateway, |grant| grant.hold_ms = hold_ms)));
        for (version, grows, gate) in [
            (1, true, &late),
            (2, true, &late),
            (1, false, &late),
            (2, false, &late),
            (1, true, &lends),
            (2, true, &lends),
        ] {
            gateway.fake().lease(gate.clone());
            gateway.upstream.clear();
            let what = format!("HTTP/{version}, grows: {grows}, held for {hold_ms}");
            let (text, sent) = sized(300, grows);
            let mut client = Client::open(&gateway, version, Framing::Open).await;
            client.data(text.as_bytes(), false);
            tokio::time::sleep(Duration::from_millis(30)).await;
            client.trailers(&TRAILERS);
            assert_eq!(client.answer().await.map(|answer| answer.status), Some(200), "{what}");
            let trailers: Vec<String> = upstream(&gateway)[0].trailers.iter().map(|(name, _)| name.clone()).collect();
            assert!(trailers.is_empty() || trailers == ["x-checksum"], "{what}: {trailers:?}");
            arrived(&gateway, &sent, &what);
        }
        // refused while the trailers are at hand, and never let go by them
        for (gate, status, code) in [
            (GateWord::Refuses("insufficient_quota"), 429, "insufficient_quota"),
            (GateWord::Hang, 503, "service_unavailable"),
        ] {
            for version in [1, 2] {
                gateway.upstream.clear();
                gateway.fake().lease(gate.clone());
                let mut client = Client::open(&gateway, version, Framing::Open).await;
                client.data(sized(300, true).0.as_bytes(), false);
                client.trailers(&TRAILERS);
                refused(client.answer().await.as_ref(), status, code, &format!("{gate:?}, HTTP/{version}"));
                assert!(upstream(&gateway).is_empty());
            }
        }
        fine(&gateway).await; // the call that hung is over
    }
    fine(&gateway).await;
}

#[tokio::test]
async fn requests_without_a_body() {
    let gateway = staged(|builder| builder).await;
    for hold in [false, true] {
        if hold {
            held(&gateway).await;
            gateway.upstream.clear();
        }
        let host = gateway.addr;
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: {host}\r\nauthorization: {BEARER}\r\ncontent-type: application/json\r\n"
        );
        for more in ["", "content-length: 0\r\n", "transfer-encoding: chunked\r\n"] {
            let end = if more.starts_with('t') { "0\r\n\r\n" } else { "" };
            let answer = gateway.raw(format!("{head}{more}\r\n{end}").as_bytes()).await;
            refused(answer.as_ref(), 400, "missing_body", more);
        }
        let mut connection = gateway.h2().await;
        let (answer, _stream) = connection
            .open("POST", CHAT, &[("authorization", BEARER), ("content-type", "application/json")], true)
            .await
            .expect("a stream");
        assert_eq!(answer.await.expect("an answer").status(), 400);
        let mut trailed = Client::open(&gateway, 2, Framing::Open).await;
        trailed.trailers(&TRAILERS);
        refused(trailed.answer().await.as_ref(), 400, "missing_body", "trailers alone");
        let mut empty = Client::open(&gateway, 2, Framing::Open).await;
        empty.data(b"", true);
        refused(empty.answer().await.as_ref(), 400, "missing_body", "an empty frame");
    }
    assert!(upstream(&gateway).is_empty());
    fine(&gateway).await;
}

/// The second request stands in the connection's buffer while the first one waits for its lease.
#[tokio::test]
async fn one_behind_the_other_on_a_connection() {
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    gateway.upstream.clear();
    gateway.fake().lease(late(200));
    let mut raw = Raw::connect(gateway.addr).await;
    let mut bytes = Vec::new();
    let bodies: Vec<_> = (0..6).map(|number| sized(200 + number, number % 2 == 0)).collect();
    for (text, _) in &bodies {
        let (length, host) = (text.len(), gateway.addr);
        bytes.extend(format!("POST {CHAT} HTTP/1.1\r\nhost: {host}\r\nauthorization: {BEARER}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{text}").bytes());
    }
    raw.send(&bytes).await;
    for _ in &bodies {
        assert_eq!(raw.answer().await.map(|answer| answer.status), Some(200));
    }
    let seen: Vec<_> = upstream(&gateway).into_iter().map(|seen| String::from_utf8(seen.body).expect("text")).collect();
    assert_eq!(seen, bodies.into_iter().map(|(_, sent)| sent).collect::<Vec<_>>());
    fine(&gateway).await;
}

/// What is refused at the body's end is refused for good: its bytes never follow.
#[tokio::test]
async fn denied_while_the_body_is_held() {
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    gateway.upstream.clear();
    let mut other = chat_body("hello");
    other["model"] = json!("gpt-of-nobody");
    for (text, status, code) in [
        ("{\"model\":".to_owned(), 400, "invalid_json"),
        ("x".repeat(100_000), 400, "invalid_json"),
        (other.to_string(), 404, "model_not_found"),
        (format!("{}{}", chat_body("one"), chat_body("two")), 400, "invalid_json"),
    ] {
        for (version, trailers) in [(1, false), (2, false), (1, true), (2, true)] {
            let mut client = Client::open(&gateway, version, Framing::Open).await;
            client.data(&text.as_bytes()[..text.len() / 2], false);
            client.data(&text.as_bytes()[text.len() / 2..], !trailers);
            if trailers {
                client.trailers(&TRAILERS);
            }
            refused(client.answer().await.as_ref(), status, code, &format!("HTTP/{version}, trailers: {trailers}"));
        }
    }
    assert!(upstream(&gateway).is_empty(), "refused");
    fine(&gateway).await;
}
