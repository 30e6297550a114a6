//! The envelope that all kinds share, `{apiVersion, kind, metadata, spec}`, and which kinds there are.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::api_key::ApiKeySpec;
use super::decode::decode;
use super::field::At;
use super::model_cost::ModelCostSpec;
use super::plan::PlanSpec;
use super::problem::{Problems, nearest};
use super::provider::ProviderSpec;
use super::role::RoleSpec;
use super::tenant::TenantSpec;
use super::tenant_policy::TenantPolicySpec;
use super::tree::{Node, Value};

/// The one version that is known.
pub(super) const API_VERSION: &str = "bulkhead.dev/v1alpha1";
/// The kinds of DESIGN §6.
const KINDS: [&str; 7] = ["Tenant", "Plan", "ModelCost", "Provider", "Role", "ApiKey", "TenantPolicy"];

/// A resource: its name and its spec.
#[derive(Debug)]
pub(super) struct Object<S> {
    /// `metadata.name`.
    pub(super) name: At<String>,
    /// `metadata.namespace`.
    pub(super) namespace: Option<At<String>>,
    /// Its file's folder, relative to the directory: what its own paths are relative to.
    pub(super) folder: String,
    /// `spec`; `None`: a problem already.
    pub(super) spec: Option<S>,
    /// Nothing of `spec` was passed over.
    pub(super) whole: bool,
}

/// The resources of a set by kind, in the order of their files.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// Documents whose kind or name could not be read: nobody knows what they would have declared.
    pub(super) unread: bool,
    pub(super) tenants: Vec<Object<TenantSpec>>,
    pub(super) plans: Vec<Object<PlanSpec>>,
    pub(super) models: Vec<Object<ModelCostSpec>>,
    pub(super) providers: Vec<Object<ProviderSpec>>,
    pub(super) roles: Vec<Object<RoleSpec>>,
    pub(super) keys: Vec<Object<ApiKeySpec>>,
    pub(super) policies: Vec<Object<TenantPolicySpec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a resource")]
struct RawObject {
    api_version: At<String>,
    kind: At<String>,
    metadata: RawMetadata,
    #[serde(rename = "spec")]
    _spec: IgnoredAny,
    status: Option<At<IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct RawMetadata {
    name: At<String>,
    namespace: Option<At<String>>,
    #[serde(rename = "labels")]
    _labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "annotations")]
    _annotations: Option<BTreeMap<String, String>>,
}

impl Objects {
    /// Takes one document in.
    pub(super) fn read(&mut self, file: u32, document: &Node, problems: &Problems) {
        let raw = decode::<RawObject>(file, document, problems);
        let (Some(raw), Some(spec)) = (raw, field(document, "spec")) else {
            self.unread = true;
            return;
        };
        if raw.api_version.value != API_VERSION {
            let message = format!("unknown apiVersion `{}`, expected `{API_VERSION}`", raw.api_version.value);
            problems.add(raw.api_version.place, message);
        }
        if let Some(status) = &raw.status {
            problems.add(status.place, "`status` is written by the service alone, never in a file");
        }
        match raw.kind.value.as_str() {
            "ModelCost" => raw.metadata.name.subdomain(problems),
            _ => raw.metadata.name.label(problems),
        };
        let folder = problems.path(file).rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let envelope = Envelope { kind: raw.kind, metadata: raw.metadata, folder, file, spec, problems };
        match envelope.kind.value.as_str() {
            "Tenant" => self.tenants.push(envelope.cluster()),
            "Plan" => self.plans.push(envelope.cluster()),
            "ModelCost" => self.models.push(envelope.cluster()),
            "Provider" => self.providers.push(envelope.cluster()),
            "Role" => self.roles.push(envelope.cluster()),
            "ApiKey" => self.keys.push(envelope.namespaced()),
            "TenantPolicy" => self.policies.push(envelope.namespaced()),
            other => {
                let message = format!("unknown kind `{}`{}", other, nearest(other, KINDS));
                problems.add(envelope.kind.place, message);
                self.unread = true;
            }
        }
    }
}

/// A document whose kind is known.
struct Envelope<'a> {
    kind: At<String>,
    metadata: RawMetadata,
    folder: String,
    file: u32,
    spec: &'a Node,
    problems: &'a Problems,
}

impl Envelope<'_> {
    fn cluster<S: DeserializeOwned>(self) -> Object<S> {
        if let Some(namespace) = &self.metadata.namespace {
            self.problems.add(namespace.place, format!("a `{}` has no namespace", self.kind.value));
        }
        self.object()
    }

    fn namespaced<S: DeserializeOwned>(self) -> Object<S> {
        match &self.metadata.namespace {
            Some(namespace) => drop(namespace.label(self.problems)),
            None => self.problems.add(self.metadata.name.place, format!("a `{}` needs a `namespace`", self.kind.value)),
        }
        self.object()
    }

    fn object<S: DeserializeOwned>(self) -> Object<S> {
        let before = self.problems.count();
        let spec = decode(self.file, self.spec, self.problems);
        let whole = before == self.problems.count();
        Object { name: self.metadata.name, namespace: self.metadata.namespace, folder: self.folder, spec, whole }
    }
}

fn field<'a>(document: &'a Node, name: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &document.value else { return None };
    entries.iter().find(|(key, _)| key.value == name).map(|(_, value)| value)
}
