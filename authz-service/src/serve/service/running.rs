//! The service as its admin operations see it: what runs, and what they may change in memory once the state file has it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use gateway_core::name::TenantName;
use jiff::Timestamp;

use super::start::own_key;
use super::{NewSigningKeyError, Rotation, Service};
use crate::admin::operations::Running;
use crate::identity::api_key::{KeyRecord, Keys};
use crate::identity::certificate::{RevokedSerials, Serial};
use crate::identity::job::JobRecord;
use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::resource::Problem;
use crate::store::{Command, Reader, Store, VaultRow, WriteError};
use crate::vault::Kek;

impl Running for Service {
    fn registry(&self) -> Arc<Registry> {
        self.registry.load_full()
    }

    fn policies(&self) -> &Path {
        &self.policies
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn kek(&self) -> &Kek {
        &self.kek
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    fn keep_keys(&self, records: Vec<KeyRecord>) {
        self.keys.rcu(|keys| {
            let mut keys = Keys::clone(keys);
            for record in &records {
                let mut record = record.clone();
                if let Some(known) = keys.get(&record.id) {
                    record.keep_ended(known);
                }
                keys.insert(record.id.clone(), record);
            }
            keys
        });
        for record in &records {
            if record.revoked_at.is_some() {
                // Of the whole tenant: the key may have acted in a chain, or started a job, whose grants do not name it.
                self.revocations.revoke(record.tenant.as_str(), "");
            }
        }
        // What is held by a key that ends with an overlap was granted for longer.
        let ended = records.iter().filter(|record| record.revoked_at.is_none() && record.rotated.is_some());
        self.void_keys(ended.map(|record| (record.tenant.as_str(), record.id.as_str())));
    }

    fn last_used(&self, id: &str) -> Option<Timestamp> {
        self.last_used.of(id)
    }

    fn changes(&self) -> &tokio::sync::Mutex<()> {
        &self.changes
    }

    fn provider_key_version(&self, tenant: &TenantName, provider: &str) -> u64 {
        let keys = self.own_keys.load();
        keys.get(&(tenant.clone(), provider.to_owned())).map_or(0, |own| own.version)
    }

    fn keep_provider_key(&self, row: VaultRow) {
        let Some((name, own)) = own_key(row) else { return };
        self.own_keys.rcu(|keys| {
            let mut keys = HashMap::clone(keys);
            keys.insert(name.clone(), own.clone());
            keys
        });
        // A grant says whose key a request leaves with.
        self.revocations.revoke(name.0.as_str(), "");
    }

    fn revoke_certificate(&self, tenant: &TenantName, serial: &Serial) {
        self.revoked_certificates.rcu(|revoked| {
            let mut revoked = RevokedSerials::clone(revoked);
            revoked.insert((tenant.clone(), serial.clone()));
            revoked
        });
        // No worker holds a grant for a certificate; what its holder has under way goes on to its end.
    }

    fn jobs(&self) -> Vec<JobRecord> {
        self.all_jobs()
    }

    async fn end_job(&self, id: &str, with: Vec<Command>) -> Result<Option<JobRecord>, WriteError> {
        Self::end_job(self, id, with).await
    }

    fn time(&self) -> jiff::Timestamp {
        Self::time(self)
    }

    async fn rotate_signing_key(
        &self,
        rotation: Rotation,
        with: Vec<Command>,
    ) -> Result<(String, u64), NewSigningKeyError> {
        Self::rotate_signing_key(self, rotation, with).await
    }

    async fn reload(&self) -> Result<(), Vec<Problem>> {
        Self::reload(self).await.map(drop)
    }
}
