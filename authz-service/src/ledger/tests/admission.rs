use super::*;

#[test]
fn a_budget_is_filled_to_the_brim_and_no_further() {
    let bench = Bench::new(vec![daily(100)]);
    assert_eq!(bench.reserve(NOON, 1, cost(60)).unwrap().states[0].left, 40);
    let refused = bench.reserve(NOON, 2, cost(41)).unwrap_err();
    assert_eq!((refused.kind, refused.left, &*refused.limit.name), (RefusedBy::Budget, 40, "tokens-per-day"));
    assert_eq!(bench.reserve(NOON, 3, cost(40)).unwrap().states[0].left, 0);
    assert_eq!(bench.ledger.peek(NOON, &bench.subject())[0].reset_after, Duration::from_millis(12 * HOUR_MS));
}

#[test]
fn all_or_nothing_over_every_limit() {
    let bench = Bench::new(vec![daily(100), in_flight(5), rate(Counts::Requests, 10), rate(Counts::Tokens, 0)]);
    assert_eq!(bench.reserve(NOON, 1, cost(1)).unwrap_err().kind, RefusedBy::Rate);
    assert_eq!(bench.left(NOON), [100, 5, 10, 0]);
}

#[test]
fn the_limit_with_the_longest_wait_is_named() {
    let hourly = limit("per-hour", Counts::MicroUsd, Scope::Tenant, 300, Refill::Window(Window::Hour));
    let bench = Bench::new(vec![in_flight(1), daily(100), hourly]);
    bench.reserve(NOON, 1, cost(100)).unwrap();
    // Only reserved: all of it may come back at any time.
    assert_eq!(bench.reserve(NOON, 2, cost(1)).unwrap_err().retry_after, Some(Duration::from_secs(1)));
    bench.ledger.settle(NOON, id(1), cost(100)).unwrap();
    let refused = bench.reserve(NOON, 2, cost(1)).unwrap_err();
    assert_eq!((&*refused.limit.name, refused.retry_after), ("tokens-per-day", Some(Duration::from_secs(43_200))));
    assert_eq!(refused.states.len(), 3);
    // What is larger than the limit never fits.
    let refused = bench.reserve(NOON, 2, cost(101)).unwrap_err();
    assert_eq!((refused.retry_after, &*refused.limit.name), (None, "per-hour"));
}

#[test]
fn in_flight_is_given_back_by_the_end_of_a_request() {
    let bench = Bench::new(vec![in_flight(1)]);
    bench.reserve(NOON, 1, cost(1)).unwrap();
    assert_eq!(bench.reserve(NOON, 2, cost(1)).unwrap_err().kind, RefusedBy::InFlight);
    bench.ledger.settle(NOON, id(1), Cost::default()).unwrap();
    bench.reserve(NOON, 2, cost(1)).unwrap();
}

#[test]
fn requests_count_on_their_rate_at_once_and_tokens_when_they_are_known() {
    let bench = Bench::new(vec![rate(Counts::Requests, 2), rate(Counts::Tokens, 100)]);
    bench.reserve(NOON, 1, cost(90)).unwrap();
    assert_eq!(bench.left(NOON), [1, 100]);
    bench.reserve(NOON, 2, cost(90)).unwrap();
    let refused = bench.reserve(NOON, 3, cost(90)).unwrap_err();
    assert_eq!((refused.kind, refused.retry_after), (RefusedBy::Rate, Some(Duration::from_secs(30))));
    bench.ledger.settle(NOON, id(1), cost(250)).unwrap();
    assert_eq!(bench.left(after(30_000)), [1, 0]);
    let refused = bench.reserve(after(30_000), 3, cost(1)).unwrap_err();
    // 150 tokens of debt and one more at 100 a minute, half a minute of which has passed.
    assert_eq!(refused.retry_after, Some(Duration::from_millis(60_600)));
}

#[test]
fn scopes_count_whom_they_name() {
    let over = |scope| limit("l", Counts::Tokens, scope, 10, Refill::Window(Window::Day));
    for (scope, same_for) in [
        (Scope::Tenant, [true, true, true]),
        (Scope::Principal, [false, true, true]),
        (Scope::Key, [true, false, true]),
        (Scope::Model, [true, true, false]),
    ] {
        let mut bench = Bench::new(vec![over(scope)]);
        bench.reserve(NOON, 1, cost(10)).unwrap();
        bench.principal = "ben";
        assert_eq!(bench.left(NOON) == [0], same_for[0], "{scope:?} principal");
        bench.principal = "ana";
        bench.key = Some("k2");
        assert_eq!(bench.left(NOON) == [0], same_for[1], "{scope:?} key");
        bench.key = Some("k1");
        bench.model = ModelName::parse("other").unwrap();
        assert_eq!(bench.left(NOON) == [0], same_for[2], "{scope:?} model");
        bench.tenant = TenantName::parse("globex").unwrap();
        assert_eq!(bench.left(NOON), [10], "{scope:?} tenant");
    }
}

