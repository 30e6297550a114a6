//! What operators wrote of API keys, compiled.

use std::collections::BTreeSet;

use gateway_core::name::{ModelName, TenantName};
use jiff::SignedDuration;

use super::{EndpointKind, Limit, Permits};
use crate::identity::discovery::Network;

/// What an `ApiKey` resource says; the hash is in the store.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyTerms {
    /// Key id.
    pub id: String,
    /// Whose.
    pub tenant: TenantName,
    /// Narrowed by role and by its own lists.
    pub permits: Permits,
    /// Limits of its own, beside the plan's.
    pub limits: Vec<Limit>,
    /// Where it may be used from; `None` is anywhere.
    pub sources: Option<Vec<Network>>,
    /// Not valid from this instant on.
    pub expires_at: jiff::Timestamp,
    /// How old it may get, whatever else it says: its tenant's policy.
    pub ages: KeyAges,
    /// As it stands in the file, for the key that follows it.
    pub written: WrittenKey,
}

/// How old API keys of a tenant may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyAges {
    /// One key, from when it was made: 24 to 72 hours.
    pub key: SignedDuration,
    /// A chain of keys, each made by rotation of the one before, from when the first was made.
    pub chain: SignedDuration,
}

impl Default for KeyAges {
    fn default() -> Self {
        Self { key: SignedDuration::from_hours(72), chain: SignedDuration::from_hours(30 * 24) }
    }
}

/// What a key's resource says in its own words, before role and tenant narrow it. Absent: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenKey {
    /// `metadata.namespace`.
    pub namespace: String,
    /// A role, instead of the tenant's.
    pub role: Option<String>,
    /// Canonical names of models.
    pub models: Option<BTreeSet<ModelName>>,
    /// Endpoints.
    pub endpoints: Option<BTreeSet<EndpointKind>>,
    /// From `createdAt` to `expiresAt`.
    pub lifetime: SignedDuration,
}
