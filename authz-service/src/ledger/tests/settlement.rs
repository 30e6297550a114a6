use super::*;

#[test]
fn the_actual_cost_replaces_what_was_reserved() {
    let bench = Bench::new(vec![daily(100)]);
    bench.reserve(NOON, 1, cost(80)).unwrap();
    let settled = bench.ledger.settle(NOON, id(1), cost(30)).unwrap();
    assert_eq!((settled.reserved, settled.charge, settled.late), (cost(80), cost(30), false));
    assert_eq!(bench.left(NOON), [70]);
}

#[test]
fn an_overrun_is_debt_until_the_window_turns() {
    let bench = Bench::new(vec![daily(100)]);
    bench.reserve(NOON, 1, cost(10)).unwrap();
    bench.ledger.settle(NOON, id(1), cost(5_000)).unwrap();
    let refused = bench.reserve(NOON, 2, Cost::default()).unwrap_err();
    assert_eq!((refused.left, refused.retry_after), (0, Some(Duration::from_secs(12 * 3600))));
    bench.reserve(after(12 * HOUR_MS), 2, cost(100)).unwrap();
}

#[test]
fn a_settlement_counts_in_the_window_it_was_reserved_in() {
    let bench = Bench::new(vec![daily(100)]);
    bench.reserve(NOON, 1, cost(100)).unwrap();
    let tomorrow = after(12 * HOUR_MS);
    bench.reserve(tomorrow, 2, cost(60)).unwrap();
    bench.ledger.settle(tomorrow, id(1), cost(90)).unwrap();
    assert_eq!(bench.left(tomorrow), [40]);
}

#[test]
fn a_settlement_counts_once() {
    let bench = Bench::new(vec![daily(100)]);
    bench.reserve(NOON, 1, cost(50)).unwrap();
    let first = bench.ledger.settle(NOON, id(1), cost(20)).unwrap();
    // Not confirmed: the store is asked again, for the same.
    assert_eq!(bench.ledger.settle(NOON, id(1), cost(0)), Some(first));
    bench.ledger.confirm(id(1));
    assert_eq!(bench.ledger.settle(NOON, id(1), cost(0)), None);
    assert_eq!(bench.ledger.settle(NOON, id(9), cost(1)), None);
    assert_eq!(bench.left(NOON), [80]);
}

#[test]
fn only_the_proxy_that_reserved_reads_the_terms() {
    let bench = Bench::new(vec![daily(100)]);
    bench.reserve(NOON, 1, cost(50)).unwrap();
    assert_eq!(bench.ledger.terms(id(1), PROXY), Some(terms(cost(50))));
    assert_eq!(bench.ledger.terms(id(1), "edge-2"), None);
    bench.ledger.settle(NOON, id(1), cost(20)).unwrap();
    bench.ledger.confirm(id(1));
    assert_eq!(bench.ledger.terms(id(1), PROXY), None);
}

#[test]
fn undone_is_as_if_it_never_was() {
    let bench = Bench::new(vec![daily(100), in_flight(2), rate(Counts::Requests, 5)]);
    bench.reserve(NOON, 1, cost(100)).unwrap();
    assert!(bench.ledger.undo(NOON, id(1)));
    assert_eq!(bench.left(NOON), [100, 2, 5]);
    assert!(!bench.ledger.undo(NOON, id(1)));
    assert_eq!(bench.ledger.settle(NOON, id(1), cost(1)), None);
    // What is settled cannot be undone.
    bench.reserve(NOON, 2, cost(10)).unwrap();
    bench.ledger.settle(NOON, id(2), cost(10)).unwrap();
    assert!(!bench.ledger.undo(NOON, id(2)));
    assert_eq!(bench.left(NOON), [90, 2, 4]);
}

#[test]
fn what_nobody_settles_becomes_spend_and_a_late_settlement_corrects_it() {
    let bench = Bench::new(vec![daily(100), in_flight(2), rate(Counts::Tokens, 1_000_000)]);
    bench.reserve(NOON, 1, cost(50)).unwrap();
    bench.ledger.arm(NOON, id(1), PROXY);
    assert_eq!(bench.ledger.expire(after(HOUR_MS - 1)), []);
    let expired = [Expired { id: id(1), charge: cost(50) }];
    assert_eq!(bench.ledger.expire(after(HOUR_MS)), expired);
    assert_eq!(bench.left(after(HOUR_MS)), [50, 2, 999_950]);
    // Not confirmed: handed out again, later.
    assert_eq!(bench.ledger.expire(after(HOUR_MS)), []);
    assert_eq!(bench.ledger.expire(after(HOUR_MS + 10_000)), expired);
    bench.ledger.confirm(id(1));
    assert_eq!(bench.ledger.expire(after(HOUR_MS + 30_000)), []);
    let settled = bench.ledger.settle(after(HOUR_MS + 30_000), id(1), cost(10)).unwrap();
    assert!(settled.late);
    assert_eq!(bench.left(after(HOUR_MS + 30_000))[..2], [90, 2]);
}

#[test]
fn an_expired_reservation_is_forgotten_a_longest_stream_later() {
    let bench = Bench::new(vec![daily(100)]);
    bench.reserve(NOON, 1, cost(50)).unwrap();
    bench.ledger.expire(after(HOUR_MS));
    bench.ledger.confirm(id(1));
    bench.ledger.expire(after(HOUR_MS + 10_000));
    assert!(bench.ledger.terms(id(1), PROXY).is_some());
    bench.ledger.expire(after(2 * HOUR_MS));
    assert_eq!(bench.ledger.settle(after(2 * HOUR_MS), id(1), cost(1)), None);
    assert_eq!(bench.left(after(2 * HOUR_MS)), [50]);
}

#[test]
fn a_settlement_that_nobody_confirms_is_handed_to_the_store_again() {
    let bench = Bench::new(vec![daily(100)]);
    bench.reserve(NOON, 1, cost(50)).unwrap();
    bench.ledger.settle(NOON, id(1), cost(20)).unwrap();
    assert_eq!(bench.ledger.expire(after(9_999)), []);
    let again = [Expired { id: id(1), charge: cost(20) }];
    assert_eq!(bench.ledger.expire(after(10_000)), again);
    bench.ledger.confirm(id(1));
    assert_eq!(bench.ledger.expire(after(HOUR_MS)), []);
    assert_eq!(bench.left(after(HOUR_MS)), [80]);
}

#[test]
fn idle_counters_leave_no_memory() {
    let model = limit("m", Counts::Tokens, Scope::Model, 100, Refill::Window(Window::Minute));
    let mut bench = Bench::new(vec![model, in_flight(10_000), rate(Counts::Tokens, 1_000)]);
    for n in 0..200 {
        bench.model = ModelName::parse(&format!("m{n}")).unwrap();
        bench.reserve(NOON, n, cost(10)).unwrap();
        bench.ledger.settle(NOON, id(n), cost(5)).unwrap();
        bench.ledger.confirm(id(n));
    }
    let counters = || {
        let state = bench.ledger.lock();
        (state.counters.budgets.len(), state.counters.rates.len(), state.counters.in_flight.len(), state.due.len())
    };
    assert_eq!(counters(), (200, 1, 1, 0));
    bench.ledger.expire(after(70_000));
    assert_eq!(counters(), (0, 0, 0, 0));
}
