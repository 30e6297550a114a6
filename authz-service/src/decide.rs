//! The one decision function. ext_authz, and whatever else asks who may do what, are translations of it.
//!
//! Synchronous and without I/O: the registry, the keys and the ledger are in memory, time and random bytes are
//! arguments. Precedence: syntax of the head, endpoint, claims against each other, credential, tenant, body, limits; the
//! first that fails is the answer. In profile `inline` it ends before the body, and the module goes on from the terms of
//! the grant. What cannot be decided is denied.

mod answer;
mod catalog;
mod lease;
pub(crate) mod limits;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use gateway_core::admission::{self, Admitted};
use gateway_core::claims::{self, PathClaims, agree_tenant};
use gateway_core::denial::{Code, Denial};
use gateway_core::gate;
use gateway_core::headers::{self, Checked, Credential, Head};
use gateway_core::name::{ModelName, TenantName};
use gateway_core::price::Terms;

use crate::identity::api_key::{self, ApiKeyText, KeyRecord};
use crate::identity::{CredentialError, Identity, jwt};
use crate::ledger::{GrantId, Ledger, Now, Reservation, Reserved, Subject};
use crate::registry::{CredentialHeader, EndpointKind, Registry, Tenant, TenantState};
use crate::vault::Secret;

use self::catalog::Offered;

pub use gateway_core::limits::Field;
pub use lease::lend;

/// One request as Envoy describes it, with everything that a decision reads. Never printed: its headers hold the
/// credential.
pub struct Arrival<'a> {
    /// Method, authority, path, headers.
    pub head: Head<'a>,
    /// The whole body; none where only the head is decided.
    pub body: &'a [u8],
    /// Envoy's request id.
    pub request_id: &'a str,
    /// The proxy that asks.
    pub proxy: &'a str,
    /// When.
    pub now: jiff::Timestamp,
    /// The grant's id: 16 bytes, at least 80 random bits of them.
    pub grant_id: GrantId,
}

/// What decisions are made from.
pub struct Grounds<'a> {
    /// What operators wrote.
    pub registry: &'a Registry,
    /// What the store keeps of API keys, by key id.
    pub keys: &'a HashMap<String, KeyRecord>,
    /// The tenants' own keys of providers.
    pub vault: &'a dyn OwnKeys,
    /// Budgets, rates, requests in flight.
    pub ledger: &'a Ledger,
    /// Name of the claim header, lower case.
    pub claim_header: &'a str,
}

/// Where a tenant's own key of a provider is.
pub trait OwnKeys {
    /// The key, if the tenant has one.
    ///
    /// # Errors
    /// A denial when there is one and it cannot be opened: the platform's is no substitute.
    fn own_key(&self, tenant: &TenantName, provider: &str) -> Result<Option<Secret>, Denial>;

    /// Whether the tenant has one; it is not opened.
    fn has_own_key(&self, tenant: &TenantName, provider: &str) -> bool;
}

/// The answer.
pub enum Decision {
    /// Go on, on these terms.
    Allow(Box<Allow>),
    /// Do not.
    Deny(Box<Deny>),
}

/// A request that may go on.
pub struct Allow {
    /// What the module is told.
    pub grant: gate::Grant,
    /// Envoy cluster; empty where the module decides it.
    pub cluster: String,
    /// The provider's credential; none on data endpoints.
    pub credential: Option<(CredentialHeader, Secret)>,
    /// What the audit record says.
    pub facts: Facts,
    /// What the store must keep before the request goes on; none on data endpoints, which cost nothing.
    pub reservation: Option<Reservation>,
}

/// A refusal.
pub struct Deny {
    /// Why.
    pub denial: Denial,
    /// Headers of the answer, beside its body: limits, `Retry-After`, `WWW-Authenticate`.
    pub headers: Vec<Field>,
    /// What the audit record says.
    pub facts: Facts,
}

/// What is known of a request by the time it is decided: the audit record's part of it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Set once the credential is verified.
    pub tenant: Option<TenantName>,
    /// Whose.
    pub principal: String,
    /// API key id.
    pub key_id: Option<String>,
    /// Kind of credential.
    pub method: &'static str,
    /// Canonical model.
    pub model: Option<ModelName>,
    /// Provider.
    pub provider: String,
    /// Region.
    pub region: String,
    /// What was reserved.
    pub reserved: gate::Cost,
    /// Path without its query.
    pub path: String,
    /// Version of the resources.
    pub policy_version: String,
}

/// What there is of a request.
#[derive(Clone, Copy)]
enum Room {
    /// All of it: the body is admitted too.
    Whole,
    /// Its head (profile `inline`); the service's count of revocations, read before anything else.
    Head { epoch: u64 },
}

