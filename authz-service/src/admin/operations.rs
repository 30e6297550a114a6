//! The operations themselves, over the running service's store, ledger and resources.
//!
//! A change is audited and durable before it is answered, changes happen one at a time, and one that was begun is
//! carried to its end when the operator hangs up. What only tightens takes effect before it is durable.

mod certificate;
mod job;
mod key;
mod key_revocation;
mod key_rotation;
mod provider_key;
mod report;
mod signing_key;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use gateway_core::name::TenantName;
use jiff::Timestamp;
use tokio::sync::Mutex;

pub use self::key_rotation::{RotateError, RotateKey, RotatedKey, rotate_key};
use super::{
    AdminError, AuditPage, AuthorityMade, CertificateIssued, CreateKey, CreatedKey, IssueCertificate, IssuedRow,
    JobRow, KeyRow, NewSigningKey, Operations, Operator, Reloaded, Usage,
};
use crate::identity::api_key::{KeyRecord, Keys};
use crate::identity::certificate::Serial;
use crate::identity::job::JobRecord;
use crate::ledger::Ledger;
use crate::registry::{Registry, Tenant};
use crate::resource::Problem;
use crate::serve::{NewSigningKeyError, Rotation};
use crate::store::{AuditRecord, Command, Decision, Reader, Store, VaultRow, WriteError};
use crate::vault::{Kek, Secret};

/// What the admin API reads and changes in the running service.
pub trait Running: Send + Sync + 'static {
    /// What is in force.
    fn registry(&self) -> Arc<Registry>;
    /// The directory that it was read from.
    fn policies(&self) -> &Path;
    /// The state file.
    fn store(&self) -> &Store;
    /// The state file, for reports.
    fn reader(&self) -> Arc<Reader>;
    /// Budgets, rates, requests in flight.
    fn ledger(&self) -> &Ledger;
    /// What provider keys are sealed under.
    fn kek(&self) -> &Kek;
    /// What is kept of every API key, by id.
    fn keys(&self) -> Arc<Keys>;
    /// Decides by these records from now on; what ended a key meanwhile stays.
    fn keep_keys(&self, records: Vec<KeyRecord>);
    /// When a key was last used, if it ever was.
    fn last_used(&self, id: &str) -> Option<Timestamp>;
    /// Held by whoever changes something.
    fn changes(&self) -> &Mutex<()>;
    /// Version of a tenant's key of a provider; 0: there is none.
    fn provider_key_version(&self, tenant: &TenantName, provider: &str) -> u64;
    /// Uses this provider key from now on.
    fn keep_provider_key(&self, row: VaultRow);
    /// Refuses this certificate from now on.
    fn revoke_certificate(&self, tenant: &TenantName, serial: &Serial);
    /// Every long job that is known.
    fn jobs(&self) -> Vec<JobRecord>;
    /// Ends a job, `with` in the same commit; `None`: there is none.
    fn end_job(
        &self,
        id: &str,
        with: Vec<Command>,
    ) -> impl Future<Output = Result<Option<JobRecord>, WriteError>> + Send;
    /// What time it is.
    fn time(&self) -> Timestamp;
    /// Makes another key for the service's own tokens, `with` in the same commit: its id, and since when it signs
    /// (milliseconds since 1970).
    fn rotate_signing_key(
        &self,
        rotation: Rotation,
        with: Vec<Command>,
    ) -> impl Future<Output = Result<(String, u64), NewSigningKeyError>> + Send;
    /// Reads the directory again, keeps a good set in the store and puts it in force.
    fn reload(&self) -> impl Future<Output = Result<(), Vec<Problem>>> + Send;
}

/// [`Operations`] over a running service.
#[derive(Debug)]
pub struct Administration<R>(Arc<Inner<R>>);

#[derive(Debug)]
struct Inner<R> {
    running: Arc<R>,
}

impl<R: Running> Administration<R> {
    /// The operations on `running`.
    #[must_use]
    pub fn new(running: Arc<R>) -> Self {
        Self(Arc::new(Inner { running }))
    }
}

impl<R: Running> Operations for Administration<R> {
    async fn create_key(&self, by: Operator, asked: CreateKey) -> Result<CreatedKey, AdminError> {
        let inner = Arc::clone(&self.0);
        to_its_end(async move { inner.create_key(by, asked).await }).await
    }

    async fn revoke_key(&self, by: Operator, id: String) -> Result<Vec<KeyRow>, AdminError> {
        let inner = Arc::clone(&self.0);
        to_its_end(async move { inner.revoke_key(by, id).await }).await
    }

