//! The one decision function. ext_authz, and whatever else asks who may do what, are translations of it.
//!
//! Synchronous and without I/O: the registry, the keys and the ledger are in memory, time and random bytes are
//! arguments. Precedence: syntax of the head, endpoint, claims against each other, credential, tenant, body, limits; the
//! first that fails is the answer. In profile `inline` it ends before the body, and the module goes on from the terms of
//! the grant. What cannot be decided is denied.

mod access;
mod answer;
mod body;
mod caller;
mod catalog;
mod lease;
pub(crate) mod limits;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use gateway_core::claims;
use gateway_core::denial::{Code, Denial};
use gateway_core::gate;
use gateway_core::headers::{self, Head};
use gateway_core::name::{ModelName, TenantName};
use gateway_core::wire;

use crate::identity::api_key::Keys;
use crate::identity::certificate::RevokedSerials;
use crate::identity::discovery::KeyRing;
use crate::identity::job::JobRecord;
use crate::identity::jwt::own::Own;
use crate::identity::{CredentialKind, Identity};
use crate::ledger::{GrantId, Ledger, Reservation};
use crate::registry::{CredentialHeader, EndpointKind, Registry, Tenant};
use crate::sightings::Sightings;
use crate::vault::Secret;

use self::access::Access;
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
    /// The client's address as the proxy trusts it.
    pub source: Option<IpAddr>,
    /// The client's certificate as Envoy gives it (PEM, URL-encoded); empty without one.
    pub certificate: &'a str,
    /// When.
    pub now: jiff::Timestamp,
    /// The grant's id: 16 bytes, at least 80 random bits of them.
    pub grant_id: GrantId,
}

/// What decisions are made from.
pub struct Grounds<'a> {
    /// What operators wrote.
    pub registry: &'a Registry,
    /// The keys that issuers publish.
    pub published: &'a KeyRing,
    /// What the store keeps of API keys, by key id.
    pub keys: &'a Keys,
    /// Clients' certificates that operators revoked.
    pub revoked_certificates: &'a RevokedSerials,
    /// The tenants' own keys of providers.
    pub vault: &'a dyn OwnKeys,
    /// The service as an issuer of tokens.
    pub own: &'a Own,
    /// Long jobs, by their ids.
    pub jobs: &'a HashMap<String, Arc<JobRecord>>,
    /// Budgets, rates, requests in flight.
    pub ledger: &'a Ledger,
    /// Where principals are known from.
    pub sightings: &'a Sightings,
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
    pub credential: Option<CredentialKind>,
    /// Who acts for the principal, the latest first.
    pub actors: Vec<String>,
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
    /// The policy that decided: of an allowance the permit, empty where there is none but the tenant's own terms.
    pub policy: String,
    /// The request makes the network that it comes from known.
    pub introduces: bool,
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
        let headers =
            denial.challenge().map(|challenge| Field::new("www-authenticate", challenge)).into_iter().collect();
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
    if arrival.head.method != endpoint.kind.method() {
        return Err(Code::MethodNotAllowed.into());
    }
    let identity = caller::identify(grounds, arrival, &checked, endpoint.kind)?;
    facts.tenant = Some(identity.tenant.clone());
    facts.principal.clone_from(&identity.principal);
    facts.key_id.clone_from(&identity.key_id);
    facts.credential = Some(identity.kind);
    facts.actors = identity.actors.iter().map(|actor| actor.name.clone()).collect();
    let tenant = caller::tenant(registry, &identity, &checked, &claims)?;
    if identity.permits.endpoints.as_ref().is_some_and(|permitted| !permitted.contains(&endpoint.kind)) {
        return Err(Code::EndpointNotAllowed.into());
    }
    let access = Access::new(grounds, &identity, tenant, arrival);
    facts.policy = access.at(endpoint.kind)?;
    facts.introduces = access.introduces();
    match endpoint.kind {
        EndpointKind::Rotate if identity.kind != CredentialKind::ApiKey => {
            Err(Denial::new(Code::EndpointNotAllowed).detail("Only an API key is rotated here.").into())
        }
        EndpointKind::Models
        | EndpointKind::Rotate
        | EndpointKind::Token
        | EndpointKind::Job
        | EndpointKind::JobRenewal => {
            body::check_length(&checked, wire::MAX_DATA_BODY_BYTES as u64)?;
            Ok(answer::data(arrival, &identity, tenant, &access, checked.content_length, room))
        }
        EndpointKind::Chat => {
            let caller = Caller { identity: &identity, tenant };
            let (permits, path_model, vault) = (&identity.permits, claims.model, grounds.vault);
            let offered = Offered { registry, tenant, permits, path_model, vault, access: &access };
            body::check_length(&checked, tenant.plan.body_bytes)?;
            match room {
                Room::Whole => body::chat(grounds, arrival, &checked, &caller, &offered, facts),
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

/// A path as audit and log may show it: no query, visible ASCII, bounded.
pub(crate) fn printable_path(path: &str) -> String {
    let bare = path.split(['?', '#']).next().unwrap_or_default();
    bare.chars().take(256).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
