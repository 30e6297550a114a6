//! What an allowed request is told: its grant.

use std::time::Duration;

use gateway_core::admission::Admitted;
use gateway_core::denial::Code;
use gateway_core::gate::{self, Dialect, Grant};
use gateway_core::limits::answer_headers;
use gateway_core::wire;
use jiff::SignedDuration;

use super::access::Access;
use super::catalog::Offered;
use super::{Allow, Arrival, Caller, Facts, Room, limits};
use crate::authorization::Login;
use crate::identity::Identity;
use crate::identity::job::Shown;
use crate::ledger::LimitState;
use crate::registry::{Audit, Permits, Registry, Scope, Tenant, Watch};

/// An answer may be under way for this long before a worker counts the time that it holds the grant.
const UNDER_WAY: SignedDuration = SignedDuration::from_secs(1);
/// A grant's request must have started upstream this long after the grant reached the module, in milliseconds.
const LIFETIME_MS: u32 = 5_000;
/// The same, where the body is still to come: Envoy gives it a minute.
const HEAD_LIFETIME_MS: u32 = 65_000;

/// The grant of a chat request that was admitted.
pub(super) fn chat(
    arrival: &Arrival<'_>,
    caller: &Caller<'_>,
    registry: &Registry,
    admitted: Admitted<'_>,
    states: &[LimitState],
) -> Grant {
    let Admitted { model, target, admission, .. } = admitted;
    Grant {
        model: model.to_string(),
        provider: target.provider.to_owned(),
        region: target.region.to_owned(),
        upstream_path: target.upstream_path.to_owned(),
        dialect: Dialect::OpenaiChat.into(),
        stream: admission.stream,
        hide_usage: admission.hide_usage,
        reserved: Some(admission.reserved),
        edits: Some(admission.edits),
        settle_at_once: states.iter().any(|state| limits::is_short(state, &admission.reserved)),
        answer_headers: answer_headers(model.as_str(), target.region, &limits::told(states)),
        ..grant(arrival, caller.identity, caller.tenant, registry, Some(Code::OF_ANSWERS))
    }
}

/// The allowance of chat requests whose bodies the module admits: nothing is reserved, and no model decided.
pub(super) fn head(arrival: &Arrival<'_>, caller: &Caller<'_>, offered: &Offered<'_>, epoch: u64) -> Allow {
    let grant = Grant {
        dialect: Dialect::OpenaiChat.into(),
        lifetime_ms: HEAD_LIFETIME_MS,
        epoch,
        hold_ms: hold_ms(arrival, caller, offered.access),
        terms: Some(offered.terms()),
        scope_set: scope_set(caller.tenant, caller.identity, offered.registry.watched(&caller.tenant.name)),
        ..grant(arrival, caller.identity, caller.tenant, offered.registry, None)
    };
    Allow { grant, cluster: String::new(), credential: None, facts: Facts::default(), reservation: None }
}

/// How long a worker may use the grant for requests alike: never as long as the credential is good for, and not at all
/// where it is good on one connection or from some places only, which workers do not tell from others, or where a rule
/// read what requests alike do not share.
fn hold_ms(arrival: &Arrival<'_>, caller: &Caller<'_>, access: &Access<'_>) -> u32 {
    let plan = &caller.tenant.plan;
    if plan.audit == Audit::Strict || caller.identity.bound {
        return 0;
    }
    let good_for = caller.identity.expires_at.duration_since(arrival.now).saturating_sub(UNDER_WAY);
    let held = plan.grant_ttl.min(Duration::try_from(good_for).unwrap_or_default()).min(access.good_for());
    u32::try_from(held.as_millis()).unwrap_or(u32::MAX)
}

/// Equal for two callers exactly where their requests count in the same counters, whatever the model. The principal,
/// which may hold any visible character, comes last.
pub(super) fn scope_set(tenant: &Tenant, identity: &Identity, watched: &[Watch]) -> String {
    let counts = |scope| tenant.plan.limits.iter().any(|limit| limit.scope == scope);
    let key = identity.chain.as_ref().filter(|_| counts(Scope::Key) || !identity.limits.is_empty());
    let watches = watched.iter().any(|watch| watch.each_principal);
    let by_principal = counts(Scope::Principal) || watches || (counts(Scope::Key) && identity.chain.is_none());
    let mut set = format!("tenant={}", tenant.name);
    for (what, value) in [(";key=", key), (";principal=", Some(&identity.principal).filter(|_| by_principal))] {
        if let Some(value) = value {
            set.push_str(what);
            set.push_str(value);
        }
    }
    set
}

