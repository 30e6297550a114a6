//! Many requests of every kind on many connections: the module's VM lives through them, and Envoy's memory stays where it
//! was once it was warm (`mesh.md` §0.1, traps of fact 7).

use std::time::{Duration, Instant};

use bulkhead_tests::client::Raw;
use bulkhead_tests::configuration::patient;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use serde_json::json;

/// Keep-alive connections, each with one request at a time.
const CONNECTIONS: usize = 48;
/// What Envoy may hold more at the end than when it was warm: 400 bytes for each of the 16,000 requests in between, far less
/// than one leaked grant or stream context a request.
const TOLERANCE: u64 = 6 << 20;
/// What an idle worker may send to the service in [`IDLE`]: two or three reports, and none of them lists a grant.
const IDLE_BYTES: u64 = 2_000;
const IDLE: Duration = Duration::from_millis(1_200);

/// The kinds of requests, in turn.
#[derive(Clone, Copy)]
enum Kind {
    Admitted,
    Edited,
    Streamed,
    Stranger,
    NotUtf8,
    NoJson,
    LeftWaiting,
    LeftListening,
}

const MIX: [Kind; 10] = [
    Kind::Admitted,
    Kind::Streamed,
    Kind::NotUtf8,
    Kind::Admitted,
    Kind::Stranger,
    Kind::LeftWaiting,
    Kind::Edited,
    Kind::NoJson,
    Kind::Streamed,
    Kind::LeftListening,
];

struct Texts {
    bearer: String,
    admitted: String,
    edited: String,
    streamed: String,
    dripping: String,
}

impl Texts {
    fn new(gateway: &Gateway) -> Self {
        let streamed = |text: &str| {
            let mut body = chat_body(text);
            body["stream"] = json!(true);
            body.to_string()
        };
        let edited = format!("[tokens=1] {}", "x".repeat(20_000));
        Self {
            bearer: gateway.bearer("acme"),
            admitted: chat_body("[tokens=1]").to_string(),
            edited: chat_body(&edited).to_string(),
            streamed: streamed("[tokens=4]"),
            dripping: streamed("[tokens=40] [drip=2ms]"),
        }
    }

    fn request(&self, kind: Kind) -> Vec<u8> {
        let (bearer, more): (&str, &[u8]) = match kind {
            Kind::Stranger => ("Bearer bh_nobody_000000", b""),
            Kind::NotUtf8 => (&self.bearer, b"x-note: \xff\xfe\x80\r\nx-tenant-id: acm\xe9\r\n"),
            _ => (&self.bearer, b""),
        };
        let body = match kind {
            Kind::Edited => &self.edited,
            Kind::Streamed => &self.streamed,
            Kind::LeftListening => &self.dripping,
            Kind::NoJson => "{\"model\":",
            _ => &self.admitted,
        };
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: ai.example\r\nauthorization: {bearer}\r\ncontent-type: application/json\r\n"
        );
        let length = format!("content-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), more, length.as_bytes(), body.as_bytes()].concat()
    }

    /// One request on a connection, which is replaced where the client leaves it.
    async fn send(&self, gateway: &Gateway, connection: &mut Raw, number: usize) {
        let kind = MIX[number % MIX.len()];
        connection.send(&self.request(kind)).await;
        let want = match kind {
            Kind::Admitted | Kind::Edited | Kind::Streamed => 200,
            Kind::Stranger => 401,
            Kind::NotUtf8 | Kind::NoJson => 400,
            Kind::LeftWaiting | Kind::LeftListening => {
                tokio::time::sleep(Duration::from_millis(number as u64 % 30)).await;
                *connection = gateway.connect().await;
                return;
            }
        };
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(answer.status, want, "{}", answer.text());
        if answer.header("connection") == Some("close") {
            *connection = gateway.connect().await; // answered before its body was read
        }
    }
}

/// Sends `count` requests over all connections.
async fn load(gateway: &Gateway, texts: &Texts, count: usize) {
    let one = |first: usize| async move {
        let mut connection = gateway.connect().await;
        for number in (first..count).step_by(CONNECTIONS) {
            texts.send(gateway, &mut connection, number + first).await;
        }
    };
    futures_util::future::join_all((0..CONNECTIONS).map(one)).await;
    gateway.upstream.clear();
}

/// Envoy's resident memory once nothing is under way.
async fn resident(gateway: &Gateway) -> u64 {
    tokio::time::sleep(IDLE).await;
    gateway.envoy.resident_bytes()
}

#[tokio::test]
async fn memory_is_flat_over_many_requests_of_every_kind() {
    let count = if bulkhead_tests::full() { 100_000 } else { 20_000 };
    let gateway = Gateway::builder().envoy(|text| patient(&text, "10s")).start().await;
    let texts = Texts::new(&gateway);
    load(&gateway, &texts, count / 5).await;
    let warm = resident(&gateway).await;
    let began = Instant::now();
    let mut steps = vec![warm >> 10];
    for _ in 0..4 {
        load(&gateway, &texts, count / 5).await;
        steps.push(resident(&gateway).await >> 10);
    }
    println!(
        "{count} requests, {:.1} s after the first fifth; KiB after each fifth: {steps:?}",
        began.elapsed().as_secs_f32()
    );
    let end = steps.last().copied().unwrap_or_default() << 10;
    assert!(end <= warm + TOLERANCE, "Envoy grew from {warm} to {end} bytes: {steps:?} KiB");
    gateway.balanced("acme").await;

    let sent = async || gateway.envoy_stat("cluster.bulkhead-service.upstream_cx_tx_bytes_total").await;
    let before = sent().await;
    tokio::time::sleep(IDLE).await;
    let reports = sent().await - before;
    assert!(reports <= IDLE_BYTES, "an idle worker sends {reports} bytes: does it still hold grants?");
}
