//! Rooms 2 and 3 of `inline.yaml`: ext_authz is skipped for one word of the front alone, and nothing passes the gate without
//! that word or the service's. Filters of Envoy's own stand for the module and say whatever a test wants
//! (`configuration/stand_in.rs`).

use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::stand_in::{LAST_HOP, MARK, ROUTE, with_stand_ins};
use bulkhead_tests::configuration::{Profile, fails_open, without_filter};
use bulkhead_tests::eventually;
use bulkhead_tests::fake_service::{FakeService, Word, allow, deny};
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::policies::GPU_POOL_KEY;
use gateway_core::wire;

/// What is nearly the mark of a held grant.
const MARKS: [&str; 8] =
    ["ask-v1:7", "held-v1", "held-v2:7", "Held-v1:7", "xheld-v1:7", "held_v1:7", "allow-v1", "platform"];

fn open() -> Word {
    Word::Exactly(Box::new(allow(&[(wire::DECISION, wire::DECISION_ALLOW)], &[])))
}

async fn gateway(word: Word, fail_open: bool) -> Gateway {
    let builder = Gateway::builder().profile(Profile::Inline).fake_service(word);
    let edit = move |text: String| {
        let text = with_stand_ins(&text);
        if fail_open { fails_open(&text) } else { text }
    };
    builder.envoy(edit).start().await
}

/// A request that the rest of the chain lets through: the platform's key, a route.
async fn ask(gateway: &Gateway, mark: Option<&str>) -> Answer {
    let mut headers = vec![("authorization", "Bearer x"), (LAST_HOP, "platform"), (ROUTE, "model-upstream")];
    headers.extend(mark.map(|mark| (MARK, mark)));
    gateway.post(CHAT, &headers, chat_body("let me in [tokens=1]").to_string()).await
}

fn is(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
}

