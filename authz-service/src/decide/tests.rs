//! Decisions over a small world that is made by hand: two tenants, three models, three providers.

mod certificates;
mod context;
mod differential;
mod heads;
mod isolation;
mod keys;
mod rules;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use gateway_core::chat::OutputLimitField;
use gateway_core::claims::PathTemplate;
use gateway_core::price::{ModelCost, Prices};
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::identity::api_key::{KeyRecord, Keys, NewKey};
use crate::ledger::{Now, Subject};
use crate::registry::{
    Audit, Counts, Endpoint, KeyAges, KeyTerms, Limit, Method, Model, Permits, Plan, Provider, Refill, Reserve, Scope,
    TenantState, Window, WrittenKey,
};
use crate::vault::system_random;

pub(crate) const NOW: &str = "2026-11-22T12:00:00Z";

/// No issuer publishes its keys here.
static OFFLINE: LazyLock<KeyRing> = LazyLock::new(KeyRing::offline);
static OWN: LazyLock<Own> = LazyLock::new(Own::default);

/// What decisions are made from, and the credentials that prove somebody in it.
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) keys: Keys,
    pub(crate) jobs: HashMap<String, Arc<JobRecord>>,
    revoked_certificates: RevokedSerials,
    ledger: Ledger,
    sightings: Sightings,
    /// Tenants and providers: whose own keys there are.
    pub(crate) own: BTreeSet<(&'static str, &'static str)>,
    /// Texts of API keys.
    credentials: Vec<String>,
}

impl OwnKeys for World {
    fn own_key(&self, tenant: &TenantName, provider: &str) -> Result<Option<Secret>, Denial> {
        Ok(self.has_own_key(tenant, provider).then(|| Secret::new(b"sk-own".to_vec())))
    }

    fn has_own_key(&self, tenant: &TenantName, provider: &str) -> bool {
        self.own.contains(&(tenant.as_str(), provider))
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let models = [model("meta/llama-8b", &["llama", "small"], None), model("gpt", &["gpt-4"], Some(1500))];
        let models = models.into_iter().chain([model("phi", &["phi-4"], None), model("nowhere", &[], None)]);
        let mut registry = Registry { version: "v1".into(), ..Registry::default() };
        for model in models.map(Arc::new) {
            for name in [&model.name].into_iter().chain(&model.aliases) {
                registry.models.insert(name.clone(), Arc::clone(&model));
            }
        }
        registry.tenants = [
            tenant("acme", &["meta/llama-8b", "gpt", "nowhere"], &["eu", "us"], Reserve::Bound),
            tenant("globex", &["meta/llama-8b", "phi"], &["us"], Reserve::Estimate),
        ]
        .into_iter()
        .map(|tenant| (tenant.name.clone(), Arc::new(tenant)))
        .collect();
        registry.providers = [
            provider("house", "eu", &[("meta/llama-8b", "llama")], &["top_k"], Some("sk-house")),
            provider("open", "us", &[("gpt", "gpt"), ("meta/llama-8b", "meta/llama-8b")], &["min_p"], Some("sk-open")),
            provider("small", "us", &[("phi", "phi-4-mini")], &[], None),
        ]
        .map(Arc::new)
        .into();
        registry.extra_fields = ["top_k", "min_p"].map(str::to_owned).into();
        registry.endpoints = [
            ("/v1/chat/completions", EndpointKind::Chat),
            ("/v1/models", EndpointKind::Models),
            ("/bulkhead/v1/keys/rotate", EndpointKind::Rotate),
            ("/t/{tenant}/m/{model}", EndpointKind::Chat),
        ]
        .map(|(path, kind)| Endpoint { template: PathTemplate::parse(path).unwrap(), kind })
        .into();
        let own = BTreeSet::from([("acme", "open")]);
        let mut world = Self {
            registry,
            keys: Keys::new(),
            jobs: HashMap::new(),
            revoked_certificates: RevokedSerials::new(),
            ledger: Ledger::default(),
            sightings: Sightings::default(),
            own,
            credentials: Vec::new(),
        };
        let narrow = Permits { models: Some(BTreeSet::from([name("gpt")])), ..Permits::default() };
        for (tenant, permits) in [("acme", Permits::default()), ("acme", narrow), ("globex", Permits::default())] {
            world.mint(tenant, permits, Vec::new());
        }
        world
    }

    /// A key that expires in a day.
    pub(crate) fn mint(&mut self, tenant: &str, permits: Permits, limits: Vec<Limit>) {
        let (made, tenant) = (NewKey::generate(&mut system_random).unwrap(), TenantName::parse(tenant).unwrap());
        let (id, created_at) = (made.id.clone(), now());
        let expires_at = created_at + SignedDuration::from_hours(24);
        let (ages, written) = (KeyAges::default(), WrittenKey::default());
        let terms = KeyTerms {
            id: id.clone(),
            tenant: tenant.clone(),
            permits,
            limits,
            sources: None,
            expires_at,
            ages,
            written,
        };
        self.registry.keys.insert(id.clone(), Arc::new(terms));
        let record = KeyRecord::first(&id, tenant, made.hash, created_at);
        self.keys.insert(id, record);
        self.credentials.push(made.text.expose().to_owned());
    }

