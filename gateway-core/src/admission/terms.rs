//! The terms of a grant, compiled: what the module admits by in profile `inline`.
//!
//! Checks every number and name once, when the grant arrives; a message that lacks any of them is no terms.

use std::collections::{BTreeMap, BTreeSet};

use super::{Caps, Catalog, Offer, Target, not_allowed};
use crate::chat::OutputLimitField;
use crate::denial::{Code, Denial};
use crate::gate::{self, AdmissionTerms, Key, ModelRefusal, ModelTerms, OutputLimit, ProviderTerms};
use crate::name::ModelName;
use crate::price::{ModelCost, Prices};
use crate::target;

/// Everything that admission reads beside the body.
#[derive(Clone, Debug)]
pub struct Terms {
    caps: Caps,
    path_model: Option<String>,
    extra_fields: BTreeSet<String>,
    /// Every name → its place in `models`.
    names: BTreeMap<ModelName, usize>,
    models: Vec<Model>,
    providers: Vec<Provider>,
}

/// Why a message is no terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTerms {
    /// A cap is missing, and zero would be none.
    #[error("a cap is missing")]
    Caps,
    /// A model without a name, with one that cannot be read, or with another's.
    #[error("the name of a model is missing, malformed or another's")]
    Names,
    /// A model without prices, or with such as are none.
    #[error("the prices of a model are missing or wrong")]
    Prices,
    /// A model at a provider that is not there, or without a name there.
    #[error("the provider of a model is not there or does not name it")]
    Target,
    /// A provider without name, cluster or output limit, or with a path that is none.
    #[error("a provider lacks its name, cluster, path or output limit")]
    Provider,
}

#[derive(Clone, Debug)]
struct Model {
    name: ModelName,
    refusal: Option<Denial>,
    cost: ModelCost,
    /// Place of its provider, and its name there.
    target: Option<(usize, String)>,
}

#[derive(Clone, Debug)]
struct Provider {
    name: String,
    region: String,
    cluster: String,
    upstream_path: String,
    output_limit: OutputLimitField,
    extra_fields: BTreeSet<String>,
    key: Key,
}

impl TryFrom<&AdmissionTerms> for Terms {
    type Error = BadTerms;

    fn try_from(raw: &AdmissionTerms) -> Result<Self, BadTerms> {
        let caps = Caps {
            body_bytes: raw.body_bytes,
            output_tokens: raw.output_tokens,
            prompt_tokens: raw.prompt_tokens,
            choices: raw.choices,
            reserve_estimate: raw.reserve_estimate,
        };
        if [caps.body_bytes, caps.output_tokens, caps.prompt_tokens, caps.choices].contains(&0) {
            return Err(BadTerms::Caps);
        }
        let providers = raw.providers.iter().map(Provider::try_from).collect::<Result<Vec<_>, _>>()?;
        let mut names = BTreeMap::new();
        let mut models = Vec::with_capacity(raw.models.len());
        for model in &raw.models {
            for name in &model.names {
                let name = ModelName::parse(name).map_err(|_| BadTerms::Names)?;
                if names.insert(name, models.len()).is_some() {
                    return Err(BadTerms::Names);
                }
            }
            models.push(Model::compile(model, providers.len())?);
        }
        Ok(Self {
            caps,
            path_model: Some(raw.path_model.clone()).filter(|name| !name.is_empty()),
            extra_fields: raw.extra_fields.iter().cloned().collect(),
            names,
            models,
            providers,
        })
    }
}

impl Model {
    fn compile(raw: &ModelTerms, providers: usize) -> Result<Self, BadTerms> {
        let name = raw.names.first().and_then(|name| ModelName::parse(name).ok()).ok_or(BadTerms::Names)?;
        let prices = raw.prices.as_ref().ok_or(BadTerms::Prices)?;
        let cost = ModelCost::new(Prices::from(prices)).map_err(|_| BadTerms::Prices)?;
        let target = match usize::try_from(raw.provider).map_err(|_| BadTerms::Target)?.checked_sub(1) {
            None => None,
            Some(place) if place < providers && !raw.upstream_model.is_empty() => {
                Some((place, raw.upstream_model.clone()))
            }
            Some(_) => return Err(BadTerms::Target),
        };
        let refusal = raw.refusal.as_ref().map(Denial::from).or_else(|| (!raw.allowed).then(not_allowed));
        Ok(Self { name, refusal, cost, target })
    }
}

impl TryFrom<&ProviderTerms> for Provider {
    type Error = BadTerms;

