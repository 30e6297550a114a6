//! The running service as the operations see it: which of its state they read, and which copies they keep in step.

use std::path::Path;
use std::sync::Arc;

use gateway_core::name::TenantName;
use tokio::sync::Mutex;

use super::Running;
use crate::identity::api_key::KeyRecord;
use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::resource::Problem;
use crate::serve::{Service, own_key};
use crate::store::{Command, Reader, StoreError, VaultRow, WriteError};
use crate::vault::Kek;

impl Running for Service {
    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry())
    }

    fn policies(&self) -> &Path {
        &self.policies
    }

    fn changing(&self) -> &Mutex<()> {
        &self.changing
    }

    async fn write(&self, command: Command) -> Result<(), WriteError> {
        self.write(command).await
    }

    fn reader(&self) -> Result<Reader, StoreError> {
        self.store.reader()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn kek(&self) -> &Kek {
        &self.kek
    }

    fn keys(&self) -> Vec<KeyRecord> {
        self.keys.load().values().cloned().collect()
    }

    fn keep_key(&self, record: KeyRecord) {
        let mut keys = self.keys.load().as_ref().clone();
        keys.insert(record.id.clone(), record);
        self.keys.store(Arc::new(keys));
    }

    fn provider_key_version(&self, tenant: &TenantName, provider: &str) -> u64 {
        self.own_keys.load().get(&(tenant.clone(), provider.to_owned())).map_or(0, |own| own.version)
    }

    fn keep_provider_key(&self, row: VaultRow) {
        let Some((place, own)) = own_key(row) else { return };
        let mut keys = self.own_keys.load().as_ref().clone();
        keys.insert(place, own);
        self.own_keys.store(Arc::new(keys));
    }

    async fn reload(&self) -> Result<bool, Vec<Problem>> {
        self.reload_locked().await
    }
}
