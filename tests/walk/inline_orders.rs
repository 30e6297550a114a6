//! Generated orders: hundreds of streams at two workers, each a random sequence of headers, pieces of a body, trailers and
//! hang-ups, while the service's words change at random under them. Whatever happened, what [`sound`] says holds.

use std::time::Duration;

use bulkhead_tests::configuration::{Profile, patient_checks};
use bulkhead_tests::eventually;
use bulkhead_tests::fake_service::{GateWord, Word, deny};
use bulkhead_tests::gateway::{Gateway, chat_body};
use bulkhead_tests::process::Signal;
use gateway_core::gate::{LeaseResponse, Lent};
use serde_json::json;

use crate::inline_stage::{Client, Framing, grant, held, late, lends, sound, staged, upstream, word};

/// Clients at a time.
const LANES: u64 = 24;

/// A small generator (xorshift64*): the same seed, the same orders.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below so many.
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % most
    }

    /// Once in so many.
    fn once_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    async fn pause(&mut self, most_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(most_ms))).await;
    }
}

/// What the Gate says next.
fn gate(dice: &mut Dice) -> GateWord {
    match dice.below(14) {
        0 => GateWord::Hang,
        1 => GateWord::Refuses("insufficient_quota"),
        2 => GateWord::Fails(tonic::Code::Unavailable),
        3 => GateWord::Twice(Box::new(lends())),
        4 => GateWord::Messages(vec![b"\xff\xff".to_vec()]),
        5 => GateWord::By(|_| LeaseResponse::default()),
        6 => GateWord::By(|asked| {
            let wrong = |id: &bytes::Bytes| Lent { id: id.clone(), served: 1, expires_in_ms: 9, ..Lent::default() };
            LeaseResponse { report: None, lents: asked.asks.iter().map(|ask| wrong(&ask.id)).collect() }
        }),
        7 | 8 => late(dice.below(1_900)),
        9 => GateWord::Late(Duration::from_millis(dice.below(400)), Box::new(GateWord::Refuses("rate_limit_exceeded"))),
        10 => GateWord::Lends,
        _ => lends(),
    }
}

/// What ext_authz hears next.
fn check(gateway: &Gateway, dice: &mut Dice) -> Word {
    let set = format!("set-{}", dice.below(5));
    match dice.below(8) {
        0 => Word::Fails(tonic::Code::Unavailable),
        1 => Word::Exactly(Box::new(deny(7, 403, "{}", &[]))),
        2 | 3 => word(&grant(gateway, |grant| (grant.hold_ms, grant.scope_set) = (0, set))),
        4 => word(&grant(gateway, |grant| (grant.hold_ms, grant.scope_set) = (200, set))),
        _ => word(&grant(gateway, |_| {})),
    }
}

async fn weather(gateway: &Gateway, mut dice: Dice) {
    loop {
        gateway.fake().lease(gate(&mut dice));
        gateway.fake().sync(if dice.once_in(6) { gate(&mut dice) } else { lends() });
        gateway.fake().say(check(gateway, &mut dice));
        if dice.once_in(30) {
            gateway.fake().dies();
            dice.pause(300).await;
            gateway.fake().comes_back();
        }
        dice.pause(260).await;
    }
}

