use super::*;

fn total(reserved: &Reserved, settled: u64) -> WindowTotal {
    let hold = &reserved.reservation.holds[0];
    WindowTotal { key: hold.key.to_text(), start_ms: hold.start_ms, end_ms: hold.end_ms, settled }
}

#[test]
fn spend_and_reservations_survive() {
    let before = Bench::new(vec![daily(100), in_flight(2)]);
    let reserved = before.reserve(NOON, 1, cost(30)).unwrap();
    let after_crash = Bench::new(vec![daily(100), in_flight(2)]);
    let kept = [(reserved.reservation.clone(), terms(cost(30)))];
    after_crash.ledger.restore(after(1000), &[total(&reserved, 20)], kept).unwrap();
    assert_eq!(after_crash.left(after(1000)), [50, 1]);
    // Its request may still be under way: nothing but its end undoes it.
    for n in 2..20 {
        assert_eq!(after_crash.ledger.sync(PROXY, [1; 16], after(n * 1000), &[]), Synced::default());
    }
    assert_eq!(after_crash.ledger.expire(after(HOUR_MS)).len(), 1);
    assert_eq!(after_crash.left(after(HOUR_MS)), [50, 2]);
    after_crash.ledger.settle(after(HOUR_MS), id(1), cost(5)).unwrap();
    assert_eq!(after_crash.left(after(HOUR_MS)), [75, 2]);
}

#[test]
fn undone_and_expired_come_back_as_what_they_were() {
    let before = Bench::new(vec![daily(100)]);
    let reserved = before.reserve(NOON, 1, cost(30)).unwrap();
    let kept = |n, state, charged| Reservation { id: id(n), state, charged, ..reserved.reservation.clone() };
    let rows = [kept(1, ReservationState::Undone, Cost::default()), kept(2, ReservationState::Expired, cost(30))];
    let bench = Bench::new(vec![daily(100)]);
    bench.ledger.restore(after(1), &[total(&reserved, 30)], rows.map(|row| (row, terms(cost(30))))).unwrap();
    assert_eq!(bench.left(after(1)), [70]);
    assert!(bench.ledger.settle(after(2), id(1), cost(10)).unwrap().late);
    assert!(bench.ledger.settle(after(2), id(2), cost(10)).unwrap().late);
    assert_eq!(bench.left(after(2)), [80]);
}

#[test]
fn counters_survive_as_text_and_no_value_reads_as_another() {
    let refills = [Refill::Window(Window::Month), Refill::Rate(Duration::from_millis(1500)), Refill::InFlight];
    let mut seen = std::collections::BTreeSet::new();
    for principal in ["a", "a\",\"b", "[]", "ü", ""] {
        let mut bench = Bench::new(Vec::new());
        bench.principal = principal;
        for (scope, refill) in [Scope::Principal, Scope::Model].into_iter().zip([refills, refills]) {
            bench.limits.extend(refill.map(|refill| limit("l", Counts::GpuMs, scope, 3, refill)));
        }
        bench.key_limits = bench.limits.clone();
        for hold in bench.reserve(NOON, 1, Cost::default()).unwrap().reservation.holds {
            let text = serde_json::to_string(&hold).unwrap();
            assert_eq!(serde_json::from_str::<Hold>(&text).unwrap(), hold);
            seen.insert(text);
        }
    }
    // Five principals with three refills, plan's and key's own; and one model with the same.
    assert_eq!(seen.len(), 5 * 6 + 6);
    for bad in ["", "[]", r#"["acme","tokens","day","tenant",""]"#, r#"["acme","tokens","week","tenant","",null]"#] {
        assert!(CounterKey::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn reports_show_tenant_wide_limits() {
    let per_model = limit("m", Counts::Tokens, Scope::Model, 100, Refill::Window(Window::Day));
    let bench = Bench::new(vec![daily(100), per_model, in_flight(3)]);
    bench.reserve(NOON, 1, cost(30)).unwrap();
    let usage = bench.ledger.usage(NOON, &bench.tenant, &TimeZone::UTC, &bench.limits);
    let shown: Vec<_> = usage.iter().map(|state| (&*state.name, state.left)).collect();
    assert_eq!(shown, [("tokens-per-day", 70), ("at-once", 2)]);
}
