use super::*;

const A: [u8; 16] = [0xa; 16];
const B: [u8; 16] = [0xb; 16];

#[test]
fn what_every_worker_passes_over_twice_is_undone() {
    let bench = Bench::new(vec![daily(100)]);
    bench.ledger.sync(PROXY, A, NOON, &[]);
    bench.ledger.sync(PROXY, B, NOON, &[]);
    bench.reserve(after(1), 1, cost(50)).unwrap();
    assert_eq!(bench.ledger.sync(PROXY, A, after(3500), &[]).undone, []);
    assert_eq!(bench.ledger.sync(PROXY, A, after(4000), &[]).undone, []);
    assert_eq!(bench.ledger.sync(PROXY, B, after(4500), &[]).undone, []);
    assert_eq!(bench.ledger.sync(PROXY, B, after(5000), &[]).undone, [id(1)]);
    assert_eq!(bench.left(after(5000)), [100]);
    assert_eq!(bench.ledger.sync(PROXY, B, after(5500), &[]), Synced::default());
}

#[test]
fn what_one_worker_lists_is_armed_for_good() {
    let bench = Bench::new(vec![daily(100)]);
    bench.reserve(NOON, 1, cost(50)).unwrap();
    assert_eq!(bench.ledger.sync(PROXY, A, after(500), &[id(1)]), Synced::default());
    for n in 1..20 {
        assert_eq!(bench.ledger.sync(PROXY, A, after(500 * n), &[]), Synced::default());
    }
    assert_eq!(bench.left(after(10_000)), [50]);
}

#[test]
fn another_proxy_neither_arms_nor_undoes() {
    let bench = Bench::new(vec![daily(100)]);
    bench.reserve(NOON, 1, cost(50)).unwrap();
    for n in 0..5 {
        assert_eq!(bench.ledger.sync("edge-2", A, after(2000 + n), &[id(1)]), Synced::default());
    }
    bench.ledger.sync(PROXY, B, after(3500), &[]);
    assert_eq!(bench.ledger.sync(PROXY, B, after(4000), &[]).undone, [id(1)]);
}

#[test]
fn a_young_reservation_is_not_undone_however_often_workers_report() {
    let bench = Bench::new(vec![daily(100)]);
    bench.reserve(NOON, 1, cost(50)).unwrap();
    for n in 0..=30 {
        assert_eq!(bench.ledger.sync(PROXY, A, after(n * 100), &[]).undone, []);
    }
    assert_eq!(bench.ledger.sync(PROXY, A, after(3001), &[]).undone, [id(1)]);
}

#[test]
fn a_report_that_was_made_early_and_heard_late_says_nothing() {
    let bench = Bench::new(vec![daily(100)]);
    bench.ledger.sync(PROXY, A, NOON, &[]);
    bench.reserve(after(1), 1, cost(50)).unwrap();
    assert_eq!(bench.ledger.sync(PROXY, A, after(20), &[]).undone, []);
    // made at 21, before the answer came to the worker, and four seconds under way
    assert_eq!(bench.ledger.sync(PROXY, A, after(4000), &[]).undone, []);
    assert_eq!(bench.ledger.sync(PROXY, A, after(4010), &[id(1)]), Synced::default());
    assert_eq!(bench.left(after(4010)), [50]);
}

#[test]
fn what_may_have_been_under_way_at_a_worker_that_died_is_not_undone() {
    let bench = Bench::new(vec![daily(100)]);
    bench.ledger.sync(PROXY, B, NOON, &[]);
    bench.reserve(after(1), 1, cost(50)).unwrap();
    for n in 1..60 {
        assert_eq!(bench.ledger.sync(PROXY, A, after(n * 1000), &[]).undone, [], "{n}");
    }
    assert_eq!(bench.left(after(60_000)), [50]);
    assert_eq!(bench.ledger.expire(after(HOUR_MS + 1)).len(), 1, "spent");
    assert!(bench.ledger.lock().due.len() == 1, "a late settlement would correct it");
}

#[test]
fn a_silent_worker_is_waited_for_no_longer() {
    let bench = Bench::new(vec![daily(100)]);
    for worker in [A, B] {
        bench.ledger.sync(PROXY, worker, NOON, &[]);
    }
    bench.reserve(after(1), 1, cost(20)).unwrap();
    for n in [4000, 4500] {
        assert_eq!(bench.ledger.sync(PROXY, B, after(n), &[]).undone, []);
    }
    for n in [5000, 19_000] {
        assert_eq!(bench.ledger.sync(PROXY, A, after(n), &[]).undone, if n == 5000 { vec![] } else { vec![id(1)] });
    }
    // forgotten: B
    assert_eq!(bench.ledger.sync(PROXY, A, after(19_600), &[]).undone, []);
    bench.reserve(after(20_000), 2, cost(30)).unwrap();
    let undone: Vec<_> = [24_000, 24_500].map(|at| bench.ledger.sync(PROXY, A, after(at), &[]).undone).concat();
    assert_eq!(undone, [id(2)]);
}

#[test]
fn a_settlement_of_what_was_undone_is_charged_as_debt() {
    let bench = Bench::new(vec![daily(100), in_flight(1)]);
    bench.reserve(NOON, 1, cost(100)).unwrap();
    bench.ledger.sync(PROXY, A, after(3500), &[]);
    assert_eq!(bench.ledger.sync(PROXY, A, after(4000), &[]).undone, [id(1)]);
    bench.reserve(after(4000), 2, cost(80)).unwrap();
    assert_eq!(bench.ledger.terms(id(1), PROXY), Some(terms(cost(100))));
    assert!(bench.ledger.settle(after(4500), id(1), cost(90)).unwrap().late);
    assert_eq!(bench.left(after(4500)), [0, 0]);
    bench.ledger.settle(after(4500), id(2), Cost::default()).unwrap();
    assert_eq!(bench.left(after(4500)), [10, 1]);
}

#[test]
fn what_was_undone_and_is_held_after_all_is_reserved_again() {
    let bench = Bench::new(vec![daily(100), in_flight(1)]);
    bench.reserve(NOON, 1, cost(100)).unwrap();
    bench.ledger.sync(PROXY, A, after(3500), &[]);
    bench.ledger.sync(PROXY, A, after(4000), &[]);
    bench.reserve(after(4000), 2, cost(80)).unwrap();
    assert_eq!(bench.ledger.sync(PROXY, A, after(4500), &[id(1), id(2)]).reinstated, [id(1)]);
    bench.ledger.settle(after(4500), id(2), Cost::default()).unwrap();
    assert_eq!(bench.left(after(4500)), [0, 0]);
    bench.ledger.settle(after(4500), id(1), cost(30)).unwrap();
    assert_eq!(bench.left(after(4500)), [70, 1]);
}

#[test]
fn undone_reservations_are_forgotten_in_time() {
    let bench = Bench::new(vec![daily(100)]);
    bench.reserve(NOON, 1, cost(50)).unwrap();
    bench.ledger.sync(PROXY, A, after(3500), &[]);
    bench.ledger.sync(PROXY, A, after(4000), &[]);
    assert_eq!(bench.ledger.expire(after(HOUR_MS + 3999)), []);
    assert!(bench.ledger.terms(id(1), PROXY).is_some());
    assert_eq!(bench.ledger.expire(after(HOUR_MS + 4000)), []);
    assert_eq!(bench.ledger.terms(id(1), PROXY), None);
    assert!(bench.ledger.lock().due.is_empty());
}
