//! One command as SQL. Runs inside the writer's transaction and nowhere else.

pub(super) mod jobs;
mod keys;
mod leases;

use std::time::Duration;

use gateway_core::gate::Cost;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::WriteError;
use super::audit::{self, AuditRecord, Decision};
use super::certificates;
use super::command::{Command, Refusal, Settle, SigningKeyRow, VaultRow};
use super::integer::int;
use super::restored::{cost, parse_holds};
use crate::ledger::{GrantId, Hold, Reservation};
use crate::sightings::{Change, Sighting};

/// Windows are kept this long after their end, for reports.
const WINDOW_KEPT_MS: u64 = 2 * 24 * 60 * 60 * 1000;

/// A network that a principal has not used for so long is new again after the next start: as long as a rule may call one
/// new.
const SIGHTING_KEPT_MS: u64 = 90 * 24 * 60 * 60 * 1000;

/// Writes one command.
pub(super) fn apply(db: &Connection, command: &Command) -> Result<(), WriteError> {
    match command {
        Command::Decision(record, reservation) => {
            audit::insert(db, record)?;
            reservation.as_ref().map_or(Ok(()), |reservation| reserve(db, reservation))
        }
        Command::Settle(settlement) => settle(db, settlement),
        Command::Spend { grant_id, charge, at_ms } => spend(db, *grant_id, charge, *at_ms),
        Command::Undo { grant_id, answered } => undo(db, *grant_id, *answered),
        Command::Reinstate { grant_id } => reinstate(db, *grant_id),
        Command::Lend(lease) => leases::lend(db, lease),
        Command::SettleLeased(ended) => leases::settle(db, ended),
        Command::CloseLease { id, taken, expired, at_ms } => leases::close(db, *id, taken, *expired, *at_ms),
        Command::SpendLease { id, at_ms } => leases::spend(db, *id, *at_ms),
        Command::Refusals { proxy, worker, refusals, lost, at_ms } => {
            refusals.iter().try_for_each(|refusal| refused(db, proxy, worker, refusal))?;
            lost.map_or(Ok(()), |(count, sequence)| lose(db, proxy, worker, count, sequence, *at_ms))
        }
        Command::KeyCreate(key) => keys::create(db, key),
        Command::KeyRotate { child, at_ms, until_ms } => keys::rotate(db, child, *at_ms, *until_ms),
        Command::KeysUsed(used) => keys::used(db, used),
        Command::KeyRevoke { id, at_ms } => keys::revoke(db, id, *at_ms),
        Command::VaultPut(row) => put(db, row),
        Command::Certificate(command) => certificates::apply(db, command),
        Command::JobPut(job) => jobs::put(db, job),
        Command::SigningKeyPut(row) => put_signing_key(db, row),
        Command::SigningKeysWithdraw { at_ms } => {
            let sql = "UPDATE signing_keys SET withdrawn_ms = ?1 WHERE withdrawn_ms IS NULL";
            db.prepare_cached(sql)?.execute([int(*at_ms)])?;
            Ok(())
        }
        Command::KeepSources { version, bytes } => {
            let sql = "INSERT OR REPLACE INTO sources VALUES (1, ?1, ?2)";
            db.prepare_cached(sql)?.execute(params![version, bytes])?;
            Ok(())
        }
        Command::Sighted(change) => sighted(db, change),
        Command::AdminAudit(record) => {
            audit::insert(db, &AuditRecord { decision: Decision::Admin, ..(**record).clone() })
        }
        Command::Prune { now_ms } => prune(db, *now_ms),
        Command::Batch(commands) => commands.iter().try_for_each(|command| apply(db, command)),
    }
}

fn reserve(db: &Connection, reservation: &Reservation) -> Result<(), WriteError> {
    let holds = serde_json::to_string(&reservation.holds).map_err(|error| WriteError::Failed(error.to_string()))?;
    let longest_ms = u64::try_from(reservation.longest_stream.as_millis()).unwrap_or(u64::MAX);
    let reserved = &reservation.reserved;
    let sql = "INSERT INTO reservations VALUES (?1, 'open', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?12, ?13, ?14, ?15, ?10,
        ?11)";
    db.prepare_cached(sql)?.execute(params![
        reservation.id.0,
        reservation.proxy,
        reservation.model,
        int(reservation.created_ms),
        int(longest_ms),
        int(reserved.tokens),
        int(reserved.gpu_ms),
        int(reserved.micro_usd),
        int(reserved.requests),
        int(reservation.input_estimate),
        holds,
        int(reservation.charged.tokens),
        int(reservation.charged.gpu_ms),
        int(reservation.charged.micro_usd),
        int(reservation.charged.requests),
    ])?;
    Ok(())
}

fn settle(db: &Connection, settlement: &Settle) -> Result<(), WriteError> {
    let id = settlement.grant_id;
    if !charge(db, id, &settlement.charge, settlement.at_ms)? {
        return Ok(());
    }
    db.prepare_cached("DELETE FROM reservations WHERE grant_id = ?1")?.execute([id.0])?;
    audit::end(db, settlement)
}

