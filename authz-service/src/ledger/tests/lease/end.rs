//! What is lent counts once, and comes back or becomes spend.

use super::*;

#[test]
fn settlements_and_the_end_give_back_what_was_not_used() {
    let bench = Bench::new(vec![daily(100), in_flight(10), rate(Counts::Requests, 10)]);
    bench.lend(NOON, 1, A, &[20, 20, 20], NOTHING);
    assert_eq!(bench.left(NOON), [40, 7, 7]);
    assert_eq!(bench.end(NOON, 1, A, 1, 20, 5), Some(Settled { reserved: cost(20), charge: cost(5), late: false }));
    assert_eq!(bench.left(NOON), [55, 8, 7]);
    let account = bench.close(NOON, 1, A, costs(40, 2)).unwrap();
    assert_eq!((account.open(), account.spent()), (costs(20, 1), cost(5)));
    assert_eq!(bench.left(NOON), [75, 9, 8]);
    bench.end(NOON, 1, A, 2, 20, 20).unwrap();
    assert_eq!(bench.left(NOON), [75, 10, 8]);
    // A second word about the end changes nothing.
    assert_eq!(bench.close(NOON, 1, A, NOTHING).unwrap().closed, Some(costs(40, 2)));
    assert_eq!(bench.left(NOON), [75, 10, 8]);
}

#[test]
fn a_request_that_was_never_sent_costs_nothing_at_all() {
    let bench = Bench::new(vec![daily(100), rate(Counts::Requests, 10)]);
    bench.lend(NOON, 1, A, &[20], NOTHING);
    bench.ledger.settle_leased(NOON, lease_id(1), &holder(A), 1, cost(20), NOTHING).unwrap();
    assert_eq!(bench.left(NOON), [100, 10]);
}

#[test]
fn each_number_counts_once_and_for_its_holder_alone() {
    let bench = Bench::new(vec![daily(100)]);
    bench.lend(NOON, 1, A, &[20, 20], NOTHING);
    assert_eq!(bench.end(NOON, 1, B, 1, 20, 0), None);
    assert_eq!(bench.close(NOON, 1, B, NOTHING), None);
    assert_eq!(bench.ledger.lease_terms(lease_id(1), &holder(B)), None);
    let first = bench.end(NOON, 1, A, 1, 20, 15).unwrap();
    // Not durable yet: stored again, as it was.
    assert_eq!(bench.end(NOON, 1, A, 1, 20, 0), Some(first));
    bench.ledger.confirm_settled(NOON, lease_id(1), 1);
    assert_eq!(bench.end(NOON, 1, A, 1, 20, 0), None);
    assert_eq!(bench.left(NOON), [65]);
    assert_eq!(bench.end(NOON, 9, A, 1, 20, 20), None);
}

#[test]
fn what_goes_beyond_a_lease_is_debt() {
    let bench = Bench::new(vec![daily(100), in_flight(2)]);
    bench.lend(NOON, 1, A, &[20], NOTHING);
    for number in 1..=3 {
        bench.end(NOON, 1, A, number, 60, 60).unwrap();
    }
    assert_eq!(bench.left(NOON), [0, 2]);
    assert_eq!(bench.reserve(NOON, 1, cost(0)).unwrap_err().retry_after, Some(Duration::from_secs(12 * 3600)));
}

#[test]
fn a_lease_is_forgotten_when_all_of_it_is_durable() {
    let bench = Bench::new(vec![daily(100)]);
    bench.lend(NOON, 1, A, &[20, 20], NOTHING);
    let known = || !bench.ledger.lock().leases.is_empty();
    bench.end(NOON, 1, A, 1, 20, 5).unwrap();
    bench.close(NOON, 1, A, cost(20)).unwrap();
    bench.ledger.confirm_closed(NOON, lease_id(1));
    assert!(known());
    bench.ledger.confirm_settled(NOON, lease_id(1), 1);
    assert!(!known());
    assert_eq!(bench.end(NOON, 1, A, 1, 20, 0), None);
    assert_eq!(bench.left(NOON), [95]);
    assert_eq!(bench.ledger.expire_leases(after(HOUR_MS * 3)), []);
}

#[test]
fn what_nobody_closes_becomes_spend_and_late_words_correct_it() {
    let bench = Bench::new(vec![daily(100), in_flight(10), rate(Counts::Tokens, 1_000_000)]);
    bench.lend(NOON, 1, A, &[20, 20, 20], NOTHING);
    bench.end(NOON, 1, A, 1, 20, 5).unwrap();
    assert_eq!(bench.ledger.expire_leases(after(14_999)), []);
    assert_eq!(bench.left(after(14_999))[..2], [55, 8]);
    assert_eq!(bench.ledger.expire_leases(after(15_000)), [lease_id(1)]);
    // The five that were charged at noon have come back on the rate.
    assert_eq!(bench.left(after(15_000)), [55, 10, 999_960]);
    // Not confirmed: handed out again, later.
    assert_eq!(bench.ledger.expire_leases(after(15_000)), []);
    assert_eq!(bench.ledger.expire_leases(after(25_000)), [lease_id(1)]);
    bench.ledger.confirm_expired(after(25_000), lease_id(1));
    assert_eq!(bench.ledger.expire_leases(after(60_000)), []);
    assert!(bench.end(after(60_000), 1, A, 2, 20, 1).unwrap().late);
    assert_eq!(bench.left(after(60_000))[..2], [74, 10]);
    // Its worker lives: the third was never started.
    let account = bench.close(after(60_000), 1, A, costs(40, 2)).unwrap();
    assert!(!account.expired);
    assert_eq!(bench.left(after(60_000))[..2], [94, 10]);
}

#[test]
fn a_worker_that_was_silent_and_lives_has_its_requests_in_flight_again() {
    let bench = Bench::new(vec![daily(100), in_flight(10)]);
    bench.lend(NOON, 1, A, &[20, 20], NOTHING);
    bench.ledger.expire_leases(after(15_000));
    assert_eq!(bench.left(after(15_000)), [60, 10]);
    assert!(!bench.close(after(20_000), 1, A, costs(40, 2)).unwrap().expired);
    assert_eq!(bench.left(after(20_000)), [60, 8]);
    // Until they have gone on for too long.
    assert_eq!(bench.ledger.expire_leases(after(5_000 + HOUR_MS)), [lease_id(1)]);
    assert_eq!(bench.left(after(5_000 + HOUR_MS)), [60, 10]);
    bench.end(after(5_000 + HOUR_MS), 1, A, 1, 20, 1).unwrap();
    assert_eq!(bench.left(after(5_000 + HOUR_MS)), [79, 10]);
}

#[test]
fn an_expired_lease_is_forgotten_a_longest_stream_later() {
    let bench = Bench::new(vec![daily(100)]);
    bench.lend(NOON, 1, A, &[20], NOTHING);
    bench.ledger.expire_leases(after(15_000));
    bench.ledger.confirm_expired(after(15_000), lease_id(1));
    bench.ledger.expire_leases(after(25_000));
    bench.ledger.expire_leases(after(15_000 + HOUR_MS - 1));
    assert!(bench.ledger.lease_terms(lease_id(1), &holder(A)).is_some());
    assert_eq!(bench.ledger.expire_leases(after(15_000 + HOUR_MS)), []);
    assert_eq!(bench.end(after(15_000 + HOUR_MS), 1, A, 1, 20, 1), None);
    assert_eq!(bench.left(after(15_000 + HOUR_MS)), [80]);
    assert!(bench.ledger.lock().leases.is_empty());
}
