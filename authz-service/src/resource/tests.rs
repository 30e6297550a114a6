//! A small set that holds together, and every way to break it: the exact message with its line.

mod broken;
mod certificates;
mod kept;
mod policies;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

/// A directory of resources in which each test breaks something.
pub(super) struct Dir(tempfile::TempDir);

const TENANTS: &str = "\
apiVersion: bulkhead.dev/v1alpha1
kind: Tenant
metadata: {name: acme}
spec:
  plan: small
  models: [llama-8b, gpt]
  regions: [eu-west]
  timeZone: Europe/Berlin
  role: everything
  namespaces: [acme-prod]
  issuers:
    - issuer: https://id.acme.example
      audiences: [bulkhead]
      jwksFile: keys/acme.json
      maxLifetime: 1h
---
apiVersion: bulkhead.dev/v1alpha1
kind: Role
metadata: {name: everything}
spec: {}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Role
metadata: {name: readers}
spec:
  tenant: acme
  models: [gpt]
  endpoints: [models, chat]
";

const PLANS: &str = "\
apiVersion: bulkhead.dev/v1alpha1
kind: Plan
metadata: {name: small}
spec:
  limits:
    - {name: gpu-day, counts: gpuTime, scope: tenant, amount: 2h, window: day}
    - {name: tokens-minute, counts: tokens, scope: principal, amount: 100k, rate: 1m}
    - {name: at-once, counts: requests, scope: key, amount: 4, inFlight: true}
  caps: {outputTokens: 4k, promptTokens: 32Ki}
  longestStream: 5m
";

const MODELS: &str = "\
apiVersion: bulkhead.dev/v1alpha1
kind: ModelCost
metadata: {name: llama-8b}
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  aliases: [llama-8b]
  gpuClass: l4
  gpuWeightPermille: 1000
  gpuMsPer1kTokens: {input: 120, output: 9000}
  microUsdPer1mTokens: {input: 50k, cachedInput: 25k, output: 200k}
  minBytesPerToken: 1
  meanBytesPerToken: 4
  source: a test
  date: 2026-01-31
---
apiVersion: bulkhead.dev/v1alpha1
kind: ModelCost
metadata: {name: gpt}
spec:
  gpuClass: hosted
  gpuWeightPermille: 1
  gpuMsPer1kTokens: {input: 0, output: 0}
  gpuMsFixed: 1
  microUsdPer1mTokens: {input: 2M, output: 8M}
  microUsdFixed: 5
  minBytesPerToken: 1
  meanBytesPerToken: 4
  mediaTokens: 1500
  source: a test
  date: 2026-01-31
";

const PROVIDERS: &str = "\
apiVersion: bulkhead.dev/v1alpha1
kind: Provider
metadata: {name: house}
spec:
  dialect: openai
  cluster: house
  region: eu-west
  credential: x-api-key
  credentialFile: house.key
  outputLimitField: max_tokens
  extraFields: [top_k]
  upstreamPath: /openai/v1/chat/completions
  models:
    - {name: llama-8b, upstreamName: llama}
    - {name: gpt}
";

const KEY: &str = "\
apiVersion: bulkhead.dev/v1alpha1
kind: ApiKey
metadata: {name: k1k1k1k1k1k1, namespace: acme-prod}
spec:
  tenant: acme
  role: readers
  models: [gpt, llama-8b]
  limits: [{name: key-day, counts: microUsd, amount: 5M, window: day}]
  createdAt: 2026-01-31T12:00:00Z
  expiresAt: 2026-02-02T12:00:00Z
";

/// An Ed25519 key of RFC 8037, appendix A.2.
const JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"a","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

impl Dir {
    /// The set that holds together.
    pub(super) fn whole() -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        let files =
            [("tenants.yaml", TENANTS), ("a/plans.yml", PLANS), ("models.yaml", MODELS), ("providers.yaml", PROVIDERS)];
        for (name, text) in files {
            dir.write(name, text);
        }
        dir.write("api-keys/k1.yaml", KEY);
        dir.write("keys/acme.json", JWKS);
        dir.write("house.key", "sk-house-secret\n");
        dir.mode("house.key", 0o600);
        dir
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Replaces the first `from` of a file, which must be there.
    pub(super) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path().join(name)).unwrap();
        assert!(text.contains(from), "{name} holds no {from:?}");
        self.write(name, &text.replacen(from, to, 1));
    }

    pub(super) fn problems(&self) -> Vec<String> {
        lines(load(self.path()))
    }
}

pub(super) fn lines(loaded: Result<Loaded, Vec<Problem>>) -> Vec<String> {
    loaded.map(|_| Vec::new()).unwrap_or_else(|problems| problems.iter().map(Problem::to_string).collect())
}
