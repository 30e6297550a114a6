//! Long jobs in the state file: what is renewed, what never changes, and files of before.

use super::*;
use crate::authorization::Login;
use crate::store::schema::{APPLICATION_ID, STEPS};

/// The steps of the first version that had jobs.
const WITH_JOBS: usize = 9;

fn issued(hash: u8) -> IssuedRow {
    IssuedRow { hash: [hash; 32], expires_ms: NOON + u64::from(hash) }
}

fn job(id: &str) -> JobRow {
    JobRow {
        id: id.into(),
        tenant: "acme".into(),
        name: "nightly".into(),
        principal: "alice".into(),
        issuer: "https://id.example".into(),
        scopes: "a b".into(),
        certificate: "thumbprint".into(),
        login: Login::default(),
        started_ms: NOON,
        ends_ms: NOON + 1_000_000,
        revoked_ms: None,
        current: issued(1),
        former: None,
    }
}

#[test]
fn a_job_keeps_its_starters_login_whatever_is_renewed() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let strong = Login {
        class: Some("urn:example:gold".into()),
        methods: vec!["pwd".into(), "h w\",k".into()],
        at: Some(1_795_348_000),
    };
    let first = JobRow { login: strong.clone(), ..job("with") };
    write(&store, Command::JobPut(Box::new(first.clone()))).unwrap();
    write(&store, Command::JobPut(Box::new(job("without")))).unwrap();
    let younger = Login { at: Some(1_795_349_000), ..Login::default() };
    let renewed = JobRow { login: younger, current: issued(2), former: Some(issued(1)), ..first.clone() };
    write(&store, Command::JobPut(Box::new(renewed.clone()))).unwrap();
    drop(store);
    assert_eq!(bench.open().1.jobs, [JobRow { login: strong, ..renewed }, job("without")]);
}

#[test]
fn a_job_of_an_earlier_file_goes_on_and_says_nothing_of_a_login() {
    for steps in WITH_JOBS..STEPS.len() {
        let bench = Bench::new();
        let old = rusqlite::Connection::open(bench.path()).unwrap();
        STEPS[..steps].iter().for_each(|step| old.execute_batch(step).unwrap());
        old.execute("INSERT INTO meta VALUES ('salt', zeroblob(32)), ('epoch', zeroblob(8))", ()).unwrap();
        let columns = "id, tenant, name, principal, issuer, scopes, certificate, started_ms, ends_ms, hash, expires_ms";
        let sql = format!(
            "INSERT INTO jobs ({columns}) VALUES ('old', 'acme', 'nightly', 'alice', 'https://id.example', 'a b',
            'thumbprint', ?1, ?2, ?3, ?4)"
        );
        let (ends, expires) = (NOON as i64 + 1_000_000, NOON as i64 + 1);
        old.execute(&sql, rusqlite::params![NOON as i64, ends, [1_u8; 32], expires]).unwrap();
        old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        old.pragma_update(None, "user_version", i64::try_from(steps).unwrap()).unwrap();
        drop(old);
        let (store, restored) = bench.open();
        assert_eq!(restored.jobs, [job("old")], "{steps}");
        let renewed = JobRow { current: issued(2), former: Some(issued(1)), ..job("old") };
        write(&store, Command::JobPut(Box::new(renewed.clone()))).unwrap();
        drop(store);
        assert_eq!(bench.open().1.jobs, [renewed], "{steps}");
    }
}