/// One stream; the status of its answer, if it waited for one and there was one.
async fn stream(gateway: &Gateway, dice: &mut Dice) -> Option<u16> {
    let mut body = chat_body(if dice.once_in(8) { "[tokens=40] [drip=3ms]" } else { "[tokens=1]" });
    body["messages"][0]["content"] =
        json!(format!("{}{}", body["messages"][0]["content"].as_str()?, "x".repeat(dice.below(3_000) as usize)));
    if dice.once_in(3) {
        body["max_completion_tokens"] = json!(7);
    }
    if dice.once_in(6) {
        body["stream"] = json!(true);
    }
    let mut text = body.to_string();
    if dice.once_in(20) {
        text.truncate(text.len() / 2);
    }
    let open = dice.once_in(2);
    let framing = if open { Framing::Open } else { Framing::Counted(text.len()) };
    let mut client = Client::open(gateway, 1 + dice.below(2) as u8, framing).await;
    let leaves_at = if dice.once_in(4) { dice.below(5) } else { u64::MAX };
    let trailers = open && dice.once_in(3);
    let pieces = 1 + dice.below(4);
    let size = text.len().div_ceil(pieces as usize).max(1);
    for (number, piece) in text.as_bytes().chunks(size).enumerate() {
        if number as u64 == leaves_at {
            client.leave().await;
            return None;
        }
        client.data(piece, (number + 1) * size >= text.len() && !trailers);
        if dice.once_in(2) {
            dice.pause(30).await;
        }
    }
    if trailers {
        client.trailers(&[("x-checksum", "abc"), ("x-bulkhead-tenant", "globex")]);
    }
    if leaves_at < u64::MAX || dice.once_in(3) {
        let waits = if dice.once_in(2) { 20 } else { 900 };
        dice.pause(waits).await;
        client.leave().await;
        return None;
    }
    client.answer().await.map(|answer| answer.status)
}

async fn run(seed: u64, streams: u64) {
    let gateway = staged(|builder| builder.concurrency(2)).await;
    held(&gateway).await;
    let before = upstream(&gateway).len();
    let lane = |lane: u64| {
        let gateway = &gateway;
        async move {
            let mut dice = Dice::new(seed * 1_000 + lane);
            let mut statuses = Vec::new();
            for _ in (lane..streams).step_by(LANES as usize) {
                statuses.extend(stream(gateway, &mut dice).await);
            }
            statuses
        }
    };
    let all = futures_util::future::join_all((0..LANES).map(lane));
    let statuses: Vec<u16> = tokio::select! {
        statuses = all => statuses.into_iter().flatten().collect(),
        () = weather(&gateway, Dice::new(seed)) => unreachable!("the weather never ends"),
    };
    let count = |status: u16| statuses.iter().filter(|one| **one == status).count();
    let (served, sent) = (count(200), upstream(&gateway).len() - before);
    println!(
        "seed {seed}: {streams} streams, {served} served of {sent} sent, {} refused by limits, {} unavailable",
        count(429),
        count(503)
    );
    assert!(served <= sent, "seed {seed}");
    assert!(served > 0 && count(503) > 0 && statuses.len() > served, "seed {seed}: not all kinds of ends");
    gateway.fake().comes_back();
    sound(&gateway).await;
}

#[tokio::test]
async fn whatever_the_order() {
    let (seeds, streams) = if bulkhead_tests::full() { (20, 2_000) } else { (2, 400) };
    for seed in 1..=seeds {
        run(seed, streams).await;
    }
}

/// The real service, which stands still now and then: the books balance, and of the budget is gone what was charged.
#[tokio::test]
async fn whatever_the_order_the_books_balance() {
    let streams = if bulkhead_tests::full() { 2_000 } else { 250 };
    let builder = Gateway::builder().profile(Profile::Inline).concurrency(2);
    let gateway = builder.envoy(|text| patient_checks(&text, "5s")).start().await;
    let left = async || gateway.service().left("acme", "spend-per-day").await;
    let before = left().await;
    let lane = |lane: u64| {
        let gateway = &gateway;
        async move {
            let mut dice = Dice::new(77_000 + lane);
            for _ in (lane..streams).step_by(LANES as usize) {
                stream(gateway, &mut dice).await;
            }
        }
    };
    let stops = async {
        let mut dice = Dice::new(77);
        loop {
            dice.pause(900).await;
            gateway.service().process().signal(Signal::Stop);
            let most = if dice.once_in(4) { 3_000 } else { 500 };
            dice.pause(most).await;
            gateway.service().process().signal(Signal::Cont);
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all((0..LANES).map(lane)) => {}
        () = stops => unreachable!("it never ends"),
    }
    gateway.service().process().signal(Signal::Cont);
    assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200);
    let audit = gateway.balanced("acme").await;
    let charged: u64 = audit.iter().filter_map(|line| line["charged"]["microUsd"].as_u64()).sum();
    assert!(charged > 0);
    eventually("what is left is what was not charged", async || (left().await + charged == before).then_some(())).await;
}
