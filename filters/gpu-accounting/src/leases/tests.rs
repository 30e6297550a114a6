//! The pool, rule by rule; `generated` holds them all at once.
#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]

mod generated;

use gateway_core::gate::{Ask, Counts, Lent, Refill};

use super::*;

const T0: u64 = 1_790_000_000_000;

fn cost(tokens: u64, requests: u64) -> Cost {
    Cost { tokens, gpu_ms: tokens, micro_usd: tokens, requests }
}

fn take(pool: &mut Pool, stream: u32, tokens: u64, now_ms: u64) -> Taken {
    let handle = Bytes::from(stream.to_be_bytes().to_vec());
    pool.take(&Wanted { scope_set: "acme/k1", model: "m", handle: &handle, need: cost(tokens, 9) }, stream, now_ms)
}

fn ids() -> impl FnMut() -> [u8; 12] {
    let mut next = 0_u8;
    move || {
        next += 1;
        [next; 12]
    }
}

fn asked(pool: &mut Pool, now_ms: u64, random: &mut dyn FnMut() -> [u8; 12]) -> Ask {
    let mut asks = pool.asks(now_ms, random);
    assert_eq!(asks.len(), 1, "{asks:?}");
    asks.remove(0)
}

fn lent(ask: &Ask, served: u32, amount: Cost) -> Lent {
    let whole = served as usize == ask.needs.len();
    Lent {
        id: ask.id.clone(),
        served,
        amount: Some(amount),
        expires_in_ms: 5_000,
        refused: (!whole).then(|| LimitRefusal { code: "insufficient_quota".into(), ..LimitRefusal::default() }),
        ..Lent::default()
    }
}

/// A pool whose set has a lease of so much, of which one token of one request is taken.
fn lending(tokens: u64, requests: u64) -> (Pool, Ticket) {
    let mut pool = Pool::default();
    assert_eq!(take(&mut pool, 1, 1, T0), Taken::Waits);
    let ask = asked(&mut pool, T0, &mut ids());
    let mut verdicts = pool.answered(vec![lent(&ask, 1, cost(tokens, requests))], T0);
    let Some((1, Verdict::Admitted(ticket))) = verdicts.pop() else { panic!("{verdicts:?}") };
    (pool, ticket)
}

/// What became of each stream, in short.
fn told(verdicts: &[(u32, Verdict)]) -> Vec<(u32, &'static str)> {
    let word = |verdict: &Verdict| match verdict {
        Verdict::Admitted(_) => "admitted",
        Verdict::Refused(_) => "refused",
        Verdict::Unavailable => "unavailable",
    };
    verdicts.iter().map(|(stream, verdict)| (*stream, word(verdict))).collect()
}

fn ends(pool: &mut Pool, now_ms: u64) -> Vec<(u8, u32, u64)> {
    let closed = pool.closed(now_ms);
    closed.iter().map(|end| (end.lease[0], end.admitted, end.reserved.unwrap().tokens)).collect()
}

#[test]
fn those_who_wait_for_one_budget_share_an_ask() {
    let (mut pool, mut random) = (Pool::default(), ids());
    for (stream, tokens) in [(7, 10), (8, 20), (9, 30)] {
        assert_eq!(take(&mut pool, stream, tokens, T0), Taken::Waits);
    }
    let ask = asked(&mut pool, T0, &mut random);
    let want = Ask {
        id: [[1; 12].as_slice(), &[0; 4]].concat().into(),
        grant: 7_u32.to_be_bytes().to_vec().into(),
        model: "m".into(),
        needs: vec![cost(10, 1), cost(20, 1), cost(30, 1)],
        extra: Some(Cost::default()),
    };
    assert_eq!(ask, want);
    assert_eq!(take(&mut pool, 10, 5, T0), Taken::Waits);
    assert!(pool.asks(T0, &mut random).is_empty(), "one call at a time");
    let verdicts = pool.answered(vec![lent(&ask, 3, cost(60, 3))], T0 + 2);
    let ids: Vec<Vec<u8>> = verdicts
        .iter()
        .filter_map(
            |(_, verdict)| if let Verdict::Admitted(ticket) = verdict { Some(ticket.id().to_vec()) } else { None },
        )
        .collect();
    let id = |number| [[1; 12].as_slice(), &[0, 0, 0, number]].concat();
    assert_eq!(ids, [id(1), id(2), id(3)]);
    assert_eq!(told(&verdicts), [(7, "admitted"), (8, "admitted"), (9, "admitted")]);
    assert_eq!(ends(&mut pool, T0 + 2), [(1, 3, 60)], "what is used up is over");

    let next = asked(&mut pool, T0 + 3, &mut random);
    assert_eq!((next.id[0], next.needs, next.extra), (2, vec![cost(5, 1)], Some(cost(60, 3))));
}

