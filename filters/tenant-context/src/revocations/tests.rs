//! Freshness by the sending of a report, what covers which grant, and that dropping errs to covering.

use proptest::prelude::*;

use super::*;

fn revocation(epoch: u64, tenant: &str, key_id: &str) -> Revocation {
    Revocation { epoch, tenant: tenant.into(), key_id: key_id.into() }
}

fn answer(sequence: u64, epoch: u64, revocations: Vec<Revocation>) -> SyncResponse {
    SyncResponse { sequence, epoch, revocations, floor: 0 }
}

fn grant(epoch: u64, tenant: &str, key_id: &str) -> Grant {
    Grant { epoch, tenant: tenant.into(), key_id: key_id.into(), ..Grant::default() }
}

/// Told `epoch` by a report that was sent at 1,000.
fn synced(epoch: u64, revocations: Vec<Revocation>) -> Revocations {
    let mut known = Revocations::default();
    known.sent(1, 1_000);
    known.told(&answer(1, 1, Vec::new()));
    known.sent(2, 1_000);
    known.told(&answer(2, epoch, revocations));
    known
}

#[test]
fn knowledge_is_as_old_as_the_sending_of_its_report() {
    let mut known = Revocations::default();
    assert!(!known.fresh(0) && !known.fresh(1_000), "nothing was ever told");
    known.sent(1, 1_000);
    assert!(!known.fresh(1_500), "an answer, not a question");
    known.told(&answer(1, 3, Vec::new()));
    assert_eq!(known.epoch(), 3);
    for (now_ms, fresh) in [(1_500, true), (3_000, true), (3_001, false), (u64::MAX, false)] {
        assert_eq!(known.fresh(now_ms), fresh, "{now_ms}");
    }
}

#[test]
fn only_the_answer_to_the_report_under_way_refreshes() {
    let mut known = Revocations::default();
    known.told(&answer(1, 3, Vec::new()));
    assert!(!known.fresh(0), "no report was under way");
    known.sent(1, 1_000);
    known.failed();
    known.told(&answer(1, 3, Vec::new()));
    assert!(!known.fresh(1_000), "it had failed");
    known.sent(2, 1_000);
    known.told(&answer(1, 3, vec![revocation(3, "acme", "")]));
    assert!(!known.fresh(1_000), "a late answer to another");
    assert!(known.covers(&grant(2, "acme", "")), "what it says holds all the same");
    known.told(&answer(2, 3, Vec::new()));
    assert!(known.fresh(1_000));
}

#[test]
fn a_service_that_does_not_count_or_counts_backwards_refreshes_nothing() {
    let mut known = Revocations::default();
    known.sent(1, 1_000);
    known.told(&SyncResponse { sequence: 1, ..SyncResponse::default() });
    assert!(!known.fresh(1_000), "no default of a message allows");

    let mut known = synced(7, Vec::new());
    known.sent(3, 1_100);
    known.told(&answer(3, 6, Vec::new()));
    assert!(!known.fresh(1_100));
    assert_eq!(known.epoch(), 7);
    known.sent(4, 1_200);
    known.told(&answer(4, 7, Vec::new()));
    assert!(known.fresh(1_200));
    assert_eq!(known.standing(&grant(6, "acme", "")), Standing::Unknown, "of the count that was lost");
    assert_eq!(known.standing(&grant(7, "acme", "")), Standing::Good);
}

#[test]
fn a_clock_that_went_backwards_makes_everything_old() {
    let mut known = synced(3, Vec::new());
    assert!(known.fresh(1_500));
    assert!(!known.fresh(1_499));
    assert!(!known.fresh(1_600), "until the next answer");
    known.sent(3, 1_700);
    assert!(!known.fresh(1_650));
    known.told(&answer(3, 3, Vec::new()));
    assert!(!known.fresh(1_700), "its sending was timed by another clock");
    known.sent(5, 1_700);
    known.told(&answer(5, 3, Vec::new()));
    assert!(known.fresh(1_700));
}

