//! Clients' certificates: tenants' CAs made, certificates issued, revoked and listed. A CA's key is open only while it
//! signs.

use std::str::FromStr as _;
use std::sync::Arc;

use gateway_core::name::TenantName;
use jiff::Timestamp;

use super::provider_key::kek_id;
use super::{Inner, Running, milliseconds, tenant_of};
use crate::admin::messages::{AuthorityMade, CertificateIssued, CertificateState, IssueCertificate, IssuedRow};
use crate::admin::{AdminError, Operator};
use crate::identity::authority::{self, AuthorityError};
use crate::identity::certificate::Serial;
use crate::identity::spiffe::SpiffeId;
use crate::registry::Registry;
use crate::store::{AuthorityRow, CertificateCommand, CertificateRow, Command, Reader, StoreError};
use crate::vault::{Sealed, Secret, open, seal, system_random};

/// What the key is sealed for. No provider has this name: those are DNS labels.
const PURPOSE: &str = "purpose:certificate-authority";

impl<R: Running> Inner<R> {
    pub(super) async fn create_authority(
        &self,
        by: Operator,
        tenant: TenantName,
        replace: bool,
    ) -> Result<AuthorityMade, AdminError> {
        let _one = self.running.changes().lock().await;
        tenant_of(&self.running.registry(), &tenant)?;
        let before = self.authority(&tenant).await?;
        if before.is_some() && !replace {
            let message = format!("tenant `{tenant}` has a CA already: `--replace` makes a new one");
            return Err(AdminError::Conflict(message));
        }
        let used_up = |_| AdminError::Conflict(format!("tenant `{tenant}` has had too many CAs"));
        let version = before.map_or(0, |row| row.version).saturating_add(1);
        let made = authority::create(&tenant, version, self.running.time(), &mut system_random).map_err(refused)?;
        let key_id = kek_id(self.running.kek());
        let place = u32::try_from(version).map_err(used_up)?;
        let sealed = seal(self.running.kek(), &tenant, PURPOSE, &key_id, place, &made.key, &mut system_random);
        let sealed = sealed.map_err(|error| AdminError::Unavailable(error.to_string()))?.to_bytes();
        let certificate = made.certificate;
        let row =
            AuthorityRow { tenant: tenant.to_string(), key_id, version, certificate: certificate.clone(), sealed };
        let audit = self.about(by, "authority.create", tenant.as_str(), "", format!("version {version}"));
        self.write(vec![audit, Command::Certificate(Box::new(CertificateCommand::Authority(row)))]).await?;
        Ok(AuthorityMade { tenant: tenant.to_string(), version, certificate })
    }

    pub(super) async fn issue_certificate(
        &self,
        by: Operator,
        asked: IssueCertificate,
    ) -> Result<CertificateIssued, AdminError> {
        let _one = self.running.changes().lock().await;
        let id = spiffe_id(&self.running.registry(), &asked)?;
        let none = || AdminError::Conflict(format!("tenant `{}` has no CA: `cert ca create` makes one", asked.tenant));
        let row = self.authority(&asked.tenant).await?.ok_or_else(none)?;
        let key = self.open(&asked.tenant, &row)?;
        let now = self.running.time();
        let issued =
            authority::issue((&row.certificate, &key), &asked.request, &id, asked.ttl, now, &mut system_random);
        let issued = issued.map_err(refused)?;
        let kept = CertificateRow {
            tenant: asked.tenant.to_string(),
            serial: issued.serial.as_str().to_owned(),
            spiffe_id: id.as_str().to_owned(),
            issued_ms: milliseconds(now),
            expires_ms: Some(milliseconds(issued.expires_at)),
            revoked_ms: None,
        };
        let serial = kept.serial.clone();
        let detail = format!("serial {serial}, {}, expires {}", id.as_str(), issued.expires_at);
        let audit = self.about(by, "certificate.issue", asked.tenant.as_str(), "", detail);
        self.write(vec![audit, Command::Certificate(Box::new(CertificateCommand::Issue(kept)))]).await?;
        Ok(CertificateIssued {
            serial,
            spiffe_id: id.as_str().to_owned(),
            expires_at: issued.expires_at,
            certificate: issued.certificate,
            authority: row.certificate,
        })
    }

