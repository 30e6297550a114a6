//! Provider keys: sealed for one tenant, provider and version, and never shown again.

use gateway_core::name::TenantName;

use super::{Inner, Running, tenant_of};
use crate::admin::{AdminError, Operator};
use crate::store::{Command, VaultRow};
use crate::vault::{Kek, Secret, seal, system_random};

impl<R: Running> Inner<R> {
    pub(super) async fn put_provider_key(
        &self,
        by: Operator,
        tenant: TenantName,
        provider: String,
        secret: Secret,
    ) -> Result<(), AdminError> {
        let _one = self.running.changes().lock().await;
        let registry = self.running.registry();
        tenant_of(&registry, &tenant)?;
        if !registry.providers.iter().any(|known| known.name == provider) {
            let known = registry.providers.iter().map(|known| known.name.as_str());
            return Err(AdminError::unknown("provider", &provider, known));
        }
        let used_up = |_| AdminError::Conflict(format!("`{provider}` has had too many keys"));
        let version = self.running.provider_key_version(&tenant, &provider).saturating_add(1);
        let key_id = kek_id(self.running.kek());
        let sealed = seal(
            self.running.kek(),
            &tenant,
            &provider,
            &key_id,
            u32::try_from(version).map_err(used_up)?,
            &secret,
            &mut system_random,
        );
        let sealed = sealed.map_err(|error| AdminError::Unavailable(error.to_string()))?.to_bytes();
        let row = VaultRow { tenant: tenant.to_string(), provider, key_id, version, sealed };
        let detail = format!("provider {} version {version}", row.provider);
        let audit = self.about(by, "vault.put", tenant.as_str(), "", detail);
        self.write(vec![audit, Command::VaultPut(row.clone())]).await?;
        self.running.keep_provider_key(row);
        Ok(())
    }
}

/// Which key-encryption key a record is sealed under: a name that says nothing about the key.
pub(super) fn kek_id(kek: &Kek) -> String {
    let mac = kek.mac("bulkhead kek id v1", b"");
    mac.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
