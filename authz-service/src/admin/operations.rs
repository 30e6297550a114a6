//! The operations themselves, over the running service's store, ledger and resources.
//!
//! A change is audited and durable before it is answered, changes happen one at a time, and one that was begun is
//! carried to its end when the operator hangs up. What only tightens takes effect before it is durable.

mod key;
mod provider_key;
mod report;
mod service;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use gateway_core::name::TenantName;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::{AdminError, AuditPage, CreateKey, CreatedKey, KeyRow, Operations, Operator, Reloaded, Usage};
use crate::identity::api_key::KeyRecord;
use crate::ledger::Ledger;
use crate::registry::{Registry, Tenant};
use crate::resource::Problem;
use crate::store::{AuditRecord, Command, Decision, Reader, StoreError, VaultRow, WriteError};
use crate::vault::{Kek, Secret};

/// What the admin API reads and changes in the running service.
pub trait Running: Send + Sync + 'static {
    /// What is in force.
    fn registry(&self) -> Arc<Registry>;
    /// The directory that it was read from.
    fn policies(&self) -> &Path;
    /// Held by whoever changes keys, provider keys or resources.
    fn changing(&self) -> &Mutex<()>;
    /// Writes to the state file and waits until it is durable.
    fn write(&self, command: Command) -> impl Future<Output = Result<(), WriteError>> + Send;
    /// A connection to the state file that only reads. Blocking.
    ///
    /// # Errors
    /// [`StoreError`].
    fn reader(&self) -> Result<Reader, StoreError>;
    /// Budgets, rates, requests in flight.
    fn ledger(&self) -> &Ledger;
    /// What provider keys are sealed under.
    fn kek(&self) -> &Kek;
    /// What is kept of every API key.
    fn keys(&self) -> Vec<KeyRecord>;
    /// Decides by this record from now on. Called with [`Self::changing`] held, as all below.
    fn keep_key(&self, record: KeyRecord);
    /// Version of a tenant's key of a provider; 0: there is none.
    fn provider_key_version(&self, tenant: &TenantName, provider: &str) -> u64;
    /// Uses this provider key from now on.
    fn keep_provider_key(&self, row: VaultRow);
    /// Reads the directory again, keeps a good set in the state file and puts it in force; says whether it differs.
    fn reload(&self) -> impl Future<Output = Result<bool, Vec<Problem>>> + Send;
}

/// [`Operations`] over a running service.
#[derive(Debug)]
pub struct Administration<R>(Arc<R>);

impl<R: Running> Administration<R> {
    /// The operations on `running`.
    #[must_use]
    pub const fn new(running: Arc<R>) -> Self {
        Self(running)
    }
}

/// One operator's request to change something, under way.
struct Change<'a, R> {
    running: &'a R,
    by: Operator,
}

impl<R: Running> Operations for Administration<R> {
    async fn create_key(&self, by: Operator, asked: CreateKey) -> Result<CreatedKey, AdminError> {
        let running = Arc::clone(&self.0);
        to_its_end(async move { Change { running: &*running, by }.create_key(asked).await }).await
    }

    async fn revoke_key(&self, by: Operator, id: String) -> Result<KeyRow, AdminError> {
        let running = Arc::clone(&self.0);
        to_its_end(async move { Change { running: &*running, by }.revoke_key(id).await }).await
    }

    async fn list_keys(&self, tenant: Option<TenantName>) -> Result<Vec<KeyRow>, AdminError> {
        key::list(&*self.0, tenant.as_ref())
    }

    async fn put_provider_key(
        &self,
        by: Operator,
        tenant: TenantName,
        provider: String,
        secret: Secret,
    ) -> Result<(), AdminError> {
        let running = Arc::clone(&self.0);
        to_its_end(async move { Change { running: &*running, by }.put_provider_key(tenant, provider, secret).await })
            .await
    }

    async fn audit(&self, after: Option<u64>, limit: u32) -> Result<AuditPage, AdminError> {
        report::audit(Arc::clone(&self.0), after, limit).await
    }

    async fn usage(&self) -> Result<Usage, AdminError> {
        report::usage(Arc::clone(&self.0)).await
    }

    async fn reload(&self, by: Operator) -> Result<Reloaded, AdminError> {
        let running = Arc::clone(&self.0);
        to_its_end(async move { Change { running: &*running, by }.reload().await }).await
    }
}

impl<R: Running> Change<'_, R> {
    async fn reload(&self) -> Result<Reloaded, AdminError> {
        let _one = self.running.changing().lock().await;
        self.write(vec![self.audit("policies.reload", "", "", String::new())]).await?;
        let changed = self.load().await?;
        Ok(Reloaded { version: self.running.registry().version.clone(), changed })
    }

    async fn load(&self) -> Result<bool, AdminError> {
        self.running.reload().await.map_err(|problems| AdminError::PoliciesRefused {
            version: self.running.registry().version.clone(),
            problems: problems.iter().map(ToString::to_string).collect(),
        })
    }

    /// The audit record of this action, on a tenant or a key of it where there is one.
    fn audit(&self, code: &str, tenant: &str, key_id: &str, detail: String) -> Command {
        Command::AdminAudit(Box::new(AuditRecord {
            at_ms: milliseconds(Timestamp::now()),
            tenant: tenant.to_owned(),
            principal: format!("uid:{}", self.by.uid),
            key_id: key_id.to_owned(),
            policy_version: self.running.registry().version.clone(),
            decision: Decision::Admin,
            code: code.to_owned(),
            detail,
            ..AuditRecord::default()
        }))
    }

    async fn write(&self, commands: Vec<Command>) -> Result<(), AdminError> {
        self.running.write(Command::Batch(commands)).await.map_err(unwritten)
    }
}

/// Goes on when whoever waits for it does not.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, AdminError>> + Send + 'static,
) -> Result<T, AdminError> {
    let failed = |error| AdminError::Unavailable(format!("the operation ended early: {error}"));
    tokio::spawn(work).await.map_err(failed)?
}

fn tenant_of<'a>(registry: &'a Registry, name: &TenantName) -> Result<&'a Arc<Tenant>, AdminError> {
    let known = || registry.tenants.keys().map(TenantName::as_str);
    registry.tenants.get(name).ok_or_else(|| AdminError::unknown("tenant", name.as_str(), known()))
}

fn unwritten(error: WriteError) -> AdminError {
    match error {
        WriteError::Conflict(why) => AdminError::Conflict(why),
        other => AdminError::Unavailable(other.to_string()),
    }
}

/// Milliseconds since 1970.
fn milliseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}