/// Decides one whole request. On `Allow` with a reservation the ledger holds it: whoever cannot deliver the answer undoes
/// it.
#[must_use]
pub fn decide(grounds: &Grounds<'_>, arrival: &Arrival<'_>) -> Decision {
    decide_in(grounds, arrival, Room::Whole)
}

/// Decides the head of a request, for profile `inline`: the grant's terms say how its body, and those of requests alike,
/// are admitted. `epoch` was read before `grounds` was, so that a revocation which these do not have voids the grant.
#[must_use]
pub fn decide_head(grounds: &Grounds<'_>, arrival: &Arrival<'_>, epoch: u64) -> Decision {
    decide_in(grounds, arrival, Room::Head { epoch })
}

fn decide_in(grounds: &Grounds<'_>, arrival: &Arrival<'_>, room: Room) -> Decision {
    let path = printable_path(arrival.head.path);
    let mut facts = Facts { path, policy_version: grounds.registry.version.clone(), ..Facts::default() };
    match admit(grounds, arrival, room, &mut facts) {
        Ok(allow) => Decision::Allow(Box::new(Allow { facts, ..allow })),
        Err(Stop { denial, headers }) => Decision::Deny(Box::new(Deny { denial, headers, facts })),
    }
}

/// A denial and the headers that go with it.
pub(crate) struct Stop {
    pub(crate) denial: Denial,
    pub(crate) headers: Vec<Field>,
}

impl From<Denial> for Stop {
    fn from(denial: Denial) -> Self {
        let challenge = denial.code.row().status == 401;
        let headers = if challenge { vec![Field::new("www-authenticate", "Bearer")] } else { Vec::new() };
        Self { denial, headers }
    }
}

impl From<Code> for Stop {
    fn from(code: Code) -> Self {
        Denial::new(code).into()
    }
}

fn admit(grounds: &Grounds<'_>, arrival: &Arrival<'_>, room: Room, facts: &mut Facts) -> Result<Allow, Stop> {
    let registry = grounds.registry;
    let checked = headers::check(&arrival.head, grounds.claim_header)?;
    let (endpoint, claims) = registry.endpoint(checked.path).ok_or(Code::NotFound)?;
    claims::agree(&[("path", claims.tenant), ("claim header", checked.claim)])?;
    if arrival.head.method != method(endpoint.kind) {
        return Err(Code::MethodNotAllowed.into());
    }
    let identity = identify(grounds, arrival, &checked)?;
    facts.tenant = Some(identity.tenant.clone());
    facts.principal.clone_from(&identity.principal);
    facts.key_id.clone_from(&identity.key_id);
    facts.method = identity.method;
    let tenant = tenant(registry, &identity, &checked, &claims)?;
    if identity.permits.endpoints.as_ref().is_some_and(|permitted| !permitted.contains(&endpoint.kind)) {
        return Err(Code::EndpointNotAllowed.into());
    }
    match endpoint.kind {
        EndpointKind::Models => Ok(answer::data(arrival, &identity, tenant, registry, checked.content_length, room)),
        EndpointKind::Chat => {
            let caller = Caller { identity: &identity, tenant };
            let (permits, path_model, vault) = (&identity.permits, claims.model, grounds.vault);
            let offered = Offered { registry, tenant, permits, path_model, vault };
            check_length(&checked, tenant.plan.body_bytes)?;
            match room {
                Room::Whole => chat(grounds, arrival, &checked, &caller, &offered, facts),
                Room::Head { epoch } => Ok(answer::head(arrival, &caller, &offered, epoch)),
            }
        }
    }
}

/// Who asks.
struct Caller<'a> {
    identity: &'a Identity,
    tenant: &'a Arc<Tenant>,
}

const fn method(kind: EndpointKind) -> &'static str {
    match kind {
        EndpointKind::Chat => "POST",
        EndpointKind::Models => "GET",
    }
}

fn identify(grounds: &Grounds<'_>, arrival: &Arrival<'_>, checked: &Checked<'_>) -> Result<Identity, Denial> {
    let identity = match checked.credential {
        Credential::None => return Err(Code::MissingCredential.into()),
        Credential::ApiKey(text) => by_key(grounds, text, arrival.now),
        Credential::Bearer(text) if text.starts_with(api_key::PREFIX) => by_key(grounds, text, arrival.now),
        Credential::Bearer(text) => {
            let now = u64::try_from(arrival.now.as_second()).unwrap_or(0);
            jwt::verify(text, &grounds.registry.issuers, now).map(Identity::from)
        }
    };
    identity.map_err(|error| Denial::new(error.code()).detail(error.reason()))
}

