//! The one decision function. ext_authz, and whatever else asks who may do what, are translations of it.
//!
//! Synchronous and without I/O: the registry, the keys and the ledger are in memory, time and random bytes are
//! arguments. Precedence: syntax of the head, endpoint, credential, tenant, body, limits; the first that fails is the
//! answer. What cannot be decided is denied.

mod answer;
mod limits;

use std::collections::HashMap;
use std::sync::Arc;

use gateway_core::chat::{Admission, AdmitTerms};
use gateway_core::claims::{PathClaims, agree_tenant};
use gateway_core::denial::{Code, Denial};
use gateway_core::gate;
use gateway_core::headers::{self, Checked, Credential, Head};
use gateway_core::name::{ModelName, TenantName};
use gateway_core::price::Terms;
use gateway_core::wire;

use crate::identity::api_key::{self, ApiKeyText, KeyRecord};
use crate::identity::discovery::KeyRing;
use crate::identity::jwt::{self, Trust};
use crate::identity::{CredentialError, Identity};
use crate::ledger::{GrantId, Ledger, Now, Reservation, Reserved, Subject};
use crate::registry::{CredentialHeader, EndpointKind, Model, Provider, Registry, Reserve, Tenant, TenantState};
use crate::vault::Secret;

pub use limits::{Field, fields};

/// One request as Envoy describes it, with everything that a decision reads. Never printed: its headers hold the
/// credential.
pub struct Arrival<'a> {
    /// Method, authority, path, headers.
    pub head: Head<'a>,
    /// The whole body.
    pub body: &'a [u8],
    /// Envoy's request id.
    pub request_id: &'a str,
    /// The proxy that asks.
    pub proxy: &'a str,
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
    /// Envoy cluster.
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

/// Decides one request. On `Allow` with a reservation the ledger holds it: whoever cannot deliver the answer undoes it.
#[must_use]
pub fn decide(grounds: &Grounds<'_>, arrival: &Arrival<'_>) -> Decision {
    let path = printable_path(arrival.head.path);
    let mut facts = Facts { path, policy_version: grounds.registry.version.clone(), ..Facts::default() };
    match admit(grounds, arrival, &mut facts) {
        Ok(allow) => Decision::Allow(Box::new(Allow { facts, ..allow })),
        Err(Stop { denial, headers }) => Decision::Deny(Box::new(Deny { denial, headers, facts })),
    }
}

/// A denial and the headers that go with it.
struct Stop {
    denial: Denial,
    headers: Vec<Field>,
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

fn admit(grounds: &Grounds<'_>, arrival: &Arrival<'_>, facts: &mut Facts) -> Result<Allow, Stop> {
    let registry = grounds.registry;
    let checked = headers::check(&arrival.head, grounds.claim_header)?;
    let (endpoint, claims) = registry.endpoint(checked.path).ok_or(Code::NotFound)?;
    if arrival.head.method != method(endpoint.kind) {
        return Err(Code::MethodNotAllowed.into());
    }
    let identity = identify(grounds, arrival, &checked, endpoint.kind)?;
    facts.tenant = Some(identity.tenant.clone());
    facts.principal.clone_from(&identity.principal);
    facts.key_id.clone_from(&identity.key_id);
    facts.method = identity.method;
    let tenant = tenant(registry, &identity, &checked, &claims)?;
    if identity.permits.endpoints.as_ref().is_some_and(|permitted| !permitted.contains(&endpoint.kind)) {
        return Err(Code::EndpointNotAllowed.into());
    }
    match endpoint.kind {
        EndpointKind::Models => Ok(answer::data(arrival, &identity, tenant, registry)),
        EndpointKind::Chat => chat(grounds, arrival, &checked, &Caller { identity: &identity, tenant, claims }, facts),
    }
}

/// Who asks, and what the path said beside.
struct Caller<'a> {
    identity: &'a Identity,
    tenant: &'a Arc<Tenant>,
    claims: PathClaims<'a>,
}

const fn method(kind: EndpointKind) -> &'static str {
    match kind {
        EndpointKind::Chat => "POST",
        EndpointKind::Models => "GET",
    }
}

