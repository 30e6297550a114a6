//! A key's rotation by its own holder: another key takes over, with the same terms and never more, and the first ends
//! with the overlap.
//!
//! The new key's resource is written first: without a hash it opens nothing. One transaction then makes the hash, marks
//! the first key as rotated and writes the audit line. Whatever breaks off before it leaves no new key, and the first one
//! as it was.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::name::TenantName;
use jiff::{SignedDuration, Timestamp};

use super::key::{remove, row_of, unspelled};
use super::{Inner, Running, milliseconds};
use crate::admin::{AdminError, KeyText};
use crate::identity::api_key::{self, KeyRecord, NewKey, Rotated};
use crate::identity::{CredentialKind, KEY_PRINCIPAL};
use crate::registry::{EndpointKind, KeyTerms};
use crate::resource;
use crate::store::{AuditRecord, Command, Decision};
use crate::vault::system_random;

/// A chain that ends sooner than this is not gone on with.
const LEAST: SignedDuration = SignedDuration::from_secs(60);
/// Keys that one chain may get within [`WITHIN`]: each is a file.
const MOST: usize = 12;
const WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// What the holder of a key asks for.
#[derive(Clone, Debug)]
pub struct RotateKey {
    /// Its key.
    pub key_id: String,
    /// Whose that is.
    pub tenant: TenantName,
    /// How long both are good.
    pub overlap: Duration,
    /// Of the request, for the audit line.
    pub request_id: String,
}

/// The key that takes over: the one place where it is ever shown.
#[derive(Clone, Debug)]
pub struct RotatedKey {
    /// Its id.
    pub id: String,
    /// The key itself.
    pub key: KeyText,
    /// Not valid from this instant on.
    pub expires_at: Timestamp,
    /// The key that it takes over from.
    pub parent: String,
    /// That one is not valid from this instant on.
    pub overlap_until: Timestamp,
}