#[test]
fn without_a_key_the_principal_is_counted_and_never_as_a_key_of_that_name() {
    let mut bench = Bench::new(vec![limit("l", Counts::Tokens, Scope::Key, 10, Refill::Window(Window::Day))]);
    bench.key = None;
    bench.principal = "k1";
    bench.reserve(NOON, 1, cost(10)).unwrap();
    bench.key = Some("k1");
    assert_eq!(bench.left(NOON), [10]);
    bench.key = None;
    assert_eq!(bench.left(NOON), [0]);
}

#[test]
fn a_keys_own_limit_counts_that_key_alone() {
    let mut bench = Bench::new(vec![daily(100)]);
    bench.key_limits = vec![daily(10)];
    bench.reserve(NOON, 1, cost(10)).unwrap();
    assert_eq!(bench.left(NOON), [90, 0]);
    bench.key = Some("k2");
    assert_eq!(bench.left(NOON), [90, 10]);
    // Without a key they are the principal's own, whatever it is called.
    (bench.key, bench.principal) = (None, "k1");
    bench.reserve(NOON, 2, cost(4)).unwrap();
    assert_eq!(bench.left(NOON), [86, 6]);
    bench.key = Some("k1");
    assert_eq!(bench.left(NOON), [86, 0]);
}

#[test]
fn limits_over_the_same_thing_share_one_count() {
    let mut bench = Bench::new(vec![daily(100), Limit { name: "twin".into(), amount: 50, ..daily(0) }]);
    bench.reserve(NOON, 1, cost(30)).unwrap();
    assert_eq!(bench.left(NOON), [70, 20]);
    // A renamed limit is not a fresh budget.
    bench.limits = vec![Limit { name: "renamed".into(), ..daily(100) }];
    assert_eq!(bench.left(NOON), [70]);
}

#[test]
fn a_clock_set_back_opens_no_other_window() {
    let bench = Bench::new(vec![limit("m", Counts::Tokens, Scope::Tenant, 10, Refill::Window(Window::Minute))]);
    bench.reserve(after(60_000), 1, cost(10)).unwrap();
    assert_eq!(bench.reserve(NOON, 2, cost(1)).unwrap_err().kind, RefusedBy::Budget);
    bench.reserve(after(120_000), 3, cost(10)).unwrap();
}

#[test]
fn many_threads_admit_exactly_what_fits() {
    let bench = Bench::new(vec![daily(500), in_flight(1000)]);
    let (threads, admitted) = (64, std::sync::atomic::AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (bench, admitted) = (&bench, &admitted);
            scope.spawn(move || {
                for n in 0..32_u8 {
                    let mut grant = [thread; 16];
                    grant[0] = n;
                    let cost = cost(10);
                    let made =
                        bench.ledger.reserve(NOON, GrantId(grant), &bench.subject(), cost, terms(cost), PROXY).is_ok();
                    // Some go back and forth: what is undone makes room for exactly as much.
                    if made && n % 3 == 0 {
                        assert!(bench.ledger.undo(NOON, GrantId(grant)));
                    } else if made {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let admitted = admitted.into_inner();
    assert_eq!(bench.left(NOON), [500 - admitted * 10, 1000 - admitted]);
    assert_eq!(admitted, 50);
}

#[test]
fn extremes_are_refused_and_never_wrap() {
    let most = Cost { tokens: u64::MAX, gpu_ms: u64::MAX, micro_usd: u64::MAX, requests: u64::MAX };
    let bench = Bench::new(vec![daily(u64::MAX)]);
    bench.reserve(NOON, 1, most).unwrap();
    assert!(bench.reserve(NOON, 2, cost(1)).is_err());
    bench.ledger.settle(NOON, id(1), most).unwrap();
    assert!(bench.reserve(NOON, 2, cost(1)).is_err());
    assert_eq!(bench.left(NOON), [0]);
}