#[test]
fn a_balance_at_hand_admits_at_once_while_nobody_waits() {
    let (mut pool, first) = lending(100, 10);
    assert_eq!((first.reserved(), first.settle_at_once()), (cost(1, 1), false));
    let Taken::Admitted(second) = take(&mut pool, 2, 90, T0 + 4_999) else { panic!("there is enough") };
    let leased = second.leased("r-2", "m", 12);
    assert_eq!((leased.number, leased.reserved, leased.input_estimate), (2, Some(cost(90, 1)), 12));
    assert_eq!(take(&mut pool, 3, 10, T0 + 4_999), Taken::Waits, "9 are left");
    assert_eq!(take(&mut pool, 4, 1, T0 + 4_999), Taken::Waits, "not past another");
    pool.leave(3);
    pool.leave(4);
    assert!(matches!(take(&mut pool, 5, 9, T0 + 4_999), Taken::Admitted(_)));
    assert_eq!(take(&mut pool, 6, 0, T0 + 5_000), Taken::Waits, "its time is over");
    assert_eq!(ends(&mut pool, T0 + 5_000), [(1, 3, 100)]);
    assert_eq!(ends(&mut pool, T0 + 60_000), []);
}

#[test]
fn an_ask_gives_back_what_is_left() {
    let (mut pool, _ticket) = lending(100, 10);
    assert_eq!(take(&mut pool, 2, 100, T0), Taken::Waits);
    let ask = asked(&mut pool, T0, &mut || [9; 12]);
    assert_eq!((ask.needs.as_slice(), ends(&mut pool, T0)), ([cost(100, 1)].as_slice(), vec![(1, 1, 1)]));
}

#[test]
fn a_refusal_is_for_all_who_need_as_much() {
    let (mut pool, mut random) = (Pool::default(), ids());
    for (stream, tokens) in [(1, 10), (2, 50), (3, 49), (4, 50), (5, 60)] {
        assert_eq!(take(&mut pool, stream, tokens, T0), Taken::Waits);
    }
    let ask = asked(&mut pool, T0, &mut random);
    let verdicts = pool.answered(vec![lent(&ask, 1, cost(10, 1))], T0);
    assert_eq!(told(&verdicts), [(1, "admitted"), (2, "refused"), (4, "refused"), (5, "refused")]);
    let again = asked(&mut pool, T0, &mut random);
    assert_eq!(again.needs, [cost(49, 1)]);
    let verdicts = pool.answered(vec![lent(&again, 0, Cost::default())], T0);
    assert_eq!(told(&verdicts), [(3, "refused")]);
    assert_eq!(ends(&mut pool, T0), [(1, 1, 10)], "where nothing was lent, nothing ends");
}

#[test]
fn what_was_lent_for_those_who_left_serves_others_and_then_goes_back() {
    let (mut pool, mut random) = (Pool::default(), ids());
    for stream in 1..=3 {
        assert_eq!(take(&mut pool, stream, 10, T0), Taken::Waits);
    }
    let ask = asked(&mut pool, T0, &mut random);
    (1..=3).for_each(|stream| pool.leave(stream));
    assert_eq!(take(&mut pool, 4, 10, T0), Taken::Waits, "the answer is still to come");
    let verdicts = pool.answered(vec![lent(&ask, 3, cost(30, 3))], T0);
    assert_eq!(told(&verdicts), [(4, "admitted")]);
    assert!(matches!(take(&mut pool, 5, 10, T0), Taken::Admitted(_)));
    assert_eq!(ends(&mut pool, T0 + 4_999), []);
    assert_eq!(ends(&mut pool, T0 + 5_099), [(1, 2, 20)]);
}

#[test]
fn a_failed_call_refuses_those_it_asked_for_and_closes_its_ids() {
    let (mut pool, mut random) = (Pool::default(), ids());
    assert_eq!(take(&mut pool, 1, 10, T0), Taken::Waits);
    let ask = asked(&mut pool, T0, &mut random);
    assert_eq!(take(&mut pool, 2, 10, T0), Taken::Waits);
    assert_eq!(told(&pool.failed(T0 + 1)), [(1, "unavailable")]);
    assert_eq!(ends(&mut pool, T0 + 1), [(1, 0, 0)]);
    assert_eq!(pool.answered(vec![lent(&ask, 1, cost(10, 1))], T0 + 2), [], "late");
    assert_eq!(asked(&mut pool, T0 + 2, &mut random).needs.len(), 1);
    assert_eq!(pool.overdue(1_000, T0 + 999), [] as [u32; 0]);
    assert_eq!(pool.overdue(1_000, T0 + 1_000), [2]);
}

