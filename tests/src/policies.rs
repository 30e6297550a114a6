//! The set of resources that tests start from: three tenants, three plans, three models, two providers. A test changes it as
//! JSON; it is written as YAML documents, of which JSON is a part.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::mint::Issuer;

/// Tenants of the standard set.
pub const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// The platform's key of provider `gpu-pool` (cluster `model-upstream`): a canary that no log may hold.
pub const GPU_POOL_KEY: &str = "sk-canary-gpu-pool-7f3c9a1e55d2";
/// The platform's key of provider `hosted` (cluster `model-upstream-2`).
pub const HOSTED_KEY: &str = "sk-canary-hosted-0b8e4d6612aa";
/// The platform's keys by provider.
pub const PLATFORM_KEYS: [(&str, &str); 2] = [("gpu-pool", GPU_POOL_KEY), ("hosted", HOSTED_KEY)];
/// A model that all three tenants may use.
pub const MODEL: &str = "llama-3.1-8b";

/// Resources and the files that they name.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    documents: Vec<Value>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Policies {
    /// The standard set. Plan `premium` (acme) has limits that no test meets by chance, `standard` (globex) ordinary ones,
    /// `trial` (initech) small ones. Each tenant trusts its own issuer.
    #[must_use]
    pub fn standard() -> Self {
        let mut set = Self::default();
        set.add(plan("premium", 16_384, &json!([
            {"name": "gpu-hour", "counts": "gpuTime", "scope": "tenant", "amount": "3600000s", "window": "hour"},
            {"name": "tokens-per-minute", "counts": "tokens", "scope": "tenant", "amount": "1000M", "rate": "1m"},
            {"name": "spend-per-day", "counts": "microUsd", "scope": "tenant", "amount": "1000000M", "window": "day"},
            {"name": "in-flight", "counts": "requests", "scope": "tenant", "amount": 4096, "inFlight": true},
        ])));
        set.add(plan(
            "standard",
            1_024,
            &json!([
                {"name": "tokens-per-minute", "counts": "tokens", "scope": "tenant", "amount": "200k", "rate": "1m"},
                {"name": "spend-per-day", "counts": "microUsd", "scope": "tenant", "amount": "50M", "window": "day"},
                {"name": "in-flight", "counts": "requests", "scope": "tenant", "amount": 64, "inFlight": true},
            ]),
        ));
        set.add(plan(
            "trial",
            64,
            &json!([
                {"name": "spend-per-day", "counts": "microUsd", "scope": "tenant", "amount": 1_000, "window": "day"},
                {"name": "in-flight", "counts": "requests", "scope": "tenant", "amount": 2, "inFlight": true},
            ]),
        ));
        set.add(model("llama-3.1-8b", &["llama", "small"], 180_000, 180_000));
        set.add(model("llama-3.1-70b", &[], 880_000, 880_000));
        set.add(model("gpt-4o-mini", &[], 150_000, 600_000));
        set.add(provider(
            "gpu-pool",
            "model-upstream",
            "eu-central",
            &json!([
                {"name": "llama-3.1-8b"}, {"name": "llama-3.1-70b"},
            ]),
        ));
        set.add(provider(
            "hosted",
            "model-upstream-2",
            "us-east",
            &json!([
                {"name": "llama-3.1-8b", "upstreamName": "meta-llama/Llama-3.1-8B-Instruct"}, {"name": "gpt-4o-mini"},
            ]),
        ));
        set.file("secrets/gpu-pool.key", GPU_POOL_KEY);
        set.file("secrets/hosted.key", HOSTED_KEY);
        set.add(tenant("acme", "premium", &["llama-3.1-8b", "llama-3.1-70b"], &["eu-central"]));
        set.add(tenant("globex", "standard", &["llama-3.1-8b"], &["eu-central", "us-east"]));
        set.add(tenant("initech", "trial", &["llama-3.1-8b", "gpt-4o-mini"], &["us-east"]));
        for name in TENANTS {
            set.file(&format!("jwks/{name}.json"), &issuer(name).jwks().to_string());
        }
        set
    }

    /// Adds a resource.
    pub fn add(&mut self, document: Value) {
        self.documents.push(document);
    }

    /// Adds or replaces a file that resources name, relative to the directory.
    pub fn file(&mut self, path: &str, content: &str) {
        self.files.insert(path.into(), content.into());
    }

    /// A resource's `spec`, to be changed.
    ///
    /// # Panics
    /// There is none of that kind and name.
    pub fn spec(&mut self, kind: &str, name: &str) -> &mut Value {
        let found = self.documents.iter_mut().find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
        &mut found.unwrap_or_else(|| panic!("no {kind} `{name}` in the set"))["spec"]
    }

    /// One limit of a plan, to be changed.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn limit(&mut self, plan: &str, limit: &str) -> &mut Value {
        let limits = self.spec("Plan", plan)["limits"].as_array_mut().expect("limits");
        limits.iter_mut().find(|one| one["name"] == limit).unwrap_or_else(|| panic!("no limit `{limit}` in `{plan}`"))
    }

    /// Whether the set has a resource.
    #[must_use]
    pub fn has(&self, kind: &str, name: &str) -> bool {
        self.documents.iter().any(|one| one["kind"] == kind && one["metadata"]["name"] == name)
    }

    /// Takes a resource out.
    pub fn remove(&mut self, kind: &str, name: &str) {
        self.documents.retain(|one| !(one["kind"] == kind && one["metadata"]["name"] == name));
    }

    /// Writes the set into a directory: `resources.yaml`, and the files with mode 0600.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, directory: &Path) -> std::io::Result<()> {
        let documents: Vec<String> = self.documents.iter().map(|one| format!("{one:#}\n")).collect();
        fs::create_dir_all(directory)?;
        fs::write(directory.join("resources.yaml"), documents.join("---\n"))?;
        for (path, content) in &self.files {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().expect("a parent"))?;
            fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(path)?
                .write_all(content)?;
        }
        Ok(())
    }
}

