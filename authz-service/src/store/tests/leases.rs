//! Leases on disk: what is spent and what is open is never understated, whatever has been committed.

use super::*;
use crate::ledger::{Account, Asked, Holder, Lease, LeaseId, Lent};

const WORKER: [u8; 16] = [0xa; 16];

fn lease_id(n: u8) -> LeaseId {
    let mut id = [n; 16];
    id[12..].fill(0);
    LeaseId::parse(&id).unwrap()
}

/// Of fifty tokens for each request, as a ledger makes it.
fn lease(n: u8, requests: usize) -> Lease {
    lend(&Ledger::default(), n, requests).record.unwrap()
}

fn lend(ledger: &Ledger, n: u8, requests: usize) -> Lent {
    let holder = Holder { proxy: "edge-1".into(), worker: WORKER };
    let (needs, price) = (vec![cost(50); requests], crate::ledger::test_terms(cost(50)).cost);
    let (scope_set, extra) = ("a set", Cost::default());
    let asked = Asked { id: lease_id(n), holder: &holder, scope_set, needs: &needs, extra, cost: &price };
    with_subject(|subject| ledger.lend(Now { unix_ms: NOON }, &asked, subject))
}

fn with_subject<T>(use_it: impl FnOnce(&Subject<'_>) -> T) -> T {
    let (tenant, model) = (TenantName::parse("acme").unwrap(), ModelName::parse("llama").unwrap());
    use_it(&Subject {
        tenant: &tenant,
        time_zone: &TimeZone::UTC,
        principal: "ana",
        key_id: None,
        model: &model,
        limits: &[daily(), Limit { name: "money".into(), counts: Counts::MicroUsd, ..daily() }, per_minute()],
        key_limits: &[],
        watched: &[],
        longest_stream: Duration::from_secs(3600),
    })
}

fn lent(n: u8, requests: usize) -> Command {
    Command::Lend(Box::new(lease(n, requests)))
}

fn ended(n: u8, number: u32, tokens: u64) -> Command {
    let Command::Settle(settle) = settle(0, tokens) else { panic!("a settlement") };
    let settle = Settle { grant_id: lease_id(n).request(number), ..*settle };
    let record = AuditRecord { request_id: format!("l-{n}-{number}"), grant_id: None, ..allow(0) };
    Command::SettleLeased(Box::new(LeasedEnd { lease: lease_id(n), record, reserved: cost(50), settle }))
}

fn closed(n: u8, admitted: u64, expired: bool) -> Command {
    let taken = Cost { requests: admitted, ..cost(50 * admitted) };
    Command::CloseLease { id: lease_id(n), taken, expired, at_ms: NOON }
}

fn spend(n: u8) -> Command {
    Command::SpendLease { id: lease_id(n), at_ms: NOON + 15_000 }
}

/// Tokens that count as spent, and the leases that are left: expired or not, and their open requests.
fn standing(bench: &Bench) -> (u64, Vec<(bool, u64)>) {
    let (_, restored) = bench.open();
    let tokens = spent(&restored).iter().find(|(tokens, _)| *tokens).map_or(0, |(_, sum)| *sum);
    (tokens, restored.leases.iter().map(|lease| (lease.account.expired, lease.account.open().requests)).collect())
}

fn after(commands: impl IntoIterator<Item = Command>) -> (Bench, (u64, Vec<(bool, u64)>)) {
    let bench = Bench::new();
    let (store, _) = bench.open();
    commands.into_iter().for_each(|command| write(&store, command).unwrap());
    drop(store);
    let standing = standing(&bench);
    (bench, standing)
}

#[test]
fn a_lease_comes_back_as_it_was() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let mut first = lease(1, 3);
    for command in [lent(1, 3), lent(1, 2), ended(1, 1, 30), ended(1, 3, 70)] {
        write(&store, command).unwrap();
    }
    drop(store);
    let (_, restored) = bench.open();
    first.account.end(&cost(50), &cost(30));
    first.account.end(&cost(50), &cost(70));
    first.settled.extend([1, 3]);
    assert_eq!(restored.leases, [first]);
    assert_eq!(spent(&restored), [(false, 300), (true, 100)]);
}

