//! Leases as rows: the one place that knows their columns.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_core::price::{ModelCost, Prices};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::WriteError;
use super::integer::{int, optional, uint};
use super::open::StoreError;
use super::restored::{cost, parse_holds};
use crate::ledger::{Account, Holder, Lease, LeaseId};

const COLUMNS: &str = "id, expired, proxy, worker, tenant, scope_set, model, prices, served, rate_tokens, expires_ms,
    longest_stream_ms, holds, lent_tokens, lent_gpu_ms, lent_micro_usd, lent_requests,
    ended_tokens, ended_gpu_ms, ended_micro_usd, ended_requests,
    charged_tokens, charged_gpu_ms, charged_micro_usd, charged_requests,
    closed_tokens, closed_gpu_ms, closed_micro_usd, closed_requests";

/// Every lease, with the numbers of its requests that are settled.
pub(super) fn read_all(db: &Connection) -> Result<Vec<Lease>, StoreError> {
    let mut statement = db.prepare(&format!("SELECT {COLUMNS} FROM leases ORDER BY expires_ms"))?;
    let leases = statement.query_map((), lease)?.collect::<Result<Vec<_>, _>>()?;
    leases.into_iter().map(|lease| Ok(Lease { settled: settled(db, lease.id)?, ..lease })).collect()
}

/// One lease, if there is one of this id; without the numbers of its requests.
pub(super) fn read(db: &Connection, id: LeaseId) -> Result<Option<Lease>, WriteError> {
    let sql = format!("SELECT {COLUMNS} FROM leases WHERE id = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([id.request(0).0], lease).optional()?)
}

/// Writes a new lease; one that is known is left as it is.
pub(super) fn insert(db: &Connection, lease: &Lease) -> Result<(), WriteError> {
    let failed = |error: serde_json::Error| WriteError::Failed(error.to_string());
    let holds = serde_json::to_string(&lease.holds).map_err(failed)?;
    let (lent, longest) = (&lease.account.lent, lease.longest_stream.as_millis());
    let sql =
        "INSERT OR IGNORE INTO leases VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
        ?16, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL)";
    db.prepare_cached(sql)?.execute(params![
        lease.id.request(0).0,
        lease.holder.proxy,
        lease.holder.worker,
        lease.tenant,
        lease.scope_set,
        lease.model,
        to_text(lease.cost.prices()),
        lease.served,
        int(lease.rate_tokens),
        int(lease.expires_ms),
        int(u64::try_from(longest).unwrap_or(u64::MAX)),
        holds,
        int(lent.tokens),
        int(lent.gpu_ms),
        int(lent.micro_usd),
        int(lent.requests),
    ])?;
    Ok(())
}

/// Writes where it stands, or that it is no more.
pub(super) fn update(db: &Connection, id: LeaseId, account: &Account) -> Result<(), WriteError> {
    let key = id.request(0).0;
    if account.is_over() {
        db.prepare_cached("DELETE FROM leases WHERE id = ?1")?.execute([key])?;
        return Ok(());
    }
    let (ended, charged, closed) = (&account.ended, &account.charged, account.closed);
    let sql = "UPDATE leases SET expired = ?2, ended_tokens = ?3, ended_gpu_ms = ?4, ended_micro_usd = ?5,
        ended_requests = ?6, charged_tokens = ?7, charged_gpu_ms = ?8, charged_micro_usd = ?9, charged_requests = ?10,
        closed_tokens = ?11, closed_gpu_ms = ?12, closed_micro_usd = ?13, closed_requests = ?14 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![
        key,
        account.expired,
        int(ended.tokens),
        int(ended.gpu_ms),
        int(ended.micro_usd),
        int(ended.requests),
        int(charged.tokens),
        int(charged.gpu_ms),
        int(charged.micro_usd),
        int(charged.requests),
        closed.map(|closed| int(closed.tokens)),
        closed.map(|closed| int(closed.gpu_ms)),
        closed.map(|closed| int(closed.micro_usd)),
        closed.map(|closed| int(closed.requests)),
    ])?;
    Ok(())
}

