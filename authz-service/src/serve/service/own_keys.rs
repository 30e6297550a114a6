//! The tenants' own keys of providers: sealed as the state file has them, opened one at a time.

use std::collections::HashMap;

use gateway_core::denial::{Code, Denial};
use gateway_core::name::TenantName;

use super::Service;
use crate::decide;
use crate::vault::{self, Sealed, Secret};

/// A sealed provider key of a tenant, as the state file has it.
#[derive(Clone)]
pub(in crate::serve) struct OwnKey {
    pub(in crate::serve) key_id: String,
    pub(in crate::serve) version: u64,
    pub(in crate::serve) sealed: Vec<u8>,
}

/// Sealed provider keys by tenant and provider.
pub(in crate::serve) type OwnKeys = HashMap<(TenantName, String), OwnKey>;

impl decide::OwnKeys for Service {
    fn has_own_key(&self, tenant: &TenantName, provider: &str) -> bool {
        let keys = self.own_keys.load();
        !keys.is_empty() && keys.contains_key(&(tenant.clone(), provider.to_owned()))
    }

    fn own_key(&self, tenant: &TenantName, provider: &str) -> Result<Option<Secret>, Denial> {
        let keys = self.own_keys.load();
        if keys.is_empty() {
            return Ok(None);
        }
        let Some(own) = keys.get(&(tenant.clone(), provider.to_owned())) else { return Ok(None) };
        let opened = u32::try_from(own.version).ok().and_then(|version| {
            let sealed = Sealed::from_bytes(&own.sealed).ok()?;
            vault::open(&self.kek, &sealed, tenant, provider, &own.key_id, version).ok()
        });
        opened.map(Some).ok_or_else(|| {
            tracing::error!(tenant = %tenant, provider, "a tenant's provider key cannot be opened");
            Denial::new(Code::Internal).detail("The stored key of this provider cannot be opened.")
        })
    }
}
