//! Phases of a request in profile `inline` that end otherwise than by its client: refused between front and gateway, decided
//! all at once with a hundred others, broken by the upstream after the wait.

use std::time::Duration;

use bulkhead_tests::fake_service::{GateWord, Word, deny};
use bulkhead_tests::gateway::chat_body;

use crate::inline_leaving::{asked, begun};
use crate::inline_stage::{Client, Framing, chat, good, grant, held, late, lends, sound, staged, upstream, word};

/// The front has asked and left its part; the service refuses, allows for another tenant, or fails.
#[tokio::test]
async fn refused_between_front_and_gateway() {
    let gateway = staged(|builder| builder).await;
    let denied = Word::Exactly(Box::new(deny(7, 403, "{\"error\":{\"code\":\"tenant_suspended\"}}", &[])));
    let other = grant(&gateway, |grant| grant.path = "/v1/other".into());
    for (said, code) in [
        (denied, "tenant_suspended"),
        (Word::Fails(tonic::Code::Internal), "service_unavailable"),
        (word(&other), "not_admitted"),
    ] {
        gateway.fake().say(said);
        for version in [1, 2] {
            let answer = chat(&gateway, version, "hello").await;
            assert_eq!(answer.as_ref().map(|answer| answer.code()).as_deref(), Some(code), "HTTP/{version}");
            let partly = begun(&gateway, version, "hello", 20).await;
            assert_eq!(
                partly.answer().await.map(|answer| answer.code()).as_deref(),
                Some(code),
                "HTTP/{version}, half a body"
            );
        }
    }
    assert!(upstream(&gateway).is_empty() && gateway.fake().leases().is_empty());
    sound(&gateway).await;
}

/// A hundred streams of one connection wait for one lease; some of them are reset, or the whole connection goes, before the
/// verdicts come all at once.
#[tokio::test]
async fn many_streams_of_one_connection() {
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    let refuses = GateWord::Late(Duration::from_millis(400), Box::new(GateWord::Refuses("insufficient_quota")));
    for (gate, status, all_leave) in [
        (late(400), 200, false),
        (refuses.clone(), 429, false),
        (late(1_500), 503, false),
        (late(400), 0, true),
        (refuses, 0, true),
    ] {
        tokio::time::sleep(Duration::from_millis(400)).await; // nothing is left of the leases before
        gateway.fake().lease(gate);
        let (calls, before) = (gateway.fake().leases().len(), upstream(&gateway).len());
        let connection = gateway.h2().await;
        let text = chat_body("one of many [tokens=1]").to_string();
        let mut clients = Vec::new();
        for _ in 0..90 {
            let mut client = Client::on(&gateway, connection.clone(), Framing::Counted(text.len()), &[]).await;
            client.data(text.as_bytes(), true);
            clients.push(client);
        }
        asked(&gateway, calls).await;
        if all_leave {
            drop((clients, connection));
            tokio::time::sleep(Duration::from_millis(1_000)).await;
            assert!(upstream(&gateway).len() < before + 90, "they had left");
        } else {
            let leaving = clients.split_off(60);
            futures_util::future::join_all(leaving.into_iter().map(Client::leave)).await;
            for answer in futures_util::future::join_all(clients.into_iter().map(Client::answer)).await {
                let answer = answer.expect("an answer");
                assert!(answer.status == status || answer.status == 503, "{status}: {}", answer.text());
            }
        }
        assert!(gateway.is_whole().await);
        gateway.fake().lease(lends());
        good(&gateway).await;
    }
    sound(&gateway).await;
}

/// The waiting is over and the upstream breaks, in each phase of its answer: settled as any other request is.
#[tokio::test]
async fn upstreams_that_break_after_the_wait() {
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    gateway.fake().lease(late(100));
    for version in [1, 2] {
        for (text, status) in [
            ("[drop]", Some(503)),
            ("[cut=0]", Some(200)),
            ("[cut=1] [tokens=400]", Some(200)),
            ("[status=500]", Some(500)),
            ("[tag=globex]", Some(502)),
            ("[tokens=1]", Some(200)),
        ] {
            let answer = chat(&gateway, version, text).await;
            assert_eq!(answer.as_ref().map(|answer| answer.status), status, "{text}, HTTP/{version}");
            tokio::time::sleep(Duration::from_millis(350)).await;
        }
    }
    sound(&gateway).await;
}
