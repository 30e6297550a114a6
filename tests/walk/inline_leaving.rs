//! Clients that leave, and timeouts that strike, in every phase of a request in profile `inline`: whatever is decided
//! afterwards, nothing of it reaches an upstream, and nothing of it is left behind.

use std::time::Duration;

use bulkhead_tests::configuration::replaced;
use bulkhead_tests::eventually;
use bulkhead_tests::fake_service::{GateWord, Word};
use bulkhead_tests::gateway::{Gateway, chat_body};
use gateway_core::gate::{Cost, Outcome};
use serde_json::json;

use crate::inline_stage::{
    Client, Framing, chat, good, grant, held, late, lends, refused, reports, settled, sound, staged, upstream, word,
};

/// A whole chat under way, or the first part of it.
pub(crate) async fn begun(gateway: &Gateway, version: u8, text: &str, part: usize) -> Client {
    let mut body = chat_body(text);
    if text.contains("stall") {
        body["stream"] = json!(true);
    }
    let body = body.to_string();
    let mut client = Client::open(gateway, version, Framing::Counted(body.len())).await;
    if part > 0 {
        client.data(&body.as_bytes()[..part.min(body.len())], part >= body.len());
    }
    client
}

/// Waits until the fake was asked for a lease once more than so often.
pub(crate) async fn asked(gateway: &Gateway, before: usize) {
    eventually("the ask for a lease", async || (gateway.fake().leases().len() > before).then_some(())).await;
}

#[tokio::test]
async fn clients_that_leave_in_any_phase() {
    let gateway = staged(|builder| builder).await;
    for holds in [false, true] {
        if holds {
            held(&gateway).await;
        }
        let before = upstream(&gateway).len();
        for version in [1, 2] {
            // while the service is asked who they are, which it says later or never
            if !holds {
                gateway.fake().say(Word::Hang);
                for part in [0, 20, usize::MAX] {
                    let client = begun(&gateway, version, "leaves", part).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    client.leave().await;
                }
                gateway.fake().say(word(&grant(&gateway, |grant| grant.hold_ms = 0)));
            }
            // while the body is on the way
            for part in [0, 1, 60] {
                let client = begun(&gateway, version, "leaves", part).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                client.leave().await;
            }
            // while the lease is asked for: it is lent all the same, refused, or nobody answers
            for gate in [
                late(150),
                GateWord::Late(Duration::from_millis(150), Box::new(GateWord::Refuses("insufficient_quota"))),
                late(1_300),
                GateWord::Hang,
            ] {
                gateway.fake().lease(gate);
                let calls = gateway.fake().leases().len();
                let client = begun(&gateway, version, "leaves", usize::MAX).await;
                asked(&gateway, calls).await;
                client.leave().await;
                tokio::time::sleep(Duration::from_millis(250)).await;
                assert!(gateway.is_whole().await);
                gateway.fake().lease(lends());
                tokio::time::sleep(Duration::from_millis(2_000)).await; // the call is over
            }
            assert_eq!(upstream(&gateway).len(), before, "HTTP/{version}: nobody was served");
        }
        // after it was let go, and in the middle of the answer
        let mut sent = before;
        for version in [1, 2] {
            for text in ["[hold]", "[stall=0]", "[stall=4]"] {
                let client = begun(&gateway, version, text, usize::MAX).await;
                sent += 1;
                eventually("it upstream", async || (upstream(&gateway).len() == sent).then_some(())).await;
                tokio::time::sleep(Duration::from_millis(60)).await;
                client.leave().await;
            }
        }
        gateway.upstream.release();
        sound(&gateway).await;
    }
    assert!(settled(&gateway).values().all(|one| one.outcome() != Outcome::Unspecified));
    // each that left undecided is told once, as nobody's charge
    let undecided = reports(&gateway)
        .into_iter()
        .flat_map(|report| report.refusals)
        .filter(|refusal| !refusal.grant.is_empty())
        .count();
    assert!(undecided >= 2 * 2 * (3 + 4), "{undecided}");
}

