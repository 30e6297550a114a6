//! What the store keeps of a key: its hash, its place in a chain of rotations, and what ended it.

use gateway_core::name::TenantName;
use jiff::Timestamp;

use super::KeyHash;

/// What the store keeps of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Key id.
    pub id: String,
    /// Whose.
    pub tenant: TenantName,
    /// Of its text.
    pub hash: KeyHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked; never undone.
    pub revoked_at: Option<Timestamp>,
    /// The key that it took over from; none where an operator made it.
    pub parent: Option<String>,
    /// The chain of rotations that it is of.
    pub chain: Chain,
    /// Its one rotation; never undone.
    pub rotated: Option<Rotated>,
}

/// A chain of keys, each made by rotation of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Id of the first: limits count by it, so that a rotation brings no new budget.
    pub id: String,
    /// When that one was made.
    pub began_at: Timestamp,
}

/// What a rotation did to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// When.
    pub at: Timestamp,
    /// Not valid from this instant on: the end of the overlap.
    pub until: Timestamp,
}

impl KeyRecord {
    /// The record of a key that an operator made: the first of a chain.
    #[must_use]
    pub fn first(id: &str, tenant: TenantName, hash: KeyHash, created_at: Timestamp) -> Self {
        let chain = Chain { id: id.to_owned(), began_at: created_at };
        Self { id: id.to_owned(), tenant, hash, created_at, revoked_at: None, parent: None, chain, rotated: None }
    }

    /// The record of the key that takes over from this one: of the same tenant and the same chain.
    #[must_use]
    pub fn next(&self, id: &str, hash: KeyHash, created_at: Timestamp) -> Self {
        let (tenant, chain, parent) = (self.tenant.clone(), self.chain.clone(), Some(self.id.clone()));
        Self { parent, chain, ..Self::first(id, tenant, hash, created_at) }
    }

    /// Takes over what ended the key meanwhile: what was revoked stays revoked, what was rotated stays rotated.
    pub fn keep_ended(&mut self, known: &Self) {
        self.revoked_at = match (self.revoked_at, known.revoked_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.rotated = known.rotated.clone().or(self.rotated.take());
    }
}
