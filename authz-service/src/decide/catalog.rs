//! What admission reads beside the body, from the registry: for one caller, now, or as the terms of a grant.

use std::collections::BTreeSet;

use gateway_core::admission::{Caps, Catalog, Offer, Target, not_allowed};
use gateway_core::chat::OutputLimitField;
use gateway_core::gate::{AdmissionTerms, Key, ModelTerms, OutputLimit, ProviderTerms};
use gateway_core::name::ModelName;

use super::OwnKeys;
use super::access::Access;
use crate::registry::{Model, Permits, Provider, Registry, Reserve, Tenant};

/// The registry as one caller may use it.
#[derive(Clone, Copy)]
pub(super) struct Offered<'a> {
    pub(super) registry: &'a Registry,
    pub(super) tenant: &'a Tenant,
    pub(super) permits: &'a Permits,
    /// The model that the path names.
    pub(super) path_model: Option<&'a str>,
    pub(super) vault: &'a dyn OwnKeys,
    /// What rules say.
    pub(super) access: &'a Access<'a>,
}

impl Catalog for Offered<'_> {
    fn caps(&self) -> Caps {
        let plan = &self.tenant.plan;
        Caps {
            body_bytes: plan.body_bytes,
            output_tokens: plan.output_tokens,
            prompt_tokens: plan.prompt_tokens,
            choices: plan.choices,
            reserve_estimate: plan.reserve == Reserve::Estimate,
        }
    }

    fn path_model(&self) -> Option<&str> {
        self.path_model
    }

    fn extra_fields(&self) -> &BTreeSet<String> {
        &self.registry.extra_fields
    }

    fn model(&self, name: &ModelName) -> Option<Offer<'_>> {
        let model = self.registry.models.get(name).filter(|model| self.tenant.models.contains(&model.name))?;
        Some(self.offer(model))
    }
}

impl<'a> Offered<'a> {
    /// The same as a message: every model of the tenant, and each provider once.
    pub(super) fn terms(&self) -> AdmissionTerms {
        let caps = self.caps();
        let mut terms = AdmissionTerms {
            body_bytes: caps.body_bytes,
            output_tokens: caps.output_tokens,
            prompt_tokens: caps.prompt_tokens,
            choices: caps.choices,
            reserve_estimate: caps.reserve_estimate,
            path_model: self.path_model.unwrap_or_default().to_owned(),
            extra_fields: self.registry.extra_fields.iter().cloned().collect(),
            ..AdmissionTerms::default()
        };
        for model in self.tenant.models.iter().filter_map(|name| self.registry.models.get(name)) {
            let offer = self.offer(model);
            let provider = offer.target.map_or(0, |target| place(&mut terms.providers, &target));
            terms.models.push(ModelTerms {
                names: [&model.name].into_iter().chain(&model.aliases).map(ToString::to_string).collect(),
                allowed: offer.refusal.is_none(),
                refusal: offer.refusal.map(Into::into),
                prices: Some(model.cost.prices().into()),
                provider,
                upstream_model: offer.target.map(|target| target.upstream_model.to_owned()).unwrap_or_default(),
            });
        }
        terms
    }

    fn offer(&self, model: &'a Model) -> Offer<'a> {
        let target = self.registry.target(self.tenant, &model.name).map(|(provider, upstream_model)| Target {
            provider: &provider.name,
            region: &provider.region,
            cluster: &provider.cluster,
            upstream_path: &provider.upstream_path,
            upstream_model,
            output_limit: provider.output_limit,
            extra_fields: &provider.extra_fields,
            key: self.key(provider),
        });
        let permitted = self.permits.models.as_ref().is_none_or(|permitted| permitted.contains(&model.name));
        let refusal = if permitted { self.access.to(&model.name).err() } else { Some(not_allowed()) };
        Offer { model: &model.name, refusal, cost: &model.cost, target }
    }

    /// The tenant's own key of the provider, else the platform's.
    fn key(&self, provider: &Provider) -> Key {
        if self.vault.has_own_key(&self.tenant.name, &provider.name) {
            Key::Own
        } else if provider.platform_key.is_some() {
            Key::Platform
        } else {
            Key::Unspecified
        }
    }
}

/// Place of the target's provider among those listed so far, from 1 on; it is listed where it is not yet.
fn place(providers: &mut Vec<ProviderTerms>, target: &Target<'_>) -> u32 {
    let known = providers.iter().position(|provider| provider.name == target.provider);
    if known.is_none() {
        let output_limit = match target.output_limit {
            OutputLimitField::MaxTokens => OutputLimit::MaxTokens,
            OutputLimitField::MaxCompletionTokens => OutputLimit::MaxCompletionTokens,
        };
        providers.push(ProviderTerms {
            name: target.provider.to_owned(),
            region: target.region.to_owned(),
            cluster: target.cluster.to_owned(),
            upstream_path: target.upstream_path.to_owned(),
            output_limit: output_limit.into(),
            extra_fields: target.extra_fields.iter().cloned().collect(),
            key: target.key.into(),
        });
    }
    let place = known.map_or(providers.len(), |place| place.saturating_add(1));
    u32::try_from(place).unwrap_or(u32::MAX)
}
