//! Leases: what is lent fits every limit, once.

mod end;

use super::*;

const A: u8 = 0xa;
const B: u8 = 0xb;

pub(super) fn holder(worker: u8) -> Holder {
    Holder { proxy: PROXY.into(), worker: [worker; 16] }
}

pub(super) fn lease_id(n: u8) -> LeaseId {
    let mut id = [n; 16];
    id[12..].fill(0);
    LeaseId::parse(&id).unwrap()
}

/// So many tokens for so many requests.
fn costs(tokens: u64, requests: u64) -> Cost {
    Cost { requests, ..cost(tokens) }
}

impl Bench {
    fn lend(&self, now: Now, n: u8, worker: u8, needs: &[u64], extra: Cost) -> Lent {
        let (holder, needs) = (holder(worker), needs.iter().map(|tokens| cost(*tokens)).collect::<Vec<_>>());
        let price = terms(cost(1)).cost;
        let id = lease_id(n);
        let asked = Asked { id, holder: &holder, scope_set: "s", needs: &needs, extra, cost: &price };
        self.ledger.lend(now, &asked, &self.subject())
    }

    fn end(&self, now: Now, n: u8, worker: u8, number: u32, reserved: u64, charge: u64) -> Option<Settled> {
        self.ledger.settle_leased(now, lease_id(n), &holder(worker), number, cost(reserved), cost(charge))
    }

    fn close(&self, now: Now, n: u8, worker: u8, taken: Cost) -> Option<Account> {
        self.ledger.close_lease(now, lease_id(n), &holder(worker), taken)
    }
}

const NOTHING: Cost = Cost { tokens: 0, gpu_ms: 0, micro_usd: 0, requests: 0 };

#[test]
fn the_longest_run_of_needs_that_fits_is_lent_and_nothing_ahead() {
    let bench = Bench::new(vec![daily(100), in_flight(10)]);
    let lent = bench.lend(NOON, 1, A, &[30, 30, 50, 1], costs(100, 10));
    assert_eq!((lent.served, lent.amount), (2, costs(60, 2)));
    let refused = lent.refused.unwrap();
    assert_eq!((refused.kind, refused.left), (RefusedBy::Budget, 40));
    assert_eq!(bench.left(NOON), [40, 8]);
    assert_eq!(lent.states.iter().map(|state| state.left).collect::<Vec<_>>(), [40, 8]);
    // What fits nobody is no lease.
    let none = bench.lend(NOON, 2, A, &[41], costs(100, 10));
    assert_eq!((none.served, none.amount, none.record), (0, NOTHING, None));
    assert_eq!(bench.left(NOON), [40, 8]);
}

#[test]
fn each_limit_refuses_a_need_as_it_would_a_request() {
    let per_minute = rate(Counts::Requests, 3);
    for (limits, kind) in [
        (vec![daily(30)], RefusedBy::Budget),
        (vec![per_minute], RefusedBy::Rate),
        (vec![in_flight(3)], RefusedBy::InFlight),
        (vec![daily(1000), in_flight(3), rate(Counts::Tokens, 1)], RefusedBy::InFlight),
    ] {
        let (bench, portable) = (Bench::new(limits.clone()), Bench::new(limits));
        let lent = bench.lend(NOON, 1, A, &[10; 5], NOTHING);
        let refused = (1..=5).find_map(|n| portable.reserve(NOON, n, cost(10)).err()).unwrap();
        assert_eq!((lent.served, lent.refused.as_ref()), (3, Some(&refused)));
        assert_eq!(refused.kind, kind);
        assert_eq!(bench.left(NOON), portable.left(NOON));
    }
}

#[test]
fn nothing_is_lent_while_a_rate_is_in_debt() {
    let bench = Bench::new(vec![rate(Counts::Tokens, 100)]);
    let lent = bench.lend(NOON, 1, A, &[500], costs(10, 5));
    assert_eq!((lent.served, lent.rate_tokens, lent.amount), (1, 100, costs(510, 6)));
    bench.end(NOON, 1, A, 1, 500, 130).unwrap();
    let lent = bench.lend(NOON, 2, A, &[1], costs(10, 5));
    assert_eq!((lent.served, lent.refused.unwrap().kind), (0, RefusedBy::Rate));
    // Nor ahead of any need.
    assert_eq!(bench.lend(NOON, 3, A, &[], costs(10, 5)).record, None);
    let lent = bench.lend(after(30_000), 4, A, &[1], NOTHING);
    assert_eq!((lent.served, lent.rate_tokens), (1, 20));
}