#[test]
fn an_answer_that_cannot_be_right_admits_nobody() {
    let bad: [fn(&mut Lent); 9] = [
        |lent| lent.amount = None,
        |lent| lent.amount = Some(cost(19, 2)),
        |lent| lent.amount = Some(cost(20, 1)),
        |lent| lent.amount = Some(Cost { micro_usd: 19, ..cost(20, 2) }),
        |lent| lent.served = 3,
        |lent| lent.served = 1,
        |lent| lent.served = 0,
        |lent| lent.expires_in_ms = 0,
        |lent| lent.id = vec![1; 15].into(),
    ];
    for (number, spoil) in bad.iter().enumerate() {
        let mut pool = Pool::default();
        assert_eq!((take(&mut pool, 1, 10, T0), take(&mut pool, 2, 10, T0)), (Taken::Waits, Taken::Waits));
        let ask = asked(&mut pool, T0, &mut ids());
        let mut answer = lent(&ask, 2, cost(20, 2));
        spoil(&mut answer);
        let verdicts = pool.answered(vec![answer, lent(&ask, 3, cost(u64::MAX, 3))], T0);
        assert_eq!(told(&verdicts), [(1, "unavailable"), (2, "unavailable")], "{number}");
        assert_eq!(ends(&mut pool, T0), [(1, 0, 0)], "{number}");
        assert_eq!(take(&mut pool, 3, 0, T0), Taken::Waits, "{number}");
    }
}

#[test]
fn needs_that_overflow_together_are_not_served() {
    let mut pool = Pool::default();
    assert_eq!((take(&mut pool, 1, u64::MAX, T0), take(&mut pool, 2, u64::MAX, T0)), (Taken::Waits, Taken::Waits));
    let ask = asked(&mut pool, T0, &mut ids());
    let verdicts = pool.answered(vec![lent(&ask, 2, cost(u64::MAX, 2))], T0);
    assert_eq!(told(&verdicts), [(1, "unavailable"), (2, "unavailable")]);
}

#[test]
fn a_post_paid_rate_ends_the_lease_by_what_ended_since_the_ask() {
    let used = |output_seen| Settlement { outcome: 2, output_seen, ..Settlement::default() };
    let (mut pool, first) = lending(100, 10);
    assert_eq!(take(&mut pool, 2, 100, T0), Taken::Waits);
    pool.ended(&first, &used(1_000));
    let ask = asked(&mut pool, T0, &mut || [2; 12]);
    pool.ended(&first, &used(300));
    let mut verdicts = pool.answered(vec![Lent { rate_tokens: 1_000, ..lent(&ask, 1, cost(500, 9)) }], T0);
    let Some((2, Verdict::Admitted(second))) = verdicts.pop() else { panic!("{verdicts:?}") };
    pool.ended(&second, &used(699));
    assert!(matches!(take(&mut pool, 3, 1, T0), Taken::Admitted(_)));
    pool.ended(&second, &used(1));
    assert_eq!(take(&mut pool, 4, 1, T0), Taken::Waits);
    assert_eq!(ends(&mut pool, T0), [(1, 1, 1), (2, 2, 101)]);
}

#[test]
fn a_clock_set_back_ends_leases_and_waiting() {
    let (mut pool, _ticket) = lending(100, 10);
    assert!(matches!(take(&mut pool, 2, 1, T0 - 1_000), Taken::Admitted(_)), "as if it stood still");
    assert_eq!(take(&mut pool, 3, 100, T0 + 10), Taken::Waits);
    assert_eq!(take(&mut pool, 4, 1, T0 - 1_001), Taken::Waits);
    assert_eq!(ends(&mut pool, T0 - 1_001), [(1, 2, 2)]);
    assert_eq!(pool.overdue(1_000, T0 - 1_001), [3]);
}

