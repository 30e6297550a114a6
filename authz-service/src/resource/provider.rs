//! `Provider`: where models are served, and the path templates that lead there.

use std::collections::HashMap;
use std::sync::Arc;

use gateway_core::chat::OutputLimitField;
use gateway_core::claims::PathTemplate;
use gateway_core::name::ModelName;
use gateway_core::target::check_path;
use serde::Deserialize;

use super::field::{At, Each};
use super::names::Names;
use super::object::Object;
use super::problem::{Place, Problems};
use super::sources::Origin;
use crate::registry::{CredentialHeader, Endpoint, EndpointKind, Model, Provider};

/// `Provider.spec`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct ProviderSpec {
    #[serde(rename = "dialect")]
    _dialect: RawDialect,
    cluster: At<String>,
    region: At<String>,
    models: Each<RawServed>,
    upstream_path: Option<At<String>>,
    credential: Option<RawCredential>,
    credential_file: Option<At<String>>,
    extra_fields: Option<Each<At<String>>>,
    output_limit_field: Option<RawOutputLimit>,
    paths: Option<Each<At<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct RawServed {
    name: At<String>,
    upstream_name: Option<At<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum RawDialect {
    Openai,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawCredential {
    Bearer,
    XApiKey,
    XGoogApiKey,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawOutputLimit {
    MaxTokens,
    MaxCompletionTokens,
}

const CHAT: &str = "/v1/chat/completions";
const PATHS: [&str; 2] = [CHAT, "/api/v1/tenants/{tenant}/models/{model}/predict"];

/// Compiles a provider.
pub(super) fn compile(
    object: &Object<ProviderSpec>,
    spec: &ProviderSpec,
    known: &Names<Arc<Model>>,
    origin: &Origin<'_>,
    problems: &Problems,
) -> Option<Provider> {
    let cluster = spec.cluster.visible(256, problems);
    let region = spec.region.label(problems);
    let models = served(&spec.models, known, problems);
    let upstream_path = spec.upstream_path.as_ref().map_or(Some(CHAT), |path| upstream_path(path, problems));
    let extra_fields = spec.extra_fields.iter().flat_map(|fields| &fields.0);
    let extra_fields = extra_fields.filter_map(|field| field.visible(64, problems).map(str::to_owned)).collect();
    let platform_key = spec.credential_file.as_ref().and_then(|file| {
        let read = origin.secret(&object.folder, &file.value);
        read.inspect_err(|error| problems.add(file.place, format!("`credentialFile`: {error}"))).ok()
    });
    Some(Provider {
        name: object.name.value.clone(),
        cluster: cluster?.to_owned(),
        region: region?.to_owned(),
        models,
        upstream_path: upstream_path?.to_owned(),
        credential: match spec.credential {
            None | Some(RawCredential::Bearer) => CredentialHeader::Bearer,
            Some(RawCredential::XApiKey) => CredentialHeader::XApiKey,
            Some(RawCredential::XGoogApiKey) => CredentialHeader::XGoogApiKey,
        },
        credential_file: spec.credential_file.as_ref().map(|file| origin.secret_path(&object.folder, &file.value)),
        platform_key,
        extra_fields,
        output_limit: match spec.output_limit_field {
            None | Some(RawOutputLimit::MaxCompletionTokens) => OutputLimitField::MaxCompletionTokens,
            Some(RawOutputLimit::MaxTokens) => OutputLimitField::MaxTokens,
        },
    })
}

fn served(raw: &Each<RawServed>, known: &Names<Arc<Model>>, problems: &Problems) -> HashMap<ModelName, String> {
    let mut served = HashMap::new();
    for model in &raw.0 {
        let upstream = model.upstream_name.as_ref().map(|name| name.visible(256, problems));
        let Some(found) = known.find(&model.name, problems) else { continue };
        let upstream = upstream.flatten().unwrap_or(found.name.as_str()).to_owned();
        if served.insert(found.name.clone(), upstream).is_some() {
            problems.add(model.name.place, format!("model `{}` is there already", found.name));
        }
    }
    served
}

fn upstream_path<'a>(path: &'a At<String>, problems: &Problems) -> Option<&'a str> {
    let canonical = matches!(check_path(&path.value), Ok((checked, None)) if checked == path.value);
    if !canonical {
        let message = format!("`{}` is no canonical path without a query", path.value);
        problems.add(path.place, message);
    }
    canonical.then_some(path.value.as_str())
}

/// The path templates of all providers, and the service's own endpoints.
#[derive(Debug)]
pub(super) struct Endpoints(Vec<(Endpoint, Option<Place>)>);

impl Endpoints {
    /// The service's own.
    pub(super) fn own(problems: &Problems) -> Self {
        let mut endpoints = Self(Vec::new());
        for kind in EndpointKind::ALL {
            if let Some(path) = kind.own_path() {
                endpoints.add(path, kind, None, problems);
            }
        }
        endpoints
    }

    /// Adds a provider's templates; the same one may come from several providers.
    pub(super) fn add_provider(&mut self, object: &Object<ProviderSpec>, problems: &Problems) {
        let Some(spec) = &object.spec else { return };
        match &spec.paths {
            None => {
                for path in PATHS {
                    self.add(path, EndpointKind::Chat, Some(object.name.place), problems);
                }
            }
            Some(paths) => {
                for path in &paths.0 {
                    self.add(&path.value, EndpointKind::Chat, Some(path.place), problems);
                }
            }
        }
    }

    /// The table.
    pub(super) fn into_vec(self) -> Vec<Endpoint> {
        self.0.into_iter().map(|(endpoint, _)| endpoint).collect()
    }

    fn add(&mut self, path: &str, kind: EndpointKind, place: Option<Place>, problems: &Problems) {
        let refuse = |message: String| problems.add(place.unwrap_or_default(), message);
        let template = match PathTemplate::parse(path) {
            Ok(template) => template,
            Err(error) => return refuse(format!("`{}` is no path template: {error}", path)),
        };
        let same = |endpoint: &Endpoint| endpoint.template.as_str() == path && endpoint.kind == kind;
        if self.0.iter().any(|(endpoint, _)| same(endpoint)) {
            return;
        }
        for (other, first) in self.0.iter().filter(|(other, _)| other.template.overlaps(&template)) {
            let first =
                first.map_or("the service's own".to_owned(), |at| format!("{}:{}", problems.path(at.file), at.line));
            let other = other.template.as_str();
            refuse(format!("path `{path}` and path `{other}` ({first}) match the same requests with different claims"));
        }
        self.0.push((Endpoint { template, kind }, place));
    }
}
