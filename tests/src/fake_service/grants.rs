//! Grants of profile `inline` as the service makes them, but for the MAC: the module cannot check one.

use gateway_core::gate::{
    AdmissionTerms, Dialect, Grant, Key, ModelTerms, OutputLimit, Prices, ProviderTerms, SignedGrant,
};
use gateway_core::wire;
use prost::Message as _;

use super::{Word, allow};
use crate::gateway::CHAT;
use crate::policies::MODEL;

/// What acme of the standard policies is admitted by: one model, two providers, the platform's keys. The second provider
/// serves nothing until a test says so.
#[must_use]
pub fn inline_terms() -> AdmissionTerms {
    let provider = |name: &str, region: &str, cluster: &str| ProviderTerms {
        name: name.into(),
        region: region.into(),
        cluster: cluster.into(),
        output_limit: OutputLimit::MaxCompletionTokens.into(),
        key: Key::Platform.into(),
        ..ProviderTerms::default()
    };
    let prices = Prices {
        gpu_ms_per_1k_input: 40,
        gpu_ms_per_1k_output: 900,
        gpu_ms_fixed: 5,
        gpu_weight_permille: 1_000,
        micro_usd_per_1m_input: 180_000,
        micro_usd_per_1m_cached_input: 180_000,
        micro_usd_per_1m_output: 180_000,
        micro_usd_fixed: 1,
        min_bytes_per_token: 1,
        mean_bytes_per_token: 4,
        media_tokens: None,
    };
    let model = ModelTerms {
        names: vec![MODEL.into()],
        allowed: true,
        refusal: None,
        prices: Some(prices),
        provider: 1,
        upstream_model: MODEL.into(),
    };
    AdmissionTerms {
        body_bytes: wire::MAX_BODY_BYTES,
        output_tokens: 16_384,
        prompt_tokens: 4_000_000,
        choices: 4,
        models: vec![model],
        providers: vec![
            provider("gpu-pool", "eu-central", "model-upstream"),
            provider("hosted", "us-east", "model-upstream-2"),
        ],
        ..AdmissionTerms::default()
    }
}

/// A grant for chats of acme's, to be held for ten seconds, changed by `change` before its handle is made.
#[must_use]
pub fn inline_grant(change: impl FnOnce(&mut Grant)) -> Grant {
    let mut grant = Grant {
        id: vec![7; 16].into(),
        tenant: "acme".into(),
        principal: "test".into(),
        plan: "premium".into(),
        request_id: "r-1".into(),
        method: "POST".into(),
        authority: "ai.example".into(),
        path: CHAT.into(),
        lifetime_ms: 65_000,
        dialect: Dialect::OpenaiChat.into(),
        epoch: 1,
        hold_ms: 10_000,
        terms: Some(inline_terms()),
        scope_set: "acme".into(),
        ..Grant::default()
    };
    change(&mut grant);
    let short = Grant { terms: None, edits: None, answer_headers: Vec::new(), ..grant.clone() };
    grant.handle = SignedGrant { grant: short.encode_to_vec().into(), mac: vec![1; 32].into() }.encode_to_vec().into();
    grant
}

/// A grant as it travels, with a MAC that only the service could tell from a good one.
#[must_use]
pub fn signed(grant: &Grant) -> String {
    wire::encode_grant(&SignedGrant { grant: grant.encode_to_vec().into(), mac: vec![1; 32].into() })
}

/// The word that allows a request with this grant, in profile `inline`: metadata alone.
#[must_use]
pub fn inline_word(grant: &Grant) -> Word {
    let grant = signed(grant);
    Word::Exactly(Box::new(allow(&[(wire::DECISION, wire::DECISION_ALLOW), (wire::GRANT, &grant)], &[])))
}
