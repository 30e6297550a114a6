//! Reading audit lines and reports, on a connection of its own that cannot write. Blocking: never on an async worker.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, Row, params_from_iter};

use super::audit::{self, AuditLine};
use super::certificates::{self, AuthorityRow, CertificateRow};
use super::integer::{int, uint};
use super::open::StoreError;

/// A read-only connection; each call sees one consistent state.
#[derive(Debug)]
pub struct Reader {
    connection: Mutex<Connection>,
}

/// What a tenant did. The empty name stands for requests whose tenant was never decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantUsage {
    /// Requests granted.
    pub requests: u64,
    /// Requests refused, by code.
    pub denied: BTreeMap<String, u64>,
    /// Input tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// GPU-milliseconds charged.
    pub gpu_ms: u64,
    /// Millionths of a US dollar charged.
    pub micro_usd: u64,
}

/// Rows of one answer, at most.
const MOST_ROWS: u64 = 10_000;

impl Reader {
    /// Opens a state file that a [`super::Store`] has made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// Audit lines after `seq`, oldest first, at most `limit` (and 10,000).
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn audit_after(&self, seq: u64, limit: u64) -> Result<Vec<AuditLine>, StoreError> {
        let sql = format!("SELECT {} FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2", audit::COLUMNS);
        self.rows(&sql, [int(seq), int(limit.min(MOST_ROWS))], audit::line)
    }

    /// The last `n` audit lines (at most 10,000), oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn audit_last(&self, n: u64) -> Result<Vec<AuditLine>, StoreError> {
        let sql = format!("SELECT {} FROM audit ORDER BY seq DESC LIMIT ?1", audit::COLUMNS);
        let mut lines = self.rows(&sql, [int(n.min(MOST_ROWS))], audit::line)?;
        lines.reverse();
        Ok(lines)
    }

    /// What each tenant did since an instant, milliseconds since 1970.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn usage_by_tenant(&self, since_ms: u64) -> Result<BTreeMap<String, TenantUsage>, StoreError> {
        // SQLite's sum fails where it overflows, which one provider's absurd usage could reach: halves cannot.
        let halves = |column: &str| format!("ifnull(sum({column} >> 32), 0), ifnull(sum({column} & 4294967295), 0)");
        let sql = format!(
            "SELECT tenant, sum(CASE WHEN decision <> 'allow' THEN 0 WHEN credential = '{}' THEN charged_requests ELSE 1 END),
                {}, {}, {}, {} FROM audit WHERE at_ms >= ?1 AND decision IN ('allow', 'gap') GROUP BY tenant",
            audit::BY_PROXY,
            halves("input"),
            halves("output"),
            halves("charged_gpu_ms"),
            halves("charged_micro_usd"),
        );
        let granted = self.rows(&sql, [int(since_ms)], |row| {
            let usage = TenantUsage {
                requests: uint(row, 1)?,
                denied: BTreeMap::new(),
                input: whole(row, 2)?,
                output: whole(row, 4)?,
                gpu_ms: whole(row, 6)?,
                micro_usd: whole(row, 8)?,
            };
            Ok((row.get::<_, String>(0)?, usage))
        })?;
        let sql = "SELECT tenant, code, count(*) FROM audit
            WHERE at_ms >= ?1 AND decision IN ('deny', 'refused') GROUP BY tenant, code";
        let denied = self.rows(sql, [int(since_ms)], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, uint(row, 2)?))
        })?;
        let mut tenants: BTreeMap<String, TenantUsage> = granted.into_iter().collect();
        for (tenant, code, count) in denied {
            tenants.entry(tenant).or_default().denied.insert(code, count);
        }
        Ok(tenants)
    }

    /// Certificates that were issued or revoked here, of one tenant or of all; the newest 10,000.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn certificates(&self, tenant: Option<&str>) -> Result<Vec<CertificateRow>, StoreError> {
        certificates::list(&self.lock(), tenant)
    }

    /// A tenant's own CA.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn authority(&self, tenant: &str) -> Result<Option<AuthorityRow>, StoreError> {
        certificates::authority(&self.lock(), tenant)
    }

    fn rows<T>(
        &self,
        sql: &str,
        parameters: impl IntoIterator<Item = i64>,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.query_map(params_from_iter(parameters), read)?.collect::<Result<_, _>>()?)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two halves, upper first, as one number.
fn whole(row: &Row<'_>, first: usize) -> rusqlite::Result<u64> {
    let (upper, lower) = (uint(row, first)?, uint(row, first.saturating_add(1))?);
    Ok(upper.saturating_mul(1 << 32).saturating_add(lower))
}
