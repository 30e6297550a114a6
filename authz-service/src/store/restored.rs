//! What a start needs from the state file.

use std::time::Duration;

use gateway_core::gate::Cost;
use gateway_core::name::TenantName;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::apply::jobs;
use super::certificates::{self, CertificateRow};
use super::command::{JobRow, KeyRow, SigningKeyRow, VaultRow};
use super::integer::{optional, uint};
use super::leases;
use super::open::StoreError;
use crate::ledger::{GrantId, Hold, Lease, Reservation, ReservationState, WindowTotal};
use crate::sightings::Sighting;

/// Everything that survives a restart, as it stood at the last commit.
#[derive(Debug)]
pub struct Restored {
    /// Σ settled per budget window, and the rates' debts.
    pub windows: Vec<WindowTotal>,
    /// Reservations whose settlement is not durable.
    pub outstanding: Vec<Reservation>,
    /// Leases of which something is still to come.
    pub leases: Vec<Lease>,
    /// API keys, revoked ones too.
    pub keys: Vec<KeyRow>,
    /// The tenants' sealed provider keys.
    pub vault: Vec<VaultRow>,
    /// From where principals have been let through.
    pub sightings: Vec<Sighting>,
    /// Clients' certificates that operators revoked.
    pub revoked: Vec<CertificateRow>,
    /// Long jobs.
    pub jobs: Vec<JobRow>,
    /// The keys that the service signs its own tokens with, sealed.
    pub signing_keys: Vec<SigningKeyRow>,
    /// The last good set of resources.
    pub sources: Option<Sources>,
    /// Secret of this file, for the MAC of grants.
    pub salt: Salt,
    /// How often the file has been opened.
    pub epoch: u64,
}

/// A set of resources as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Its version.
    pub version: String,
    /// The set.
    pub bytes: Vec<u8>,
}

/// 32 random bytes made with the file; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl Salt {
    /// The bytes, to make a MAC key of.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// Reads everything and counts the opening.
pub(super) fn read(connection: &Connection) -> Result<Restored, StoreError> {
    let epoch = u64::from_be_bytes(meta(connection, "epoch")?).saturating_add(1);
    connection.execute("UPDATE meta SET value = ?1 WHERE name = 'epoch'", [&epoch.to_be_bytes()[..]])?;
    Ok(Restored {
        windows: rows(connection, "SELECT key, start_ms, end_ms, settled FROM windows", |row| {
            Ok(WindowTotal { key: row.get(0)?, start_ms: uint(row, 1)?, end_ms: uint(row, 2)?, settled: uint(row, 3)? })
        })?,
        outstanding: outstanding(connection)?,
        leases: leases::read_all(connection)?,
        keys: keys(connection)?,
        vault: rows(connection, "SELECT tenant, provider, key_id, version, sealed FROM vault", |row| {
            let (tenant, provider, key_id) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(VaultRow { tenant, provider, key_id, version: uint(row, 3)?, sealed: row.get(4)? })
        })?,
        sightings: sightings(connection)?,
        revoked: certificates::revoked(connection)?,
        jobs: jobs::read_all(connection)?,
        signing_keys: rows(connection, "SELECT id, signs_from_ms, withdrawn_ms, sealed FROM signing_keys", |row| {
            let (id, sealed) = (row.get(0)?, row.get(3)?);
            Ok(SigningKeyRow { id, signs_from_ms: uint(row, 1)?, withdrawn_ms: optional(row, 2)?, sealed })
        })?,
        sources: connection
            .query_row("SELECT version, bytes FROM sources", (), |row| {
                Ok(Sources { version: row.get(0)?, bytes: row.get(1)? })
            })
            .optional()?,
        salt: Salt(meta(connection, "salt")?),
        epoch,
    })
}

/// A row that cannot be read is a network that is not known.
fn sightings(connection: &Connection) -> Result<Vec<Sighting>, StoreError> {
    let kept = rows(connection, "SELECT tenant, principal, network, first_s, last_s FROM sightings", |row| {
        let (tenant, network): (String, String) = (row.get(0)?, row.get(2)?);
        let (tenant, network) = (TenantName::parse(&tenant).ok(), network.parse().ok());
        let (principal, first_s, last_s) = (row.get(1)?, row.get(3)?, row.get(4)?);
        let whole = tenant.zip(network);
        Ok(whole.map(|(tenant, network)| Sighting { tenant, principal, network, first_s, last_s }))
    })?;
    Ok(kept.into_iter().flatten().collect())
}

fn keys(connection: &Connection) -> Result<Vec<KeyRow>, StoreError> {
    let sql = "SELECT id, tenant, hash, created_ms, revoked_ms, parent, chain, chain_ms, rotated_ms, until_ms, used_ms
        FROM keys WHERE hash <> x''";
    rows(connection, sql, |row| {
        Ok(KeyRow {
            id: row.get(0)?,
            tenant: row.get(1)?,
            hash: row.get(2)?,
            created_ms: uint(row, 3)?,
            revoked_ms: optional(row, 4)?,
            parent: row.get(5)?,
            chain: row.get::<_, Option<String>>(6)?.zip(optional(row, 7)?),
            rotated: optional(row, 8)?.zip(optional(row, 9)?),
            used_ms: optional(row, 10)?,
        })
    })
}

fn outstanding(connection: &Connection) -> Result<Vec<Reservation>, StoreError> {
    let sql = "SELECT grant_id, state, proxy, model, created_ms, longest_stream_ms, input_estimate, holds,
        reserved_tokens, reserved_gpu_ms, reserved_micro_usd, reserved_requests,
        charged_tokens, charged_gpu_ms, charged_micro_usd, charged_requests FROM reservations ORDER BY created_ms";
    let kept = rows(connection, sql, |row| {
        let holds: String = row.get(7)?;
        let reservation = Reservation {
            id: GrantId(row.get(0)?),
            state: match row.get_ref(1)?.as_str()? {
                "undone" => ReservationState::Undone,
                "expired" => ReservationState::Expired,
                _ => ReservationState::Open,
            },
            proxy: row.get(2)?,
            model: row.get(3)?,
            created_ms: uint(row, 4)?,
            longest_stream: Duration::from_millis(uint(row, 5)?),
            input_estimate: uint(row, 6)?,
            reserved: cost(row, 8)?,
            charged: cost(row, 12)?,
            holds: Vec::new(),
        };
        Ok((reservation, holds))
    })?;
    kept.into_iter()
        .map(|(reservation, holds)| Ok(Reservation { holds: parse_holds(&holds)?, ..reservation }))
        .collect()
}

/// The holds of a reservation as they are stored.
pub(super) fn parse_holds(text: &str) -> Result<Vec<Hold>, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged(format!("a reservation's holds: {error}")))
}

/// Four columns from `first` on.
pub(super) fn cost(row: &Row<'_>, first: usize) -> rusqlite::Result<Cost> {
    let part = |offset: usize| uint(row, first.saturating_add(offset));
    Ok(Cost { tokens: part(0)?, gpu_ms: part(1)?, micro_usd: part(2)?, requests: part(3)? })
}

fn meta<const N: usize>(connection: &Connection, name: &str) -> Result<[u8; N], StoreError> {
    let value: Option<Vec<u8>> =
        connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()?;
    let value = value.and_then(|value| value.try_into().ok());
    value.ok_or_else(|| StoreError::Damaged(format!("`{name}` is missing")))
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    Ok(connection.prepare(sql)?.query_map((), read)?.collect::<Result<_, _>>()?)
}
