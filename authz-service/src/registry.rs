//! The compiled set of resources that requests are decided by: immutable, shared, swapped whole.
//!
//! Built by `resource` and by nothing else; nothing in here is read from the network.

mod endpoint;
mod key;
mod method;
mod permits;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::chat::OutputLimitField;
use gateway_core::denial::{Code, Words};
use gateway_core::name::{ModelName, TenantName};
use gateway_core::price::ModelCost;

pub use self::endpoint::{Endpoint, EndpointKind};
pub use self::key::{KeyAges, KeyTerms, WrittenKey};
pub use self::method::Method;
pub use self::permits::Permits;
use crate::authorization::Rules;
use crate::identity::certificate::Bundle;
use crate::identity::discovery::Network;
use crate::identity::jwt::KeySet;

/// One version of everything that operators wrote.
#[derive(Debug, Default)]
pub struct Registry {
    /// First 16 hex digits of the SHA-256 over the sources: names the version in grants and audit records.
    pub version: String,
    /// The same without the files that hold nothing but API keys: equal, and only keys can differ.
    pub without_keys: String,
    /// By name.
    pub tenants: HashMap<TenantName, Arc<Tenant>>,
    /// By canonical name and by every alias.
    pub models: HashMap<ModelName, Arc<Model>>,
    /// By name, in the order of their names: the first that serves the model in an allowed region is taken.
    pub providers: Vec<Arc<Provider>>,
    /// Path templates and what they lead to; no path matches two with different claims.
    pub endpoints: Vec<Endpoint>,
    /// API keys by key id.
    pub keys: HashMap<String, Arc<KeyTerms>>,
    /// Every provider's extra root fields of a chat body, together: what parsing lets through for the provider to judge.
    pub extra_fields: BTreeSet<String>,
    /// Issuer URL → who trusts it.
    pub issuers: HashMap<String, Vec<Arc<Issuer>>>,
    /// SPIFFE trust domain → the one tenant whose clients' certificates name it.
    pub trust_domains: HashMap<String, Arc<TrustDomain>>,
    /// The rules of the tenants that have any.
    pub rules: HashMap<TenantName, Arc<Rules>>,
    /// Words for refusals, of tenants that have their own.
    pub errors: HashMap<TenantName, Arc<Words>>,
    /// Tenants whose answers under way are cut when the credential that asked for them ends.
    pub cut: BTreeSet<TenantName>,
}

/// A tenant and its plan.
#[derive(Debug)]
pub struct Tenant {
    /// Its name.
    pub name: TenantName,
    /// Whether it may send requests at all.
    pub state: TenantState,
    /// Resolved plan.
    pub plan: Arc<Plan>,
    /// Canonical names of the models it may use.
    pub models: BTreeSet<ModelName>,
    /// Regions its requests may go to.
    pub regions: BTreeSet<String>,
    /// IANA time zone of its calendar windows.
    pub time_zone: jiff::tz::TimeZone,
    /// How old its API keys may get.
    pub key_ages: KeyAges,
}

/// Only `Active` tenants are admitted; the others are refused by their own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantState {
    /// Admitted.
    Active,
    /// Refused: an operator narrowed it (finer rules come with policies).
    Restricted,
    /// Refused: incident.
    Isolated,
    /// Refused: leaving.
    Offboarding,
}

/// What a plan sells.
#[derive(Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Every one must admit a request.
    pub limits: Vec<Limit>,
    /// Greatest output tokens per choice: larger requests are clamped.
    pub output_tokens: u64,
    /// Greatest estimated prompt in tokens: larger ones are refused.
    pub prompt_tokens: u64,
    /// Greatest body in bytes, at most [`gateway_core::wire::MAX_BODY_BYTES`].
    pub body_bytes: u64,
    /// Greatest `n`.
    pub choices: u64,
    /// What is reserved before sending.
    pub reserve: Reserve,
    /// After this an armed reservation that was never settled becomes spend.
    pub longest_stream: Duration,
    /// 0 (lowest) to 100.
    pub priority: u8,
    /// Profile `inline`: a worker may use a grant for requests alike this long. Zero: for one request.
    pub grant_ttl: Duration,
    /// How closely decisions are written down.
    pub audit: Audit,
    /// Long jobs; none: there are none.
    pub jobs: Option<Jobs>,
    /// How its tenants' principals may prove who they are.
    pub methods: BTreeSet<Method>,
}

