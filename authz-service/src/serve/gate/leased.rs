//! Profile `inline` at the Gate: leases lent, requests that were admitted from them, and what the module refused under a
//! grant. Who and what they are of is read from the grant's handle, never from another field.

use gateway_core::gate::{Ask, Grant, Leased, Lent, Settlement};
use gateway_core::name::{ModelName, TenantName};
use gateway_core::price::{Terms, charge};

use super::report::ending;
use crate::decide;
use crate::ledger::{Holder, Lease, LeaseId, Now};
use crate::serve::Service;
use crate::serve::service::of_grant;
use crate::store::{AuditRecord, Command, Decision, LeasedEnd};

impl Service {
    /// Answers one ask; what comes with the answer must be durable before it leaves.
    pub(super) fn lend(&self, ask: &Ask, holder: &Holder) -> (Lent, Option<Lease>) {
        let handle = self.verify_signed(&ask.grant);
        if handle.is_none() {
            tracing::warn!(proxy = holder.proxy, "an ask without our grant");
        }
        self.on_grounds(|grounds| decide::lend(grounds, handle.as_ref(), ask, holder, self.time()))
    }

    /// Once a second: what nobody closed or settled becomes spend.
    pub(in crate::serve) async fn expire_leases(&self, now: Now) {
        for id in self.ledger.expire_leases(now) {
            tracing::warn!(lease = ?id, "a lease was not closed, or its requests not settled: it becomes spend");
            if self.write(Command::SpendLease { id, at_ms: now.unix_ms }).await.is_ok() {
                self.ledger.confirm_expired(now, id);
            }
        }
    }
}

/// Settles a request of a lease in the ledger. `None`: not the holder's, not of the lease's scope set, or settled already.
pub(super) fn settle(
    service: &Service,
    holder: &Holder,
    grant: &Grant,
    settlement: &Settlement,
    leased: &Leased,
    now: Now,
) -> Option<LeasedEnd> {
    let id = LeaseId::parse(&leased.lease).filter(|_| leased.number > 0)?;
    let lease = service.ledger.lease_terms(id, holder);
    let Some(lease) = lease.filter(|of| of.tenant == grant.tenant && of.scope_set == grant.scope_set) else {
        tracing::warn!(proxy = holder.proxy, lease = ?id, "a settlement on a lease that is over, or another's");
        return None;
    };
    let reserved = leased.reserved.unwrap_or_default();
    let terms = Terms { cost: lease.cost, reserved, input_estimate: leased.input_estimate };
    let charge = charge(&terms, settlement);
    let settled = service.ledger.settle_leased(now, id, holder, leased.number, reserved, charge.cost)?;
    service.used(Some(&grant.key_id), now.unix_ms.saturating_sub(settlement.duration_ms));
    let (provider, region) = target(service, grant, &lease.model);
    let record = AuditRecord {
        at_ms: now.unix_ms.saturating_sub(settlement.duration_ms),
        request_id: leased.request_id.clone(),
        decision: Decision::Allow,
        model: lease.model,
        provider,
        region,
        proxy: holder.proxy.clone(),
        reserved: Some(settled.reserved),
        ..of_grant(grant)
    };
    let mut settle = ending(id.request(leased.number), settlement, &charge, now);
    settle.charge = settled.charge;
    Some(LeasedEnd { lease: id, record, reserved: settled.reserved, settle })
}

/// What the grant says that the module refused a request under; `None` where it says nothing, or is not ours.
pub(super) fn under(service: &Service, proxy: &str, refusal: &gateway_core::gate::Refusal) -> Option<AuditRecord> {
    if refusal.grant.is_empty() {
        return None;
    }
    let grant = service.verify_signed(&refusal.grant).or_else(|| {
        tracing::warn!(proxy, "a refusal without our grant");
        None
    })?;
    let (provider, region) = target(service, &grant, &refusal.model);
    let (model, detail) = (refusal.model.clone(), refusal.detail.clone());
    Some(AuditRecord { model, provider, region, detail, ..of_grant(&grant) })
}

/// Who serves the model to the tenant; empty where nobody does any more.
fn target(service: &Service, grant: &Grant, model: &str) -> (String, String) {
    let registry = service.registry();
    let names = TenantName::parse(&grant.tenant).ok().zip(ModelName::parse(model).ok());
    let target = names.and_then(|(tenant, model)| registry.target(registry.tenants.get(&tenant)?, &model));
    target.map(|(provider, _)| (provider.name.clone(), provider.region.clone())).unwrap_or_default()
}
