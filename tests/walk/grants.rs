//! What the module makes of a grant that is none, or is for something else: the gate's word alone is not enough.
//!
//! Something else stands for the service, says `allow-v1`, and gives a grant with one thing wrong. The MAC is the service's
//! own to check when a grant comes back; the module believes the place that it reads from, and compares everything else.

use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::{Profile, patient, portable_only};
use bulkhead_tests::fake_service::{Word, allow, inline_grant};
use bulkhead_tests::gateway::{Gateway, chat_body};
use gateway_core::edits::splice;
use gateway_core::gate::{BodyEdits, Dialect, Grant, Header, SignedGrant};
use gateway_core::wire;
use prost::Message as _;

const CHAT: &str = "/v1/chat/completions";

/// A grant that fits the request that [`ask`] sends.
fn good() -> Grant {
    if Profile::under_test() == Profile::Inline {
        return inline_grant(|grant| grant.hold_ms = 0); // each request is for the grant that it brings
    }
    let body_bytes = body().len() as u64;
    Grant {
        id: vec![7; 16].into(),
        tenant: "acme".into(),
        request_id: "r-1".into(),
        method: "POST".into(),
        authority: "ai.example".into(),
        path: CHAT.into(),
        lifetime_ms: 5_000,
        dialect: Dialect::OpenaiChat.into(),
        edits: Some(BodyEdits { body_bytes, edits: Vec::new() }),
        ..Grant::default()
    }
}

fn with(change: impl FnOnce(&mut Grant)) -> String {
    let mut grant = good();
    change(&mut grant);
    signed(&grant, 32)
}

fn edited(body_bytes: u64, edits: Vec<gateway_core::gate::BodyEdit>) -> String {
    with(|grant| grant.edits = Some(BodyEdits { body_bytes, edits }))
}

fn signed(grant: &Grant, mac: usize) -> String {
    wire::encode_grant(&SignedGrant { grant: grant.encode_to_vec().into(), mac: vec![1; mac].into() })
}

fn body() -> String {
    chat_body("hello [tokens=2]").to_string()
}

/// Says `allow-v1` with this grant, for a request whose claim header the service set to `claim`.
fn says(grant: &str, claim: &str) -> Word {
    let metadata = [(wire::DECISION, wire::DECISION_ALLOW), (wire::GRANT, grant)];
    let headers =
        [(wire::ROUTE, "model-upstream"), (wire::CLAIM_HEADER, claim), ("authorization", "Bearer of-the-provider")];
    Word::Exactly(Box::new(allow(&metadata, &headers)))
}

async fn ask(gateway: &Gateway, grant: &str, claim: &str) -> Answer {
    gateway.upstream.clear();
    gateway.fake().say(says(grant, claim));
    gateway.post(CHAT, &[("authorization", "Bearer x")], body()).await
}

/// The module's own refusal, in our shape; whatever had gone ahead of the body never became a request.
async fn refused(gateway: &Gateway, what: &str, grant: &str, want: (u16, &str)) {
    let answer = ask(gateway, grant, "acme").await;
    assert_eq!((answer.status, answer.code().as_str()), want, "{what}: {}", answer.text());
    let error = answer.json()["error"].clone();
    let mut fields: Vec<&String> = error.as_object().expect("an error").keys().collect();
    fields.sort();
    assert_eq!(fields, ["code", "message", "param", "request_id", "type"], "{what}");
    // once a grant is accepted, the request's id is the one in it
    let id = if want.1 == "internal" { Some("r-1") } else { answer.header("x-request-id") };
    assert_eq!(error["request_id"].as_str(), id, "{what}");
    assert!(gateway.upstream.record().iter().all(|seen| !seen.complete && seen.body.is_empty()), "{what}");
}

async fn gateway() -> Gateway {
    let gateway = Gateway::builder().fake_service(Word::Hang).envoy(|text| patient(&text, "5s")).start().await;
    passes(&gateway).await;
    gateway
}

