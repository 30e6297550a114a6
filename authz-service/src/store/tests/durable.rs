use super::*;
use crate::sightings::Sightings;

#[test]
fn a_failed_commit_is_told_and_leaves_nothing() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    bench.fail(Fault::FailCommit);
    assert!(matches!(write(&store, admit(1)), Err(WriteError::Failed(_))));
    assert!(store.reader().unwrap().audit_last(10).unwrap().is_empty());
    bench.fail(Fault::None);
    write(&store, admit(1)).unwrap();
    assert_eq!(store.reader().unwrap().audit_last(10).unwrap().len(), 1);
}

#[test]
fn what_waits_together_is_committed_together() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    bench.fail(Fault::Delay(Duration::from_millis(20)));
    let receipts: Vec<_> = (0..600).map(|n| store.submit(admit(n)).unwrap()).collect();
    receipts.into_iter().for_each(|receipt| wait(receipt).unwrap());
    let written = store.written();
    assert_eq!(written.commands, 600);
    // The first goes alone or nearly so; 512 at a time after that.
    assert!((2..=5).contains(&written.commits), "{written:?}");
}

#[tokio::test]
async fn a_full_queue_is_busy_and_no_worker_waits_for_the_disk() {
    let bench = Bench::new();
    let (store, _) = bench.open_with(8);
    bench.fail(Fault::Delay(Duration::from_millis(300)));
    let first = store.submit(admit(0)).unwrap();
    let started = std::time::Instant::now();
    let (mut queued, mut busy) = (vec![first], 0);
    for n in 1..30 {
        match store.submit(admit(n)) {
            Ok(receipt) => queued.push(receipt),
            Err(WriteError::Busy) => busy += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(started.elapsed() < Duration::from_millis(200), "submitting waited");
    // Eight wait; the writer holds none to eight more, as it got to run.
    assert!((8..=16).contains(&queued.len()), "{} queued, {busy} busy", queued.len());
    assert_eq!(queued.len() + busy, 30);
    for receipt in queued {
        receipt.await.unwrap();
    }
    store.write(admit(99)).await.unwrap();
}

#[test]
fn a_command_that_contradicts_fails_alone() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    bench.fail(Fault::Delay(Duration::from_millis(20)));
    let key = |hash| KeyRow { id: "k1".into(), tenant: "acme".into(), hash, created_ms: 1, ..KeyRow::default() };
    let receipts = [
        admit(1),
        Command::KeyCreate(key([1; 32])),
        Command::KeyCreate(key([2; 32])),
        // The same grant twice: SQLite's own refusal.
        admit(1),
        Command::Batch(vec![admit(2), Command::KeyCreate(key([3; 32]))]),
        admit(3),
    ]
    .map(|command| store.submit(command).unwrap());
    let answers: Vec<_> = receipts.into_iter().map(wait).collect();
    assert_eq!(answers[0], Ok(()));
    assert_eq!(answers[1], Ok(()));
    assert_eq!(answers[2], Err(WriteError::Conflict("key `k1` exists".into())));
    assert!(matches!(answers[3], Err(WriteError::Failed(_))));
    assert!(matches!(answers[4], Err(WriteError::Conflict(_))));
    assert_eq!(answers[5], Ok(()));
    let lines = store.reader().unwrap().audit_last(10).unwrap();
    let ids: Vec<_> = lines.iter().map(|line| line.record.request_id.as_str()).collect();
    assert_eq!(ids, ["r-1", "r-3"]);
}

#[test]
fn dropping_the_store_writes_what_was_submitted() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    for n in 0..100 {
        drop(store.submit(admit(n)).unwrap());
    }
    drop(store);
    assert_eq!(bench.open().1.outstanding.len(), 100);
}

#[test]
fn settling_counts_once_in_the_windows_of_the_reservation() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    write(&store, admit(1)).unwrap();
    write(&store, admit(2)).unwrap();
    write(&store, settle(1, 30)).unwrap();
    write(&store, settle(1, 99)).unwrap();
    write(&store, settle(9, 99)).unwrap();
    drop(store);
    let (_, restored) = bench.open();
    assert_eq!(spent(&restored), [(false, 90), (true, 30)]);
    assert_eq!(restored.outstanding, [reservation(2)]);
}

