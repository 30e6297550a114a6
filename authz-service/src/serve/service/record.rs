//! Decisions as the audit log has them, made durable.

use gateway_core::gate::Grant;
use gateway_core::name::TenantName;

use super::Service;
use crate::decide::{Allow, Arrival, Deny, Facts};
use crate::identity::CredentialKind;
use crate::sightings::Change;
use crate::store::{self, AuditRecord, Command, WriteError};

impl Service {
    /// Makes an allowance durable: its audit record and its reservation, in one commit. Where the module admits, it is
    /// the record of a grant; each request under it has its own.
    pub(in crate::serve) async fn record_allow(&self, arrival: &Arrival<'_>, allow: &Allow) -> Result<(), WriteError> {
        let head = allow.grant.terms.is_some();
        let record = AuditRecord {
            decision: if head { store::Decision::Grant } else { store::Decision::Allow },
            grant_id: (head || allow.reservation.is_some()).then_some(arrival.grant_id),
            reserved: allow.reservation.is_some().then_some(allow.facts.reserved),
            detail: allow.facts.policy.clone(),
            ..self.record(arrival, &allow.facts)
        };
        let decision = Command::Decision(Box::new(record), allow.reservation.clone().map(Box::new));
        match self.sighted(arrival, &allow.facts) {
            None => self.write(decision).await,
            Some(change) => self.write(Command::Batch(vec![decision, Command::Sighted(Box::new(change))])).await,
        }
    }

    /// The network that the request makes known, where the state file does not have it.
    fn sighted(&self, arrival: &Arrival<'_>, facts: &Facts) -> Option<Change> {
        let (tenant, source) = facts.tenant.as_ref().zip(arrival.source).filter(|_| facts.introduces)?;
        self.sightings.note(tenant, &facts.principal, source, arrival.now.as_second())
    }

    /// Makes a refusal's audit record durable.
    pub(in crate::serve) async fn record_deny(&self, arrival: &Arrival<'_>, deny: &Deny) -> Result<(), WriteError> {
        let row = deny.denial.code.row();
        let record = AuditRecord {
            decision: store::Decision::Deny,
            code: row.code.to_owned(),
            status: row.status,
            detail: deny.denial.logged(),
            ..self.record(arrival, &deny.facts)
        };
        self.write(Command::Decision(Box::new(record), None)).await
    }

    fn record(&self, arrival: &Arrival<'_>, facts: &Facts) -> AuditRecord {
        let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
        AuditRecord {
            at_ms: u64::try_from(arrival.now.as_millisecond()).unwrap_or(0),
            request_id: arrival.request_id.to_owned(),
            tenant: name(facts.tenant.as_ref().map(TenantName::as_str)),
            principal: facts.principal.clone(),
            key_id: name(facts.key_id.as_deref()),
            credential: name(facts.credential.map(CredentialKind::as_str)),
            actors: facts.actors.clone(),
            policy_version: facts.policy_version.clone(),
            method: arrival.head.method.to_owned(),
            path: facts.path.clone(),
            model: name(facts.model.as_ref().map(|model| model.as_str())),
            provider: facts.provider.clone(),
            region: facts.region.clone(),
            proxy: arrival.proxy.to_owned(),
            ..AuditRecord::default()
        }
    }
}

/// Who asked for what, as the grant's own line says it.
pub(in crate::serve) fn of_grant(grant: &Grant) -> AuditRecord {
    AuditRecord {
        tenant: grant.tenant.clone(),
        principal: grant.principal.clone(),
        key_id: grant.key_id.clone(),
        credential: grant.credential.clone(),
        actors: grant.actors.clone(),
        policy_version: grant.policy_version.clone(),
        method: grant.method.clone(),
        path: grant.path.clone(),
        ..AuditRecord::default()
    }
}
