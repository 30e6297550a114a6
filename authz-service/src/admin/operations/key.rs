//! Keys: made and listed. A key that is answered works; one that could not be made whole is revoked again.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use gateway_core::name::{ModelName, TenantName};
use jiff::{SignedDuration, Timestamp};

use super::{Inner, Running, milliseconds, tenant_of};
use crate::admin::{AdminError, CreateKey, CreatedKey, KeyRow, KeyState, KeyText, Operator};
use crate::identity::api_key::{self, KeyRecord, NewKey};
use crate::registry::{EndpointKind, KeyTerms, Registry};
use crate::resource::{self, NewKeyError};
use crate::store::{self, Command};
use crate::vault::system_random;

impl<R: Running> Inner<R> {
    pub(super) async fn create_key(&self, by: Operator, asked: CreateKey) -> Result<CreatedKey, AdminError> {
        let _one = self.running.changes().lock().await;
        check(&self.running.registry(), &asked)?;
        // Whole seconds: people read the expiry.
        let now = Timestamp::from_second(self.running.time().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
        let out_of_time = |_| AdminError::Invalid("the key would expire after the end of time".into());
        let expires_at = now.checked_add(asked.ttl).map_err(out_of_time)?;
        let key = NewKey::generate(&mut system_random).map_err(|error| AdminError::Unavailable(error.to_string()))?;
        let document = document(&key.id, &asked, now, expires_at)?;
        let record = KeyRecord::first(&key.id, asked.tenant.clone(), key.hash.clone(), now);
        let detail = format!("expires {expires_at}");
        let audit = self.about(by, "key.create", asked.tenant.as_str(), &key.id, detail);
        self.write(vec![audit, Command::KeyCreate(row_of(&record))]).await?;
        let file = match self.publish(&key.id, document).await {
            Ok(file) => file,
            Err(error) => return Err(self.withdraw(by, &asked.tenant, &key.id, error).await),
        };
        self.running.keep_keys(vec![record]);
        let text = KeyText::new(key.text.expose().to_owned());
        Ok(CreatedKey { id: key.id, key: text, expires_at, file: file.display().to_string() })
    }

    pub(super) fn list_keys(&self, tenant: Option<&TenantName>) -> Result<Vec<KeyRow>, AdminError> {
        let (registry, now) = (self.running.registry(), self.running.time());
        if let Some(tenant) = tenant {
            tenant_of(&registry, tenant)?;
        }
        let records = self.running.keys();
        let without = records.keys().filter(|id| !registry.keys.contains_key(*id));
        let ids = registry.keys.keys().chain(without).map(String::as_str);
        let mut rows = self.rows(ids, now);
        rows.retain(|row| tenant.is_none_or(|tenant| row.tenant.as_deref() == Some(tenant.as_str())));
        rows.sort_by(|a, b| (&a.tenant, &a.id).cmp(&(&b.tenant, &b.id)));
        Ok(rows)
    }

    /// Keys as lists show them.
    pub(super) fn rows<'a>(&self, ids: impl IntoIterator<Item = &'a str>, now: Timestamp) -> Vec<KeyRow> {
        let (registry, records) = (self.running.registry(), self.running.keys());
        let children: HashMap<&str, &str> =
            records.values().filter_map(|record| Some((record.parent.as_deref()?, record.id.as_str()))).collect();
        let row = |id: &str| KeyRow {
            child: children.get(id).map(|child| (*child).to_owned()),
            last_used: self.running.last_used(id),
            ..row(id, registry.keys.get(id).map(AsRef::as_ref), records.get(id), now)
        };
        ids.into_iter().map(row).collect()
    }

    /// Writes the resource and puts it in force; leaves no file behind when that fails.
    pub(super) async fn publish(&self, id: &str, document: String) -> Result<PathBuf, AdminError> {
        let (directory, name) = (self.running.policies().to_owned(), id.to_owned());
        let file = blocking(move || resource::write_new(&directory, &name, &document)).await?.map_err(unspelled)?;
        if let Err(error) = self.load().await {
            remove(&file).await.map_err(|left| AdminError::Unavailable(format!("{error}, and {left}")))?;
            return Err(error);
        }
        Ok(file)
    }

    /// Revokes a key that nobody has seen, and says what became of it.
    async fn withdraw(&self, by: Operator, tenant: &TenantName, id: &str, why: AdminError) -> AdminError {
        let audit = self.about(by, "key.withdraw", tenant.as_str(), id, why.to_string());
        let revoke = Command::KeyRevoke { id: id.to_owned(), at_ms: milliseconds(self.running.time()) };
        match (self.write(vec![audit, revoke]).await, why) {
            (Ok(()), why @ AdminError::PoliciesRefused { .. }) => why,
            (Ok(()), why) => AdminError::Unavailable(format!("no key was made: {why}")),
            (Err(left), why) => AdminError::Unavailable(format!("{why}; the hash of key `{id}` is left over: {left}")),
        }
    }
}