    pub(super) async fn revoke_certificate(
        &self,
        by: Operator,
        tenant: TenantName,
        serial: Serial,
    ) -> Result<(), AdminError> {
        let _one = self.running.changes().lock().await;
        tenant_of(&self.running.registry(), &tenant)?;
        // Tightening waits for nothing.
        self.running.revoke_certificate(&tenant, &serial);
        let audit = self.about(by, "certificate.revoke", tenant.as_str(), "", format!("serial {}", serial.as_str()));
        let revoke = CertificateCommand::Revoke {
            tenant: tenant.to_string(),
            serial: serial.as_str().to_owned(),
            at_ms: milliseconds(self.running.time()),
        };
        self.write(vec![audit, Command::Certificate(Box::new(revoke))]).await.map_err(|error| {
            let until = "the certificate is refused until this service restarts, but that is not on the disk: \
                revoke it again";
            AdminError::Unavailable(format!("{until} ({error})"))
        })
    }

    pub(super) async fn list_certificates(&self, tenant: Option<TenantName>) -> Result<Vec<IssuedRow>, AdminError> {
        if let Some(tenant) = &tenant {
            tenant_of(&self.running.registry(), tenant)?;
        }
        let rows = self.read(move |reader| reader.certificates(tenant.as_ref().map(TenantName::as_str))).await?;
        let now = milliseconds(self.running.time());
        Ok(rows.into_iter().map(|row| shown(row, now)).collect())
    }

    async fn authority(&self, tenant: &TenantName) -> Result<Option<AuthorityRow>, AdminError> {
        let tenant = tenant.to_string();
        self.read(move |reader| reader.authority(&tenant)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let reader: Arc<Reader> = self.running.reader();
        let unavailable = |error: &dyn std::fmt::Display| AdminError::Unavailable(error.to_string());
        let read = tokio::task::spawn_blocking(move || read(&reader)).await.map_err(|error| unavailable(&error))?;
        read.map_err(|error| unavailable(&error))
    }

    fn open(&self, tenant: &TenantName, row: &AuthorityRow) -> Result<Secret, AdminError> {
        let opened = u32::try_from(row.version).ok().and_then(|version| {
            let sealed = Sealed::from_bytes(&row.sealed).ok()?;
            open(self.running.kek(), &sealed, tenant, PURPOSE, &row.key_id, version).ok()
        });
        opened.ok_or_else(|| AdminError::Unavailable(format!("the key of tenant `{tenant}`'s CA cannot be opened")))
    }
}

/// The id in the tenant's own trust domain, and in no other.
fn spiffe_id(registry: &Registry, asked: &IssueCertificate) -> Result<SpiffeId, AdminError> {
    tenant_of(registry, &asked.tenant)?;
    let domain = registry.trust_domains.values().find(|domain| domain.tenant == asked.tenant);
    let none = || AdminError::Conflict(format!("tenant `{}` has no `certificates.trustDomain`", asked.tenant));
    let text = format!("spiffe://{}{}", domain.ok_or_else(none)?.name, asked.path);
    let id = SpiffeId::from_str(&text).ok().filter(|_| asked.path.starts_with('/'));
    let rule = "segments of letters, digits, `.`, `-` and `_`, each after a `/`, as in `/workload/train`";
    id.ok_or_else(|| AdminError::Invalid(format!("path `{}` is not {rule}", asked.path)))
}

fn shown(row: CertificateRow, now_ms: u64) -> IssuedRow {
    let at = |ms: u64| i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let state = match (row.revoked_ms, row.expires_ms) {
        (Some(_), _) => CertificateState::Revoked,
        (None, Some(expires)) if now_ms >= expires => CertificateState::Expired,
        (None, _) => CertificateState::Active,
    };
    IssuedRow {
        tenant: row.tenant,
        serial: row.serial,
        spiffe_id: Some(row.spiffe_id).filter(|id| !id.is_empty()),
        state,
        expires_at: row.expires_ms.and_then(at),
    }
}

fn refused(error: AuthorityError) -> AdminError {
    match error {
        AuthorityError::Request | AuthorityError::Key => AdminError::Invalid(error.to_string()),
        AuthorityError::Random(_) | AuthorityError::Library => AdminError::Unavailable(error.to_string()),
    }
}