#[test]
fn limits_stand_where_the_lease_left_them_and_what_is_unused_comes_on_top() {
    let state = |counts: Counts, refill: Refill, amount| gateway_core::gate::LimitState {
        counts: counts.into(),
        refill: refill.into(),
        amount,
        left: 100,
        reset_after_ms: 1_000,
        ..Default::default()
    };
    let mut pool = Pool::default();
    assert_eq!(take(&mut pool, 1, 10, T0), Taken::Waits);
    let ask = asked(&mut pool, T0, &mut ids());
    let limits = vec![
        state(Counts::Tokens, Refill::Window, 1_000),
        state(Counts::MicroUsd, Refill::Window, 110),
        state(Counts::Tokens, Refill::Rate, 1_000),
        state(Counts::Requests, Refill::Rate, 1_000),
        state(Counts::Requests, Refill::InFlight, 1_000),
    ];
    let mut verdicts = pool.answered(vec![Lent { limits, ..lent(&ask, 1, cost(50, 4)) }], T0);
    let Some((1, Verdict::Admitted(ticket))) = verdicts.pop() else { panic!("{verdicts:?}") };
    let left = |pool: &Pool, now_ms| -> Vec<(u64, u64)> {
        pool.limits_now(&ticket, now_ms).iter().map(|limit| (limit.left, limit.reset_after_ms)).collect()
    };
    assert_eq!(left(&pool, T0), [(140, 1_000), (110, 1_000), (100, 1_000), (103, 1_000), (103, 1_000)]);
    assert!(matches!(take(&mut pool, 2, 40, T0), Taken::Admitted(_)));
    assert_eq!(left(&pool, T0 + 400), [(100, 600), (100, 600), (100, 600), (102, 600), (102, 600)]);
    let _ = pool.closed(T0 + 5_000);
    assert_eq!(left(&pool, T0 + 5_000), [(100, 0); 5]);
}

#[test]
fn the_last_second_is_what_is_asked_for_beyond_the_needs() {
    let mut random = ids();
    let (mut pool, _ticket) = lending(10_000, 1_000);
    let extra_at = |pool: &mut Pool, now_ms, random: &mut dyn FnMut() -> [u8; 12]| {
        assert_eq!(take(pool, 99, 20_000, now_ms), Taken::Waits);
        let extra = asked(pool, now_ms, random).extra.unwrap().requests;
        pool.leave(99);
        let _ = pool.failed(now_ms);
        extra
    };
    for stream in 0..100 {
        assert!(matches!(take(&mut pool, stream, 1, T0 + 500), Taken::Admitted(_)));
    }
    for (later, requests) in [(999, 101), (1_000, 101), (1_500, 51), (1_999, 1), (2_000, 0), (9_000, 0)] {
        assert_eq!(extra_at(&mut pool, T0 + later, &mut random), requests, "after {later} ms");
    }
}

#[test]
fn who_comes_and_goes_leaves_nothing_and_too_many_are_refused() {
    let mut pool = Pool::default();
    for stream in 0..100_000 {
        assert_eq!(take(&mut pool, stream, 1, T0), Taken::Waits);
        pool.leave(stream);
    }
    assert_eq!((pool.queue.len(), pool.places.len(), pool.sets.len()), (0, 0, 1));
    for stream in 0..MAX_WAITERS as u32 {
        assert_eq!(take(&mut pool, stream, 1, T0), Taken::Waits);
    }
    assert_eq!(take(&mut pool, 99_999, 1, T0), Taken::Full);
    assert_eq!(asked(&mut pool, T0, &mut ids()).needs.len(), MAX_NEEDS);
    assert_eq!(pool.overdue(LONGEST_WAIT_MS, T0 + LONGEST_WAIT_MS).len(), MAX_WAITERS);
    let _ = pool.failed(T0);
    assert_eq!(pool.closed(T0 + FORGET_AFTER_MS).len(), 1);
    assert!(pool.sets.is_empty());
}

#[test]
fn sets_are_bounded_and_those_beyond_are_not_remembered() {
    let mut pool = Pool::default();
    let handle = Bytes::new();
    let visit = |pool: &mut Pool, set: usize| {
        let scope_set = format!("set-{set}");
        let wanted = Wanted { scope_set: &scope_set, model: "m", handle: &handle, need: cost(1, 1) };
        let taken = pool.take(&wanted, 1, T0);
        pool.leave(1);
        taken
    };
    let bound = MAX_SETS + MAX_WAITERS;
    assert!((0..bound).all(|set| visit(&mut pool, set) == Taken::Waits));
    assert_eq!((visit(&mut pool, bound), pool.sets.len()), (Taken::Full, bound));
    assert!(pool.closed(T0 + SWEEP_EVERY_MS).is_empty());
    assert_eq!(pool.sets.len(), MAX_SETS);
    let _ = pool.closed(T0 + FORGET_AFTER_MS);
    assert_eq!(pool.sets.len(), 0);
}