#[test]
fn a_revocation_covers_earlier_grants_that_match() {
    let known = synced(9, vec![revocation(5, "acme", ""), revocation(7, "globex", "k1")]);
    let cases = [
        (grant(4, "acme", ""), Standing::Revoked),
        (grant(4, "acme", "k9"), Standing::Revoked),
        (grant(5, "acme", "k9"), Standing::Good),
        (grant(6, "globex", "k1"), Standing::Revoked),
        (grant(7, "globex", "k1"), Standing::Good),
        (grant(6, "globex", "k2"), Standing::Good),
        (grant(6, "globex", ""), Standing::Good),
        (grant(4, "initech", ""), Standing::Good),
        (grant(0, "initech", ""), Standing::Unknown),
    ];
    for (grant, want) in cases {
        assert_eq!(known.standing(&grant), want, "{grant:?}");
        assert_eq!(known.covers(&grant), want != Standing::Good);
    }
    for everybody in [revocation(8, "", ""), revocation(8, "", "k1")] {
        let known = synced(9, vec![everybody]);
        assert!(known.covers(&grant(7, "anyone", "k2")) && !known.covers(&grant(8, "anyone", "k2")));
    }
}

#[test]
fn the_floor_covers_what_it_does_not_name() {
    let mut known = synced(9, vec![revocation(5, "acme", ""), revocation(8, "acme", "k1")]);
    known.told(&SyncResponse { floor: 6, ..answer(0, 9, Vec::new()) });
    assert_eq!(known.standing(&grant(5, "initech", "")), Standing::Unknown);
    assert_eq!(known.standing(&grant(6, "acme", "k2")), Standing::Good);
    assert_eq!(known.standing(&grant(7, "acme", "k1")), Standing::Revoked);
    known.told(&answer(0, 9, vec![revocation(3, "acme", "")]));
    assert!(!known.covers(&grant(6, "acme", "k2")), "no news");
    known.told(&SyncResponse { floor: 2, ..answer(0, 9, Vec::new()) });
    assert!(known.covers(&grant(5, "initech", "")), "it never falls");
}

#[test]
fn what_came_before_the_first_answer_is_not_known() {
    let mut known = Revocations::default();
    assert_eq!(known.standing(&grant(4, "acme", "")), Standing::Good);
    known.sent(1, 1_000);
    known.told(&answer(1, 5, Vec::new()));
    assert_eq!(known.standing(&grant(4, "acme", "")), Standing::Unknown);
    assert_eq!(known.standing(&grant(5, "acme", "")), Standing::Good);
}

#[test]
fn the_list_is_bounded_and_what_is_dropped_stays_covered() {
    let mut known = synced(1, Vec::new());
    for epoch in 2..20_000_u64 {
        known.told(&answer(0, epoch, vec![revocation(epoch, &format!("t{}", epoch % 7_000), &format!("k{epoch}"))]));
        assert!(known.kept <= MOST && known.tenants.len() <= MOST);
    }
    for epoch in 2..20_000_u64 {
        assert!(known.covers(&grant(epoch - 1, &format!("t{}", epoch % 7_000), &format!("k{epoch}"))), "{epoch}");
    }
    assert_eq!(known.standing(&grant(19_998, "t9999", "")), Standing::Good);
    let many = (20_000..40_000).map(|epoch| revocation(epoch, &format!("t{epoch}"), "")).collect();
    known.told(&answer(0, 40_000, many));
    assert!(known.kept <= MOST);
    assert!((20_000..40_000).all(|epoch| known.covers(&grant(epoch - 1, &format!("t{epoch}"), ""))));
}

fn revocations() -> impl Strategy<Value = Vec<Revocation>> {
    let one = (1_u64..30, prop_oneof![Just(""), Just("a"), Just("b")], prop_oneof![Just(""), Just("k"), Just("l")]);
    proptest::collection::vec(one.prop_map(|(epoch, tenant, key)| revocation(epoch, tenant, key)), 0..6)
}

proptest! {
    /// Against the words of the message: whatever a revocation voids is covered, and nothing else is but what is older
    /// than a floor.
    #[test]
    fn nothing_that_was_revoked_is_good(answers in proptest::collection::vec((1_u64..30, 0_u64..12, revocations()), 1..6)) {
        let mut known = synced(1, Vec::new());
        let (mut said, mut floor) = (Vec::new(), 1);
        for (epoch, low, revocations) in answers {
            floor = floor.max(low);
            said.extend(revocations.clone());
            known.told(&SyncResponse { floor: low, ..answer(0, epoch, revocations) });
        }
        for epoch in 0..31 {
            for (tenant, key) in [("a", ""), ("a", "k"), ("a", "l"), ("b", "k"), ("c", "")] {
                let void = |one: &Revocation| {
                    one.epoch > epoch
                        && (one.tenant.is_empty()
                            || one.tenant == tenant && (one.key_id.is_empty() || one.key_id == key))
                };
                let want = epoch < floor || said.iter().any(void);
                prop_assert_eq!(known.covers(&grant(epoch, tenant, key)), want, "{} {} {}", epoch, tenant, key);
            }
        }
    }
}