fn spend(db: &Connection, id: GrantId, spent: &Cost, at_ms: u64) -> Result<(), WriteError> {
    if !charge(db, id, spent, at_ms)? {
        return Ok(());
    }
    let (tokens, gpu_ms) = (int(spent.tokens), int(spent.gpu_ms));
    let (micro_usd, requests) = (int(spent.micro_usd), int(spent.requests));
    let sql = "UPDATE reservations SET state = 'expired', charged_tokens = ?2, charged_gpu_ms = ?3,
        charged_micro_usd = ?4, charged_requests = ?5 WHERE grant_id = ?1";
    db.prepare_cached(sql)?.execute(params![id.0, tokens, gpu_ms, micro_usd, requests])?;
    let sql = "UPDATE audit SET outcome = 'expired', estimated = 1, charged_tokens = ?2, charged_gpu_ms = ?3,
        charged_micro_usd = ?4, charged_requests = ?5 WHERE grant_id = ?1";
    db.prepare_cached(sql)?.execute(params![id.0, tokens, gpu_ms, micro_usd, requests])?;
    db.prepare_cached("UPDATE audit SET settled_ms = ?2 WHERE grant_id = ?1")?.execute(params![id.0, int(at_ms)])?;
    Ok(())
}

/// Replaces what the grant's reservation has been charged by `charge`, in its windows and on its rates. False: nothing
/// to settle.
fn charge(db: &Connection, id: GrantId, charge: &Cost, at_ms: u64) -> Result<bool, WriteError> {
    let sql = "SELECT holds, charged_tokens, charged_gpu_ms, charged_micro_usd, charged_requests FROM reservations
        WHERE grant_id = ?1";
    let kept =
        db.prepare_cached(sql)?.query_row([id.0], |row| Ok((row.get::<_, String>(0)?, cost(row, 1)?))).optional()?;
    let Some((holds, charged)) = kept else { return Ok(false) };
    let holds = parse_holds(&holds).map_err(|error| WriteError::Failed(error.to_string()))?;
    add(db, &holds, &charged, charge, at_ms)?;
    Ok(true)
}

/// Replaces what has been charged by another amount, in the windows and on the rates held.
fn add(db: &Connection, holds: &[Hold], from: &Cost, to: &Cost, at_ms: u64) -> Result<(), WriteError> {
    for hold in holds {
        add_to_window(db, hold, from, to)?;
        add_to_rate(db, hold, from, to, at_ms)?;
    }
    Ok(())
}

fn add_to_window(db: &Connection, hold: &Hold, from: &Cost, to: &Cost) -> Result<(), WriteError> {
    let (Some(from), Some(to)) = (hold.budget_amount(from), hold.budget_amount(to)) else { return Ok(()) };
    let (more, less) = (to.saturating_sub(from), from.saturating_sub(to));
    let sql = "INSERT INTO windows VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET settled =
        CASE WHEN settled > 9223372036854775807 - ?4 THEN 9223372036854775807 ELSE max(0, settled + ?4 - ?5) END";
    let key = hold.key.to_text();
    db.prepare_cached(sql)?.execute(params![key, int(hold.start_ms), int(hold.end_ms), int(more), int(less)])?;
    Ok(())
}

