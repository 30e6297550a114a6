//! What the service starts from: the resources, and what the state file kept of keys and reservations. Changes nothing.

use gateway_core::name::TenantName;
use gateway_core::price::{ModelCost, Prices, PricesError, Terms};

use super::{OwnKey, lines};
use crate::cli::ServeOptions;
use crate::identity::api_key::{Chain, KeyHash, KeyRecord, Rotated};
use crate::identity::certificate::Serial;
use crate::ledger::{BadKey, Reservation};
use crate::registry::Registry;
use crate::resource::{self, BadSources, Loaded, Problem, Sources};
use crate::serve::mesh::MeshError;
use crate::serve::metrics::Metrics;
use crate::store::{CertificateRow, KeyRow, Restored, StoreError, VaultRow};
use crate::vault::KekError;

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The resources are too large to keep.
    #[error(transparent)]
    Sources(BadSources),
    /// What the state file holds.
    #[error(transparent)]
    Ledger(#[from] BadKey),
    /// The price of a reservation that a former version made.
    #[error(transparent)]
    Price(#[from] PricesError),
    /// The key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The mesh's CAs.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// The TLS library.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The resources, and there is no last good set.
    #[error("the policies are refused and there is no last good set:\n{}", lines(.0))]
    Policies(Vec<Problem>),
    /// The last good set no longer loads either.
    #[error("the policies are refused, and so is the last good set:\n{}", lines(.0))]
    LastGood(Vec<Problem>),
}

/// The resources to start with: those in the directory, else the last good set.
pub(super) fn first_set(options: &ServeOptions, restored: &Restored, metrics: &Metrics) -> Result<Loaded, StartError> {
    let loaded = resource::load(&options.policies);
    metrics.reloaded(loaded.is_ok());
    let problems = match loaded {
        Ok(loaded) => return Ok(loaded),
        Err(problems) => problems,
    };
    let Some(kept) = &restored.sources else { return Err(StartError::Policies(problems)) };
    tracing::error!(
        version = kept.version,
        problems = lines(&problems),
        "the policies are refused, the last good set is taken"
    );
    let sources = Sources::from_bytes(&kept.bytes)
        .map_err(|_| StoreError::Damaged("the last good set of resources cannot be read".to_owned()))?;
    resource::from_sources(&sources, &options.policies).map_err(StartError::LastGood)
}

/// The terms of a reservation from before the restart. Where its model is gone, whoever settles it pays what was
/// reserved.
pub(super) fn terms_of(registry: &Registry, reservation: &Reservation) -> Result<Terms, PricesError> {
    let reserved = reservation.reserved;
    let cost = match registry.models.get(reservation.model.as_str()) {
        Some(model) => model.cost.clone(),
        None => ModelCost::new(Prices {
            gpu_ms_per_1k_input: 0,
            gpu_ms_per_1k_output: 0,
            gpu_ms_fixed: reserved.gpu_ms,
            gpu_weight_permille: 1000,
            micro_usd_per_1m_input: 0,
            micro_usd_per_1m_cached_input: 0,
            micro_usd_per_1m_output: 0,
            micro_usd_fixed: reserved.micro_usd,
            min_bytes_per_token: 1,
            mean_bytes_per_token: 1,
            media_tokens: None,
        })?,
    };
    Ok(Terms { cost, reserved, input_estimate: reservation.input_estimate })
}

pub(super) fn key_record(row: &KeyRow) -> Option<(String, KeyRecord)> {
    let at = |ms: u64| i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    // What ended a key at a time that no clock shows has ended it.
    let ended = |ms: u64| at(ms).unwrap_or(jiff::Timestamp::MIN);
    let (tenant, hash) = (TenantName::parse(&row.tenant).ok()?, KeyHash::from_bytes(row.hash));
    let mut record = KeyRecord::first(&row.id, tenant, hash, at(row.created_ms)?);
    if let Some((id, began_ms)) = &row.chain {
        record.chain = Chain { id: id.clone(), began_at: ended(*began_ms) };
    }
    record.parent.clone_from(&row.parent);
    record.revoked_at = row.revoked_ms.map(ended);
    record.rotated = row.rotated.map(|(at_ms, until_ms)| Rotated { at: ended(at_ms), until: ended(until_ms) });
    Some((row.id.clone(), record))
}

pub(super) fn revoked(row: &CertificateRow) -> Option<(TenantName, Serial)> {
    Some((TenantName::parse(&row.tenant).ok()?, Serial::parse(&row.serial)?))
}

pub(super) fn own_key(row: VaultRow) -> Option<((TenantName, String), OwnKey)> {
    let tenant = TenantName::parse(&row.tenant).ok()?;
    Some(((tenant, row.provider), OwnKey { key_id: row.key_id, version: row.version, sealed: row.sealed }))
}