/// Writes the SDS file of a provider's key as operators do it: whole, with mode 0600, moved into its place. `value` is the
/// header's.
///
/// # Errors
/// The system's.
pub fn write_secret(directory: &Path, provider: &str, value: &str) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let secret = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": provider, "generic_secret": {"secret": {"inline_string": value}},
    }]});
    let (file, new) = (directory.join(format!("{provider}.yaml")), directory.join(format!("{provider}.new")));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(&new)?.write_all(secret.to_string().as_bytes())?;
    fs::rename(new, file)
}

/// The issuer that a tenant of the standard set trusts.
#[must_use]
pub fn issuer(tenant: &str) -> Issuer {
    Issuer::new(&format!("https://id.{tenant}.example"), tenant)
}

/// A resource.
#[must_use]
pub fn resource(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "bulkhead.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn plan(name: &str, output_tokens: u64, limits: &Value) -> Value {
    let caps = json!({"outputTokens": output_tokens, "promptTokens": "4M", "bodyBytes": "4Mi", "choices": 4});
    resource("Plan", name, &json!({"priority": 50, "caps": caps, "limits": limits}))
}

/// A `ModelCost`; its resource has the model's name with `-` for each `.`. GPU time as for `llama-3.1-8b`, dollars in millionths per million tokens.
#[must_use]
pub fn model(name: &str, aliases: &[&str], input: u64, output: u64) -> Value {
    resource(
        "ModelCost",
        &name.replace('.', "-"),
        &json!({
            "model": name, "gpuClass": "l4", "gpuWeightPermille": 1000, "gpuMsPer1kTokens": {"input": 40, "output": 900}, "gpuMsFixed": 5,
            "microUsdPer1mTokens": {"input": input, "output": output}, "microUsdFixed": 1,
            "minBytesPerToken": 1, "meanBytesPerToken": 4, "aliases": aliases, "source": "test", "date": "2026-11-01",
        }),
    )
}

fn provider(name: &str, cluster: &str, region: &str, models: &Value) -> Value {
    resource(
        "Provider",
        name,
        &json!({
            "dialect": "openai", "cluster": cluster, "region": region, "models": models,
            "credential": "bearer", "credentialFile": format!("secrets/{name}.key"),
        }),
    )
}

fn tenant(name: &str, plan: &str, models: &[&str], regions: &[&str]) -> Value {
    resource(
        "Tenant",
        name,
        &json!({
            "plan": plan, "models": models, "regions": regions, "timeZone": "UTC", "namespaces": [name],
            "issuers": [{
                "issuer": issuer(name).url, "audiences": ["bulkhead"], "jwksFile": format!("jwks/{name}.json"),
                "tenantClaim": "tenant",
            }],
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_the_changed_set_and_keys_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let mut set = Policies::standard();
        set.limit("trial", "in-flight")["amount"] = json!(7);
        set.remove("Tenant", "globex");
        let directory = tempfile::tempdir().unwrap();
        set.write(directory.path()).unwrap();
        let text = fs::read_to_string(directory.path().join("resources.yaml")).unwrap();
        assert!(text.contains("\"amount\": 7") && !text.contains("\"name\": \"globex\""));
        let mode = fs::metadata(directory.path().join("secrets/hosted.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