/// A rate's row is its debt: the window without a start that ends when the rate is whole again.
fn add_to_rate(db: &Connection, hold: &Hold, from: &Cost, to: &Cost, at_ms: u64) -> Result<(), WriteError> {
    let (Some(from), Some(to)) = (hold.rate_time(from), hold.rate_time(to)) else { return Ok(()) };
    let ms = |time: Duration| int(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let (more, less) = (ms(to.saturating_sub(from)), ms(from.saturating_sub(to)));
    let sql = "INSERT INTO windows VALUES (?1, 0, ?2, 0) ON CONFLICT DO UPDATE SET end_ms =
        CASE WHEN max(end_ms, ?3) > 9223372036854775807 - ?4 THEN 9223372036854775807
        WHEN ?4 > 0 THEN max(end_ms, ?3) + ?4 ELSE end_ms - ?5 END";
    let at_ms = int(at_ms);
    db.prepare_cached(sql)?.execute(params![hold.key.to_text(), at_ms.saturating_add(more), at_ms, more, less])?;
    Ok(())
}

fn undo(db: &Connection, id: GrantId, answered: bool) -> Result<(), WriteError> {
    let sql = if answered {
        "UPDATE reservations SET state = 'undone' WHERE grant_id = ?1 AND state = 'open'"
    } else {
        "DELETE FROM reservations WHERE grant_id = ?1 AND state = 'open'"
    };
    if db.prepare_cached(sql)?.execute([id.0])? > 0 {
        db.prepare_cached("UPDATE audit SET decision = 'undone' WHERE grant_id = ?1 AND decision = 'allow'")?
            .execute([id.0])?;
    }
    Ok(())
}

fn reinstate(db: &Connection, id: GrantId) -> Result<(), WriteError> {
    let sql = "UPDATE reservations SET state = 'open' WHERE grant_id = ?1 AND state = 'undone'";
    if db.prepare_cached(sql)?.execute([id.0])? > 0 {
        db.prepare_cached("UPDATE audit SET decision = 'allow' WHERE grant_id = ?1")?.execute([id.0])?;
    }
    Ok(())
}

fn refused(db: &Connection, proxy: &str, worker: &[u8; 16], refusal: &Refusal) -> Result<(), WriteError> {
    let record = AuditRecord {
        at_ms: refusal.at_ms,
        request_id: refusal.request_id.clone(),
        decision: Decision::Refused,
        code: refusal.code.clone(),
        status: refusal.status,
        proxy: proxy.to_owned(),
        detail: refusal.details.clone(),
        ..AuditRecord::default()
    };
    match &refusal.under {
        // The module's own decision, under a grant: no other line is of this request.
        Some(under) => {
            let grant = AuditRecord { decision: Decision::Deny, detail: under.detail.clone(), ..(**under).clone() };
            let AuditRecord { at_ms, request_id, code, status, proxy, .. } = record;
            let record = AuditRecord { at_ms, request_id, code, status, proxy, ..grant };
            audit::insert_reported(db, &record, worker, int(refusal.sequence))
        }
        None => audit::report_refusal(db, &record, worker, int(refusal.sequence)),
    }
}

/// The line about lost refusals has the report's own sequence, below zero: those are not the refusals' numbers.
fn lose(
    db: &Connection,
    proxy: &str,
    worker: &[u8; 16],
    count: u64,
    sequence: u64,
    at_ms: u64,
) -> Result<(), WriteError> {
    let record = AuditRecord {
        at_ms,
        decision: Decision::Refused,
        code: "refused".to_owned(),
        proxy: proxy.to_owned(),
        detail: format!("{count} refusals were lost: the worker's queue was full"),
        ..AuditRecord::default()
    };
    audit::insert_reported(db, &record, worker, int(sequence).saturating_neg().saturating_sub(1))
}

fn put_signing_key(db: &Connection, row: &SigningKeyRow) -> Result<(), WriteError> {
    let sql = "INSERT OR IGNORE INTO signing_keys VALUES (?1, ?2, ?3, ?4)";
    let withdrawn = row.withdrawn_ms.map(int);
    let put = db.prepare_cached(sql)?.execute(params![row.id, int(row.signs_from_ms), withdrawn, row.sealed])?;
    if put == 1 { Ok(()) } else { Err(WriteError::Conflict(format!("signing key `{}` exists", row.id))) }
}

fn put(db: &Connection, row: &VaultRow) -> Result<(), WriteError> {
    let sql = "INSERT INTO vault VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET
        key_id = excluded.key_id, version = excluded.version, sealed = excluded.sealed
        WHERE excluded.version > version";
    let version = i64::try_from(row.version).map_err(|_| WriteError::Conflict("the version is too large".into()))?;
    let put = db.prepare_cached(sql)?.execute(params![row.tenant, row.provider, row.key_id, version, row.sealed])?;
    if put == 1 {
        return Ok(());
    }
    Err(WriteError::Conflict(format!("version {version} of `{}`/`{}` is not newer", row.tenant, row.provider)))
}

fn sighted(db: &Connection, change: &Change) -> Result<(), WriteError> {
    if let Some(Sighting { tenant, principal, network, .. }) = &change.forgotten {
        let sql = "DELETE FROM sightings WHERE tenant = ?1 AND principal = ?2 AND network = ?3";
        db.prepare_cached(sql)?.execute(params![tenant.as_str(), principal, network.to_string()])?;
    }
    if let Some(Sighting { tenant, principal, network, first_s, last_s }) = &change.noted {
        let sql = "INSERT OR REPLACE INTO sightings VALUES (?1, ?2, ?3, ?4, ?5)";
        db.prepare_cached(sql)?.execute(params![tenant.as_str(), principal, network.to_string(), first_s, last_s])?;
    }
    Ok(())
}

fn prune(db: &Connection, now_ms: u64) -> Result<(), WriteError> {
    jobs::prune(db, now_ms)?;
    let before = int(now_ms.saturating_sub(WINDOW_KEPT_MS));
    db.prepare_cached("DELETE FROM windows WHERE end_ms < ?1")?.execute([before])?;
    let sql = "DELETE FROM reservations WHERE state <> 'open' AND (?1 - created_ms) / 2 > longest_stream_ms";
    db.prepare_cached(sql)?.execute([int(now_ms)])?;
    certificates::prune(db, now_ms)?;
    let before = int(now_ms.saturating_sub(SIGHTING_KEPT_MS) / 1000);
    db.prepare_cached("DELETE FROM sightings WHERE last_s < ?1")?.execute([before])?;
    leases::prune(db, now_ms)
}
