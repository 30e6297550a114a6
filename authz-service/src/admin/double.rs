//! For tests: an `Operations` that only remembers, behind the real API on a real socket.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use gateway_core::name::TenantName;
use jiff::Timestamp;
use serde_json::value::to_raw_value;

use super::client::Client;
use super::listener::{self, AdminListener};
use super::{
    AdminError, AuditPage, AuthorityMade, CertificateIssued, CreateKey, CreatedKey, IssueCertificate, IssuedRow,
    JobRow, KeyRow, KeyState, KeyText, NewSigningKey, Operations, Operator, Reloaded, TenantUsage, Usage,
};
use crate::identity::certificate::Serial;
use crate::vault::Secret;

/// Remembers what was asked; knows the tenant `acme` and the key `k1`.
#[derive(Default)]
pub(crate) struct Remembered {
    said: Mutex<Vec<String>>,
}

impl Remembered {
    fn note(&self, line: impl Into<String>) {
        self.said.lock().unwrap().push(line.into());
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }
}

fn known(tenant: &TenantName) -> Result<(), AdminError> {
    if tenant.as_str() == "acme" { Ok(()) } else { Err(AdminError::unknown("tenant", tenant.as_str(), ["acme"])) }
}

pub(crate) fn row(id: &str) -> KeyRow {
    KeyRow {
        id: id.into(),
        tenant: Some("acme".into()),
        state: KeyState::Revoked,
        models: None,
        endpoints: None,
        sources: None,
        expires_at: Some(Timestamp::UNIX_EPOCH),
        parent: None,
        child: None,
        last_used: None,
    }
}

impl Operations for Remembered {
    async fn create_key(&self, by: Operator, asked: CreateKey) -> Result<CreatedKey, AdminError> {
        known(&asked.tenant)?;
        self.note(format!("create {} for {} by {}", asked.ttl.as_secs(), asked.tenant, by.uid));
        Ok(CreatedKey {
            id: "k1".into(),
            key: KeyText::new("bh_sesame".into()),
            expires_at: Timestamp::UNIX_EPOCH,
            file: "keys/k1.yaml".into(),
        })
    }

    async fn revoke_key(&self, _by: Operator, id: String) -> Result<Vec<KeyRow>, AdminError> {
        self.note(format!("revoke {id}"));
        if id == "k1" { Ok(vec![row(&id), row("k2")]) } else { Err(AdminError::unknown("key", &id, ["k1"])) }
    }

    async fn revoke_keys(&self, _by: Operator, tenant: TenantName) -> Result<Vec<KeyRow>, AdminError> {
        known(&tenant)?;
        self.note(format!("revoke all of {tenant}"));
        Ok(vec![row("k1")])
    }

    async fn list_keys(&self, tenant: Option<TenantName>) -> Result<Vec<KeyRow>, AdminError> {
        tenant.as_ref().map(known).transpose()?;
        Ok(vec![row("k1")])
    }

    async fn put_provider_key(
        &self,
        _by: Operator,
        tenant: TenantName,
        provider: String,
        secret: Secret,
    ) -> Result<(), AdminError> {
        known(&tenant)?;
        self.note(format!("put {tenant}/{provider} {}", String::from_utf8_lossy(secret.expose())));
        Ok(())
    }

    async fn create_authority(
        &self,
        _by: Operator,
        tenant: TenantName,
        replace: bool,
    ) -> Result<AuthorityMade, AdminError> {
        known(&tenant)?;
        self.note(format!("authority {tenant} {replace}"));
        Ok(AuthorityMade { tenant: tenant.to_string(), version: 1, certificate: "PEM".into() })
    }

    async fn issue_certificate(&self, _by: Operator, asked: IssueCertificate) -> Result<CertificateIssued, AdminError> {
        known(&asked.tenant)?;
        self.note(format!("issue {} {}", asked.path, asked.ttl.as_secs()));
        Ok(CertificateIssued {
            serial: "5a".into(),
            spiffe_id: format!("spiffe://acme.example{}", asked.path),
            expires_at: Timestamp::UNIX_EPOCH,
            certificate: "PEM".into(),
            authority: "PEM".into(),
        })
    }

    async fn revoke_certificate(&self, _by: Operator, tenant: TenantName, serial: Serial) -> Result<(), AdminError> {
        known(&tenant)?;
        self.note(format!("revoke {tenant} {}", serial.as_str()));
        Ok(())
    }

    async fn list_certificates(&self, tenant: Option<TenantName>) -> Result<Vec<IssuedRow>, AdminError> {
        tenant.as_ref().map(known).transpose()?;
        Ok(Vec::new())
    }

    async fn audit(&self, after: Option<u64>, limit: u32) -> Result<AuditPage, AdminError> {
        self.note(format!("audit {after:?} {limit}"));
        Ok(AuditPage { records: vec![to_raw_value(&serde_json::json!({"z": 1, "a": 2})).unwrap()], next: 7 })
    }

    async fn usage(&self) -> Result<Usage, AdminError> {
        Ok(Usage { tenants: vec![TenantUsage { tenant: "acme".into(), micro_usd: 1_234, ..TenantUsage::default() }] })
    }

    async fn list_jobs(&self, tenant: Option<TenantName>) -> Result<Vec<JobRow>, AdminError> {
        tenant.as_ref().map(known).transpose()?;
        Ok(Vec::new())
    }

    async fn revoke_job(&self, _by: Operator, id: String) -> Result<JobRow, AdminError> {
        Err(AdminError::unknown("job", &id, []))
    }

    async fn rotate_signing_key(&self, _by: Operator, at_once: bool) -> Result<NewSigningKey, AdminError> {
        self.note(format!("rotate {at_once}"));
        Ok(NewSigningKey { id: "s1".into(), signs_from: Timestamp::UNIX_EPOCH })
    }

    async fn reload(&self, _by: Operator) -> Result<Reloaded, AdminError> {
        let problems = vec!["tenants.yaml:3: unknown field `plann`, did you mean `plan`?".into()];
        Err(AdminError::PoliciesRefused { version: "0123456789abcdef".into(), problems })
    }
}

/// A running admin API, and how to reach it.
pub(crate) struct Running {
    pub(crate) operations: Arc<Remembered>,
    pub(crate) client: Client,
    pub(crate) path: PathBuf,
    _directory: tempfile::TempDir,
}

pub(crate) fn start() -> Running {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let operations = Arc::new(Remembered::default());
    let listener = AdminListener::bind(&path).unwrap();
    tokio::spawn(listener::serve(listener, operations.clone(), std::future::pending()));
    Running { operations, client: Client::new(path.clone()), path, _directory: directory }
}
