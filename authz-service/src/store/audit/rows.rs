//! Audit records as rows: the one place that knows their columns.

use gateway_core::gate::Usage;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{AuditLine, AuditRecord, Decision, SettledLine, cut, outcome_name};
use crate::ledger::GrantId;
use crate::store::integer::{int, optional, uint};
use crate::store::restored::cost;
use crate::store::{Settle, WriteError};

/// A whole chain of actors, each at its longest.
const MAX_ACTORS_BYTES: usize = 5 * 257;

/// Inserts a record of the service's own; where a worker has reported the refusal of the same request already, that line
/// is completed.
pub(in crate::store) fn insert(db: &Connection, record: &AuditRecord) -> Result<(), WriteError> {
    if record.request_id.is_empty() || !complete_refusal(db, record)? { insert_row(db, record, None) } else { Ok(()) }
}

/// The decision came after its request had been refused, and the worker's report was faster. Says whether there was one.
fn complete_refusal(db: &Connection, record: &AuditRecord) -> Result<bool, WriteError> {
    let reported = "SELECT seq FROM audit WHERE request_id = ?1 AND proxy = ?2 AND decision = 'refused'
        AND worker IS NOT NULL AND method = '' AND abs(at_ms - ?3) <= 60000 LIMIT 1";
    let of = params![cut(&record.request_id, 128), cut(&record.proxy, 128), int(record.at_ms)];
    let reported: Option<i64> = db.prepare_cached(reported)?.query_row(of, |row| row.get(0)).optional()?;
    let Some(seq) = reported else { return Ok(false) };
    let sql = "UPDATE audit SET tenant = ?2, principal = ?3, key_id = ?4, credential = ?5, policy_version = ?6,
        method = ?7, path = ?8, model = ?9, provider = ?10, region = ?11, grant_id = ?12, reserved_tokens = ?13,
        reserved_gpu_ms = ?14, reserved_micro_usd = ?15, reserved_requests = ?16,
        detail = CASE ?17 WHEN '' THEN detail ELSE detail || ', decided too late: ' || ?17 END, actors = ?18
        WHERE seq = ?1";
    let reserved = record.reserved.as_ref();
    db.prepare_cached(sql)?.execute(params![
        seq,
        cut(&record.tenant, 63),
        cut(&record.principal, 256),
        cut(&record.key_id, 64),
        cut(&record.credential, 32),
        cut(&record.policy_version, 64),
        cut(&record.method, 32),
        cut(bare(&record.path), 512),
        cut(&record.model, 128),
        cut(&record.provider, 128),
        cut(&record.region, 128),
        record.grant_id.map(|id| id.0),
        reserved.map(|cost| int(cost.tokens)),
        reserved.map(|cost| int(cost.gpu_ms)),
        reserved.map(|cost| int(cost.micro_usd)),
        reserved.map(|cost| int(cost.requests)),
        cut(&record.code, 64),
        cut(&record.actors.join(" "), MAX_ACTORS_BYTES),
    ])?;
    Ok(true)
}