fn by_key(grounds: &Grounds<'_>, text: &str, now: jiff::Timestamp) -> Result<Identity, CredentialError> {
    let parsed = ApiKeyText::parse(text)?;
    let (record, terms) = (grounds.keys.get(&parsed.id), grounds.registry.keys.get(&parsed.id));
    api_key::check(&parsed, record, terms.map(AsRef::as_ref), now).map(Identity::from)
}

fn tenant<'a>(
    registry: &'a Registry,
    identity: &Identity,
    checked: &Checked<'_>,
    claims: &PathClaims<'_>,
) -> Result<&'a Arc<Tenant>, Denial> {
    agree_tenant(&identity.tenant, claims.tenant, checked.claim)?;
    let tenant = registry.tenants.get(&identity.tenant).ok_or(Code::InvalidCredential)?;
    if tenant.state == TenantState::Active { Ok(tenant) } else { Err(Code::TenantSuspended.into()) }
}

/// What the head says of the body: that it is all there, and no larger than the plan allows.
fn check_length(checked: &Checked<'_>, most: u64) -> Result<(), Denial> {
    if checked.partial_body {
        return Err(admission::too_large(most));
    }
    admission::check_size(most, checked.content_length.unwrap_or(0))
}

fn chat(
    grounds: &Grounds<'_>,
    arrival: &Arrival<'_>,
    checked: &Checked<'_>,
    caller: &Caller<'_>,
    offered: &Offered<'_>,
    facts: &mut Facts,
) -> Result<Allow, Stop> {
    let length = arrival.body.len() as u64;
    admission::check_size(caller.tenant.plan.body_bytes, length)?;
    if checked.content_length.is_some_and(|announced| announced != length) {
        return Err(Code::BadRequest.into());
    }
    let admitted = admission::admit_chat(offered, arrival.body).map_err(|refused| {
        (facts.model, facts.provider, facts.region) = (refused.model, refused.provider, refused.region);
        refused.denial
    })?;
    facts.model = Some(admitted.model.clone());
    admitted.target.provider.clone_into(&mut facts.provider);
    admitted.target.region.clone_into(&mut facts.region);
    let credential = credential(grounds, &caller.tenant.name, admitted.target.provider)?;
    let Reserved { states, reservation } = reserve(grounds, arrival, caller, &admitted)?;
    facts.reserved = admitted.admission.reserved;
    let cluster = admitted.target.cluster.to_owned();
    let grant = answer::chat(arrival, caller, grounds.registry, admitted, &states);
    Ok(Allow { grant, cluster, credential: Some(credential), facts: Facts::default(), reservation: Some(reservation) })
}

/// The tenant's own key of the provider, else the platform's; a request never leaves without one.
fn credential(
    grounds: &Grounds<'_>,
    tenant: &TenantName,
    provider: &str,
) -> Result<(CredentialHeader, Secret), Denial> {
    let known = grounds.registry.providers.iter().find(|known| known.name == provider);
    let known = known.ok_or(Denial::new(Code::Internal))?;
    let own = grounds.vault.own_key(tenant, provider)?;
    let secret = own.or_else(|| known.platform_key.clone()).ok_or(Denial::new(Code::NoEligibleTarget))?;
    Ok((known.credential, secret))
}

fn reserve(
    grounds: &Grounds<'_>,
    arrival: &Arrival<'_>,
    caller: &Caller<'_>,
    admitted: &Admitted<'_>,
) -> Result<Reserved, Stop> {
    let plan = &caller.tenant.plan;
    let subject = Subject {
        tenant: &caller.tenant.name,
        time_zone: &caller.tenant.time_zone,
        principal: &caller.identity.principal,
        key_id: caller.identity.key_id.as_deref(),
        model: admitted.model,
        limits: &plan.limits,
        key_limits: &caller.identity.limits,
        longest_stream: plan.longest_stream,
    };
    let (reserved, input_estimate) = (admitted.admission.reserved, admitted.admission.input_estimate);
    let terms = Terms { cost: admitted.cost.clone(), reserved, input_estimate };
    grounds
        .ledger
        .reserve(now(arrival), arrival.grant_id, &subject, reserved, terms, arrival.proxy)
        .map_err(|refused| limits::refusal(&refused))
}

fn now(arrival: &Arrival<'_>) -> Now {
    Now { unix_ms: u64::try_from(arrival.now.as_millisecond()).unwrap_or(0) }
}

/// A path as audit and log may show it: no query, visible ASCII, bounded.
fn printable_path(path: &str) -> String {
    let bare = path.split(['?', '#']).next().unwrap_or_default();
    bare.chars().take(256).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
