//! Resets and timeouts at every phase, from both sides: whatever breaks, Envoy and its module live, nobody undecided is
//! served, each grant is settled once and by what happened, and the next request is fine.

use std::time::Duration;

use bulkhead_tests::client::{H2, Raw};
use bulkhead_tests::configuration::{Profile, patient, replaced};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::process::Signal;
use serde_json::{Value, json};

const CLUSTERS: [&str; 2] = ["model-upstream", "model-upstream-2"];

async fn gateway_to(cluster: &'static str, envoy: fn(String) -> String) -> Gateway {
    let builder = Gateway::builder().policies(|set| set.spec("Provider", "gpu-pool")["cluster"] = json!(cluster));
    builder.envoy(envoy).start().await
}

fn streamed(text: &str) -> Value {
    let mut body = chat_body(text);
    body["stream"] = json!(true);
    body
}

/// An HTTP/1.1 request's head and, of its body, the first `part` bytes.
fn h1_text(bearer: &str, body: &str, part: usize) -> String {
    let part = &body[..part.min(body.len())];
    let (length, kind) = (body.len(), "application/json");
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: ai.example\r\nauthorization: {bearer}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{part}"
    )
}

/// A request under way.
enum Client {
    H1(Raw),
    H2(H2, h2::client::ResponseFuture, h2::SendStream<bytes::Bytes>),
}

impl Client {
    async fn h1(gateway: &Gateway, body: &Value, part: usize) -> Self {
        let mut connection = gateway.connect().await;
        connection.send(h1_text(&gateway.bearer("acme"), &body.to_string(), part).as_bytes()).await;
        Self::H1(connection)
    }

    async fn h2(gateway: &Gateway, body: &Value, part: usize) -> Self {
        let mut connection = gateway.h2().await;
        let bearer = gateway.bearer("acme");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let (answer, mut stream) = connection.open("POST", CHAT, &headers, false).await.expect("a stream");
        let text = body.to_string();
        let text = text[..part.min(text.len())].to_owned();
        if !text.is_empty() {
            stream.send_data(text.into(), part == usize::MAX).expect("the body is sent");
        }
        Self::H2(connection, answer, stream)
    }

    /// HTTP/1.1 closes; HTTP/2 resets the stream, and the connection stays for a moment.
    async fn hang_up(self) {
        if let Self::H2(connection, answer, mut stream) = self {
            stream.send_reset(h2::Reason::CANCEL);
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop((answer, connection));
        }
    }
}

/// Outcomes of the granted requests, oldest first, as the audit has them once the books balance.
async fn outcomes(gateway: &Gateway) -> Vec<Value> {
    let audit = gateway.balanced("acme").await;
    audit.into_iter().filter(|line| line["reserved"].is_object() && line["decision"] == "allow").collect()
}

fn tokens(line: &Value, which: &str) -> u64 {
    line[which]["tokens"].as_u64().unwrap_or_else(|| panic!("no {which} in {line}"))
}

#[tokio::test]
async fn clients_that_leave_in_any_phase() {
    for cluster in CLUSTERS {
        let gateway = gateway_to(cluster, |text| patient(&text, "10s")).await;
        let upstream = if cluster == "model-upstream" { &gateway.upstream } else { &gateway.upstream_2 };
        // before the whole body has come nothing is asked and nothing decided
        for part in [0, 1, 40] {
            let body = chat_body("[tokens=1]");
            for client in [Client::h1(&gateway, &body, part).await, Client::h2(&gateway, &body, part).await] {
                tokio::time::sleep(Duration::from_millis(20)).await;
                client.hang_up().await;
            }
        }
        assert!(upstream.record().is_empty());
        let mut want = Vec::new();
        for (body, outcome) in [
            (chat_body("[hold]"), "waiting"),      // no head yet
            (streamed("[stall=0]"), "waiting"),    // the head, and nothing yet
            (streamed("[stall=4]"), "listening"),  // in the middle of the stream
            (chat_body("[tokens=2]"), "answered"), // the next request
        ] {
            for version in [1, 2] {
                let client = match version {
                    1 => Client::h1(&gateway, &body, usize::MAX).await,
                    _ => Client::h2(&gateway, &body, usize::MAX).await,
                };
                want.push(outcome);
                let sent = if outcome == "listening" { 4 } else { 0 };
                let arrived = format!("{cluster}: {outcome}, HTTP/{version}");
                eventually(&arrived, async || {
                    let record = upstream.record();
                    (record.len() == want.len() && record.last()?.complete && record.last()?.pieces_sent >= sent)
                        .then_some(())
                })
                .await;
                // what the upstream sent must be with the client before it leaves
                tokio::time::sleep(Duration::from_millis(80)).await;
                client.hang_up().await;
            }
        }
        upstream.release();
        let lines = outcomes(&gateway).await;
        assert_eq!(lines.len(), want.len());
        for (line, want) in lines.iter().zip(want) {
            let (charged, reserved) = (tokens(line, "charged"), tokens(line, "reserved"));
            match want {
                // the model may have done all of its work: in doubt what was reserved
                "waiting" => {
                    assert_eq!((line["outcome"].as_str(), charged), (Some("hung_up"), reserved), "{cluster}: {line}")
                }
                "listening" => {
                    assert!(line["outcome"] == "hung_up" && charged < reserved / 10 && charged > 3, "{line}")
                }
                _ => assert!(line["outcome"] == "answered" && line["estimated"] == false, "{cluster}: {line}"),
            }
            let details = line["details"].as_str().unwrap();
            let known = ["downstream_remote_disconnect", "http2.remote_reset", "via_upstream"];
            assert!(known.contains(&details), "{cluster}: Envoy has a new word: {line}");
        }
        let gone = gateway.service().audit().await.into_iter().filter(|line| line["code"] == "client_gone").count();
        assert_eq!(gone, 6, "one line for each that left before it was decided");
    }
}