/// The allowance of a data endpoint: the service answers it, nothing is reserved, nothing metered and nothing held.
pub(super) fn data(
    arrival: &Arrival<'_>,
    identity: &Identity,
    tenant: &Tenant,
    access: &Access<'_>,
    announced: Option<u64>,
    room: Room,
) -> Allow {
    let (body_bytes, epoch) = match room {
        Room::Whole => (arrival.body.len() as u64, 0),
        Room::Head { epoch } => (announced.unwrap_or(0), epoch),
    };
    let (issuer, scopes) = identity.origin.as_ref().map(|o| (o.issuer.clone(), o.scopes.clone())).unwrap_or_default();
    let caller = gate::Caller {
        certificate: arrival.certificate.to_owned(),
        expires_at: u64::try_from(identity.expires_at.as_second()).unwrap_or(0),
        issuer,
        scopes,
        bound: identity.certificate_bound,
        job: identity.job.as_ref().map(|(id, _)| id.clone()).unwrap_or_default(),
        job_former: identity.job.as_ref().is_some_and(|(_, shown)| *shown == Shown::Former),
        login: Some(told(&identity.login)).filter(|login| *login != gate::Login::default()),
    };
    let edits = gate::BodyEdits { body_bytes, edits: Vec::new() };
    let models = visible_models(tenant, &identity.permits, access).map(ToOwned::to_owned).collect();
    let grant = grant(arrival, identity, tenant, access.registry(), Some(Code::OF_ANSWERS));
    Allow {
        grant: Grant { data_endpoint: true, models, edits: Some(edits), epoch, caller: Some(caller), ..grant },
        cluster: wire::SERVICE_CLUSTER.to_owned(),
        credential: None,
        facts: Facts::default(),
        reservation: None,
    }
}

fn told(login: &Login) -> gate::Login {
    let Login { class, methods, at } = login.clone();
    gate::Login { acr: class.unwrap_or_default(), amr: methods, auth_time: at }
}

/// What every grant says: who, what was decided upon, and the tenant's words for what the module may refuse with (none: all).
fn grant(
    arrival: &Arrival<'_>,
    identity: &Identity,
    tenant: &Tenant,
    registry: &Registry,
    codes: Option<&[Code]>,
) -> Grant {
    Grant {
        id: arrival.grant_id.0.to_vec().into(),
        tenant: tenant.name.to_string(),
        principal: identity.principal.clone(),
        key_id: identity.key_id.clone().unwrap_or_default(),
        credential: identity.kind.as_str().to_owned(),
        cut_after_ms: cut_after_ms(arrival, identity, tenant, registry),
        words: registry.errors.get(&tenant.name).and_then(|words| words.of(codes)),
        actors: identity.actors.iter().map(|actor| actor.name.clone()).collect(),
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

/// When the answer is cut, in milliseconds from now; 0: it may finish.
fn cut_after_ms(arrival: &Arrival<'_>, identity: &Identity, tenant: &Tenant, registry: &Registry) -> u64 {
    if !registry.cut.contains(&tenant.name) {
        return 0;
    }
    u64::try_from(identity.ends_at.duration_since(arrival.now).as_millis()).unwrap_or(0).max(1)
}

/// The models that a principal sees at `GET /v1/models`: its tenant's, narrowed by its own permits and by rules. What a
/// better login would open is shown.
fn visible_models<'a>(
    tenant: &'a Tenant,
    permits: &'a Permits,
    access: &'a Access<'_>,
) -> impl Iterator<Item = &'a str> {
    tenant
        .models
        .iter()
        .filter(|model| permits.models.as_ref().is_none_or(|permitted| permitted.contains(*model)))
        .filter(|model| access.shows(model))
        .map(gateway_core::name::ModelName::as_str)
}
