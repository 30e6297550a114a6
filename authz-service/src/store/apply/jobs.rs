//! Long jobs as SQL.

use rusqlite::{Connection, Row, params};
use serde_json::Value;

use crate::authorization::Login;
use crate::store::WriteError;
use crate::store::command::{IssuedRow, JobRow};
use crate::store::integer::{int, optional, uint};
use crate::store::open::StoreError;

/// Jobs are kept this long after their end, for lists.
const KEPT_MS: u64 = 24 * 60 * 60 * 1000;

/// Writes a job. What was revoked stays so.
pub(super) fn put(db: &Connection, job: &JobRow) -> Result<(), WriteError> {
    let sql = "INSERT INTO jobs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
        ON CONFLICT DO UPDATE SET revoked_ms = ifnull(revoked_ms, ?10), hash = ?11, expires_ms = ?12,
        former_hash = ?13, former_expires_ms = ?14";
    let former = job.former.as_ref();
    db.prepare_cached(sql)?.execute(params![
        job.id,
        job.tenant,
        job.name,
        job.principal,
        job.issuer,
        job.scopes,
        job.certificate,
        int(job.started_ms),
        int(job.ends_ms),
        job.revoked_ms.map(int),
        job.current.hash,
        int(job.current.expires_ms),
        former.map(|former| former.hash),
        former.map(|former| int(former.expires_ms)),
        job.login.class,
        Value::from(job.login.methods.clone()).to_string(),
        job.login.at,
    ])?;
    Ok(())
}

/// Drops jobs that ended long ago.
pub(super) fn prune(db: &Connection, now_ms: u64) -> Result<(), WriteError> {
    db.prepare_cached("DELETE FROM jobs WHERE ends_ms < ?1")?.execute([int(now_ms.saturating_sub(KEPT_MS))])?;
    Ok(())
}

/// Every job.
pub(in crate::store) fn read_all(db: &Connection) -> Result<Vec<JobRow>, StoreError> {
    let sql = "SELECT id, tenant, name, principal, issuer, scopes, certificate, started_ms, ends_ms, revoked_ms, hash,
        expires_ms, former_hash, former_expires_ms, acr, amr, auth_s FROM jobs";
    Ok(db.prepare(sql)?.query_map((), row)?.collect::<Result<_, _>>()?)
}

fn row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    let former: Option<[u8; 32]> = row.get(12)?;
    let methods: String = row.get(15)?;
    Ok(JobRow {
        id: row.get(0)?,
        tenant: row.get(1)?,
        name: row.get(2)?,
        principal: row.get(3)?,
        issuer: row.get(4)?,
        scopes: row.get(5)?,
        certificate: row.get(6)?,
        login: Login {
            class: row.get(14)?,
            // A list that nobody wrote meets no demand.
            methods: serde_json::from_str(&methods).unwrap_or_default(),
            at: row.get(16)?,
        },
        started_ms: uint(row, 7)?,
        ends_ms: uint(row, 8)?,
        revoked_ms: optional(row, 9)?,
        current: IssuedRow { hash: row.get(10)?, expires_ms: uint(row, 11)? },
        former: match former {
            None => None,
            Some(hash) => Some(IssuedRow { hash, expires_ms: uint(row, 13)? }),
        },
    })
}
