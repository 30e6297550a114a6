//! State files of earlier versions are brought up to date, and lose nothing.

use super::*;
use crate::store::schema::{APPLICATION_ID, STEPS};

/// A state file as the version with that many steps left it: one reservation, one settled request.
fn of_version(bench: &Bench, steps: usize) {
    let (store, _) = bench.open();
    write(&store, admit(1)).unwrap();
    write(&store, admit(2)).unwrap();
    write(&store, settle(2, 30)).unwrap();
    drop(store);
    let newest = bench.directory.path().join("newest.db");
    std::fs::rename(bench.path(), &newest).unwrap();
    let old = rusqlite::Connection::open(bench.path()).unwrap();
    old.pragma_update(None, "foreign_keys", "OFF").unwrap();
    STEPS[..steps].iter().for_each(|step| old.execute_batch(step).unwrap());
    old.execute("ATTACH ?1 AS newest", [newest.to_str().unwrap()]).unwrap();
    for table in ["meta", "audit", "reservations", "windows"] {
        let columns = "SELECT group_concat(name) FROM pragma_table_info(?1, 'main')";
        let columns: String = old.query_row(columns, [table], |row| row.get(0)).unwrap();
        let sql = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newest.{table}");
        old.execute_batch(&sql).unwrap();
    }
    old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", i64::try_from(steps).unwrap()).unwrap();
}

#[test]
fn earlier_files_keep_their_lines_and_reservations_and_take_grants() {
    for steps in 1..STEPS.len() {
        let bench = Bench::new();
        of_version(&bench, steps);
        let (store, restored) = bench.open();
        assert_eq!(restored.outstanding.iter().map(|open| open.id).collect::<Vec<_>>(), [id(1)], "{steps}");
        let lines = store.reader().unwrap().audit_last(10).unwrap();
        assert_eq!(lines.iter().map(|line| line.record.grant_id).collect::<Vec<_>>(), [Some(id(1)), Some(id(2))]);
        let granted = AuditRecord { decision: Decision::Grant, ..allow(3) };
        write(&store, Command::Decision(Box::new(granted), None)).unwrap();
        // A reservation's line must still be there, and a line's number is never used again.
        let unknown = Command::Decision(Box::new(deny(9, "x")), Some(Box::new(reservation(9))));
        assert!(write(&store, unknown).is_err());
        let lines = store.reader().unwrap().audit_last(10).unwrap();
        let last = lines.last().unwrap();
        assert_eq!((last.record.decision, last.seq, lines.len()), (Decision::Grant, 3, 3));
    }
}
