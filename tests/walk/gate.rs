//! The gate: whatever stands where the service should be says, nothing but the service's own word opens it, also when the
//! filter in front of it is set to fail open. Not one of these requests may reach an upstream.

use std::time::Duration;

use bulkhead_tests::configuration::{Profile, fails_open, insert_filter_before, move_filter_before};
use bulkhead_tests::fake_service::{FakeService, Word, allow, deny, inline_grant, signed};
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::process::Signal;
use gateway_core::gate::{BodyEdits, Grant};
use gateway_core::wire;

const ROUTED: &[(&str, &str)] = &[("x-bulkhead-route", "model-upstream")];

/// Answers that are no allow, each in its own way.
fn words() -> Vec<Word> {
    let exactly = |response| Word::Exactly(Box::new(response));
    vec![
        exactly(Default::default()),
        exactly(allow(&[], ROUTED)),
        exactly(allow(&[("bulkhead_decision", "deny-v1")], ROUTED)),
        exactly(allow(&[("bulkhead_decision", "allow")], ROUTED)),
        exactly(allow(&[("decision", "allow-v1")], ROUTED)),
        exactly(deny(0, 200, "{}", &[])),
        exactly(deny(0, 403, "{}", &[("bulkhead_decision", "deny-v1")])),
        exactly(deny(7, 200, "{}", &[("bulkhead_decision", "allow-v1")])),
        Word::Fails(tonic::Code::Unavailable),
        Word::Fails(tonic::Code::Internal),
        Word::Hang,
    ]
}

/// What a filter in front of ours routes by; `inline` refuses any reserved header that it did not strip.
fn routed() -> &'static [(&'static str, &'static str)] {
    match Profile::under_test() {
        Profile::Portable => ROUTED,
        Profile::Inline => &[],
    }
}

async fn post(gateway: &Gateway) -> u16 {
    let body = chat_body("let me in").to_string();
    gateway.post("/v1/chat/completions", &[("authorization", "Bearer x")], body).await.status
}

#[tokio::test]
async fn nothing_but_the_word_opens_it() {
    for open in [false, true] {
        let mut builder = Gateway::builder().fake_service(Word::Hang);
        if open {
            builder = builder.envoy(|text| fails_open(&text));
        }
        let gateway = builder.start().await;
        for word in words() {
            gateway.fake().say(word.clone());
            let status = post(&gateway).await;
            let contradicts = matches!(&word, Word::Exactly(said) if said.http_response.is_some());
            assert!(status >= 400 || contradicts, "fails open: {open}; {word:?}: {status}");
            assert!(gateway.upstream.record().is_empty(), "fails open: {open}; {word:?} reached the upstream");
        }
        assert!(gateway.is_whole().await);
    }
}

#[tokio::test]
async fn a_service_that_babbles_or_hangs_up() {
    for (word, open) in [(Word::Garbage, false), (Word::Garbage, true), (Word::HangsUp, false), (Word::HangsUp, true)] {
        let mut builder = Gateway::builder().fake_service(word.clone());
        if open {
            builder = builder.envoy(|text| fails_open(&text));
        }
        let gateway = builder.start().await;
        assert_eq!(post(&gateway).await, if open { 403 } else { 503 }, "{word:?}");
        assert!(gateway.upstream.record().is_empty());
    }
}