    fn try_from(raw: &ProviderTerms) -> Result<Self, BadTerms> {
        let output_limit = match raw.output_limit() {
            OutputLimit::Unspecified => return Err(BadTerms::Provider),
            OutputLimit::MaxTokens => OutputLimitField::MaxTokens,
            OutputLimit::MaxCompletionTokens => OutputLimitField::MaxCompletionTokens,
        };
        let header_safe = !raw.cluster.is_empty() && raw.cluster.bytes().all(|byte| byte.is_ascii_graphic());
        let path_ok = raw.upstream_path.is_empty() || target::check_path(&raw.upstream_path).is_ok();
        if raw.name.is_empty() || !header_safe || !path_ok {
            return Err(BadTerms::Provider);
        }
        Ok(Self {
            name: raw.name.clone(),
            region: raw.region.clone(),
            cluster: raw.cluster.clone(),
            upstream_path: raw.upstream_path.clone(),
            output_limit,
            extra_fields: raw.extra_fields.iter().cloned().collect(),
            key: raw.key(),
        })
    }
}

impl Catalog for Terms {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn path_model(&self) -> Option<&str> {
        self.path_model.as_deref()
    }

    fn extra_fields(&self) -> &BTreeSet<String> {
        &self.extra_fields
    }

    fn model(&self, name: &ModelName) -> Option<Offer<'_>> {
        let model = self.names.get(name).and_then(|place| self.models.get(*place))?;
        let target = model.target.as_ref().and_then(|(place, upstream_model)| {
            let provider = self.providers.get(*place)?;
            Some(Target {
                provider: &provider.name,
                region: &provider.region,
                cluster: &provider.cluster,
                upstream_path: &provider.upstream_path,
                upstream_model,
                output_limit: provider.output_limit,
                extra_fields: &provider.extra_fields,
                key: provider.key,
            })
        });
        Some(Offer { model: &model.name, refusal: model.refusal.clone(), cost: &model.cost, target })
    }
}

/// A code that this side does not know refuses all the same.
impl From<&ModelRefusal> for Denial {
    fn from(raw: &ModelRefusal) -> Self {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Self {
            code: Code::named(&raw.code).unwrap_or(Code::ModelNotAllowed),
            param: given(&raw.param),
            detail: given(&raw.detail),
            why: given(&raw.why).map(String::into_boxed_str),
            challenge: given(&raw.challenge).map(String::into_boxed_str),
        }
    }
}

impl From<Denial> for ModelRefusal {
    fn from(denial: Denial) -> Self {
        Self {
            code: denial.code.row().code.to_owned(),
            param: denial.param.unwrap_or_default(),
            detail: denial.detail.unwrap_or_default(),
            why: denial.why.map(String::from).unwrap_or_default(),
            challenge: denial.challenge.map(String::from).unwrap_or_default(),
        }
    }
}

impl From<&gate::Prices> for Prices {
    fn from(raw: &gate::Prices) -> Self {
        Self {
            gpu_ms_per_1k_input: raw.gpu_ms_per_1k_input,
            gpu_ms_per_1k_output: raw.gpu_ms_per_1k_output,
            gpu_ms_fixed: raw.gpu_ms_fixed,
            gpu_weight_permille: raw.gpu_weight_permille,
            micro_usd_per_1m_input: raw.micro_usd_per_1m_input,
            micro_usd_per_1m_cached_input: raw.micro_usd_per_1m_cached_input,
            micro_usd_per_1m_output: raw.micro_usd_per_1m_output,
            micro_usd_fixed: raw.micro_usd_fixed,
            min_bytes_per_token: raw.min_bytes_per_token,
            mean_bytes_per_token: raw.mean_bytes_per_token,
            media_tokens: raw.media_tokens,
        }
    }
}

impl From<&Prices> for gate::Prices {
    fn from(prices: &Prices) -> Self {
        Self {
            gpu_ms_per_1k_input: prices.gpu_ms_per_1k_input,
            gpu_ms_per_1k_output: prices.gpu_ms_per_1k_output,
            gpu_ms_fixed: prices.gpu_ms_fixed,
            gpu_weight_permille: prices.gpu_weight_permille,
            micro_usd_per_1m_input: prices.micro_usd_per_1m_input,
            micro_usd_per_1m_cached_input: prices.micro_usd_per_1m_cached_input,
            micro_usd_per_1m_output: prices.micro_usd_per_1m_output,
            micro_usd_fixed: prices.micro_usd_fixed,
            min_bytes_per_token: prices.min_bytes_per_token,
            mean_bytes_per_token: prices.mean_bytes_per_token,
            media_tokens: prices.media_tokens,
        }
    }
}