#[test]
fn spend_is_corrected_by_a_late_settlement() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    write(&store, admit(1)).unwrap();
    write(&store, Command::Spend { grant_id: id(1), charge: cost(50), at_ms: NOON }).unwrap();
    let line = store.reader().unwrap().audit_last(1).unwrap().remove(0);
    assert_eq!((line.settled.unwrap().outcome.as_str(), line.charged), ("expired", Some(cost(50))));
    drop(store);
    let (store, restored) = bench.open();
    assert_eq!(spent(&restored), [(false, 150), (true, 50)]);
    assert_eq!(restored.outstanding[0].state, crate::ledger::ReservationState::Expired);
    assert_eq!(restored.outstanding[0].charged, cost(50));
    write(&store, settle(1, 20)).unwrap();
    drop(store);
    let (_, restored) = bench.open();
    assert_eq!(spent(&restored), [(false, 60), (true, 20)]);
    assert!(restored.outstanding.is_empty());
}

#[test]
fn undone_reservations_cost_nothing_until_they_are_settled_after_all() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    for n in 1..=4 {
        write(&store, admit(n)).unwrap();
        write(&store, Command::Undo { grant_id: id(n), answered: n > 1 }).unwrap();
    }
    write(&store, settle(1, 30)).unwrap();
    write(&store, settle(2, 30)).unwrap();
    write(&store, Command::Reinstate { grant_id: id(3) }).unwrap();
    let decisions: Vec<_> =
        store.reader().unwrap().audit_last(9).unwrap().iter().map(|line| line.record.decision).collect();
    assert_eq!(decisions, [Decision::Undone, Decision::Allow, Decision::Allow, Decision::Undone]);
    drop(store);
    let (_, restored) = bench.open();
    assert_eq!(spent(&restored), [(false, 90), (true, 30)]);
    let states: Vec<_> = restored.outstanding.iter().map(|row| (row.id, row.state)).collect();
    use crate::ledger::ReservationState::{Open, Undone};
    assert_eq!(states, [(id(3), Open), (id(4), Undone)]);
}

#[test]
fn totals_never_wrap() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    for n in 1..=3 {
        write(&store, admit(n)).unwrap();
        let most = Cost { tokens: u64::MAX, gpu_ms: u64::MAX, micro_usd: u64::MAX, requests: u64::MAX };
        write(&store, Command::Spend { grant_id: id(n), charge: most, at_ms: NOON }).unwrap();
    }
    drop(store);
    let most = i64::MAX.unsigned_abs();
    assert_eq!(spent(&bench.open().1), [(false, most), (true, most)]);
}

#[test]
fn a_rates_debt_adds_up_and_is_corrected() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let debt = || {
        let db = rusqlite::Connection::open(bench.path()).unwrap();
        let sql = "SELECT end_ms FROM windows WHERE start_ms = 0";
        db.query_row(sql, (), |row| row.get::<_, i64>(0)).unwrap().unsigned_abs() - NOON
    };
    for n in 1..=3 {
        write(&store, admit(n)).unwrap();
    }
    write(&store, Command::Spend { grant_id: id(1), charge: cost(50), at_ms: NOON }).unwrap();
    assert_eq!(debt(), 30_000);
    write(&store, Command::Spend { grant_id: id(2), charge: cost(200), at_ms: NOON + 60_000 }).unwrap();
    assert_eq!(debt(), 60_000 + 120_000);
    write(&store, settle(1, 10)).unwrap();
    assert_eq!(debt(), 60_000 + 120_000 - 24_000);
    let most = Cost { tokens: u64::MAX, ..cost(1) };
    write(&store, Command::Spend { grant_id: id(3), charge: most, at_ms: NOON }).unwrap();
    // No debt is longer than the 584 years that a rate can count.
    assert_eq!(debt(), 60_000 + 120_000 - 24_000 + u64::MAX / 1_000_000 + 1);
}

