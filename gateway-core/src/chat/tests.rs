//! Tables of good and bad bodies, and of the edits that admission makes.

mod bodies;
mod edited;
mod requests;

use super::*;
use crate::price::{ModelCost, Prices};

fn read(body: &str) -> Result<ChatRequest, Denial> {
    parse(body.as_bytes(), &BTreeSet::from(["top_k".to_owned()]))
}

#[track_caller]
fn refused(body: &str, code: Code, param: Option<&str>) {
    let denial = read(body).expect_err(body);
    assert_eq!((denial.code, denial.param.as_deref()), (code, param), "{body:.200}: {denial:?}");
}

/// A body with one message and these root fields.
fn with(fields: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{fields}}}"#)
}

fn cost() -> ModelCost {
    ModelCost::new(Prices {
        gpu_ms_per_1k_input: 0,
        gpu_ms_per_1k_output: 1000,
        gpu_ms_fixed: 0,
        gpu_weight_permille: 1000,
        micro_usd_per_1m_input: 1_000_000,
        micro_usd_per_1m_cached_input: 500_000,
        micro_usd_per_1m_output: 2_000_000,
        micro_usd_fixed: 0,
        min_bytes_per_token: 1,
        mean_bytes_per_token: 4,
        media_tokens: None,
    })
    .unwrap()
}

fn terms(cost: &ModelCost) -> AdmitTerms<'_> {
    AdmitTerms {
        cost,
        upstream_model: "llama",
        output_cap: 100,
        prompt_cap: 1000,
        choices_cap: 4,
        reserve_estimate: false,
        output_limit: OutputLimitField::MaxCompletionTokens,
    }
}