#[test]
fn the_end_of_a_request_counts_once_and_has_one_line() {
    let commands =
        [lent(1, 3), ended(1, 1, 30), ended(1, 1, 99), ended(1, 1, 30), ended(9, 1, 30), closed(1, 1, false)];
    let (bench, standing) = after(commands);
    assert_eq!(standing, (30, vec![]));
    let (store, _) = bench.open();
    // It is forgotten, and so is nothing that comes late counted.
    write(&store, ended(1, 1, 30)).unwrap();
    let lines = store.reader().unwrap().audit_last(9).unwrap();
    assert_eq!(lines.len(), 1);
    let (line, settled) = (&lines[0], lines[0].settled.as_ref().unwrap());
    assert_eq!((line.record.decision, line.record.grant_id), (Decision::Allow, Some(lease_id(1).request(1))));
    assert_eq!((line.record.request_id.as_str(), line.record.status), ("l-1-1", 200));
    assert_eq!((line.charged, settled.outcome.as_str()), (Some(cost(30)), "answered"));
    drop(store);
    assert_eq!(self::standing(&bench), (30, vec![]));
}

#[test]
fn a_lease_is_open_until_all_that_was_taken_of_it_is_settled() {
    assert_eq!(after([lent(1, 3), ended(1, 1, 30)]).1, (30, vec![(false, 2)]));
    assert_eq!(after([lent(1, 3), ended(1, 1, 30), closed(1, 2, false)]).1, (30, vec![(false, 1)]));
    assert_eq!(after([lent(1, 3), closed(1, 2, false), ended(1, 1, 30), ended(1, 2, 20)]).1, (50, vec![]));
    assert_eq!(after([lent(1, 3), closed(1, 0, false)]).1, (0, vec![]));
    // The first word about its end counts.
    assert_eq!(after([lent(1, 3), closed(1, 2, false), closed(1, 0, false)]).1, (0, vec![(false, 2)]));
    // Nothing is known of it: nothing changes.
    assert_eq!(after([closed(1, 2, false), spend(1)]).1, (0, vec![]));
}

#[test]
fn what_nobody_reported_is_spent_and_late_words_correct_it() {
    assert_eq!(after([lent(1, 3), ended(1, 1, 30), spend(1)]).1, (130, vec![(true, 2)]));
    assert_eq!(after([lent(1, 3), spend(1), ended(1, 1, 30)]).1, (130, vec![(true, 2)]));
    assert_eq!(after([lent(1, 3), spend(1), spend(1)]).1, (150, vec![(true, 3)]));
    assert_eq!(after([lent(1, 3), spend(1), closed(1, 1, true)]).1, (50, vec![(true, 1)]));
    assert_eq!(after([lent(1, 3), spend(1), closed(1, 1, false)]).1, (0, vec![(false, 1)]));
    assert_eq!(after([lent(1, 3), spend(1), closed(1, 1, true), ended(1, 1, 70)]).1, (70, vec![]));
}

#[test]
fn a_gap_is_one_line_that_names_the_lease_and_its_worker() {
    let gap = |commands: &[Command]| {
        let (bench, _) = after(commands.iter().cloned());
        let lines = bench.open().0.reader().unwrap().audit_last(9).unwrap();
        let mut gaps: Vec<_> = lines.into_iter().filter(|line| line.record.decision == Decision::Gap).collect();
        assert_eq!(gaps.len(), 1);
        gaps.remove(0)
    };
    let line = gap(&[lent(1, 3), ended(1, 1, 30), spend(1), spend(1)]);
    assert_eq!((line.record.tenant.as_str(), line.record.proxy.as_str()), ("acme", "edge-1"));
    assert_eq!((line.record.code.as_str(), line.record.grant_id), ("lease_expired", Some(lease_id(1).request(0))));
    let said =
        "lease 010101010101010101010101 of worker 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a: 2 requests are unaccounted for";
    assert_eq!(line.record.detail, said);
    assert_eq!(line.charged, Some(Cost { requests: 2, ..cost(100) }));
    assert_eq!(line.settled.unwrap().outcome, "expired");
    // Late words fill it.
    let line = gap(&[lent(1, 3), spend(1), ended(1, 1, 30), ended(1, 2, 30), closed(1, 2, true)]);
    assert!(line.record.detail.ends_with(": 0 requests are unaccounted for"), "{}", line.record.detail);
    assert_eq!(line.charged, Some(Cost::default()));
}

