//! What a worker says, when, and how often.

use super::*;

fn at(now_ms: u64) -> Reporter<'static> {
    Reporter { proxy: "edge", worker: b"w", epoch: 7, now_ms, keep_alive: false }
}

fn refusal() -> Refusal {
    Refusal { status: 503, details: "ext_authz_error".into(), ..Refusal::default() }
}

#[test]
fn a_worker_that_serves_nothing_says_nothing() {
    assert_eq!(Outbox::default().report(&at(0)), None);
}

#[test]
fn what_was_not_answered_is_sent_again() {
    let mut outbox = Outbox::default();
    outbox.hold(b"a");
    outbox.settle(b"a", Settlement { status: 200, ..Settlement::default() });
    outbox.refuse(refusal(), 10);
    let first = outbox.report(&at(25)).unwrap();
    assert_eq!((first.settlements.len(), first.refusals[0].age_ms, first.refusals[0].sequence), (1, 15, 1));
    assert_eq!(outbox.report(&at(30)), None, "one at a time");
    outbox.answered(false);
    let again = outbox.report(&at(40)).unwrap();
    assert_eq!((again.settlements, again.refusals[0].sequence), (first.settlements, 1));
    outbox.refuse(refusal(), 41);
    outbox.answered(true);
    let rest = outbox.report(&at(50)).unwrap();
    assert_eq!((rest.settlements.len(), rest.refusals.len(), rest.refusals[0].sequence), (0, 1, 2));
}

#[test]
fn a_full_queue_counts_what_it_drops() {
    let mut outbox = Outbox::default();
    for _ in 0..QUEUE + 3 {
        outbox.refuse(refusal(), 0);
    }
    let report = outbox.report(&at(0)).unwrap();
    assert_eq!((report.refusals.len(), report.refusals_lost), (BATCH, 3));
    outbox.refuse(refusal(), 0);
    outbox.answered(true);
    assert_eq!(outbox.report(&at(0)).unwrap().refusals_lost, 1, "what was lost meanwhile stays counted");
}

#[test]
fn held_grants_are_listed_until_they_end_and_quiet_comes_slowly() {
    let mut outbox = Outbox::default();
    outbox.hold(b"a");
    assert_eq!(outbox.report(&at(0)).unwrap().held.len(), 1);
    outbox.answered(true);
    outbox.settle(b"a", Settlement::default());
    assert!(outbox.report(&at(0)).unwrap().held.is_empty());
    outbox.answered(true);
    let heard = (0..1000)
        .filter(|_| {
            let report = outbox.report(&at(0)).is_some();
            outbox.answered(true);
            report
        })
        .count();
    assert!((12..=70).contains(&heard), "{heard}");
}

#[test]
fn a_lease_that_ended_is_said_until_it_was_heard_and_never_again() {
    let mut outbox = Outbox::default();
    let closed = |lease: u8| Closed { lease: vec![lease; 16].into(), admitted: 1, reserved: None };
    outbox.close(vec![closed(1), closed(2)]);
    outbox.settle_leased(Settlement { status: 200, ..Settlement::default() });
    let first = outbox.report(&at(0)).unwrap();
    assert_eq!((first.closed.as_slice(), first.epoch), ([closed(1), closed(2)].as_slice(), 7));
    assert!(first.held.is_empty(), "a leased request has no reservation of its own");
    outbox.close(vec![closed(3)]);
    outbox.answered(false);
    let again = outbox.report_for_lease(&at(0)).unwrap();
    assert_eq!((again.closed.len(), again.settlements.len()), (3, 1));
    outbox.answered(true);
    assert!(!outbox.has_news());
    let rest = outbox.report(&at(0)).unwrap();
    assert_eq!((rest.closed.len(), rest.settlements.len()), (0, 0));
    outbox.answered(true);
    outbox.close((0..=255).cycle().take(QUEUE + 5).map(closed).collect());
    let told: Vec<usize> = std::iter::from_fn(|| {
        let told = outbox.report(&at(0))?.closed.len();
        outbox.answered(true);
        Some(told).filter(|told| *told > 0)
    })
    .collect();
    assert_eq!(told, vec![BATCH_CLOSED; QUEUE / BATCH_CLOSED], "what does not fit is dropped");
}

#[test]
fn a_call_for_leases_has_a_report_in_front_with_or_without_news() {
    let mut outbox = Outbox::default();
    let first = outbox.report_for_lease(&at(0)).unwrap();
    assert_eq!((first.sequence, &first.settlements, &first.closed), (1, &vec![], &vec![]));
    outbox.settle_leased(Settlement::default());
    assert_eq!(outbox.report(&at(0)), None, "one at a time");
    assert_eq!(outbox.report_for_lease(&at(0)), None, "one at a time");
    outbox.answered(true);
    let next = outbox.report(&at(0)).unwrap();
    assert_eq!((next.sequence, next.settlements.len()), (2, 1), "what came meanwhile was not acknowledged");
}

#[test]
fn who_holds_grants_reports_at_every_tick() {
    let mut outbox = Outbox::default();
    let heard = |outbox: &mut Outbox, keep_alive| {
        let reports = (0..100).filter(|_| {
            let report = outbox.report(&Reporter { keep_alive, ..at(0) }).is_some();
            outbox.answered(true);
            report
        });
        reports.count()
    };
    assert_eq!(heard(&mut outbox, true), 100);
    assert!(heard(&mut outbox, false) < 20);
}

#[test]
fn what_somebody_waits_for_is_said_at_once_and_the_rest_at_the_tick() {
    let mut outbox = Outbox::default();
    outbox.settle_leased(Settlement::default());
    assert!(outbox.has_news() && !outbox.is_urgent());
    assert!(outbox.report(&at(0)).is_some());
    outbox.settle_leased(Settlement::default());
    outbox.hurry();
    assert!(!outbox.is_urgent(), "one at a time");
    outbox.answered(true);
    assert!(outbox.is_urgent());
    assert_eq!(outbox.report(&at(0)).unwrap().settlements.len(), 1);
    outbox.answered(true);
    assert!(!outbox.is_urgent() && !outbox.has_news());
    for _ in 0..=BATCH {
        outbox.settle_leased(Settlement::default());
    }
    outbox.hurry();
    assert!(outbox.report(&at(0)).is_some());
    outbox.answered(true);
    assert!(outbox.is_urgent(), "the last one is still to be said");
}
