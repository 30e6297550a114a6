//! The three customers' credentials: identity providers that sign their tokens, and API keys that the service makes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bulkhead_tests::gateway::Service;
use bulkhead_tests::mint::{Alg, Issuer, now};
use serde_json::json;

/// The tenants of examples/quickstart/policies, each with its identity provider.
pub(crate) const TENANTS: [(&str, &str); 3] = [
    ("acme", "https://id.acme.example"),
    ("globex", "https://login.globex.example"),
    ("initech", "https://sso.initech.example"),
];
/// What `--keep` hands out lives half a day; the tenants' resources allow a day.
const LONG: u64 = 12 * 3600;

/// The identity providers, with keys that are made for one run.
pub(crate) struct Issuers(BTreeMap<&'static str, Issuer>);

impl Issuers {
    pub(crate) fn new() -> Self {
        Self(TENANTS.iter().map(|(tenant, url)| (*tenant, Issuer::new(url, tenant))).collect())
    }

    /// Writes each one's public keys to where its `Tenant` looks for them.
    pub(crate) fn publish(&self, policies: &Path) -> std::io::Result<()> {
        let folder = policies.join("jwks");
        fs::create_dir_all(&folder)?;
        self.0.iter().try_for_each(|(tenant, issuer)| {
            fs::write(folder.join(format!("{tenant}.json")), format!("{:#}\n", issuer.jwks()))
        })
    }

    /// A good ES256 token, for five minutes.
    pub(crate) fn token(&self, tenant: &str) -> String {
        self.0[tenant].token(Alg::Es256)
    }

    /// One for half a day.
    pub(crate) fn long_token(&self, tenant: &str) -> String {
        self.token_until(tenant, now() + LONG)
    }

    /// One that was good until an hour ago.
    pub(crate) fn expired_token(&self, tenant: &str) -> String {
        self.token_until(tenant, now() - 3600)
    }

    fn token_until(&self, tenant: &str, end: u64) -> String {
        let issuer = &self.0[tenant];
        let mut claims = issuer.claims();
        claims["iat"] = json!(now().min(end) - 60);
        claims["exp"] = json!(end);
        issuer.token_with(Alg::Es256, &claims)
    }
}

/// API keys of one run.
pub(crate) struct Keys {
    of: BTreeMap<&'static str, String>,
    /// acme's second one: role `small-models-only`.
    pub(crate) small: String,
}

impl Keys {
    /// Has the service make them, as an operator would.
    pub(crate) async fn create(service: &Service) -> Self {
        let mut of = BTreeMap::new();
        for (tenant, _) in TENANTS {
            of.insert(tenant, service.create_key(tenant, &[]).await);
        }
        let small = service.create_key("acme", &["--role", "small-models-only"]).await;
        Self { of, small }
    }

    /// A tenant's key.
    pub(crate) fn of(&self, tenant: &str) -> &str {
        &self.of[tenant]
    }
}