#[tokio::test]
async fn clients_that_leave_at_any_moment() {
    let count = if bulkhead_tests::full() { 2_000 } else { 150 };
    for cluster in CLUSTERS {
        // two workers: each has a module, and an outbox, of its own
        let builder = Gateway::builder().policies(|set| set.spec("Provider", "gpu-pool")["cluster"] = json!(cluster));
        let gateway = builder.concurrency(2).envoy(|text| patient(&text, "10s")).start().await;
        let bodies = [
            chat_body("[tokens=1]"),
            chat_body("[drip=3ms]"),
            streamed("[tokens=40]"),
            streamed("[tokens=5] [drip=2ms]"),
        ];
        for number in 0..count {
            let body = &bodies[number % bodies.len()];
            let client = match number % 3 {
                0 => Client::h1(&gateway, body, usize::MAX).await,
                1 => Client::h2(&gateway, body, usize::MAX).await,
                _ => Client::h2(&gateway, body, body.to_string().len()).await, // its end never comes
            };
            tokio::time::sleep(Duration::from_micros(400) * (number % 61) as u32).await;
            client.hang_up().await;
        }
        for _ in 0..3 {
            assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200, "{cluster}");
        }
        let lines = outcomes(&gateway).await;
        assert!(lines.len() >= 3 && lines.len() <= count + 3);
        for line in &lines {
            assert!(
                tokens(line, "charged") > 0 || line["outcome"] == "not_sent",
                "{cluster}: served for nothing: {line}"
            );
        }
    }
}

#[tokio::test]
async fn upstreams_that_break_in_any_phase() {
    for cluster in CLUSTERS {
        let mut gateway = gateway_to(cluster, |text| patient(&text, "10s")).await;
        for (body, status) in [
            (chat_body("[cut=0]"), 200),
            (chat_body("[cut=1] [tokens=400]"), 200),
            (streamed("[cut=0]"), 200),
            (streamed("[cut=4]"), 200),
            (chat_body("[tokens=1]"), 200),
        ] {
            let answer = gateway.chat("acme", &body).await;
            assert_eq!((answer.status, answer.complete), (status, body == chat_body("[tokens=1]")), "{cluster} {body}");
        }
        // before the head: the connection breaks while the model thinks
        let mut waiting = [
            Client::h1(&gateway, &chat_body("[hold]"), usize::MAX).await,
            Client::h1(&gateway, &streamed("[hold]"), usize::MAX).await,
        ];
        let upstream = if cluster == "model-upstream" { &mut gateway.upstream } else { &mut gateway.upstream_2 };
        eventually("both at the upstream", async || (upstream.held() == 2).then_some(())).await;
        upstream.stop();
        for client in &mut waiting {
            let Client::H1(connection) = client else { unreachable!("both are HTTP/1.1") };
            let answer = connection.answer().await.expect("an answer");
            assert_eq!((answer.status, answer.code().as_str()), (503, "upstream_unavailable"), "{cluster}");
        }
        // and there is none any more
        let refused = gateway.chat("acme", &chat_body("[tokens=1]")).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "upstream_unavailable"), "{cluster}");

        let lines = outcomes(&gateway).await;
        let said: Vec<&str> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
        assert_eq!(
            said,
            ["failed", "failed", "failed", "failed", "answered", "failed", "failed", "not_sent"],
            "{cluster}"
        );
        let details: Vec<&str> = lines.iter().map(|line| line["details"].as_str().unwrap()).collect();
        for after in &details[..4] {
            assert!(after.starts_with("upstream_reset_after_response_started{"), "{cluster}: {after}");
        }
        for before in &details[5..7] {
            assert!(before.starts_with("upstream_reset_before_response_started{"), "{cluster}: {before}");
        }
        assert!(
            details[7].starts_with("upstream_reset_before_response_started{remote_connection_failure"),
            "{details:?}"
        );
        assert_eq!(tokens(&lines[7], "charged"), 0, "nothing was sent");
        for failed in lines.iter().filter(|line| line["outcome"] == "failed") {
            let (charged, reserved) = (tokens(failed, "charged"), tokens(failed, "reserved"));
            assert!(charged > 0 && charged < reserved / 10, "input and what was seen: {failed}");
        }
        assert!(
            tokens(&lines[1], "charged") > tokens(&lines[0], "charged") + 20,
            "what was seen of the document counts"
        );
    }
}