#[tokio::test]
async fn the_service_hung_killed_and_started_again() {
    let mut gateway = Gateway::builder().start().await;
    let ask = async |gateway: &Gateway| gateway.chat("acme", &chat_body("hello")).await;
    assert_eq!(ask(&gateway).await.status, 200);

    gateway.service().process().signal(Signal::Stop);
    let headers = [("authorization", gateway.bearer("acme"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let once =
        async |gateway: &Gateway| gateway.post("/v1/chat/completions", &headers, chat_body("hello").to_string()).await;
    let hung = once(&gateway).await;
    assert_eq!((hung.status, hung.code().as_str()), (503, "service_unavailable"));
    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    let dead = once(&gateway).await;
    assert_eq!((dead.status, dead.code().as_str()), (503, "service_unavailable"));
    assert_eq!(gateway.upstream.record().len(), 1);

    gateway.service_mut().restart().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let back = ask(&gateway).await;
    assert_eq!(back.status, 200, "{}", back.text());
}

/// Somebody else's ext_authz in front of ours, which speaks our words into the namespace that both write to.
#[tokio::test]
async fn a_filter_in_front_cannot_speak_for_the_service() {
    let said = allow(&[("bulkhead_decision", "allow-v1"), ("bulkhead_grant", "AAAA")], routed());
    let front = FakeService::spawn(Word::Exactly(Box::new(said)));
    let socket = front.socket().display().to_string();
    let gateway = Gateway::builder()
        .fake_service(Word::Fails(tonic::Code::Unavailable))
        .envoy(|text| fails_open(&text))
        .envoy(move |text| with_front(&text, &socket))
        .start()
        .await;
    assert_eq!(post(&gateway).await, 403);
    assert_eq!(front.asked().len(), 1, "the one in front was asked");
    assert!(gateway.upstream.record().is_empty());
}

/// The same, with a grant that fits the request to the letter, while ours says nothing at all.
#[tokio::test]
async fn what_a_filter_in_front_left_is_blanked() {
    let body = chat_body("let me in").to_string();
    let edits = BodyEdits { body_bytes: body.len() as u64, edits: Vec::new() };
    let grant = match Profile::under_test() {
        Profile::Inline => inline_grant(|grant| grant.hold_ms = 0),
        Profile::Portable => Grant {
            id: vec![7; 16].into(),
            tenant: "acme".into(),
            method: "POST".into(),
            authority: "ai.example".into(),
            path: CHAT.into(),
            lifetime_ms: 5_000,
            edits: Some(edits),
            ..Grant::default()
        },
    };
    let grant = signed(&grant);
    let headers = [routed(), &[(wire::CLAIM_HEADER, "acme")]].concat();
    let said = allow(&[(wire::DECISION, wire::DECISION_ALLOW), (wire::GRANT, grant.as_str())], &headers);
    let front = FakeService::spawn(Word::Exactly(Box::new(said.clone())));
    let socket = front.socket().display().to_string();
    let gateway = Gateway::builder()
        .fake_service(Word::Exactly(Box::default()))
        .envoy(|text| fails_open(&text))
        .envoy(move |text| with_front(&text, &socket))
        .start()
        .await;
    for word in [Word::Exactly(Box::default()), Word::Exactly(Box::new(allow(&[], ROUTED))), Word::Hang] {
        gateway.fake().say(word);
        assert_eq!(post(&gateway).await, 403);
    }
    assert_eq!(front.asked().len(), 3);
    assert!(gateway.upstream.record().is_empty());
    // the same words from where they belong: it was only the place that was wrong
    gateway.fake().say(Word::Exactly(Box::new(said)));
    assert_eq!(post(&gateway).await, 200);
    assert_eq!(gateway.upstream.record().len(), 1);
}

#[tokio::test]
async fn a_dead_service_behind_a_filter_that_fails_open() {
    let gateway = Gateway::builder().envoy(|text| fails_open(&text)).start().await;
    let ask = async || gateway.chat("acme", &chat_body("hello")).await;
    assert_eq!(ask().await.status, 200);
    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    for _ in 0..3 {
        let dead = ask().await;
        // in `inline` the grant is held for two seconds more, and nobody lends
        let held = gateway.profile == Profile::Inline && dead.code() == "service_unavailable";
        assert!(held || dead.code() == "not_admitted", "{}", dead.text());
        assert_eq!(dead.status, if held { 503 } else { 403 });
    }
    assert_eq!(gateway.upstream.record().len(), 1);
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn the_module_ahead_of_ext_authz_denies_and_says_why() {
    let gateway = Gateway::builder().envoy(|text| move_filter_before(&text, "gateway", "blank")).start().await;
    let answer = gateway.chat("acme", &chat_body("hello")).await;
    assert!(answer.status >= 400, "{}", answer.text());
    assert!(!answer.code().is_empty(), "{}", answer.text());
    assert!(gateway.upstream.record().is_empty());
    assert!(gateway.envoy.log().contains("ext_authz"), "the log says why:\n{}", gateway.envoy.tail());
}

const CLUSTER: &str = r#"
  - name: front
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: front
      endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: SOCKET}}}}]}]
"#;

/// With an ext_authz in front of ours that asks this socket.
pub(crate) fn with_front(text: &str, socket: &str) -> String {
    let filter = "\
name: front
typed_config:
  \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
  transport_api_version: V3
  grpc_service: {envoy_grpc: {cluster_name: front}}
";
    let cluster = CLUSTER.replace("SOCKET", socket);
    insert_filter_before(text, "blank", filter) + &cluster
}