#[test]
fn keys_vault_and_sources_come_back() {
    let bench = Bench::new();
    let (store, first) = bench.open();
    let key =
        |id: &str| KeyRow { id: id.into(), tenant: "acme".into(), hash: [9; 32], created_ms: 5, ..KeyRow::default() };
    let row = |version, sealed: &[u8]| VaultRow {
        tenant: "acme".into(),
        provider: "p".into(),
        key_id: "kek-1".into(),
        version,
        sealed: sealed.into(),
    };
    let commands = [
        Command::KeyCreate(key("k1")),
        Command::KeyCreate(key("k2")),
        Command::KeyRevoke { id: "k2".into(), at_ms: 70 },
        Command::KeyRevoke { id: "k2".into(), at_ms: 80 },
        Command::VaultPut(row(1, b"one")),
        Command::VaultPut(row(3, b"three")),
        Command::KeepSources { version: "v1".into(), bytes: b"old".to_vec() },
        Command::KeepSources { version: "v2".into(), bytes: b"new".to_vec() },
    ];
    commands.into_iter().for_each(|command| write(&store, command).unwrap());
    for version in [3, 2, u64::MAX] {
        assert!(matches!(write(&store, Command::VaultPut(row(version, b"x"))), Err(WriteError::Conflict(_))));
    }
    // Revoked before it was ever made here: the id stays unusable.
    write(&store, Command::KeyRevoke { id: "k3".into(), at_ms: 90 }).unwrap();
    assert!(matches!(write(&store, Command::KeyCreate(key("k3"))), Err(WriteError::Conflict(_))));
    drop(store);
    let (_, restored) = bench.open();
    assert_eq!(restored.keys, [key("k1"), KeyRow { revoked_ms: Some(70), ..key("k2") }]);
    assert_eq!(restored.vault, [row(3, b"three")]);
    assert_eq!(restored.sources, Some(Sources { version: "v2".into(), bytes: b"new".to_vec() }));
    assert_eq!((first.epoch, restored.epoch), (1, 2));
    assert!(restored.salt == first.salt && restored.salt.expose() != &[0; 32]);
    assert_eq!(format!("{:?}", restored.salt), "Salt(..)");
    assert!(Bench::new().open().1.salt != restored.salt);
}

#[test]
fn pruning_takes_only_what_nothing_asks_for_any_more() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    for n in 1..=2 {
        write(&store, admit(n)).unwrap();
    }
    write(&store, Command::Spend { grant_id: id(1), charge: cost(50), at_ms: NOON }).unwrap();
    let count = |table: &str| -> i64 {
        let db = rusqlite::Connection::open(bench.path()).unwrap();
        db.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap()
    };
    write(&store, Command::Prune { now_ms: NOON + 7_200_000 }).unwrap();
    assert_eq!((count("windows"), count("reservations")), (3, 2));
    write(&store, Command::Prune { now_ms: NOON + 7_200_002 }).unwrap();
    assert_eq!((count("windows"), count("reservations")), (3, 1));
    write(&store, Command::Prune { now_ms: NOON + 3 * 86_400_000 }).unwrap();
    assert_eq!((count("windows"), count("reservations")), (0, 1));
}

#[test]
fn where_principals_are_known_from_is_kept() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let (acme, known) = (TenantName::parse("acme").unwrap(), Sightings::default());
    let note = |from: &str, at| known.note(&acme, "ana", from.parse().unwrap(), at);
    for n in 0..17 {
        let change = note(&format!("10.0.{n}.1"), 1_000 + n).unwrap();
        write(&store, Command::Sighted(Box::new(change))).unwrap();
    }
    let again = note("10.0.16.9", 1_016 + 24 * 3600).unwrap();
    write(&store, Command::Sighted(Box::new(again))).unwrap();
    let ninety_days_after = 90 * 24 * 3_600_000 + 1_002_000;
    write(&store, Command::Prune { now_ms: ninety_days_after }).unwrap();
    drop(store);
    let (_, restored) = bench.open();
    assert_eq!(restored.sightings.len(), 15, "the first made room, and one was not used for ninety days");
    let restored = Sightings::restore(restored.sightings);
    let since = |from: &str| restored.since(&acme, "ana", from.parse().unwrap());
    assert_eq!((since("10.0.0.1"), since("10.0.1.1"), since("10.0.16.1")), (None, None, Some(1_016)));
}
