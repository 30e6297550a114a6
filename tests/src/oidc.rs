//! The certified OpenID provider (npm `oidc-provider`) as tests run it: `tests/oidc/provider.mjs`, with a door to rotate its
//! keys by.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::configuration::repository;
use crate::gateway::builder::cache;
use crate::process::Process;
use crate::{client, eventually};

/// A running provider; dropping it ends it.
#[derive(Debug)]
pub struct Provider {
    /// Its process.
    pub process: Process,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Provider {
    /// Starts one that logs into a directory.
    ///
    /// # Panics
    /// It does not come up, or was never installed.
    pub async fn start(directory: &Path) -> Self {
        let modules =
            std::env::var_os("OIDC_PROVIDER").map_or_else(|| cache().join("oidc-provider-9.13.3"), PathBuf::from);
        assert!(modules.is_dir(), "no oidc-provider in {}: run tests/install.sh oidc", modules.display());
        let script = repository().join("tests/oidc/provider.mjs");
        let arguments = [script.display().to_string(), modules.display().to_string()];
        let log = directory.join("oidc-provider.log");
        let process = Process::start(
            "oidc-provider",
            Path::new("/usr/bin/env"),
            &[&["node".into()], &arguments[..]].concat(),
            &log,
        )
        .await;
        let port = eventually("the provider's port", async || {
            assert!(process.running(), "{}", process.tail());
            process.log().lines().find_map(|line| line.strip_prefix("listening on ")?.parse().ok())
        })
        .await;
        Self { process, port }
    }

    /// Its issuer URL.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The entry of `Tenant.spec.issuers` by which acme trusts it; `discovery` has its settings beside the address.
    #[must_use]
    pub fn trusted(&self, discovery: &Value) -> Value {
        let mut discovery = discovery.clone();
        discovery["privateAddresses"] = json!(["127.0.0.1/32"]);
        json!({"issuer": self.issuer(), "audiences": ["bulkhead"], "discovery": discovery, "tenantClaim": "tenant"})
    }

    /// A good access token of acme's (client credentials), with these scopes.
    ///
    /// # Panics
    /// The provider refuses.
    pub async fn token(&self, scope: &str) -> String {
        let form = format!(
            "grant_type=client_credentials&client_id=pipeline&client_secret=a-secret-of-the-tests&scope={}",
            scope.replace(' ', "+")
        );
        let answer = self.post("/token", &form).await;
        answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// Adds a key that does not sign yet.
    ///
    /// # Panics
    /// The provider does not answer.
    pub async fn publish(&self) {
        self.post("/test/publish", "").await;
    }

    /// Signs with the newest key from now on.
    ///
    /// # Panics
    /// The provider does not answer.
    pub async fn sign(&self) {
        self.post("/test/sign", "").await;
    }

    /// Takes all keys away but the one that signs.
    ///
    /// # Panics
    /// The provider does not answer.
    pub async fn remove(&self) {
        self.post("/test/remove", "").await;
    }

    /// Its published keys.
    ///
    /// # Panics
    /// The provider does not answer.
    pub async fn jwks(&self) -> Value {
        let text = client::get(([127, 0, 0, 1], self.port).into(), "/jwks").await.expect("the key set");
        serde_json::from_str(&text).expect("JSON")
    }

    async fn post(&self, path: &str, form: &str) -> Value {
        let request = Request::post(path)
            .header("host", format!("127.0.0.1:{}", self.port))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form.to_owned())))
            .expect("a request");
        let answer = client::request(([127, 0, 0, 1], self.port).into(), request).await.expect("the provider's answer");
        answer.json()
    }
}