#[tokio::test]
async fn a_held_grant_makes_no_call_and_passes() {
    let gateway = gateway(Word::Fails(tonic::Code::Unavailable), false).await;
    for mark in ["held-v1:", "held-v1:7"] {
        is(&ask(&gateway, Some(mark)).await, 200, "", mark);
    }
    assert!(gateway.fake().asked().is_empty());
    let seen = gateway.upstream.record();
    assert_eq!((seen.len(), seen[0].header("authorization")), (2, Some(format!("Bearer {GPU_POOL_KEY}"))));
    for name in [wire::ROUTE, wire::GRANT_HEADER] {
        assert_eq!(seen[0].header(name), None, "{name}");
    }
    let line = eventually("both in the access log", async || gateway.access_log().get(1).cloned()).await;
    assert_eq!(
        (&line["profile"], &line["mark"], &line["last_hop"]),
        (&"inline".into(), &"held-v1:7".into(), &"platform".into())
    );
    assert!(!line.to_string().contains(GPU_POOL_KEY) && !line.to_string().contains("Bearer"), "{line}");
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn a_service_that_is_gone_and_comes_back() {
    let gateway = gateway(open(), false).await;
    is(&ask(&gateway, None).await, 200, "", "at first");
    gateway.fake().dies();
    is(&ask(&gateway, None).await, 503, "service_unavailable", "gone");
    is(&ask(&gateway, Some("held-v1:7")).await, 200, "", "held");
    gateway.fake().comes_back();
    eventually("the service", async || (ask(&gateway, None).await.status == 200).then_some(())).await;
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn any_other_mark_is_asked_about() {
    for fail_open in [false, true] {
        let gateway = gateway(open(), fail_open).await;
        let mut asked = 0;
        for mark in [None].into_iter().chain(MARKS.map(Some)) {
            let what = format!("{mark:?}, fails open: {fail_open}");
            gateway.fake().say(open());
            is(&ask(&gateway, mark).await, 200, "", &what);
            asked += 1;
            assert_eq!(gateway.fake().asked_in(wire::ROOM_INLINE).len(), asked, "{what}");
            assert_eq!(gateway.upstream.record().len(), 1, "{what}: the service's word opens it");
            gateway.upstream.clear();

            gateway.fake().say(Word::Fails(tonic::Code::Unavailable));
            let (status, code) = if fail_open { (403, "not_admitted") } else { (503, "service_unavailable") };
            is(&ask(&gateway, mark).await, status, code, &what);
            asked += 1;
            assert!(gateway.upstream.record().is_empty(), "{what}");
        }
        let asked = gateway.fake().asked();
        let http = |asked: &envoy_types::pb::envoy::service::auth::v3::CheckRequest| {
            asked.attributes.clone().and_then(|all| all.request?.http).expect("a request")
        };
        assert!(asked.iter().map(http).all(|http| http.raw_body.is_empty() && http.body.is_empty()), "headers only");
        assert!(gateway.is_whole().await);
    }
}

#[tokio::test]
async fn nothing_but_the_services_word_opens_it() {
    let exactly = |response| Word::Exactly(Box::new(response));
    let routed: &[(&str, &str)] = &[(wire::ROUTE, "model-upstream")];
    for fail_open in [false, true] {
        let gateway = gateway(Word::Hang, fail_open).await;
        for word in [
            exactly(Default::default()),
            exactly(allow(&[], routed)),
            exactly(allow(&[(wire::DECISION, "deny-v1")], routed)),
            exactly(allow(&[(wire::DECISION, "allow")], routed)),
            exactly(allow(&[(wire::DECISION, wire::MARK_HELD)], routed)),
            exactly(allow(&[(wire::LAST_HOP_DONE, wire::LAST_HOP_DONE_WORD)], routed)),
            exactly(allow(&[("wasm.bh_grant", "held-v1:7")], routed)),
            exactly(deny(0, 200, "{}", &[])),
            exactly(deny(7, 403, "{}", &[(wire::DECISION, wire::DECISION_ALLOW)])),
            Word::Fails(tonic::Code::Internal),
            Word::Hang,
        ] {
            gateway.fake().say(word.clone());
            let answer = ask(&gateway, Some("ask-v1:7")).await;
            assert!(answer.status >= 400 || matches!(&word, Word::Exactly(said) if said.http_response.is_some()));
            assert!(gateway.upstream.record().is_empty(), "fails open: {fail_open}; {word:?} reached the upstream");
        }
        assert!(gateway.is_whole().await);
    }
}

/// Somebody else's ext_authz in front of ours, which writes our words into the namespace that both write to.
#[tokio::test]
async fn a_filter_in_front_speaks_for_nobody() {
    let said = allow(&[(wire::DECISION, wire::DECISION_ALLOW), (wire::LAST_HOP_DONE, wire::LAST_HOP_DONE_WORD)], &[]);
    let front = FakeService::spawn(Word::Exactly(Box::new(said)));
    let socket = front.socket().display().to_string();
    let gateway = Gateway::builder()
        .profile(Profile::Inline)
        .fake_service(Word::Fails(tonic::Code::Unavailable))
        .envoy(move |text| crate::gate::with_front(&fails_open(&with_stand_ins(&text)), &socket))
        .start()
        .await;
    is(&ask(&gateway, None).await, 403, "not_admitted", "room 3");
    // past room 3 by a held grant: nor does its word open the last gate
    let headers = [("authorization", "Bearer x"), (MARK, "held-v1:7"), (ROUTE, "model-upstream")];
    let answer = gateway.post(CHAT, &headers, chat_body("let me in").to_string()).await;
    is(&answer, 403, "not_admitted", "the last hop's gate");
    assert_eq!(front.asked().len(), 2, "the one in front was asked");
    assert!(gateway.upstream.record().is_empty());
}

/// The gate stands for itself: where nobody asks the service, no other mark passes.
#[tokio::test]
async fn the_gate_without_room_2() {
    let gateway = Gateway::builder()
        .profile(Profile::Inline)
        .fake_service(open())
        .envoy(|text| without_filter(&with_stand_ins(&text), wire::EXT_AUTHZ))
        .start()
        .await;
    for mark in [None].into_iter().chain(MARKS.map(Some)) {
        is(&ask(&gateway, mark).await, 403, "not_admitted", &format!("{mark:?}"));
    }
    assert!(gateway.fake().asked().is_empty() && gateway.upstream.record().is_empty());
}
