//! What operators read: the audit log and every tenant's use. Reads the state file on a blocking thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::name::TenantName;
use jiff::{Timestamp, Unit};
use serde_json::value::to_raw_value;

use super::{Running, milliseconds};
use crate::admin::{AdminError, AuditPage, LimitLeft, TenantUsage, Usage};
use crate::ledger::{LimitState, Now};
use crate::registry::Counts;
use crate::store::{self, Reader, StoreError};

/// A page of the audit log: after a record, or the newest ones.
pub(super) async fn audit(reader: Arc<Reader>, after: Option<u64>, limit: u32) -> Result<AuditPage, AdminError> {
    let lines = read(move || match after {
        Some(seq) => reader.audit_after(seq, limit.into()),
        None => reader.audit_last(limit.into()),
    })
    .await?;
    let next = lines.last().map(|line| line.seq).or(after).unwrap_or(0);
    let unreadable = |error| AdminError::Unavailable(format!("an audit record cannot be spelled: {error}"));
    let records = lines.iter().map(to_raw_value).collect::<Result<_, _>>().map_err(unreadable)?;
    Ok(AuditPage { records, next })
}

/// Every tenant that is in force or has ever asked, by name.
pub(super) async fn usage<R: Running>(running: &R) -> Result<Usage, AdminError> {
    let reader = running.reader();
    let used = read(move || reader.usage_by_tenant(0)).await?;
    let (registry, now) = (running.registry(), running.time());
    let mut tenants: BTreeMap<String, TenantUsage> =
        used.into_iter().map(|(name, used)| (name.clone(), spelled(name, used))).collect();
    for (name, tenant) in &registry.tenants {
        let at = Now { unix_ms: milliseconds(now) };
        let states = running.ledger().usage(at, name, &tenant.time_zone, &tenant.plan.limits);
        let entry = tenants.entry(name.to_string()).or_insert_with(|| unused(name));
        entry.limits = states.into_iter().map(|state| left(state, now)).collect();
    }
    Ok(Usage { tenants: tenants.into_values().collect() })
}

fn spelled(tenant: String, used: store::TenantUsage) -> TenantUsage {
    TenantUsage {
        tenant,
        admitted: used.requests,
        denied: used.denied,
        input_tokens: used.input,
        output_tokens: used.output,
        gpu_ms: used.gpu_ms,
        micro_usd: used.micro_usd,
        limits: Vec::new(),
    }
}

fn unused(tenant: &TenantName) -> TenantUsage {
    TenantUsage { tenant: tenant.to_string(), ..TenantUsage::default() }
}

fn left(state: LimitState, now: Timestamp) -> LimitLeft {
    let counts = match state.counts {
        Counts::GpuMs => "gpu_ms",
        Counts::Tokens => "tokens",
        Counts::MicroUsd => "micro_usd",
        Counts::Requests => "requests",
    };
    let resets_at = Some(state.reset_after).filter(|after| !after.is_zero());
    LimitLeft {
        name: state.name,
        counts: counts.to_owned(),
        amount: state.amount,
        left: state.left,
        resets_at: resets_at.and_then(|after| now.checked_add(after).ok()?.round(Unit::Second).ok()),
    }
}

async fn read<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, AdminError> {
    let unread =
        |error: &dyn std::fmt::Display| AdminError::Unavailable(format!("the state file cannot be read: {error}"));
    let read = tokio::task::spawn_blocking(work).await.map_err(|error| unread(&error))?;
    read.map_err(|error| unread(&error))
}