/// What was lent for those who left goes back: each lease is closed, with what was admitted out of it and no more.
#[tokio::test]
async fn what_was_lent_for_them_goes_back() {
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    gateway.fake().lease(late(300));
    let first = gateway.fake().leases().len();
    let mut clients = Vec::new();
    for number in 0..40 {
        clients.push(begun(&gateway, 1 + number % 2, "leaves", usize::MAX).await);
    }
    asked(&gateway, first).await;
    for client in clients {
        client.leave().await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    gateway.fake().lease(lends());
    sound(&gateway).await;
    let asked: Vec<_> = gateway.fake().leases().into_iter().flat_map(|lease| lease.asks).collect();
    let settled = settled(&gateway);
    eventually("each lease closed", async || {
        let closed: Vec<_> = reports(&gateway).into_iter().flat_map(|report| report.closed).collect();
        asked
            .iter()
            .all(|ask| {
                let used = settled.keys().filter(|(lease, _)| *lease == ask.id.to_vec()).count();
                let ended = closed.iter().find(|closed| closed.lease == ask.id);
                ended.is_some_and(|closed| {
                    closed.admitted as usize == used && (used > 0 || closed.reserved == Some(Cost::default()))
                })
            })
            .then_some(())
    })
    .await;
}

/// The shipped times, in milliseconds.
fn impatient(text: String) -> String {
    let text = replaced(&text, "stream_idle_timeout: 120s", "stream_idle_timeout: 0.4s");
    let text = text.replace(" idle_timeout: 120s,", " idle_timeout: 0.4s,");
    replaced(&text, "request_timeout: 60s", "request_timeout: 0.3s")
}

#[tokio::test]
async fn timeouts_while_something_is_waited_for() {
    let gateway = staged(|builder| builder.envoy(impatient)).await;
    held(&gateway).await;
    let before = upstream(&gateway).len();
    for version in [1, 2] {
        // the body is too slow
        let slow = begun(&gateway, version, "slow", 30).await;
        refused(slow.answer().await.as_ref(), 408, "request_timeout", &format!("a slow body, HTTP/{version}"));
        // the stream is idle while the lease is asked for; the answer comes behind Envoy's own
        for gate in [late(800), GateWord::Hang] {
            gateway.fake().lease(gate);
            let answer = chat(&gateway, version, "idle").await.expect("an answer");
            assert!(answer.status >= 408, "HTTP/{version}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(2_000)).await;
            assert!(gateway.is_whole().await, "HTTP/{version}");
        }
        gateway.fake().lease(lends());
    }
    assert_eq!(upstream(&gateway).len(), before);
    sound(&gateway).await;
}

/// A client that takes no answer: its stream is there for as long as it likes after Envoy has refused it.
#[tokio::test]
async fn a_stream_that_outlives_its_refusal() {
    let gateway = staged(|builder| builder.envoy(impatient)).await;
    held(&gateway).await;
    let before = upstream(&gateway).len();
    let socket = tokio::net::TcpStream::connect(gateway.addr).await.expect("a connection");
    let (sender, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, bytes::Bytes>(socket).await.expect("HTTP/2");
    tokio::spawn(connection);
    gateway.fake().lease(late(900));
    let text = chat_body("never read").to_string();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let request = http::Request::post(format!("http://{}{}", gateway.addr, bulkhead_tests::gateway::CHAT));
        let request =
            request.header("authorization", crate::inline_stage::BEARER).header("content-type", "application/json");
        let mut ready = sender.clone().ready().await.expect("the connection");
        let (answer, mut stream) = ready.send_request(request.body(()).expect("a request"), false).expect("a stream");
        stream.send_data(text.clone().into(), true).expect("the body");
        streams.push((answer, stream));
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(upstream(&gateway).len(), before, "let go behind Envoy's refusal");
    drop((streams, sender));
    sound(&gateway).await;
    let charged: Vec<_> = settled(&gateway).into_values().filter(|one| one.outcome() != Outcome::NotSent).collect();
    assert_eq!(charged.len(), upstream(&gateway).len(), "{charged:?}");
    good(&gateway).await;
}