/// Why no key takes over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// The key is not good any more.
    #[error("the key is not in force: {0}")]
    NotInForce(&'static str),
    /// It was rotated before.
    #[error("the key was rotated before")]
    RotatedBefore,
    /// Its chain is at its greatest age.
    #[error("the chain of the key ends within a minute")]
    ChainEnds,
    /// Its chain got too many keys of late.
    #[error("the chain of the key got {MOST} keys within an hour")]
    TooOften(Duration),
    /// Nothing was changed.
    #[error(transparent)]
    Failed(#[from] AdminError),
}

/// Rotates a key; once it was begun it is carried to its end, whether or not its holder waits.
///
/// # Errors
/// [`RotateError`]: there is no new key then, and the old one is as it was.
pub async fn rotate_key<R: Running>(
    running: Arc<R>,
    asked: RotateKey,
    now: Timestamp,
) -> Result<RotatedKey, RotateError> {
    let inner = Inner { running };
    let work = tokio::spawn(async move { inner.rotate_key(&asked, now).await });
    work.await.map_err(|error| AdminError::Unavailable(format!("the operation ended early: {error}")))?
}

impl<R: Running> Inner<R> {
    async fn rotate_key(&self, asked: &RotateKey, now: Timestamp) -> Result<RotatedKey, RotateError> {
        let _one = self.running.changes().lock().await;
        let (registry, records) = (self.running.registry(), self.running.keys());
        let parent = records.get(&asked.key_id).ok_or(RotateError::NotInForce("unknown"))?;
        let terms = registry.keys.get(&asked.key_id).map(AsRef::as_ref);
        let terms = api_key::in_force(parent, terms, now).map_err(|error| RotateError::NotInForce(error.reason()))?;
        if parent.tenant != asked.tenant {
            return Err(RotateError::NotInForce("api key: another tenant's"));
        }
        if parent.rotated.is_some() {
            return Err(RotateError::RotatedBefore);
        }
        if let Some(wait) = too_often(records.values().filter(|one| one.chain.id == parent.chain.id), now) {
            return Err(RotateError::TooOften(wait));
        }
        let (created_at, expires_at) = span(parent, terms, now).ok_or(RotateError::ChainEnds)?;
        let overlap = SignedDuration::try_from(asked.overlap).unwrap_or_default();
        let until = created_at.checked_add(overlap).unwrap_or(Timestamp::MAX).min(api_key::ends_at(parent, terms));
        let made = NewKey::generate(&mut system_random).map_err(|error| AdminError::Unavailable(error.to_string()))?;
        let child = parent.next(&made.id, made.hash, created_at);
        let file = self.publish(&child.id, document(&child.id, terms, created_at, expires_at)?).await?;
        let audit = self.rotated(asked, &child, expires_at, until);
        let rotate = Command::KeyRotate {
            child: row_of(&child),
            at_ms: milliseconds(created_at),
            until_ms: milliseconds(until),
        };
        if let Err(error) = self.write(vec![audit, rotate]).await {
            self.take_back(&file).await;
            return Err(match error {
                AdminError::Conflict(_) => RotateError::RotatedBefore,
                error => error.into(),
            });
        }
        let rotated = Some(Rotated { at: created_at, until });
        let parent = KeyRecord { rotated, ..parent.clone() };
        let (id, parent_id) = (child.id.clone(), parent.id.clone());
        self.running.keep_keys(vec![child, parent]);
        let key = KeyText::new(made.text.expose().to_owned());
        Ok(RotatedKey { id, key, expires_at, parent: parent_id, overlap_until: until })
    }

    /// The resource of a key that was not made. Left over it opens nothing, and is listed without a hash.
    async fn take_back(&self, file: &std::path::Path) {
        let taken = remove(file).await;
        if let Err(error) = taken.and(self.load().await) {
            tracing::error!(%error, "the resource of a key that was not made is left over");
        }
    }

    fn rotated(&self, asked: &RotateKey, child: &KeyRecord, expires_at: Timestamp, until: Timestamp) -> Command {
        Command::AdminAudit(Box::new(AuditRecord {
            at_ms: milliseconds(child.created_at),
            request_id: asked.request_id.clone(),
            tenant: asked.tenant.to_string(),
            principal: format!("{KEY_PRINCIPAL}{}", child.chain.id),
            key_id: asked.key_id.clone(),
            credential: CredentialKind::ApiKey.as_str().to_owned(),
            policy_version: self.running.registry().version.clone(),
            decision: Decision::Admin,
            code: "key.rotate".to_owned(),
            detail: format!("key {} expires {expires_at}, key {} ends {until}", child.id, asked.key_id),
            ..AuditRecord::default()
        }))
    }
}

/// How long until the chain may get another key, if it got too many of late. One that an operator made counts too.
fn too_often<'a>(chain: impl Iterator<Item = &'a KeyRecord>, now: Timestamp) -> Option<Duration> {
    let mut made: Vec<Timestamp> = chain.map(|record| record.created_at).collect();
    made.sort_unstable_by(|a, b| b.cmp(a));
    let free_at = made.get(MOST.saturating_sub(1))?.checked_add(WITHIN).ok()?;
    Duration::try_from(free_at.duration_since(now)).ok().filter(|wait| !wait.is_zero())
}

/// From when to when a key lives that takes over from this one: as long as that did, and no longer than its tenant and
/// its chain allow. Whole seconds: people read the expiry.
fn span(parent: &KeyRecord, terms: &KeyTerms, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let created_at = Timestamp::from_second(now.as_second()).ok()?;
    let lifetime = terms.written.lifetime.min(terms.ages.key).min(api_key::MAX_AGE);
    let chain_ends = parent.chain.began_at.checked_add(terms.ages.chain).unwrap_or(Timestamp::MAX);
    if chain_ends.duration_since(created_at) < LEAST {
        return None;
    }
    Some((created_at, created_at.checked_add(lifetime).unwrap_or(Timestamp::MAX).min(chain_ends)))
}

/// The same resource again, for another id and another time.
fn document(id: &str, terms: &KeyTerms, created_at: Timestamp, expires_at: Timestamp) -> Result<String, AdminError> {
    let written = &terms.written;
    let models: Option<Vec<String>> =
        written.models.as_ref().map(|models| models.iter().map(ToString::to_string).collect());
    let endpoints: Option<Vec<String>> = written
        .endpoints
        .as_ref()
        .map(|kinds| kinds.iter().copied().map(EndpointKind::name).map(str::to_owned).collect());
    let sources: Option<Vec<String>> =
        terms.sources.as_ref().map(|sources| sources.iter().map(ToString::to_string).collect());
    let key = resource::NewKey {
        id,
        namespace: &written.namespace,
        tenant: terms.tenant.as_str(),
        role: written.role.as_deref(),
        models: models.as_deref(),
        endpoints: endpoints.as_deref(),
        limits: &terms.limits,
        sources: sources.as_deref(),
        created_at,
        expires_at,
    };
    resource::api_key_document(&key).map_err(unspelled)
}

#[cfg(test)]
mod tests;
