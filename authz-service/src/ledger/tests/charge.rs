//! Charges without a reservation: they count where reservations do, and are taken back where they were made.

use super::*;

fn tokens(tokens: u64) -> Cost {
    Cost { tokens, ..Cost::default() }
}

#[test]
fn a_charge_is_debt_and_an_admission_is_not() {
    let bench = Bench::new(vec![daily(100), rate(Counts::Requests, 2), in_flight(1)]);
    let fits = Cost { tokens: 1, gpu_ms: 1, micro_usd: 1, requests: 1 };
    let request = Cost { requests: 1, ..Cost::default() };
    let admit = || bench.ledger.charge(NOON, &bench.subject(), Some(&fits), request);
    assert!(admit().is_ok() && admit().is_ok(), "one after the other: none stays in flight");
    assert_eq!(admit().unwrap_err().kind, RefusedBy::Rate);
    assert_eq!(bench.left(NOON), [100, 0, 1], "a refusal changes nothing");

    let charged = bench.ledger.charge(after(60_000), &bench.subject(), None, tokens(130)).unwrap();
    assert_eq!((charged.states[0].left, charged.holds.len()), (0, 3));
    let refused = bench.ledger.charge(after(60_000), &bench.subject(), Some(&fits), request).unwrap_err();
    assert_eq!((refused.kind, refused.limit.name.as_str()), (RefusedBy::Budget, "tokens-per-day"));
    assert!(bench.reserve(after(60_000), 1, cost(1)).is_err(), "reservations see the same counters");
}

#[test]
fn an_open_request_in_flight_refuses_an_admission() {
    let bench = Bench::new(vec![in_flight(1)]);
    bench.reserve(NOON, 1, cost(1)).unwrap();
    let fits = Cost { requests: 1, ..Cost::default() };
    let refused = bench.ledger.charge(NOON, &bench.subject(), Some(&fits), fits).unwrap_err();
    assert_eq!(refused.kind, RefusedBy::InFlight);
}

#[test]
fn a_refund_goes_to_the_window_of_its_charge_and_never_below_nothing() {
    let bench = Bench::new(vec![daily(100)]);
    let tomorrow = after(24 * HOUR_MS);
    bench.ledger.charge(NOON, &bench.subject(), None, tokens(30)).unwrap();
    bench.ledger.charge(tomorrow, &bench.subject(), None, tokens(20)).unwrap();
    let refunded = bench.ledger.refund(tomorrow, &bench.subject(), NOON, tokens(30));
    assert_eq!((refunded.states[0].left, refunded.holds[0].start_ms), (80, NOON.unix_ms - 12 * HOUR_MS));
    bench.ledger.refund(tomorrow, &bench.subject(), tomorrow, tokens(1_000));
    assert_eq!(bench.left(tomorrow), [100]);
}