/// Jobs that outlive the credential that started them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jobs {
    /// None runs longer.
    pub longest: Duration,
    /// Their credentials live this long.
    pub renew_every: Duration,
}

/// How closely decisions are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// A held grant stands for the requests that use it; each has a record of its own once it has ended.
    Standard,
    /// Each request is decided, and written down, before it goes on: no grant is held.
    Strict,
}

/// What is reserved before a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// The worst case: a budget is never overrun.
    Bound,
    /// Input by mean bytes per token and `1/4` of the clamped output: more concurrency, published overrun.
    Estimate,
}

/// One limit of a plan or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Name as answers and audit give it; unique within its plan.
    pub name: String,
    /// What it counts.
    pub counts: Counts,
    /// Over whom.
    pub scope: Scope,
    /// The greatest amount, in the unit of `counts` (for `InFlight`: requests at once).
    pub amount: u64,
    /// How it comes back.
    pub refill: Refill,
}

/// What rules watch: spend that is counted as a budget's is, and that refuses nothing by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watch {
    /// What it counts.
    pub counts: Counts,
    /// Of each principal; else of the tenant.
    pub each_principal: bool,
    /// Since when.
    pub window: Window,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counts {
    /// GPU-milliseconds, weighted.
    GpuMs,
    /// Tokens, in and out.
    Tokens,
    /// Millionths of a US dollar.
    MicroUsd,
    /// Requests.
    Requests,
}

/// Over whom a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// All of the tenant.
    Tenant,
    /// Each principal of the tenant.
    Principal,
    /// Each API key (JWT callers count per principal).
    Key,
    /// Each model.
    Model,
}

/// How a limit comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refill {
    /// A budget: reserved before, settled after, whole again when the window turns (calendar-aligned in the tenant's
    /// time zone).
    Window(Window),
    /// A post-paid rate (GCRA): `amount` per this long, debts delay the next request.
    Rate(Duration),
    /// At once: given back when the request ends.
    InFlight,
}

/// Calendar windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    /// Minute.
    Minute,
    /// Hour.
    Hour,
    /// Day, in the tenant's time zone.
    Day,
    /// Month, in the tenant's time zone.
    Month,
}

/// A model: its canonical name and its price.
#[derive(Debug)]
pub struct Model {
    /// Canonical name.
    pub name: ModelName,
    /// Its other names.
    pub aliases: Vec<ModelName>,
    /// Price book row.
    pub cost: ModelCost,
    /// GPU class, for reports.
    pub gpu_class: String,
    /// Date of the price book row, in seconds since 1970: `created` in the models list.
    pub since: i64,
}

/// Where models are served.
#[derive(Debug)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// Envoy cluster, the value of the route header.
    pub cluster: String,
    /// Where it computes.
    pub region: String,
    /// Canonical model → the name the provider knows.
    pub models: HashMap<ModelName, String>,
    /// Path of its chat completions.
    pub upstream_path: String,
    /// How it takes its credential.
    pub credential: CredentialHeader,
    /// The platform's own key of it: 0600, read at load.
    pub credential_file: Option<PathBuf>,
    /// The platform's key, read from `credential_file`.
    pub platform_key: Option<crate::vault::Secret>,
    /// Root fields of a chat body that it takes beyond OpenAI's.
    pub extra_fields: BTreeSet<String>,
    /// Field that bounds the output.
    pub output_limit: OutputLimitField,
}

/// How a provider takes its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialHeader {
    /// `Authorization: Bearer …`
    Bearer,
    /// `x-api-key: …`
    XApiKey,
    /// `x-goog-api-key: …`
    XGoogApiKey,
}

