//! Clients that hang up while a lease is asked for, by the thousand: Envoy's memory stays where it was, and of the budget
//! nothing is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bulkhead_tests::client::H2;
use bulkhead_tests::configuration::{Profile, patient_checks};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{Gateway, chat_body};
use bulkhead_tests::process::Signal;
use serde_json::Value;

use crate::inline_stage::{Client, Framing, held, late, reports, sound, staged, upstream};

/// Clients at a time.
const LANES: usize = 48;
/// What Envoy may hold more at the end than when it was warm: less than the bodies of half of those that left.
const TOLERANCE: u64 = 6 << 20;
/// Bytes of each body.
const BODY: usize = 8_000;

/// Clients that send a whole chat each and are gone before its lease comes: over HTTP/1.1 with the connection, over HTTP/2
/// by a reset.
async fn hang_up(gateway: &Gateway, count: usize) {
    let text = chat_body(&"x".repeat(BODY)).to_string();
    let lane = |first: usize| {
        let text = text.clone();
        async move {
            let mut shared: H2 = gateway.h2().await;
            for (turn, number) in (first..count).step_by(LANES).enumerate() {
                let framing = Framing::Counted(text.len());
                let mut client = match number % 2 {
                    0 => Client::open(gateway, 1, framing).await,
                    _ => Client::on(gateway, shared.clone(), framing, &[]).await,
                };
                client.data(text.as_bytes(), true);
                tokio::time::sleep(Duration::from_millis(number as u64 % 60)).await;
                client.leave().await;
                if turn % 100 == 99 {
                    shared = gateway.h2().await; // Envoy closes one with too many resets
                }
            }
        }
    };
    futures_util::future::join_all((0..LANES).map(lane)).await;
}

/// What Envoy holds once nothing is under way: what is allocated, and what is resident beside the allocator's heap, the
/// module's VMs among it. Not the heap's own size: it keeps what a burst once took.
async fn resident(gateway: &Gateway) -> u64 {
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    let heap = gateway.envoy_stat("server.memory_heap_size").await;
    let allocated = gateway.envoy_stat("server.memory_allocated").await;
    gateway.envoy.resident_bytes().saturating_sub(heap) + allocated
}

#[tokio::test]
async fn memory_is_flat_and_every_lease_goes_back() {
    let count = if bulkhead_tests::full() { 100_000 } else { 2_000 };
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    gateway.fake().lease(late(250));
    hang_up(&gateway, count / 5).await;
    let warm = resident(&gateway).await;
    let mut steps = vec![warm >> 10];
    for _ in 0..4 {
        hang_up(&gateway, count / 5).await;
        steps.push(resident(&gateway).await >> 10);
    }
    println!("{count} clients that hung up; KiB after each fifth: {steps:?}");
    let asked: Vec<_> = gateway.fake().leases().into_iter().flat_map(|lease| lease.asks).collect();
    let refusals = reports(&gateway).into_iter().flat_map(|report| report.refusals);
    // they were admitted but for the budget: what they left is a model, and no reason of ours; a flood of them is cut
    let waited: BTreeSet<String> =
        refusals.filter(|one| !one.model.is_empty() && one.denial.is_empty()).map(|one| one.request_id).collect();
    assert!(waited.len() > count / 10, "{} of {count} left while they waited for a lease", waited.len());
    let end = steps.last().copied().unwrap_or_default() << 10;
    assert!(end <= warm + TOLERANCE, "Envoy grew from {warm} to {end} bytes: {steps:?} KiB");
    sound(&gateway).await;
    let served = upstream(&gateway).len();
    let closed = eventually("each lease closed", async || {
        let closed = reports(&gateway).into_iter().flat_map(|report| report.closed);
        let closed: BTreeMap<_, _> = closed.map(|closed| (closed.lease, closed.admitted)).collect();
        asked.iter().all(|ask| closed.contains_key(&ask.id)).then_some(closed)
    })
    .await;
    let admitted: u32 = closed.values().sum();
    assert!(admitted as usize <= served + count / 20, "{admitted} admitted, {served} upstream");
}

/// What is left of acme's limits that nothing but spending and its return changes within a test.
async fn left(gateway: &Gateway) -> (u64, u64) {
    (gateway.service().left("acme", "spend-per-day").await, gateway.service().left("acme", "in-flight").await)
}

/// With the real service, which stands still while they wait, for less than a call lasts and for more.
#[tokio::test]
async fn the_whole_budget_is_free_again() {
    let builder = Gateway::builder().profile(Profile::Inline).concurrency(2);
    let gateway = builder.envoy(|text| patient_checks(&text, "5s")).start().await;
    for _ in 0..6 {
        assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200);
    }
    gateway.balanced("acme").await;
    let (before, served) = (left(&gateway).await, gateway.upstream.record().len());
    let bearer = gateway.bearer("acme");
    let body = chat_body(&"x".repeat(BODY)).to_string();
    for (round, stands_still) in [2_600, 300].into_iter().enumerate() {
        gateway.service().process().signal(Signal::Stop);
        let clients = (0..60).map(|number| {
            let (bearer, body) = (bearer.as_str(), body.as_str());
            let gateway = &gateway;
            async move {
                if number % 2 == 0 {
                    let mut raw = gateway.connect().await;
                    let head =
                        "POST /v1/chat/completions HTTP/1.1\r\nhost: ai.example\r\ncontent-type: application/json";
                    let length = body.len();
                    raw.send(
                        format!("{head}\r\nauthorization: {bearer}\r\ncontent-length: {length}\r\n\r\n{body}")
                            .as_bytes(),
                    )
                    .await;
                    tokio::time::sleep(Duration::from_millis(150 + number % 50)).await;
                } else {
                    let mut connection = gateway.h2().await;
                    let headers = [("authorization", bearer), ("content-type", "application/json")];
                    let opened = connection.open("POST", "/v1/chat/completions", &headers, false).await;
                    let (_answer, mut stream) = opened.expect("a stream");
                    stream.send_data(body.to_owned().into(), true).expect("the body");
                    tokio::time::sleep(Duration::from_millis(150 + number % 50)).await;
                    stream.send_reset(h2::Reason::CANCEL);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
        futures_util::future::join_all(clients).await;
        tokio::time::sleep(Duration::from_millis(stands_still)).await;
        gateway.service().process().signal(Signal::Cont);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(gateway.is_whole().await, "round {round}");
        // what was lent for them is this worker's until it expires
        tokio::time::sleep(Duration::from_millis(5_600)).await;
    }
    assert_eq!(gateway.upstream.record().len(), served, "nobody was served");
    eventually("the whole budget", async || (left(&gateway).await == before).then_some(())).await;
    let audit = gateway.balanced("acme").await;
    let charged = |line: &&Value| line["decision"] == "allow" && !line["charged"].is_null();
    assert_eq!(audit.iter().filter(charged).count(), served, "nothing was charged for them");
    assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200);
}
