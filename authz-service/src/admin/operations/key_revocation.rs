//! Keys revoked: one with all that came of it by rotation, or all of a tenant.
//!
//! Tightening waits for nothing: decisions refuse the keys before anything else happens, and again once no rotation is
//! under way, which may have made another one meanwhile.

use std::collections::{BTreeSet, HashMap};

use gateway_core::name::TenantName;
use jiff::Timestamp;

use super::{Inner, Running, milliseconds};
use crate::admin::{AdminError, KeyRow, Operator};
use crate::identity::api_key::{KeyRecord, Keys};
use crate::store::Command;

impl<R: Running> Inner<R> {
    pub(super) async fn revoke_key(&self, by: Operator, id: String) -> Result<Vec<KeyRow>, AdminError> {
        let (registry, records) = (self.running.registry(), self.running.keys());
        if !records.contains_key(&id) && !registry.keys.contains_key(&id) {
            let known = registry.keys.keys().chain(records.keys()).map(String::as_str);
            return Err(AdminError::unknown("key", &id, known));
        }
        let now = self.running.time();
        let these = |records: &Keys| descendants(records, [id.as_str()]);
        self.tighten(&these(&records), now);
        let _one = self.running.changes().lock().await;
        let ids = these(&self.running.keys());
        self.tighten(&ids, now);
        let rows = self.rows(ids.iter().map(String::as_str), now);
        let mut commands = Vec::new();
        for row in &rows {
            let detail = if row.id == id { String::new() } else { format!("with key {id}, which it came of") };
            let tenant = row.tenant.as_deref().unwrap_or_default();
            commands.push(self.about(by, "key.revoke", tenant, &row.id, detail));
        }
        commands.push(Command::KeyRevoke { id, at_ms: milliseconds(now) });
        self.write(commands).await.map_err(not_durable)?;
        Ok(rows)
    }

    pub(super) async fn revoke_keys(&self, by: Operator, tenant: TenantName) -> Result<Vec<KeyRow>, AdminError> {
        let (registry, before) = (self.running.registry(), self.running.keys());
        let of_tenant = |records: &Keys| -> Vec<String> {
            let kept = records.values().filter(|record| record.tenant == tenant).map(|record| record.id.clone());
            let in_files = registry.keys.values().filter(|terms| terms.tenant == tenant).map(|terms| terms.id.clone());
            let all: BTreeSet<String> = kept.chain(in_files).collect();
            all.into_iter().collect()
        };
        if !registry.tenants.contains_key(&tenant) && of_tenant(&before).is_empty() {
            let known = registry.tenants.keys().map(TenantName::as_str);
            return Err(AdminError::unknown("tenant", tenant.as_str(), known));
        }
        let now = self.running.time();
        self.tighten(&of_tenant(&before), now);
        let _one = self.running.changes().lock().await;
        let ids = of_tenant(&self.running.keys());
        self.tighten(&ids, now);
        let was_revoked = |id: &str| before.get(id).is_some_and(|record| record.revoked_at.is_some());
        let mut commands = vec![self.about(by, "key.revoke-all", tenant.as_str(), "", format!("{} keys", ids.len()))];
        for id in &ids {
            if !was_revoked(id) {
                let detail = format!("with all keys of {tenant}");
                commands.push(self.about(by, "key.revoke", tenant.as_str(), id, detail));
            }
            commands.push(Command::KeyRevoke { id: id.clone(), at_ms: milliseconds(now) });
        }
        self.write(commands).await.map_err(not_durable)?;
        Ok(self.rows(ids.iter().map(String::as_str), now))
    }

    /// Decisions refuse these keys from here on.
    fn tighten(&self, ids: &[String], now: Timestamp) {
        let records = self.running.keys();
        let open = ids.iter().filter_map(|id| records.get(id)).filter(|record| record.revoked_at.is_none());
        let ended: Vec<KeyRecord> = open.map(|record| KeyRecord { revoked_at: Some(now), ..record.clone() }).collect();
        if !ended.is_empty() {
            self.running.keep_keys(ended);
        }
    }
}

fn not_durable(error: AdminError) -> AdminError {
    let until = "the key is refused until this service restarts, but that is not on the disk: revoke it again";
    AdminError::Unavailable(format!("{until} ({error})"))
}

/// These keys, each with what came of it by rotation behind it.
fn descendants<'a>(records: &Keys, ids: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let children: HashMap<&str, &str> =
        records.values().filter_map(|record| Some((record.parent.as_deref()?, record.id.as_str()))).collect();
    let (mut seen, mut all) = (BTreeSet::new(), Vec::new());
    for id in ids {
        let mut next = Some(id);
        while let Some(id) = next.filter(|id| seen.insert((*id).to_owned())) {
            all.push(id.to_owned());
            next = children.get(id).copied();
        }
    }
    all
}