    async fn revoke_keys(&self, by: Operator, tenant: TenantName) -> Result<Vec<KeyRow>, AdminError> {
        let inner = Arc::clone(&self.0);
        to_its_end(async move { inner.revoke_keys(by, tenant).await }).await
    }

    async fn list_keys(&self, tenant: Option<TenantName>) -> Result<Vec<KeyRow>, AdminError> {
        self.0.list_keys(tenant.as_ref())
    }

    async fn put_provider_key(
        &self,
        by: Operator,
        tenant: TenantName,
        provider: String,
        secret: Secret,
    ) -> Result<(), AdminError> {
        let inner = Arc::clone(&self.0);
        to_its_end(async move { inner.put_provider_key(by, tenant, provider, secret).await }).await
    }

    async fn create_authority(
        &self,
        by: Operator,
        tenant: TenantName,
        replace: bool,
    ) -> Result<AuthorityMade, AdminError> {
        let inner = Arc::clone(&self.0);
        to_its_end(async move { inner.create_authority(by, tenant, replace).await }).await
    }

    async fn issue_certificate(&self, by: Operator, asked: IssueCertificate) -> Result<CertificateIssued, AdminError> {
        let inner = Arc::clone(&self.0);
        to_its_end(async move { inner.issue_certificate(by, asked).await }).await
    }

    async fn revoke_certificate(&self, by: Operator, tenant: TenantName, serial: Serial) -> Result<(), AdminError> {
        let inner = Arc::clone(&self.0);
        to_its_end(async move { inner.revoke_certificate(by, tenant, serial).await }).await
    }

    async fn list_certificates(&self, tenant: Option<TenantName>) -> Result<Vec<IssuedRow>, AdminError> {
        self.0.list_certificates(tenant).await
    }

    async fn audit(&self, after: Option<u64>, limit: u32) -> Result<AuditPage, AdminError> {
        report::audit(self.0.running.reader(), after, limit).await
    }

    async fn usage(&self) -> Result<Usage, AdminError> {
        report::usage(&*self.0.running).await
    }

    async fn list_jobs(&self, tenant: Option<TenantName>) -> Result<Vec<JobRow>, AdminError> {
        self.0.list_jobs(tenant.as_ref())
    }

    async fn revoke_job(&self, by: Operator, id: String) -> Result<JobRow, AdminError> {
        let inner = Arc::clone(&self.0);
        to_its_end(async move { inner.revoke_job(by, id).await }).await
    }

    async fn rotate_signing_key(&self, by: Operator, at_once: bool) -> Result<NewSigningKey, AdminError> {
        let inner = Arc::clone(&self.0);
        to_its_end(async move { inner.rotate_signing_key(by, at_once).await }).await
    }

    async fn reload(&self, by: Operator) -> Result<Reloaded, AdminError> {
        let inner = Arc::clone(&self.0);
        to_its_end(async move { inner.reload(by).await }).await
    }
}

impl<R: Running> Inner<R> {
    async fn reload(&self, by: Operator) -> Result<Reloaded, AdminError> {
        let _one = self.running.changes().lock().await;
        let before = self.running.registry().version.clone();
        self.write(vec![self.action(by, "policies.reload", String::new())]).await?;
        self.load().await?;
        let version = self.running.registry().version.clone();
        Ok(Reloaded { changed: version != before, version })
    }

    async fn load(&self) -> Result<(), AdminError> {
        self.running.reload().await.map_err(|problems| AdminError::PoliciesRefused {
            version: self.running.registry().version.clone(),
            problems: problems.iter().map(ToString::to_string).collect(),
        })
    }

    /// The audit record of an operator's action.
    fn action(&self, by: Operator, code: &str, detail: String) -> Command {
        self.about(by, code, "", "", detail)
    }

    /// The audit record of an operator's action on a tenant or a key of it.
    fn about(&self, by: Operator, code: &str, tenant: &str, key_id: &str, detail: String) -> Command {
        Command::AdminAudit(Box::new(AuditRecord {
            at_ms: milliseconds(self.running.time()),
            tenant: tenant.to_owned(),
            principal: format!("uid:{}", by.uid),
            key_id: key_id.to_owned(),
            policy_version: self.running.registry().version.clone(),
            decision: Decision::Admin,
            code: code.to_owned(),
            detail,
            ..AuditRecord::default()
        }))
    }

    async fn write(&self, commands: Vec<Command>) -> Result<(), AdminError> {
        self.running.store().write(Command::Batch(commands)).await.map_err(unwritten)
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