#[test]
fn what_is_lent_ahead_leaves_most_to_others() {
    let limits = vec![daily(1610), in_flight(1000), rate(Counts::Requests, 1000)];
    let bench = Bench::new(limits.clone());
    // A sixteenth of 1,600 tokens is 100: three whole requests of 30.
    let lent = bench.lend(NOON, 1, A, &[10], costs(300, 10));
    assert_eq!((lent.served, lent.amount), (1, Cost { tokens: 100, gpu_ms: 200, micro_usd: 300, requests: 4 }));
    // Never more than is wished for.
    let lent = Bench::new(limits).lend(NOON, 1, A, &[], costs(30, 10));
    assert_eq!(lent.amount, costs(30, 10));
    // The request rate and the requests in flight count too: 159 / 16 and 31 / 16.
    assert_eq!(Bench::new(vec![rate(Counts::Requests, 159)]).lend(NOON, 1, A, &[], costs(30, 30)).amount.requests, 9);
    assert_eq!(Bench::new(vec![in_flight(31)]).lend(NOON, 1, A, &[], costs(30, 30)).amount, costs(1, 1));
    assert_eq!(Bench::new(vec![in_flight(15)]).lend(NOON, 1, A, &[], costs(30, 30)).record, None);
}

#[test]
fn a_lease_ends_within_five_seconds_and_with_its_first_window() {
    let minute = limit("m", Counts::Tokens, Scope::Tenant, 100, Refill::Window(Window::Minute));
    let bench = Bench::new(vec![daily(100), minute]);
    assert_eq!(bench.lend(NOON, 1, A, &[1], NOTHING).expires_in, Duration::from_secs(5));
    assert_eq!(bench.lend(after(58_500), 2, A, &[1], NOTHING).expires_in, Duration::from_millis(1500));
}

#[test]
fn a_repeat_is_answered_as_the_first_and_takes_nothing() {
    let bench = Bench::new(vec![daily(100)]);
    let first = bench.lend(NOON, 1, A, &[60, 60], NOTHING);
    let again = bench.lend(after(1000), 1, A, &[60, 60], NOTHING);
    assert_eq!((again.served, again.amount, again.record), (first.served, first.amount, first.record));
    assert_eq!(again.expires_in, Duration::from_secs(4));
    assert_eq!(again.refused.unwrap().kind, RefusedBy::Budget);
    assert_eq!(bench.left(NOON), [40]);
    // It is nobody else's.
    let other = bench.lend(NOON, 1, B, &[10], NOTHING);
    assert_eq!((other.served, other.amount, other.record), (0, NOTHING, None));
}

#[test]
fn what_was_closed_is_never_lent() {
    let bench = Bench::new(vec![daily(100)]);
    // The answer was lost, the ask is on its way still.
    assert_eq!(bench.close(NOON, 1, A, NOTHING), None);
    assert_eq!(bench.lend(after(59_999), 1, A, &[10], NOTHING).record, None);
    // Known, closed, and then forgotten.
    bench.lend(NOON, 2, A, &[10], NOTHING).record.unwrap();
    bench.close(NOON, 2, A, NOTHING).unwrap();
    assert_eq!(bench.lend(NOON, 2, A, &[10], NOTHING).record, None);
    bench.ledger.confirm_closed(NOON, lease_id(2));
    assert!(bench.ledger.lock().leases.is_empty());
    assert_eq!(bench.lend(NOON, 2, A, &[10], NOTHING).record, None);
    assert_eq!(bench.left(after(59_999)), [100]);
}

#[test]
fn no_lease_is_larger_than_the_state_file_can_hold() {
    let bench = Bench::new(vec![daily(u64::MAX)]);
    let half = i64::MAX.unsigned_abs() / 3 - 1;
    let lent = bench.lend(NOON, 1, A, &[half / 2, half / 2, half], costs(1, 1));
    assert_eq!((lent.served, lent.amount.requests), (2, 2));
    assert!(lent.refused.is_none());
    assert_eq!(bench.left(NOON), [u64::MAX - lent.amount.tokens]);
    // Without a limit nothing scales it down.
    let extra = Cost { tokens: u64::MAX, ..cost(1) };
    assert_eq!(Bench::new(Vec::new()).lend(NOON, 2, A, &[], extra).record, None);
}

#[test]
fn two_workers_and_a_thousand_needs_on_a_budget_for_ten_get_ten() {
    for batch in [1, 2, 7, 50] {
        let bench = Bench::new(vec![daily(100), in_flight(5000)]);
        let admitted = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for worker in [A, B] {
                let (bench, admitted) = (&bench, &admitted);
                scope.spawn(move || {
                    let needs = vec![10; batch];
                    for n in 0..500_usize.div_ceil(batch) {
                        let mut id = [worker; 16];
                        id[..2].copy_from_slice(&u16::try_from(n).unwrap().to_be_bytes());
                        id[12..].fill(0);
                        let (holder, price) = (holder(worker), terms(cost(1)).cost);
                        let needs: Vec<_> = needs.iter().map(|tokens| cost(*tokens)).collect();
                        let id = LeaseId::parse(&id).unwrap();
                        let extra = costs(10_000, 1000);
                        let asked = Asked { id, holder: &holder, scope_set: "s", needs: &needs, extra, cost: &price };
                        let lent = bench.ledger.lend(NOON, &asked, &bench.subject());
                        assert!(u64::from(lent.served) <= lent.amount.requests);
                        // Every request that is lent for is started, and held.
                        admitted.fetch_add(lent.amount.requests, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!((admitted.into_inner(), bench.left(NOON)), (10, vec![0, 4990]), "{batch} at a time");
    }
}