/// The good grant opens: what is refused is refused for the one thing that is wrong with it.
async fn passes(gateway: &Gateway) {
    let answer = ask(gateway, &signed(&good(), 32), "acme").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = gateway.upstream.record();
    assert_eq!((seen.len(), seen[0].complete), (1, true));
    match Profile::under_test() {
        Profile::Portable => assert_eq!(seen[0].body, body().as_bytes()),
        // the terms hold it to an output limit
        Profile::Inline => assert!(seen[0].body.ends_with(&body().as_bytes()[1..])),
    }
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn what_is_no_grant() {
    let gateway = gateway().await;
    let not_admitted = (403, "not_admitted");
    for (what, grant) in [
        ("empty", String::new()),
        ("a word", "yes".into()),
        ("not base64url", "!".repeat(40)),
        ("padded", format!("{}==", signed(&good(), 32))),
        ("cut", signed(&good(), 32)[..40].to_owned()),
        ("zeros", "A".repeat(400)),
        ("longer than any", with(|grant| grant.plan = "x".repeat(wire::MAX_GRANT_BYTES))),
        ("of defaults", signed(&Grant::default(), 32)),
        ("without a MAC", signed(&good(), 0)),
        ("with half a MAC", signed(&good(), 16)),
        ("without an id", with(|grant| grant.id.clear())),
        ("without a tenant", with(|grant| grant.tenant.clear())),
        ("for two tenants", with(|grant| grant.tenant = "acme,globex".into())),
        ("for no name of a tenant", with(|grant| grant.tenant = "Acme\r\nx: y".into())),
    ] {
        refused(&gateway, what, &grant, not_admitted).await;
    }
    assert!(gateway.envoy.log().contains("is the module placed after ext_authz"), "{}", gateway.envoy.tail());
    passes(&gateway).await;
}

#[tokio::test]
async fn a_grant_for_another_request() {
    let gateway = gateway().await;
    let not_admitted = (403, "not_admitted");
    for (what, grant) in [
        ("path", with(|grant| grant.path = "/v1/completions".into())),
        ("longer path", with(|grant| grant.path = format!("{CHAT}/"))),
        ("query", with(|grant| grant.path = format!("{CHAT}?x=1"))),
        ("method", with(|grant| grant.method = "GET".into())),
        ("authority", with(|grant| grant.authority = "other.example".into())),
        ("expired", with(|grant| grant.lifetime_ms = 0)),
    ] {
        refused(&gateway, what, &grant, not_admitted).await;
    }
    if gateway.profile == Profile::Inline {
        return passes(&gateway).await; // the claim header is the client's own there, and read in front of ext_authz
    }
    refused(&gateway, "tenant", &with(|grant| grant.tenant = "globex".into()), (403, "tenant_conflict")).await;
    let unclaimed = ask(&gateway, &signed(&good(), 32), "globex").await;
    assert_eq!((unclaimed.status, unclaimed.code().as_str()), (403, "tenant_conflict"));
    passes(&gateway).await;
}

#[tokio::test]
async fn edits_for_another_body() {
    if portable_only("its grants hold no edits: the module makes them") {
        return;
    }
    let gateway = gateway().await;
    let length = body().len() as u64;
    let internal = (500, "internal");
    for (what, grant) in [
        ("no edits, one byte less", edited(length - 1, Vec::new())),
        ("no edits, one byte more", edited(length + 1, Vec::new())),
        ("no edits, no body", edited(0, Vec::new())),
        ("no edits at all", with(|grant| grant.edits = None)),
        ("an edit, one byte less", edited(length - 1, vec![splice(1, 0, *b"\"n\":1,")])),
        ("an edit, one byte more", edited(length + 1, vec![splice(1, 0, *b"\"n\":1,")])),
        ("an edit past the end", edited(length, vec![splice(body().len() + 1, 0, *b"x")])),
        ("an edit that takes more than is there", edited(length, vec![splice(0, body().len() + 1, *b"")])),
        ("overlapping edits", edited(length, vec![splice(1, 5, *b""), splice(3, 5, *b"")])),
        ("edits out of order", edited(length, vec![splice(9, 0, *b"x"), splice(1, 0, *b"x")])),
        ("an edit at the end of numbers", edited(length, vec![splice(usize::MAX, usize::MAX, *b"x")])),
        ("a length at the end of numbers", edited(u64::MAX, vec![splice(1, 0, *b"x")])),
    ] {
        refused(&gateway, what, &grant, internal).await;
    }
    passes(&gateway).await;
}

/// Envoy writes what it is told: what is no path of ours must not become a second request or another header.
#[tokio::test]
async fn odd_characters_in_what_is_written() {
    if portable_only("path and answer headers are in its terms and its leases") {
        return;
    }
    let gateway = gateway().await;
    for path in [
        "v1/x",
        "http://other.example/v1/x",
        "//other.example/v1/x",
        "/v1/../admin",
        "/v1/a b",
        "/v1/x HTTP/1.1\r\nx-injected: 1",
        "/v1/x\n",
        "/v1/\u{e9}",
        "/v1/%2e%2e/x",
        "/v1/x#y",
        "/v1/x\\y",
        "/v1/\0",
    ] {
        let grant = with(|grant| grant.upstream_path = path.into());
        refused(&gateway, path, &grant, (403, "not_admitted")).await;
    }

    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    let odd = with(|grant| {
        grant.answer_headers = vec![
            header("x-good", "yes"),
            header("x-split", "a\r\nx-injected: 1"),
            header("x bad", "1"),
            header(":status", "500"),
            header("content-length", "1"),
            header("transfer-encoding", "chunked"),
            header("X-Upper", "1"),
            header("", "1"),
        ];
    });
    let answer = ask(&gateway, &odd, "acme").await;
    assert_eq!((answer.status, answer.header("x-good")), (200, Some("yes")), "{answer:?}");
    assert!(answer.json()["choices"].is_array());
    for name in ["x-injected", "x-split", "x bad", "x-upper"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    passes(&gateway).await;
}