fn identify(
    grounds: &Grounds<'_>,
    arrival: &Arrival<'_>,
    checked: &Checked<'_>,
    endpoint: EndpointKind,
) -> Result<Identity, Denial> {
    let identity = match checked.credential {
        Credential::None => return Err(Code::MissingCredential.into()),
        Credential::ApiKey(text) => by_key(grounds, text, arrival.now),
        Credential::Bearer(text) if text.starts_with(api_key::PREFIX) => by_key(grounds, text, arrival.now),
        Credential::Bearer(text) => {
            let now = u64::try_from(arrival.now.as_second()).unwrap_or(0);
            let (issuers, published) = (&grounds.registry.issuers, grounds.published);
            let trust = Trust { issuers, published, certificate: arrival.certificate, endpoint };
            jwt::verify(text, &trust, now).map(Identity::from)
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

fn chat(
    grounds: &Grounds<'_>,
    arrival: &Arrival<'_>,
    checked: &Checked<'_>,
    caller: &Caller<'_>,
    facts: &mut Facts,
) -> Result<Allow, Stop> {
    let registry = grounds.registry;
    let plan = &caller.tenant.plan;
    whole_body(arrival, checked, plan.body_bytes)?;
    let request = gateway_core::chat::parse(arrival.body, &registry.extra_fields)?;
    let model = model(registry, caller, request.model.as_ref())?;
    facts.model = Some(model.name.clone());
    let (provider, upstream_model) = registry.target(caller.tenant, &model.name).ok_or(Code::NoEligibleTarget)?;
    facts.provider.clone_from(&provider.name);
    facts.region.clone_from(&provider.region);
    request.check_fields(&provider.extra_fields)?;
    let admission = request.admit(&AdmitTerms {
        cost: &model.cost,
        upstream_model,
        output_cap: plan.output_tokens,
        prompt_cap: plan.prompt_tokens,
        choices_cap: plan.choices,
        reserve_estimate: plan.reserve == Reserve::Estimate,
        output_limit: provider.output_limit,
    })?;
    let credential = credential(grounds, &caller.tenant.name, provider)?;
    let Reserved { states, reservation } = reserve(grounds, arrival, caller, model, &admission)?;
    facts.reserved = admission.reserved;
    let grant = answer::chat(arrival, caller, registry, model, provider, admission, &states);
    Ok(Allow {
        grant,
        cluster: provider.cluster.clone(),
        credential: Some((provider.credential, credential)),
        facts: Facts::default(),
        reservation: Some(reservation),
    })
}

/// The body is all there, and no larger than the plan allows.
fn whole_body(arrival: &Arrival<'_>, checked: &Checked<'_>, most: u64) -> Result<(), Denial> {
    let length = arrival.body.len() as u64;
    if checked.partial_body
        || length > most.min(wire::MAX_BODY_BYTES)
        || checked.content_length.is_some_and(|n| n > most)
    {
        return Err(Denial::new(Code::BodyTooLarge).detail(format!("The most is {most} bytes.")));
    }
    if checked.content_length.is_some_and(|announced| announced != length) {
        return Err(Code::BadRequest.into());
    }
    Ok(())
}

/// The one model that path and body name: resolved once, what is checked = priced = routed = sent.
fn model<'a>(registry: &'a Registry, caller: &Caller<'_>, body: Option<&ModelName>) -> Result<&'a Arc<Model>, Denial> {
    let not_found = || Denial::new(Code::ModelNotFound).param("model");
    let path = caller.claims.model.map(|text| ModelName::parse(text).map_err(|_| not_found())).transpose()?;
    let resolve = |name: &ModelName| registry.models.get(name);
    let model = match (path.as_ref(), body) {
        (None, None) => return Err(Denial::new(Code::InvalidBody).param("model").detail("It is required.")),
        (Some(name), None) | (None, Some(name)) => resolve(name),
        (Some(path), Some(body)) => match (resolve(path), resolve(body)) {
            (Some(one), Some(other)) if one.name == other.name => Some(one),
            (None, None) if path == body => None,
            _ => return Err(Denial::new(Code::ModelConflict).param("model")),
        },
    };
    let model = model.filter(|model| caller.tenant.models.contains(&model.name)).ok_or_else(not_found)?;
    if caller.identity.permits.models.as_ref().is_some_and(|permitted| !permitted.contains(&model.name)) {
        return Err(Denial::new(Code::ModelNotAllowed).param("model"));
    }
    Ok(model)
}

/// The tenant's own key of the provider, else the platform's; a request never leaves without one.
fn credential(grounds: &Grounds<'_>, tenant: &TenantName, provider: &Provider) -> Result<Secret, Denial> {
    grounds
        .vault
        .own_key(tenant, &provider.name)?
        .or_else(|| provider.platform_key.clone())
        .ok_or_else(|| Denial::new(Code::NoEligibleTarget).detail("There is no key for the provider of this model."))
}

fn reserve(
    grounds: &Grounds<'_>,
    arrival: &Arrival<'_>,
    caller: &Caller<'_>,
    model: &Model,
    admission: &Admission,
) -> Result<Reserved, Stop> {
    let plan = &caller.tenant.plan;
    let subject = Subject {
        tenant: &caller.tenant.name,
        time_zone: &caller.tenant.time_zone,
        principal: &caller.identity.principal,
        key_id: caller.identity.key_id.as_deref(),
        model: &model.name,
        limits: &plan.limits,
        key_limits: &caller.identity.limits,
        longest_stream: plan.longest_stream,
    };
    let terms =
        Terms { cost: model.cost.clone(), reserved: admission.reserved, input_estimate: admission.input_estimate };
    grounds
        .ledger
        .reserve(now(arrival), arrival.grant_id, &subject, admission.reserved, terms, arrival.proxy)
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