/// An issuer that one tenant trusts.
#[derive(Debug)]
pub struct Issuer {
    /// Exact `iss`.
    pub url: String,
    /// Who trusts it.
    pub tenant: TenantName,
    /// The token's `aud` must hold one of these.
    pub audiences: BTreeSet<String>,
    /// Name of the claim that names the tenant; without one the issuer speaks for its tenant alone.
    pub tenant_claim: Option<String>,
    /// Greatest `exp - iat` (or `exp - now` without `iat`).
    pub max_lifetime: Duration,
    /// Verification keys, pinned to their algorithms.
    pub keys: IssuerKeys,
    /// What its principals may use.
    pub permits: Permits,
    /// What scopes permit of that; without, all of it.
    pub scopes: Option<Scopes>,
}

/// The SPIFFE trust domain of one tenant, and what vouches for the certificates in it.
#[derive(Debug)]
pub struct TrustDomain {
    /// Its name.
    pub name: String,
    /// Whose.
    pub tenant: TenantName,
    /// The tenant's CAs.
    pub bundle: Bundle,
    /// What holders of its certificates may use.
    pub permits: Permits,
}

/// Where an issuer's keys are.
#[derive(Debug)]
pub enum IssuerKeys {
    /// In a file beside the resources.
    File(Arc<KeySet>),
    /// Where the issuer publishes them: held by [`crate::identity::discovery::KeyRing`].
    Published(Discovery),
}

/// How the keys that an issuer publishes are read and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Addresses that are not public and may be connected to all the same, also without TLS.
    pub private_addresses: Vec<Network>,
    /// How often they are read again.
    pub refresh: Duration,
    /// How old they may get while they cannot be read.
    pub max_stale: Duration,
    /// How often tokens with a key that is not there may have them read out of turn.
    pub unknown_key_interval: Duration,
}

/// What the scopes of an issuer's tokens permit.
#[derive(Debug)]
pub struct Scopes {
    /// Name of the claim: a text with spaces between, or a list.
    pub claim: String,
    /// By scope, within what the issuer's principals may use.
    pub permits: HashMap<String, Permits>,
}

impl Issuer {
    /// What tokens with these scopes may use at an endpoint: what the roles of any of them do. Without scopes: its role.
    pub fn permits_at<'a>(&self, scopes: impl Iterator<Item = &'a str>, endpoint: EndpointKind) -> Permits {
        let Some(known) = &self.scopes else { return self.permits.clone() };
        Permits::any_at(scopes.filter_map(|name| known.permits.get(name)), endpoint)
    }
}

impl Registry {
    /// A tenant whose requests may be admitted.
    ///
    /// # Errors
    /// [`Code::InvalidCredential`] when there is none of this name any more; [`Code::TenantSuspended`] unless it is active.
    pub fn active(&self, name: &TenantName) -> Result<&Arc<Tenant>, Code> {
        let tenant = self.tenants.get(name).ok_or(Code::InvalidCredential)?;
        if tenant.state == TenantState::Active { Ok(tenant) } else { Err(Code::TenantSuspended) }
    }

    /// The words for refusals that a tenant's callers read.
    #[must_use]
    pub fn words(&self, tenant: &TenantName) -> Arc<Words> {
        self.errors.get(tenant).cloned().unwrap_or_default()
    }

    /// What the rules of a tenant watch.
    #[must_use]
    pub fn watched(&self, tenant: &TenantName) -> &[Watch] {
        self.rules.get(tenant).map_or(&[], |rules| rules.watched())
    }

    /// The endpoint that a path leads to, with the claims in it. `path` is canonical and without its query.
    #[must_use]
    pub fn endpoint<'a>(&'a self, path: &'a str) -> Option<(&'a Endpoint, gateway_core::claims::PathClaims<'a>)> {
        self.endpoints.iter().find_map(|endpoint| Some((endpoint, endpoint.template.matches(path)?)))
    }

    /// Who serves this model to this tenant: the first provider in an allowed region.
    #[must_use]
    pub fn target(&self, tenant: &Tenant, model: &ModelName) -> Option<(&Arc<Provider>, &str)> {
        self.providers
            .iter()
            .filter(|provider| tenant.regions.contains(&provider.region))
            .find_map(|provider| provider.models.get(model).map(|upstream| (provider, upstream.as_str())))
    }
}
