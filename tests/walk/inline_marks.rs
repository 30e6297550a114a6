//! The front's mark in other hands: filters of Envoy's own, ahead of the front and behind it, that write `wasm.bh_grant` as a
//! request's header says. Whatever they write, nobody is admitted by a grant that is not its own, and nobody's grant is held
//! for others.

use std::time::Duration;

use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::insert_filter_before;
use bulkhead_tests::fake_service::Word;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use gateway_core::wire;

use crate::inline_stage::{BEARER, good, grant, held, staged, upstream, word};

const MARK: &str = "x-test-mark";

/// Writes the mark from the header of tests; nothing where there is none.
fn marker(name: &str, read_only: bool) -> String {
    format!(
        "\
name: {name}
typed_config:
  \"@type\": type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config
  on_request_headers:
  - object_key: wasm.bh_grant
    factory_key: envoy.string
    format_string: {{text_format_source: {{inline_string: \"%REQ({MARK})%\"}}, omit_empty_values: true}}
    skip_if_empty: true
    read_only: {read_only}
"
    )
}

/// A gateway where somebody writes the mark in front of this filter.
async fn marked(filter: &'static str, read_only: bool) -> Gateway {
    let marker = marker("marker", read_only);
    staged(|builder| builder.envoy(move |text| insert_filter_before(&text, filter, &marker))).await
}

fn words() -> Vec<String> {
    let mut words: Vec<String> = [
        "held-v1:",
        "held-v1",
        "ask-v1:",
        "refused-v1:",
        "held-v1:-1",
        "held-v1:+3",
        "held-v1: 3",
        "held-v1:3 ",
        "held-v1:\u{663}",
        "platform",
        "x:",
    ]
    .map(String::from)
    .into();
    for number in [u64::from(u32::MAX), u64::MAX, u64::from(u32::MAX) + 1].into_iter().chain(0..40) {
        words.extend(["held-v1:", "ask-v1:"].map(|mark| format!("{mark}{number}")));
    }
    words.push(format!("held-v1:{}", "9".repeat(4_000)));
    words
}

async fn ask(gateway: &Gateway, bearer: &str, mark: &str) -> Answer {
    let host = gateway.addr.to_string();
    let mut headers = vec![("host", host.as_str()), ("authorization", bearer)];
    if !mark.is_empty() {
        headers.push((MARK, mark));
    }
    gateway.post(CHAT, &headers, chat_body("let me in [tokens=1]").to_string()).await
}

/// The service allows nobody: whatever is admitted was admitted by a mark.
#[tokio::test]
async fn no_mark_stands_for_a_grant() {
    for (filter, read_only) in [
        ("tenant-context", false),
        ("tenant-context", true),
        (wire::EXT_AUTHZ, false),
        ("gate", false),
        ("gateway", false),
    ] {
        let gateway = marked(filter, read_only).await;
        held(&gateway).await;
        gateway.fake().say(Word::Fails(tonic::Code::Unavailable));
        let before = upstream(&gateway).len();
        for mark in words() {
            let stranger = ask(&gateway, "Bearer of-a-stranger", &mark).await;
            assert!([403, 503].contains(&stranger.status), "{mark} ahead of {filter}: {}", stranger.text());
            assert_eq!(upstream(&gateway).len(), before, "{mark} ahead of {filter}");
        }
        // who holds a grant loses it where the front's own mark is overwritten, and keeps it where the front has the last word;
        // Envoy 1.36 lets nobody write over what is read-only, the front neither
        let known = ask(&gateway, BEARER, "held-v1:7").await;
        let expected: &[u16] = match (filter, read_only) {
            ("tenant-context", false) => &[200],
            ("tenant-context", true) => &[200, 403],
            _ => &[403],
        };
        assert!(expected.contains(&known.status), "{filter}, read-only {read_only}: {} {}", known.status, known.text());
        gateway.fake().say(word(&grant(&gateway, |_| {})));
        good(&gateway).await;
        assert!(gateway.is_whole().await, "{filter}");
    }
}

/// Many requests are between the front and the gateway, because the service takes its time; another one, granted for another
/// tenant, says their numbers. It must neither take their place nor leave its grant under their keys.
#[tokio::test]
async fn nobody_takes_anothers_place() {
    let gateway = marked("gateway", false).await;
    held(&gateway).await;
    let text = chat_body("mine [tokens=1]").to_string();
    // they wait for the service, which will allow them
    gateway.fake().say(Word::Hang);
    let waiting: Vec<_> = (0..20)
        .map(|number| {
            let (addr, text) = (gateway.addr, text.clone());
            tokio::spawn(async move {
                let request = http::Request::post(CHAT).header("host", addr.to_string());
                let request = request.header("authorization", format!("Bearer of-victim-{number}"));
                let request = request.header("content-type", "application/json").body(http_body_util::Full::from(text));
                bulkhead_tests::client::request(addr, request.expect("a request")).await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let thief = |grant: &mut gateway_core::gate::Grant| {
        (grant.tenant, grant.scope_set, grant.principal) = ("globex".into(), "globex".into(), "thief".into())
    };
    gateway.fake().say(word(&grant(&gateway, thief)));
    let before = upstream(&gateway).len();
    let mut taken = 0;
    for number in 0..400 {
        let answer = ask(&gateway, &format!("Bearer of-thief-{number}"), &format!("ask-v1:{number}")).await;
        taken += usize::from(answer.status == 200);
    }
    assert_eq!((taken, upstream(&gateway).len() - before), (0, 0), "admitted in another's place");
    for one in waiting {
        one.abort();
    }
    // nor is a thief's grant held for the victims
    gateway.fake().say(Word::Fails(tonic::Code::Unavailable));
    for number in 0..20 {
        let answer = ask(&gateway, &format!("Bearer of-victim-{number}"), "").await;
        assert_eq!(answer.status, 503, "served by another's grant: {}", answer.text());
    }
    assert!(upstream(&gateway).iter().all(|seen| seen.header("x-bulkhead-tenant").as_deref() == Some("acme")));
    gateway.fake().say(word(&grant(&gateway, |_| {})));
    good(&gateway).await;
    assert!(gateway.is_whole().await);
}