/// A path without what may hold a secret.
fn bare(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

/// Inserts a record of a grant of which there is none yet; says whether it did.
pub(in crate::store) fn insert_new(db: &Connection, record: &AuditRecord) -> Result<bool, WriteError> {
    let known = "SELECT count(*) FROM audit WHERE grant_id = ?1";
    let id = record.grant_id.map(|id| id.0);
    let new = db.prepare_cached(known)?.query_row([id], |row| row.get::<_, i64>(0))? == 0;
    if new {
        insert_row(db, record, None)?;
    }
    Ok(new)
}

/// Completes the line of a grant whose request has ended.
pub(in crate::store) fn end(db: &Connection, settlement: &Settle) -> Result<(), WriteError> {
    let (charge, usage) = (&settlement.charge, &settlement.usage);
    let sql = "UPDATE audit SET decision = 'allow', settled_ms = ?2, outcome = ?3, estimated = ?4, duration_ms = ?5,
        details = ?6, charged_tokens = ?7, charged_gpu_ms = ?8, charged_micro_usd = ?9, charged_requests = ?10,
        input = ?11, cached_input = ?12, output = ?13, reasoning = ?14, status = ?15,
        code = CASE ?16 WHEN '' THEN code ELSE ?16 END WHERE grant_id = ?1";
    db.prepare_cached(sql)?.execute(params![
        settlement.grant_id.0,
        int(settlement.at_ms),
        outcome_name(settlement.outcome),
        settlement.estimated,
        int(settlement.duration_ms),
        cut(&settlement.details, 256),
        int(charge.tokens),
        int(charge.gpu_ms),
        int(charge.micro_usd),
        int(charge.requests),
        int(usage.input),
        int(usage.cached_input),
        int(usage.output),
        int(usage.reasoning),
        settlement.status,
        cut(&settlement.denial, 64),
    ])?;
    Ok(())
}

/// Inserts a record that a worker reports; a repeat is ignored.
pub(in crate::store) fn insert_reported(
    db: &Connection,
    record: &AuditRecord,
    worker: &[u8; 16],
    sequence: i64,
) -> Result<(), WriteError> {
    insert_row(db, record, Some((worker, sequence)))
}

/// A refusal that a worker reports. Where the service had decided the same request, and its answer came too late, that
/// line is completed: one request, one line. A repeat is ignored.
pub(in crate::store) fn report_refusal(
    db: &Connection,
    record: &AuditRecord,
    worker: &[u8; 16],
    sequence: i64,
) -> Result<(), WriteError> {
    let known = "SELECT count(*) FROM audit WHERE worker = ?1 AND sequence = ?2";
    if db.prepare_cached(known)?.query_row(params![worker, sequence], |row| row.get::<_, i64>(0))? > 0 {
        return Ok(());
    }
    let sql = "UPDATE audit SET decision = ?4, code = ?5, status = ?6, worker = ?7, sequence = ?8,
        detail = CASE code WHEN '' THEN ?9 ELSE ?9 || ', decided too late: ' || code END
        WHERE seq = (SELECT seq FROM audit WHERE request_id = ?1 AND request_id <> '' AND proxy = ?2
        AND decision IN ('allow', 'deny', 'undone') AND worker IS NULL AND settled_ms IS NULL
        AND abs(at_ms - ?3) <= 60000 ORDER BY seq DESC LIMIT 1)";
    let completed = db.prepare_cached(sql)?.execute(params![
        cut(&record.request_id, 128),
        cut(&record.proxy, 128),
        int(record.at_ms),
        record.decision.name(),
        cut(&record.code, 64),
        record.status,
        worker,
        sequence,
        cut(&record.detail, 256),
    ])?;
    if completed == 0 { insert_reported(db, record, worker, sequence) } else { Ok(()) }
}

fn insert_row(db: &Connection, record: &AuditRecord, report: Option<(&[u8; 16], i64)>) -> Result<(), WriteError> {
    let sql = "INSERT INTO audit (at_ms, request_id, tenant, principal, key_id, credential, policy_version, decision,
        code, status, method, path, model, provider, region, proxy, detail, grant_id, worker, sequence,
        reserved_tokens, reserved_gpu_ms, reserved_micro_usd, reserved_requests, actors)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
        ?21, ?22, ?23, ?24, ?25) ON CONFLICT (worker, sequence) WHERE worker IS NOT NULL DO NOTHING";
    let reserved = record.reserved.as_ref();
    db.prepare_cached(sql)?.execute(params![
        int(record.at_ms),
        cut(&record.request_id, 128),
        cut(&record.tenant, 63),
        cut(&record.principal, 256),
        cut(&record.key_id, 64),
        cut(&record.credential, 32),
        cut(&record.policy_version, 64),
        record.decision.name(),
        cut(&record.code, 64),
        record.status,
        cut(&record.method, 32),
        cut(bare(&record.path), 512),
        cut(&record.model, 128),
        cut(&record.provider, 128),
        cut(&record.region, 128),
        cut(&record.proxy, 128),
        cut(&record.detail, 512),
        record.grant_id.map(|id| id.0),
        report.map(|(worker, _)| worker),
        report.map(|(_, sequence)| sequence),
        reserved.map(|cost| int(cost.tokens)),
        reserved.map(|cost| int(cost.gpu_ms)),
        reserved.map(|cost| int(cost.micro_usd)),
        reserved.map(|cost| int(cost.requests)),
        cut(&record.actors.join(" "), MAX_ACTORS_BYTES),
    ])?;
    Ok(())
}

/// The columns that [`line`] reads.
pub(in crate::store) const COLUMNS: &str =
    "seq, at_ms, request_id, tenant, principal, key_id, credential, policy_version,
    decision, code, status, method, path, model, provider, region, proxy, detail, grant_id,
    reserved_tokens, reserved_gpu_ms, reserved_micro_usd, reserved_requests,
    settled_ms, outcome, estimated, duration_ms, details,
    charged_tokens, charged_gpu_ms, charged_micro_usd, charged_requests, input, cached_input, output, reasoning, actors";

/// One row of [`COLUMNS`].
pub(in crate::store) fn line(row: &Row<'_>) -> rusqlite::Result<AuditLine> {
    let record = AuditRecord {
        at_ms: uint(row, 1)?,
        request_id: row.get(2)?,
        tenant: row.get(3)?,
        principal: row.get(4)?,
        key_id: row.get(5)?,
        credential: row.get(6)?,
        actors: row.get_ref(36)?.as_str()?.split(' ').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect(),
        policy_version: row.get(7)?,
        decision: Decision::named(row.get_ref(8)?.as_str()?),
        code: row.get(9)?,
        status: row.get(10)?,
        method: row.get(11)?,
        path: row.get(12)?,
        model: row.get(13)?,
        provider: row.get(14)?,
        region: row.get(15)?,
        proxy: row.get(16)?,
        detail: row.get(17)?,
        grant_id: row.get::<_, Option<[u8; 16]>>(18)?.map(GrantId),
        reserved: optional(row, 19)?.map(|_| cost(row, 19)).transpose()?,
    };
    let settled = optional(row, 23)?.map(|settled_ms| settled(row, settled_ms)).transpose()?;
    let charged = optional(row, 28)?.map(|_| cost(row, 28)).transpose()?;
    Ok(AuditLine { seq: uint(row, 0)?, record, charged, settled })
}

fn settled(row: &Row<'_>, settled_ms: u64) -> rusqlite::Result<SettledLine> {
    let count = |column: usize| Ok::<_, rusqlite::Error>(optional(row, column)?.unwrap_or(0));
    Ok(SettledLine {
        settled_ms,
        outcome: row.get::<_, Option<String>>(24)?.unwrap_or_default(),
        estimated: row.get::<_, Option<bool>>(25)?.unwrap_or(true),
        duration_ms: count(26)?,
        details: row.get::<_, Option<String>>(27)?.unwrap_or_default(),
        usage: Usage { input: count(32)?, cached_input: count(33)?, output: count(34)?, reasoning: count(35)? },
    })
}
