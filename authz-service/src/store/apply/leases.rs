//! What becomes of leases, as SQL: each change of a lease's sums moves what its windows and rates count as spent, in the
//! same transaction.

use rusqlite::{Connection, params};

use super::add;
use crate::ledger::{Account, Lease, LeaseId};
use crate::store::audit::{self, AuditRecord, Decision};
use crate::store::command::LeasedEnd;
use crate::store::integer::int;
use crate::store::{WriteError, leases};
use gateway_core::gate::Cost;

pub(super) fn lend(db: &Connection, lease: &Lease) -> Result<(), WriteError> {
    leases::insert(db, lease)
}

/// A request whose line is there has been counted.
pub(super) fn settle(db: &Connection, ended: &LeasedEnd) -> Result<(), WriteError> {
    let Some(lease) = leases::read(db, ended.lease)? else { return Ok(()) };
    let record = AuditRecord { grant_id: Some(ended.settle.grant_id), ..ended.record.clone() };
    if !audit::insert_new(db, &record)? {
        return Ok(());
    }
    audit::end(db, &ended.settle)?;
    let mut account = lease.account;
    account.end(&ended.reserved, &ended.settle.charge);
    turn(db, &lease, &account, ended.settle.at_ms)
}

pub(super) fn close(db: &Connection, id: LeaseId, taken: &Cost, expired: bool, at_ms: u64) -> Result<(), WriteError> {
    let Some(lease) = leases::read(db, id)? else { return Ok(()) };
    let account = Account { closed: Some(lease.account.closed.unwrap_or(*taken)), expired, ..lease.account };
    turn(db, &lease, &account, at_ms)
}

pub(super) fn spend(db: &Connection, id: LeaseId, at_ms: u64) -> Result<(), WriteError> {
    let Some(lease) = leases::read(db, id)? else { return Ok(()) };
    let record = AuditRecord {
        at_ms,
        tenant: lease.tenant.clone(),
        decision: Decision::Gap,
        code: "lease_expired".to_owned(),
        model: lease.model.clone(),
        proxy: lease.holder.proxy.clone(),
        grant_id: Some(id.request(0)),
        reserved: Some(lease.account.lent),
        ..AuditRecord::default()
    };
    audit::insert_new(db, &record)?;
    turn(db, &lease, &Account { expired: true, ..lease.account }, at_ms)
}

/// From where the lease stood to where it stands, with its windows, its rates, and its line about a gap, if it has one.
fn turn(db: &Connection, lease: &Lease, account: &Account, at_ms: u64) -> Result<(), WriteError> {
    add(db, &lease.holds, &lease.account.spent(), &account.spent(), at_ms)?;
    leases::update(db, lease.id, account)?;
    if lease.account.expired || account.expired {
        gap(db, lease, account, at_ms)?;
    }
    Ok(())
}

fn gap(db: &Connection, lease: &Lease, account: &Account, at_ms: u64) -> Result<(), WriteError> {
    let open = if account.expired { account.open() } else { Cost::default() };
    let worker: String = lease.holder.worker.iter().map(|byte| format!("{byte:02x}")).collect();
    let detail = format!("lease {:?} of worker {worker}: {} requests are unaccounted for", lease.id, open.requests);
    let sql = "UPDATE audit SET detail = ?2, settled_ms = ?3, outcome = 'expired', estimated = 1, charged_tokens = ?4,
        charged_gpu_ms = ?5, charged_micro_usd = ?6, charged_requests = ?7 WHERE grant_id = ?1";
    db.prepare_cached(sql)?.execute(params![
        lease.id.request(0).0,
        detail,
        int(at_ms),
        int(open.tokens),
        int(open.gpu_ms),
        int(open.micro_usd),
        int(open.requests),
    ])?;
    Ok(())
}

/// Leases that became spend, and that nothing corrects any more: not before the ledger has forgotten them.
pub(super) fn prune(db: &Connection, now_ms: u64) -> Result<(), WriteError> {
    let sql = "DELETE FROM leases WHERE expired AND (?1 - 20000 - expires_ms) / 2 > longest_stream_ms";
    db.prepare_cached(sql)?.execute([int(now_ms)])?;
    Ok(())
}