fn lease(row: &Row<'_>) -> rusqlite::Result<Lease> {
    let id: [u8; 16] = row.get(0)?;
    Ok(Lease {
        id: LeaseId::parse(&id).ok_or_else(|| unreadable(0, StoreError::Damaged("a lease's id".to_owned())))?,
        holder: Holder { proxy: row.get(2)?, worker: row.get(3)? },
        tenant: row.get(4)?,
        scope_set: row.get(5)?,
        model: row.get(6)?,
        cost: from_text(row.get_ref(7)?.as_str()?).map_err(|error| unreadable(7, error))?,
        served: row.get(8)?,
        rate_tokens: uint(row, 9)?,
        expires_ms: uint(row, 10)?,
        longest_stream: Duration::from_millis(uint(row, 11)?),
        holds: parse_holds(row.get_ref(12)?.as_str()?).map_err(|error| unreadable(12, error))?,
        account: Account {
            lent: cost(row, 13)?,
            ended: cost(row, 17)?,
            charged: cost(row, 21)?,
            closed: optional(row, 25)?.map(|_| cost(row, 25)).transpose()?,
            expired: row.get(1)?,
        },
        settled: BTreeSet::new(),
    })
}

/// The numbers of its requests that have their audit lines.
fn settled(db: &Connection, id: LeaseId) -> Result<BTreeSet<u32>, StoreError> {
    let sql = "SELECT grant_id FROM audit WHERE grant_id BETWEEN ?1 AND ?2";
    let mut statement = db.prepare_cached(sql)?;
    let ids = statement.query_map([id.request(1).0, id.request(u32::MAX).0], |row| row.get::<_, [u8; 16]>(0))?;
    ids.map(|id| Ok(id?.last_chunk().copied().map_or(0, u32::from_be_bytes))).collect()
}

/// Prices as a list of numbers in the order of their declaration: a lease's requests are priced as when it was lent.
fn to_text(prices: &Prices) -> String {
    let Prices {
        gpu_ms_per_1k_input,
        gpu_ms_per_1k_output,
        gpu_ms_fixed,
        gpu_weight_permille,
        micro_usd_per_1m_input,
        micro_usd_per_1m_cached_input,
        micro_usd_per_1m_output,
        micro_usd_fixed,
        min_bytes_per_token,
        mean_bytes_per_token,
        media_tokens,
    } = *prices;
    let gpu = [gpu_ms_per_1k_input, gpu_ms_per_1k_output, gpu_ms_fixed, gpu_weight_permille];
    let money = [micro_usd_per_1m_input, micro_usd_per_1m_cached_input, micro_usd_per_1m_output, micro_usd_fixed];
    let tokens = [min_bytes_per_token, mean_bytes_per_token];
    serde_json::json!([gpu, money, tokens, media_tokens]).to_string()
}

fn from_text(text: &str) -> Result<ModelCost, StoreError> {
    let damaged = |why: String| StoreError::Damaged(format!("a lease's prices: {why}"));
    type Parts = ([u64; 4], [u64; 4], [u64; 2], Option<u64>);
    let (gpu, money, tokens, media_tokens): Parts =
        serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let [gpu_ms_per_1k_input, gpu_ms_per_1k_output, gpu_ms_fixed, gpu_weight_permille] = gpu;
    let [micro_usd_per_1m_input, micro_usd_per_1m_cached_input, micro_usd_per_1m_output, micro_usd_fixed] = money;
    let [min_bytes_per_token, mean_bytes_per_token] = tokens;
    let prices = Prices {
        gpu_ms_per_1k_input,
        gpu_ms_per_1k_output,
        gpu_ms_fixed,
        gpu_weight_permille,
        micro_usd_per_1m_input,
        micro_usd_per_1m_cached_input,
        micro_usd_per_1m_output,
        micro_usd_fixed,
        min_bytes_per_token,
        mean_bytes_per_token,
        media_tokens,
    };
    ModelCost::new(prices).map_err(|error| damaged(error.to_string()))
}

fn unreadable(column: usize, error: StoreError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
