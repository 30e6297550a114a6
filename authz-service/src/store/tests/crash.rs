use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::store::schema::STEPS;

/// What `kill -9` leaves: the files as they are while the store is open.
fn killed(bench: &Bench) -> Bench {
    let copy = Bench::new();
    for suffix in ["", "-wal"] {
        let name = format!("state.db{suffix}");
        std::fs::copy(bench.directory.path().join(&name), copy.directory.path().join(&name)).unwrap();
    }
    copy
}

#[test]
fn what_was_answered_survives_kill_and_spend_is_never_understated() {
    let bench = Bench::new();
    let (store, first) = bench.open();
    for n in 0..50 {
        write(&store, admit(n)).unwrap();
    }
    for n in 0..20 {
        write(&store, settle(n, 10)).unwrap();
    }
    let (_, restored) = killed(&bench).open();
    assert_eq!(spent(&restored), [(false, 600), (true, 200)]);
    assert_eq!(restored.outstanding.len(), 30);
    assert!(restored.outstanding.iter().all(|row| row.reserved == cost(50) && row.input_estimate == 7));
    assert_eq!(restored.salt, first.salt);
    drop(store);
}

#[test]
fn a_crash_in_the_middle_of_a_commit_leaves_all_of_it_or_nothing() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    write(&store, admit(0)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 1;
            while !stop.load(Ordering::Relaxed) {
                write(&store, Command::Batch(vec![admit(n), settle(n, 10), admit(n + 1)])).unwrap();
                n += 2;
            }
        });
        for _ in 0..20 {
            // Copied while it is being written: a torn tail of the log is what a crash leaves.
            let (_, restored) = killed(&bench).open();
            let settled = spent(&restored).iter().find(|(tokens, _)| *tokens).map_or(0, |(_, sum)| *sum) / 10;
            assert_eq!(u64::try_from(restored.outstanding.len()).unwrap(), settled + 1);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_ledger_comes_back_with_what_was_spent_and_reserved() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    (1..=3).for_each(|n| write(&store, admit(n)).unwrap());
    write(&store, settle(1, 30)).unwrap();
    write(&store, Command::Undo { grant_id: id(3), answered: true }).unwrap();
    let (_, restored) = killed(&bench).open();
    let ledger = Ledger::default();
    let outstanding = restored.outstanding.into_iter().map(|row| (row, crate::ledger::test_terms(cost(50))));
    ledger.restore(Now { unix_ms: NOON }, &restored.windows, outstanding).unwrap();
    let tenant = TenantName::parse("acme").unwrap();
    let usage = ledger.usage(Now { unix_ms: NOON }, &tenant, &TimeZone::UTC, &[daily(), per_minute()]);
    assert_eq!(usage[0].left, 1_000_000 - 30 - 50);
    // Settled five seconds after noon: 30 tokens of a rate of 100 a minute.
    assert_eq!(usage[1].reset_after, Duration::from_secs(18 + 5));
}

#[test]
fn a_second_process_is_refused_until_the_first_has_ended() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let error = Store::open(&bench.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)));
    let text = format!("`{}` is in use by another bulkhead process", bench.path().display());
    assert!(error.to_string().starts_with(&text), "{error}");
    // Reading beside it is possible.
    assert!(Reader::open(&bench.path()).unwrap().audit_last(1).unwrap().is_empty());
    drop(store);
    Store::open(&bench.path()).unwrap();
}

#[test]
fn every_file_is_the_owners_alone() {
    let bench = Bench::new();
    std::fs::write(bench.path(), b"").unwrap();
    std::fs::set_permissions(bench.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (store, _) = bench.open();
    write(&store, admit(1)).unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(bench.directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort_unstable();
    assert_eq!(names, ["state.db", "state.db-shm", "state.db-wal", "state.db.lock"]);
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let bench = Bench::new();
    std::fs::write(bench.path(), b"this is not a database, it is somebody's notes").unwrap();
    assert!(matches!(Store::open(&bench.path()).unwrap_err(), StoreError::NotOurs(_)));
    assert!(std::fs::read(bench.path()).unwrap().starts_with(b"this is not"));

    let bench = Bench::new();
    let other = rusqlite::Connection::open(bench.path()).unwrap();
    other.execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    drop(other);
    assert!(matches!(Store::open(&bench.path()).unwrap_err(), StoreError::NotOurs(_)));

    let bench = Bench::new();
    drop(bench.open());
    rusqlite::Connection::open(bench.path()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(&bench.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, known, .. } if known == STEPS.len()), "{error}");

    let nowhere = bench.directory.path().join("no/such/state.db");
    assert!(matches!(Store::open(&nowhere).unwrap_err(), StoreError::Io { .. }));
}
