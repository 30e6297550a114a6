//! What an allowed request is told: its grant.

use gateway_core::chat::Admission;
use gateway_core::gate::{self, Dialect, Grant, Header};
use gateway_core::wire;

use super::{Allow, Arrival, Caller, Facts, limits};
use crate::identity::Identity;
use crate::ledger::{LimitState, amount_of};
use crate::registry::{Model, Permits, Provider, Refill, Registry, Tenant};

/// A grant's request must have started upstream this long after the grant reached the module, in milliseconds.
const LIFETIME_MS: u32 = 5_000;

/// The grant of a chat request.
pub(super) fn chat(
    arrival: &Arrival<'_>,
    caller: &Caller<'_>,
    registry: &Registry,
    model: &Model,
    provider: &Provider,
    admission: Admission,
    states: &[LimitState],
) -> Grant {
    let mut answer_headers = vec![header(wire::MODEL, model.name.as_str()), header(wire::REGION, &provider.region)];
    answer_headers.extend(limits::fields(states).into_iter().map(|field| header(field.name, &field.value)));
    Grant {
        model: model.name.to_string(),
        provider: provider.name.clone(),
        region: provider.region.clone(),
        upstream_path: provider.upstream_path.clone(),
        dialect: Dialect::OpenaiChat.into(),
        stream: admission.stream,
        hide_usage: admission.hide_usage,
        reserved: Some(admission.reserved),
        edits: Some(admission.edits),
        settle_at_once: states.iter().any(|state| is_short(state, &admission.reserved)),
        answer_headers,
        ..grant(arrival, caller.identity, caller.tenant, registry)
    }
}

/// Whether the next request may be waiting for what this one gives back.
pub(super) fn is_short(state: &LimitState, reserved: &gate::Cost) -> bool {
    match state.refill {
        Refill::InFlight => state.left <= (state.amount / 8).max(4),
        Refill::Window(_) => state.left < amount_of(reserved, state.counts),
        Refill::Rate(_) => false,
    }
}

/// The allowance of a data endpoint: the service answers it, nothing is reserved and nothing metered.
pub(super) fn data(arrival: &Arrival<'_>, identity: &Identity, tenant: &Tenant, registry: &Registry) -> Allow {
    let edits = gate::BodyEdits { body_bytes: arrival.body.len() as u64, edits: Vec::new() };
    let models = visible_models(tenant, &identity.permits).map(ToOwned::to_owned).collect();
    let grant = Grant { data_endpoint: true, models, edits: Some(edits), ..grant(arrival, identity, tenant, registry) };
    Allow {
        grant,
        cluster: wire::SERVICE_CLUSTER.to_owned(),
        credential: None,
        facts: Facts::default(),
        reservation: None,
    }
}

/// What every grant says: who, and what was decided upon.
fn grant(arrival: &Arrival<'_>, identity: &Identity, tenant: &Tenant, registry: &Registry) -> Grant {
    Grant {
        id: arrival.grant_id.0.to_vec().into(),
        tenant: tenant.name.to_string(),
        principal: identity.principal.clone(),
        key_id: identity.key_id.clone().unwrap_or_default(),
        plan: tenant.plan.name.clone(),
        policy_version: registry.version.clone(),
        request_id: arrival.request_id.to_owned(),
        method: arrival.head.method.to_owned(),
        authority: arrival.head.authority.to_owned(),
        path: arrival.head.path.to_owned(),
        lifetime_ms: LIFETIME_MS,
        issued_at_ms: u64::try_from(arrival.now.as_millisecond()).unwrap_or(0),
        ..Grant::default()
    }
}

/// The models that a principal sees at `GET /v1/models`: its tenant's, narrowed by its own permits.
fn visible_models<'a>(tenant: &'a Tenant, permits: &'a Permits) -> impl Iterator<Item = &'a str> {
    tenant
        .models
        .iter()
        .filter(|model| permits.models.as_ref().is_none_or(|permitted| permitted.contains(*model)))
        .map(gateway_core::name::ModelName::as_str)
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.to_owned() }
}
