//! A new set of resources: kept over a restart, and what it voids of the grants that workers hold. Where only keys differ,
//! theirs; nothing where keys were only added.

use std::collections::BTreeSet;

use super::Service;
use crate::registry::Registry;
use crate::resource::Sources;
use crate::store::Command;

/// Keys that are voided one by one; beyond them, all of their tenants.
const ONE_BY_ONE: usize = 64;

impl Service {
    /// Keeps the last good set over a restart.
    pub(super) async fn keep_sources(&self, version: String, sources: &Sources) {
        let kept = match sources.to_bytes() {
            Ok(bytes) => self.write(Command::KeepSources { version, bytes }).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = kept {
            tracing::error!(error, "the state file does not have this set: a restart may fall back to an older one");
        }
    }

    /// Voids what was decided by `before` and would not be by `after`, which is in force.
    pub(super) fn void_changed(&self, before: &Registry, after: &Registry) {
        if before.without_keys != after.without_keys {
            return self.revocations.revoke_all();
        }
        let changed = before.keys.iter().filter(|(id, terms)| after.keys.get(*id) != Some(*terms));
        self.void_keys(changed.map(|(id, terms)| (terms.tenant.as_str(), id.as_str())));
    }

    /// Voids what was decided for these keys, each with its tenant.
    pub(super) fn void_keys<'a>(&self, keys: impl Iterator<Item = (&'a str, &'a str)>) {
        let keys: Vec<_> = keys.collect();
        if keys.len() > ONE_BY_ONE {
            let tenants: BTreeSet<&str> = keys.iter().map(|(tenant, _)| *tenant).collect();
            return tenants.into_iter().for_each(|tenant| self.revocations.revoke(tenant, ""));
        }
        keys.into_iter().for_each(|(tenant, id)| self.revocations.revoke(tenant, id));
    }
}
