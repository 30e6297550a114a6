//! Request bodies on their way up: what the upstream gets is exactly the body that was checked with exactly the edits that
//! were decided, whatever its framing, and nothing of one request is ever read as part of the next (`mesh.md` §0.1 facts 5,
//! 6, 8, 9).

use bulkhead_tests::client::{Answer, Part};
use bulkhead_tests::configuration::patient;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway};
use bulkhead_tests::policies::{MODEL, Policies};
use bulkhead_tests::upstream::Seen;
use serde_json::json;

/// `wire::MAX_BODY_BYTES`, spelled again: the two must not move together by accident.
const LIMIT: usize = 4_194_304;

/// How a body is framed by its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Counted,
    Chunked,
    Http2,
    Http2Counted,
}

const WAYS: [Way; 4] = [Way::Counted, Way::Chunked, Way::Http2, Way::Http2Counted];

/// A streamed chat of exactly `size` bytes; its edits make it longer.
fn growing(model: &str, size: usize) -> String {
    let (head, tail) =
        (format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"[tokens=1] "#), r#""}]}"#);
    let fill = "0123456789abcdef".chars().cycle().take(size - head.len() - tail.len());
    format!("{head}{}{tail}", fill.collect::<String>())
}

/// What the upstream must get of [`growing`]: written by hand, not computed by the code under test.
fn grown(body: &str, from: &str, to: &str) -> String {
    let front = r#"{"max_completion_tokens":16384,"stream_options":{"include_usage":true},"#;
    format!("{front}{}", &body.replacen(&format!(r#""model":"{from}""#), &format!(r#""model":"{to}""#), 1)[1..])
}

async fn send(gateway: &Gateway, way: Way, tenant: &str, body: &str) -> Answer {
    let bearer = gateway.bearer(tenant);
    match way {
        Way::Counted => gateway.post(CHAT, &[("authorization", &bearer)], body.to_owned()).await,
        Way::Chunked => {
            let mut text = head(&bearer, "transfer-encoding: chunked").into_bytes();
            for piece in body.as_bytes().chunks(60_000) {
                text.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                text.extend(piece);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n\r\n");
            gateway.raw(&text).await.expect("an answer")
        }
        Way::Http2 | Way::Http2Counted => {
            let length = body.len().to_string();
            let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
            headers.extend((way == Way::Http2Counted).then_some(("content-length", length.as_str())));
            let parts = vec![Part::Last(body.to_owned().into())];
            gateway.h2().await.request("POST", CHAT, &headers, parts).await.expect("an answer")
        }
    }
}

/// An HTTP/1.1 head with one more line, up to the empty one.
fn head(bearer: &str, line: &str) -> String {
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: ai.example\r\nauthorization: {bearer}\r\ncontent-type: application/json\r\n{line}\r\n\r\n"
    )
}

/// The upstream got these bytes, all of them, with a length that is theirs.
fn arrived(seen: &Seen, body: &str, what: &str) {
    assert!(seen.body == body.as_bytes(), "{what}: {} bytes came, not these {}", seen.body.len(), body.len());
    assert!(seen.complete, "{what}: the end is missing");
    assert_eq!(seen.header("content-length"), Some(body.len().to_string()), "{what}");
    assert_eq!(seen.header("transfer-encoding"), None, "{what}");
}

/// acme's model runs on the HTTP/1.1 upstream, initech's (with acme's plan) on the HTTP/2 one, under another name there.
fn two_upstreams(set: &mut Policies) {
    set.spec("Tenant", "initech")["plan"] = json!("premium");
}

#[tokio::test]
async fn an_edited_body_arrives_whole_and_the_next_request_is_intact() {
    let gateway = Gateway::builder().policies(two_upstreams).envoy(|text| patient(&text, "10s")).start().await;
    let targets =
        [("acme", &gateway.upstream, MODEL), ("initech", &gateway.upstream_2, "meta-llama/Llama-3.1-8B-Instruct")];
    for (tenant, upstream, name) in targets {
        for way in WAYS {
            for size in [184, 64 * 1024, 1024 * 1024] {
                let what = format!("{tenant}, {way:?}, {size} bytes");
                upstream.clear();
                let first = growing(MODEL, size);
                let answer = send(&gateway, way, tenant, &first).await;
                assert_eq!((answer.status, answer.complete), (200, true), "{what}: {}", answer.text());
                // `llama` is another name of the same model: this one's edits replace, and make it longer too
                let second = growing("llama", 200);
                assert_eq!(send(&gateway, Way::Counted, tenant, &second).await.status, 200, "{what}");
                let seen = upstream.record();
                assert_eq!(seen.len(), 2, "{what}: {seen:?}");
                arrived(&seen[0], &grown(&first, MODEL, name), &what);
                arrived(&seen[1], &grown(&second, "llama", name), &what);
                assert_eq!(seen[0].connection, seen[1].connection, "{what}: not on one upstream connection");
                assert_eq!(seen[1].method, "POST", "{what}");
            }
        }
    }
    assert_eq!(gateway.upstream.connection_errors(), Vec::<String>::new());
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn a_body_that_shrinks_or_stays_arrives_whole() {
    let gateway = Gateway::builder().start().await;
    let shrinks = r#"{"model":"llama-3.1-8b","max_completion_tokens":99999999,"messages":[{"role":"user","content":"hi [tokens=1]"}]}"#;
    let stays =
        r#"{"model":"llama-3.1-8b","max_completion_tokens":7,"messages":[{"role":"user","content":"hi [tokens=1]"}]}"#;
    for way in WAYS {
        gateway.upstream.clear();
        for body in [shrinks, stays, shrinks] {
            assert_eq!(send(&gateway, way, "acme", body).await.status, 200);
        }
        let seen = gateway.upstream.record();
        let shrunk = shrinks.replace("99999999", "16384");
        arrived(&seen[0], &shrunk, "shrinks");
        assert_eq!((seen[1].body.as_slice(), seen[1].complete), (stays.as_bytes(), true), "{way:?}");
        arrived(&seen[2], &shrunk, "shrinks again");
    }
    assert_eq!(gateway.upstream.connection_errors(), Vec::<String>::new());
}

#[tokio::test]
async fn the_model_at_the_end_of_a_mebibyte_picks_the_route() {
    let gateway = Gateway::builder()
        .policies(|set| {
            set.spec("Tenant", "acme")["models"] = json!(["llama-3.1-70b", "gpt-4o-mini"]);
            set.spec("Tenant", "acme")["regions"] = json!(["eu-central", "us-east"]);
        })
        .envoy(|text| patient(&text, "10s"))
        .start()
        .await;
    let text = "x".repeat(1024 * 1024);
    let body =
        |model: &str| format!(r#"{{"messages":[{{"role":"user","content":"[tokens=1] {text}"}}],"model":"{model}"}}"#);
    for way in WAYS {
        for (model, here, there) in [
            ("llama-3.1-70b", &gateway.upstream, &gateway.upstream_2),
            ("gpt-4o-mini", &gateway.upstream_2, &gateway.upstream),
        ] {
            assert_eq!(send(&gateway, way, "acme", &body(model)).await.status, 200, "{way:?} {model}");
            let seen = here.record();
            assert_eq!((seen.len(), there.record().len()), (1, 0), "{way:?} {model}");
            assert_eq!(seen[0].json()["model"], model);
            assert_eq!(seen[0].header("x-bulkhead-route"), None, "the route's header is ours alone");
            here.clear();
        }
    }
}

#[tokio::test]
async fn at_the_limit_and_one_byte_past_it() {
    let gateway = Gateway::builder().envoy(|text| patient(&text, "10s")).start().await;
    let mut refused = 0;
    for way in WAYS {
        for size in [LIMIT - 1, LIMIT] {
            let body = growing(MODEL, size);
            let answer = send(&gateway, way, "acme", &body).await;
            assert_eq!(answer.status, 200, "{way:?}, {size} bytes: {}", answer.text());
            arrived(&gateway.upstream.record()[0], &grown(&body, MODEL, MODEL), &format!("{way:?}, {size} bytes"));
            gateway.upstream.clear();
        }
        // the second: as little as the last frame can be past it, with the end of the stream in that very frame
        for size in [LIMIT + 1, LIMIT + 3000] {
            let answer = send(&gateway, way, "acme", &growing(MODEL, size)).await;
            assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"), "{way:?}: {}", answer.text());
            assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
            refused += 1;
        }
    }
    assert!(gateway.upstream.record().is_empty(), "a body past the limit reached the upstream");
    let audit = eventually("a line for each refusal", async || {
        let audit = gateway.service().audit().await;
        (audit.iter().filter(|line| line["code"] == "body_too_large").count() >= refused).then_some(audit)
    })
    .await;
    let lines: Vec<_> = audit.iter().filter(|line| line["code"] == "body_too_large").collect();
    assert_eq!(lines.len(), refused);
    assert!(lines.iter().all(|line| line["charged"].is_null() && line["reserved"].is_null()), "{lines:?}");
    assert_eq!(gateway.service().usage("acme").await["admitted"], 2 * WAYS.len());
    assert!(gateway.is_whole().await);
}
