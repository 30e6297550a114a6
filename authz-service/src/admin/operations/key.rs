//! Keys: made, revoked, listed. A key that is answered works; one that could not be made whole is revoked again.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use gateway_core::name::{ModelName, TenantName};
use jiff::Timestamp;

use super::{Inner, Running, milliseconds, tenant_of};
use crate::admin::{AdminError, CreateKey, CreatedKey, KeyRow, KeyState, KeyText, Operator};
use crate::identity::api_key::{KeyRecord, NewKey};
use crate::registry::{EndpointKind, KeyTerms, Registry};
use crate::resource::{self, NewKeyError};
use crate::store::{self, Command};
use crate::vault::system_random;

impl<R: Running> Inner<R> {
    pub(super) async fn create_key(&self, by: Operator, asked: CreateKey) -> Result<CreatedKey, AdminError> {
        let _one = self.changes.lock().await;
        check(&self.running.registry(), &asked)?;
        // Whole seconds: people read the expiry.
        let now = Timestamp::from_second(self.running.time().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
        let out_of_time = |_| AdminError::Invalid("the key would expire after the end of time".into());
        let expires_at = now.checked_add(asked.ttl).map_err(out_of_time)?;
        let key = NewKey::generate(&mut system_random).map_err(|error| AdminError::Unavailable(error.to_string()))?;
        let document = document(&key.id, &asked, now, expires_at)?;
        let record = KeyRecord {
            id: key.id.clone(),
            tenant: asked.tenant.clone(),
            hash: key.hash.clone(),
            created_at: now,
            revoked_at: None,
        };
        let detail = format!("expires {expires_at}");
        let audit = self.about(by, "key.create", asked.tenant.as_str(), &key.id, detail);
        self.write(vec![audit, Command::KeyCreate(row_of(&record))]).await?;
        let file = match self.publish(&key.id, document).await {
            Ok(file) => file,
            Err(error) => return Err(self.withdraw(by, &asked.tenant, &key.id, error).await),
        };
        self.running.keep_key(record);
        let text = KeyText::new(key.text.expose().to_owned());
        Ok(CreatedKey { id: key.id, key: text, expires_at, file: file.display().to_string() })
    }

    pub(super) async fn revoke_key(&self, by: Operator, id: String) -> Result<KeyRow, AdminError> {
        let _one = self.changes.lock().await;
        let (registry, now) = (self.running.registry(), self.running.time());
        let record = self.running.keys().into_iter().find(|record| record.id == id);
        let terms = registry.keys.get(&id);
        if record.is_none() && terms.is_none() {
            let kept = self.running.keys();
            let known = registry.keys.keys().map(String::as_str).chain(kept.iter().map(|record| record.id.as_str()));
            return Err(AdminError::unknown("key", &id, known));
        }
        let record = record.map(|record| KeyRecord { revoked_at: record.revoked_at.or(Some(now)), ..record });
        let row = KeyRow { state: KeyState::Revoked, ..row(&id, terms.map(|terms| &**terms), record.as_ref(), now) };
        // Tightening waits for nothing.
        if let Some(record) = record {
            self.running.keep_key(record);
        }
        let audit = self.about(by, "key.revoke", row.tenant.as_deref().unwrap_or_default(), &id, String::new());
        let revoke = Command::KeyRevoke { id, at_ms: milliseconds(now) };
        self.write(vec![audit, revoke]).await.map_err(|error| {
            let until = "the key is refused until this service restarts, but that is not on the disk: revoke it again";
            AdminError::Unavailable(format!("{until} ({error})"))
        })?;
        Ok(row)
    }

    pub(super) fn list_keys(&self, tenant: Option<&TenantName>) -> Result<Vec<KeyRow>, AdminError> {
        let (registry, now) = (self.running.registry(), self.running.time());
        if let Some(tenant) = tenant {
            tenant_of(&registry, tenant)?;
        }
        let records: BTreeMap<String, KeyRecord> =
            self.running.keys().into_iter().map(|record| (record.id.clone(), record)).collect();
        let with_terms = registry.keys.iter().map(|(id, terms)| row(id, Some(terms), records.get(id), now));
        let without = records.iter().filter(|(id, _)| !registry.keys.contains_key(*id));
        let mut rows: Vec<KeyRow> =
            with_terms.chain(without.map(|(id, record)| row(id, None, Some(record), now))).collect();
        rows.retain(|row| tenant.is_none_or(|tenant| row.tenant.as_deref() == Some(tenant.as_str())));
        rows.sort_by(|a, b| (&a.tenant, &a.id).cmp(&(&b.tenant, &b.id)));
        Ok(rows)
    }

    /// Writes the resource and puts it in force; leaves no file behind when that fails.
    async fn publish(&self, id: &str, document: String) -> Result<PathBuf, AdminError> {
        let (directory, name) = (self.running.policies().to_owned(), id.to_owned());
        let file = blocking(move || resource::write_new(&directory, &name, &document)).await?.map_err(unspelled)?;
        if let Err(error) = self.load().await {
            let removed = file.clone();
            blocking(move || fs::remove_file(removed)).await?.map_err(|left| {
                AdminError::Unavailable(format!("{error}, and `{}` could not be removed: {left}", file.display()))
            })?;
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
        created_at,
        expires_at,
    };
    resource::api_key_document(&key).map_err(unspelled)
}

fn row_of(record: &KeyRecord) -> store::KeyRow {
    store::KeyRow {
        id: record.id.clone(),
        tenant: record.tenant.to_string(),
        hash: *record.hash.as_bytes(),
        created_ms: milliseconds(record.created_at),
        revoked_ms: record.revoked_at.map(milliseconds),
    }
}

/// One key as lists show it.
fn row(id: &str, terms: Option<&KeyTerms>, record: Option<&KeyRecord>, now: Timestamp) -> KeyRow {
    let state = match (terms, record) {
        (_, Some(record)) if record.revoked_at.is_some() => KeyState::Revoked,
        (None, _) => KeyState::NoResource,
        (Some(_), None) => KeyState::NoHash,
        (Some(terms), Some(record)) if terms.tenant != record.tenant => KeyState::NoHash,
        (Some(terms), Some(_)) if now >= terms.expires_at => KeyState::Expired,
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
        expires_at: terms.map(|terms| terms.expires_at),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, AdminError> {
    let failed = |error| AdminError::Unavailable(format!("the operation ended early: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

fn unspelled(error: NewKeyError) -> AdminError {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    AdminError::Unavailable(format!("{error}{source}"))
}