/// The shipped times are minutes: these are the same configuration in seconds.
fn impatient(text: String) -> String {
    // in `inline` the service is asked while the request still arrives, within the request's own time
    let time = if Profile::under_test() == Profile::Inline { "0.7s" } else { "1s" };
    let text = replaced(&patient(&text, time), "stream_idle_timeout: 120s", "stream_idle_timeout: 2s");
    let text = replaced(&text, "request_timeout: 60s", "request_timeout: 1s");
    text.replace(
        "idle_timeout: 120s, max_stream_duration: {max_stream_duration: 900s}",
        "idle_timeout: 1s, max_stream_duration: {max_stream_duration: 2s}",
    )
}

#[tokio::test]
async fn timeouts_of_every_kind() {
    for cluster in CLUSTERS {
        let gateway = gateway_to(cluster, impatient).await;
        // the model says nothing, stops in the middle, or goes on for too long
        let hanging = gateway.chat("acme", &chat_body("[hang]")).await;
        assert_eq!((hanging.status, hanging.code().as_str()), (504, "upstream_timeout"), "{cluster}");
        for body in [streamed("[stall=0]"), streamed("[stall=3]"), streamed("[tokens=900] [drip=40ms]")] {
            let answer = gateway.chat("acme", &body).await;
            assert_eq!((answer.status, answer.complete), (200, false), "{cluster}: {body}");
        }
        // the client is too slow to send: nothing is decided
        let mut slow = gateway.connect().await;
        slow.send(h1_text(&gateway.bearer("acme"), &chat_body("x").to_string(), 9).as_bytes()).await;
        let answer = slow.answer().await.expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
        // the service is too slow to decide: nothing stays reserved
        gateway.service().process().signal(Signal::Stop);
        for _ in 0..3 {
            let answer = gateway.chat_once("acme", &chat_body("[tokens=1]")).await;
            assert_eq!((answer.status, answer.code().as_str()), (503, "service_unavailable"), "{cluster}");
        }
        Client::h2(&gateway, &chat_body("[tokens=1]"), usize::MAX).await.hang_up().await;
        gateway.service().process().signal(Signal::Cont);
        assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200);

        let lines = outcomes(&gateway).await;
        let said: Vec<_> =
            lines.iter().map(|line| (line["outcome"].as_str().unwrap(), line["details"].as_str().unwrap())).collect();
        let idle = ("failed", "stream_idle_timeout");
        assert_eq!(said[..3], [idle, idle, idle], "{cluster}");
        assert_eq!(said[3].0, "failed", "{cluster}: {said:?}");
        assert!(said[3].1.contains("max_stream_duration") || said[3].1.contains("max_duration"), "{cluster}: {said:?}");
        assert_eq!(said[4..], [("answered", "via_upstream")], "{cluster}");
        let upstream = if cluster == "model-upstream" { &gateway.upstream } else { &gateway.upstream_2 };
        assert_eq!(upstream.record().len(), 5, "{cluster}: what was not decided in time was not served");
    }
}