/// That everything it names exists; a key may not name what its tenant does not have.
fn check(registry: &Registry, asked: &CreateKey) -> Result<(), AdminError> {
    let tenant = tenant_of(registry, &asked.tenant)?;
    for name in asked.models.iter().flatten() {
        let known = || registry.models.keys().map(ModelName::as_str);
        let model = registry.models.get(name).ok_or_else(|| AdminError::unknown("model", name.as_str(), known()))?;
        if !tenant.models.contains(&model.name) {
            return Err(AdminError::Invalid(format!("tenant `{}` has no model `{name}`", asked.tenant)));
        }
    }
    if SignedDuration::try_from(asked.ttl).map_or(true, |ttl| ttl > tenant.key_ages.key) {
        let most = tenant.key_ages.key.as_hours();
        return Err(AdminError::Invalid(format!("keys of tenant `{}` live at most {most}h", asked.tenant)));
    }
    for name in asked.endpoints.iter().flatten() {
        if EndpointKind::named(name).is_none() {
            return Err(AdminError::unknown("endpoint", name, EndpointKind::ALL.map(EndpointKind::name)));
        }
    }
    Ok(())
}

fn document(id: &str, asked: &CreateKey, created_at: Timestamp, expires_at: Timestamp) -> Result<String, AdminError> {
    let models: Option<Vec<String>> =
        asked.models.as_ref().map(|models| models.iter().map(ToString::to_string).collect());
    let key = resource::NewKey {
        id,
        namespace: asked.namespace.as_deref().unwrap_or(asked.tenant.as_str()),
        tenant: asked.tenant.as_str(),
        role: asked.role.as_deref(),
        models: models.as_deref(),
        endpoints: asked.endpoints.as_deref(),
        limits: &[],
        sources: asked.sources.as_deref(),
        created_at,
        expires_at,
    };
    resource::api_key_document(&key).map_err(unspelled)
}

pub(super) fn row_of(record: &KeyRecord) -> store::KeyRow {
    store::KeyRow {
        id: record.id.clone(),
        tenant: record.tenant.to_string(),
        hash: *record.hash.as_bytes(),
        created_ms: milliseconds(record.created_at),
        revoked_ms: record.revoked_at.map(milliseconds),
        parent: record.parent.clone(),
        chain: record.parent.as_ref().map(|_| (record.chain.id.clone(), milliseconds(record.chain.began_at))),
        ..store::KeyRow::default()
    }
}

/// One key as its resource and its record show it.
fn row(id: &str, terms: Option<&KeyTerms>, record: Option<&KeyRecord>, now: Timestamp) -> KeyRow {
    let expires_at = terms.map(|terms| record.map_or(terms.expires_at, |record| api_key::ends_at(record, terms)));
    let state = match (terms, record) {
        (_, Some(record)) if record.revoked_at.is_some() => KeyState::Revoked,
        (None, _) => KeyState::NoResource,
        (Some(_), None) => KeyState::NoHash,
        (Some(terms), Some(record)) if terms.tenant != record.tenant => KeyState::NoHash,
        (Some(_), Some(_)) if expires_at.is_some_and(|ended| now >= ended) => KeyState::Expired,
        (Some(_), Some(_)) => KeyState::Active,
    };
    let tenant = terms.map(|terms| &terms.tenant).or(record.map(|record| &record.tenant));
    let models = terms.and_then(|terms| terms.permits.models.as_ref());
    let endpoints = terms.and_then(|terms| terms.permits.endpoints.as_ref());
    KeyRow {
        id: id.to_owned(),
        tenant: tenant.map(ToString::to_string),
        state,
        models: models.map(|models| models.iter().map(ToString::to_string).collect()),
        endpoints: endpoints.map(|kinds| kinds.iter().map(|kind| kind.name().to_owned()).collect()),
        sources: terms
            .and_then(|terms| terms.sources.as_ref())
            .map(|list| list.iter().map(ToString::to_string).collect()),
        expires_at,
        parent: record.and_then(|record| record.parent.clone()),
        child: None,
        last_used: None,
    }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, AdminError> {
    let failed = |error| AdminError::Unavailable(format!("the operation ended early: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// Removes a resource that was just written.
pub(super) async fn remove(file: &Path) -> Result<(), AdminError> {
    let removed = file.to_owned();
    let said = |left| AdminError::Unavailable(format!("`{}` could not be removed: {left}", file.display()));
    blocking(move || fs::remove_file(removed)).await?.map_err(said)
}

pub(super) fn unspelled(error: NewKeyError) -> AdminError {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    AdminError::Unavailable(format!("{error}{source}"))
}