#[test]
fn a_gap_is_charged_in_reports_and_is_no_request() {
    let (bench, _) = after([lent(1, 3), ended(1, 1, 30), spend(1)]);
    let usage = bench.open().0.reader().unwrap().usage_by_tenant(NOON).unwrap();
    assert_eq!((usage["acme"].requests, usage["acme"].gpu_ms, usage["acme"].micro_usd), (1, 260, 390));
}

#[test]
fn a_ledger_comes_back_with_its_leases_and_the_store_follows_it() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    for command in [lent(1, 1), lent(2, 2), ended(2, 1, 30), lent(3, 1), spend(3)] {
        write(&store, command).unwrap();
    }
    drop(store);
    let (_, restored) = bench.open();
    let (ledger, now) = (Ledger::default(), |ms| Now { unix_ms: NOON + ms });
    ledger.restore(now(1), &restored.windows, []).unwrap();
    ledger.restore_leases(now(1), restored.leases);
    let left = |ms| with_subject(|subject| ledger.peek(now(ms), subject)[0].left);
    assert_eq!(left(1), 1_000_000 - 50 - 80 - 50);
    let holder = Holder { proxy: "edge-1".into(), worker: WORKER };
    // Settled before the crash: known.
    assert_eq!(ledger.settle_leased(now(2), lease_id(2), &holder, 1, cost(50), cost(1)), None);
    ledger.settle_leased(now(2), lease_id(2), &holder, 2, cost(50), cost(1)).unwrap();
    assert_eq!(left(2), 1_000_000 - 50 - 31 - 50);
    let account: Account = ledger.close_lease(now(2), lease_id(3), &holder, Cost::default()).unwrap();
    assert!(!account.expired);
    assert_eq!(left(2), 1_000_000 - 50 - 31);
    assert_eq!(ledger.expire_leases(now(15_000)), [lease_id(1), lease_id(2)]);
    assert_eq!(lend(&ledger, 1, 1).expires_in, Duration::ZERO);
}

#[test]
fn pruning_takes_leases_that_nothing_corrects_any_more() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    for command in [lent(1, 1), lent(2, 1), spend(2)] {
        write(&store, command).unwrap();
    }
    let count = || -> i64 {
        let db = rusqlite::Connection::open(bench.path()).unwrap();
        db.query_row("SELECT count(*) FROM leases", (), |row| row.get(0)).unwrap()
    };
    write(&store, Command::Prune { now_ms: NOON + 25_000 + 7_200_000 }).unwrap();
    assert_eq!(count(), 2);
    write(&store, Command::Prune { now_ms: NOON + 25_002 + 7_200_000 }).unwrap();
    assert_eq!(count(), 1);
}

#[test]
fn what_the_module_refused_under_a_grant_is_a_denial_of_its_tenant() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let under = AuditRecord { model: "llama".into(), detail: "too long".into(), ..allow(1) };
    let refusal = Refusal {
        sequence: 1,
        at_ms: NOON,
        request_id: "e-1".into(),
        status: 413,
        details: "direct_response".into(),
        code: "prompt_too_large".into(),
        under: Some(Box::new(AuditRecord { grant_id: None, reserved: None, ..under })),
    };
    let report =
        Command::Refusals { proxy: "edge-1".into(), worker: WORKER, refusals: vec![refusal], lost: None, at_ms: NOON };
    (0..2).for_each(|_| write(&store, report.clone()).unwrap());
    let lines = store.reader().unwrap().audit_last(9).unwrap();
    assert_eq!(lines.len(), 1);
    let record = &lines[0].record;
    assert_eq!((record.decision, record.code.as_str(), record.status), (Decision::Deny, "prompt_too_large", 413));
    assert_eq!((record.tenant.as_str(), record.principal.as_str(), record.request_id.as_str()), ("acme", "ana", "e-1"));
    assert_eq!(record.detail, "too long");
}
