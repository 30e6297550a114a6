//! Certificates that were issued here or revoked here, and the tenants' own CAs, their keys sealed.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::WriteError;
use super::integer::{int, optional, uint};
use super::open::StoreError;

/// A certificate is shown, and what is left of it kept, this long after its end.
const KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// One write about certificates.
#[derive(Clone, Debug)]
pub enum CertificateCommand {
    /// A tenant's CA; a conflict unless its version is newer than what is there.
    Authority(AuthorityRow),
    /// A certificate that a tenant's CA issues.
    Issue(CertificateRow),
    /// A certificate of a tenant is never valid again, whoever issued it.
    Revoke {
        /// Whose.
        tenant: String,
        /// Its serial number.
        serial: String,
        /// When, milliseconds since 1970.
        at_ms: u64,
    },
}

/// A tenant's own CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityRow {
    /// Whose.
    pub tenant: String,
    /// The key-encryption key that its key is sealed under.
    pub key_id: String,
    /// Grows with each new CA.
    pub version: u64,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, sealed.
    pub sealed: Vec<u8>,
}

/// A certificate as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRow {
    /// Whose.
    pub tenant: String,
    /// Its serial number: lower-case hexadecimal digits.
    pub serial: String,
    /// Its SPIFFE id; empty where it was not issued here.
    pub spiffe_id: String,
    /// When it was issued, milliseconds since 1970.
    pub issued_ms: u64,
    /// When it ends; nothing is known of one that was not issued here.
    pub expires_ms: Option<u64>,
    /// Since when it is not valid any more.
    pub revoked_ms: Option<u64>,
}

/// The tables, and the step of the schema that makes them.
pub(super) const STEP: &str = "
CREATE TABLE authorities (
    tenant TEXT PRIMARY KEY,
    key_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    certificate TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE certificates (
    tenant TEXT NOT NULL,
    serial TEXT NOT NULL,
    spiffe_id TEXT NOT NULL,
    issued_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    revoked_ms INTEGER,
    PRIMARY KEY (tenant, serial)
) STRICT, WITHOUT ROWID;
";

/// Writes one command.
pub(super) fn apply(db: &Connection, command: &CertificateCommand) -> Result<(), WriteError> {
    match command {
        CertificateCommand::Authority(row) => put_authority(db, row),
        CertificateCommand::Issue(row) => {
            let sql = "INSERT OR IGNORE INTO certificates VALUES (?1, ?2, ?3, ?4, ?5, NULL)";
            let values = params![row.tenant, row.serial, row.spiffe_id, int(row.issued_ms), row.expires_ms.map(int)];
            let issued = db.prepare_cached(sql)?.execute(values)?;
            if issued == 1 { Ok(()) } else { Err(WriteError::Conflict(format!("certificate `{}` exists", row.serial))) }
        }
        CertificateCommand::Revoke { tenant, serial, at_ms } => {
            let sql = "INSERT INTO certificates VALUES (?1, ?2, '', ?3, NULL, ?3)
                ON CONFLICT DO UPDATE SET revoked_ms = min(?3, ifnull(revoked_ms, ?3))";
            db.prepare_cached(sql)?.execute(params![tenant, serial, int(*at_ms)])?;
            Ok(())
        }
    }
}

fn put_authority(db: &Connection, row: &AuthorityRow) -> Result<(), WriteError> {
    let sql = "INSERT INTO authorities VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET key_id = excluded.key_id,
        version = excluded.version, certificate = excluded.certificate, sealed = excluded.sealed
        WHERE excluded.version > version";
    let values = params![row.tenant, row.key_id, int(row.version), row.certificate, row.sealed];
    let put = db.prepare_cached(sql)?.execute(values)?;
    if put == 1 { Ok(()) } else { Err(WriteError::Conflict(format!("the CA of `{}` is newer", row.tenant))) }
}

/// Drops certificates that ended a week ago. Of those whose end is not known, nothing is dropped.
pub(super) fn prune(db: &Connection, now_ms: u64) -> Result<(), WriteError> {
    let before = int(now_ms.saturating_sub(KEPT_MS));
    db.prepare_cached("DELETE FROM certificates WHERE expires_ms < ?1")?.execute([before])?;
    Ok(())
}

/// Those of a tenant, or all, by tenant and time.
pub(super) fn list(db: &Connection, tenant: Option<&str>) -> Result<Vec<CertificateRow>, StoreError> {
    let sql = "SELECT tenant, serial, spiffe_id, issued_ms, expires_ms, revoked_ms FROM certificates
        WHERE ?1 IS NULL OR tenant = ?1 ORDER BY tenant, issued_ms DESC, serial LIMIT 10000";
    Ok(db.prepare_cached(sql)?.query_map([tenant], certificate)?.collect::<Result<_, _>>()?)
}

/// Those that are revoked.
pub(super) fn revoked(db: &Connection) -> Result<Vec<CertificateRow>, StoreError> {
    let sql = "SELECT tenant, serial, spiffe_id, issued_ms, expires_ms, revoked_ms FROM certificates
        WHERE revoked_ms IS NOT NULL";
    Ok(db.prepare(sql)?.query_map((), certificate)?.collect::<Result<_, _>>()?)
}

/// A tenant's CA.
pub(super) fn authority(db: &Connection, tenant: &str) -> Result<Option<AuthorityRow>, StoreError> {
    let sql = "SELECT tenant, key_id, version, certificate, sealed FROM authorities WHERE tenant = ?1";
    let read = |row: &Row<'_>| {
        let (tenant, key_id, version) = (row.get(0)?, row.get(1)?, uint(row, 2)?);
        Ok(AuthorityRow { tenant, key_id, version, certificate: row.get(3)?, sealed: row.get(4)? })
    };
    Ok(db.prepare_cached(sql)?.query_row([tenant], read).optional()?)
}

fn certificate(row: &Row<'_>) -> rusqlite::Result<CertificateRow> {
    Ok(CertificateRow {
        tenant: row.get(0)?,
        serial: row.get(1)?,
        spiffe_id: row.get(2)?,
        issued_ms: uint(row, 3)?,
        expires_ms: optional(row, 4)?,
        revoked_ms: optional(row, 5)?,
    })
}