    fn plan(&mut self, tenant: &str, change: impl FnOnce(&mut Plan)) {
        let tenant = Arc::get_mut(self.registry.tenants.get_mut(tenant).unwrap()).unwrap();
        change(Arc::get_mut(&mut tenant.plan).unwrap());
    }

    fn grounds(&self) -> Grounds<'_> {
        Grounds {
            registry: &self.registry,
            published: &OFFLINE,
            keys: &self.keys,
            revoked_certificates: &self.revoked_certificates,
            vault: self,
            own: &OWN,
            jobs: &self.jobs,
            ledger: &self.ledger,
            sightings: &self.sightings,
            claim_header: gateway_core::wire::CLAIM_HEADER,
        }
    }
}

/// One request of the world.
#[derive(Clone, Debug)]
struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    certificate: String,
    now: Timestamp,
    source: Option<std::net::IpAddr>,
    number: u32,
}

impl Ask {
    fn chat(credential: &str, body: &str) -> Self {
        Self {
            method: "POST",
            path: "/v1/chat/completions".into(),
            headers: vec![
                ("x-api-key", credential.to_owned()),
                ("content-type", "application/json".into()),
                ("content-length", body.len().to_string()),
            ],
            body: body.into(),
            certificate: String::new(),
            now: now(),
            source: None,
            number: 0,
        }
    }

    /// The whole request, decided by the service.
    fn whole(&self, world: &World) -> Decision {
        self.arrival(&self.body, |arrival| decide(&world.grounds(), arrival))
    }

    /// Its head.
    fn head(&self, world: &World, epoch: u64) -> Decision {
        self.arrival(&[], |arrival| decide_head(&world.grounds(), arrival, epoch))
    }

    fn arrival<T>(&self, body: &[u8], decide: impl FnOnce(&Arrival<'_>) -> T) -> T {
        let headers: Vec<(&str, &[u8])> = self.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.number.to_be_bytes());
        decide(&Arrival {
            head: Head { method: self.method, authority: "ai.example", path: &self.path, headers: &headers },
            body,
            request_id: "r-1",
            proxy: "edge-1",
            source: self.source,
            certificate: &self.certificate,
            now: self.now,
            grant_id: GrantId(id),
        })
    }
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn model(canonical: &str, aliases: &[&str], media_tokens: Option<u64>) -> Model {
    let cost = ModelCost::new(Prices {
        gpu_ms_per_1k_input: 40,
        gpu_ms_per_1k_output: 900,
        gpu_ms_fixed: 5,
        gpu_weight_permille: 1500,
        micro_usd_per_1m_input: 180_000,
        micro_usd_per_1m_cached_input: 90_000,
        micro_usd_per_1m_output: 720_000,
        micro_usd_fixed: canonical.len() as u64,
        min_bytes_per_token: 1,
        mean_bytes_per_token: 4,
        media_tokens,
    });
    let aliases = aliases.iter().map(|alias| name(alias)).collect();
    Model { name: name(canonical), aliases, cost: cost.unwrap(), gpu_class: "l4".into(), since: 0 }
}

fn tenant(tenant: &str, models: &[&str], regions: &[&str], reserve: Reserve) -> Tenant {
    let plan = Plan {
        name: "plan".into(),
        limits: Vec::new(),
        output_tokens: 256,
        prompt_tokens: 100,
        body_bytes: 1500,
        choices: 2,
        reserve,
        longest_stream: Duration::from_secs(600),
        priority: 0,
        grant_ttl: Duration::from_secs(10),
        audit: Audit::Standard,
        jobs: None,
        methods: Method::all(),
    };
    Tenant {
        name: TenantName::parse(tenant).unwrap(),
        state: TenantState::Active,
        plan: Arc::new(plan),
        models: models.iter().map(|model| name(model)).collect(),
        regions: regions.iter().map(|region| (*region).to_owned()).collect(),
        time_zone: jiff::tz::TimeZone::UTC,
        key_ages: KeyAges::default(),
    }
}

fn provider(
    provider: &str,
    region: &str,
    models: &[(&str, &str)],
    extra_fields: &[&str],
    platform_key: Option<&str>,
) -> Provider {
    let old = provider == "house";
    Provider {
        name: provider.into(),
        cluster: format!("cluster-{provider}"),
        region: region.into(),
        models: models.iter().map(|(model, upstream)| (name(model), (*upstream).to_owned())).collect(),
        upstream_path: if old { "/openai/v1/chat/completions".into() } else { String::new() },
        credential: CredentialHeader::Bearer,
        credential_file: None,
        platform_key: platform_key.map(|key| Secret::new(key.into())),
        extra_fields: extra_fields.iter().map(|field| (*field).to_owned()).collect(),
        output_limit: if old { OutputLimitField::MaxTokens } else { OutputLimitField::MaxCompletionTokens },
    }
}

fn limit(counts: Counts, scope: Scope, refill: Refill) -> Limit {
    Limit { name: format!("{scope:?}").to_lowercase(), counts, scope, amount: 1_000_000, refill }
}

fn daily(scope: Scope) -> Limit {
    limit(Counts::Tokens, scope, Refill::Window(Window::Day))
}
