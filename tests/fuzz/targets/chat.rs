//! Chat bodies: what is read is JSON; what is admitted, once edited, says the model, the one output limit and the usage
//! that were decided and is otherwise the same; admitted again it needs no edit.
#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use gateway_core::chat::{AdmitTerms, OutputLimitField, parse};
use gateway_core::edits::{apply, edited_length};
use gateway_core::price::{ModelCost, Prices};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

const MODEL: &str = "upstream/m-1";
const CAP: u64 = 100;

static EXTRA: LazyLock<BTreeSet<String>> = LazyLock::new(|| ["top_k", "min_p"].map(str::to_owned).into());
static COST: LazyLock<ModelCost> = LazyLock::new(|| {
    ModelCost::new(Prices {
        gpu_ms_per_1k_input: 10,
        gpu_ms_per_1k_output: 1000,
        gpu_ms_fixed: 5,
        gpu_weight_permille: 1000,
        micro_usd_per_1m_input: 1_000_000,
        micro_usd_per_1m_cached_input: 500_000,
        micro_usd_per_1m_output: 2_000_000,
        micro_usd_fixed: 0,
        min_bytes_per_token: 1,
        mean_bytes_per_token: 4,
        media_tokens: Some(1000),
    })
    .unwrap()
});

fuzz_target!(|body: &[u8]| {
    let Ok(request) = parse(body, &EXTRA) else { return };
    let original: Map<String, Value> = serde_json::from_slice(body).unwrap();
    assert!(request.extra.iter().all(|field| EXTRA.contains(field) && original.contains_key(field)));
    assert_eq!(request.check_fields(&BTreeSet::new()).is_ok(), request.extra.is_empty());
    for output_limit in [OutputLimitField::MaxTokens, OutputLimitField::MaxCompletionTokens] {
        let terms = AdmitTerms {
            cost: &COST,
            upstream_model: MODEL,
            output_cap: CAP,
            prompt_cap: u64::MAX,
            choices_cap: 4,
            reserve_estimate: false,
            output_limit,
        };
        let Ok(admission) = request.admit(&terms) else { continue };
        let edited = apply(&admission.edits, body).unwrap();
        assert_eq!(edited_length(&admission.edits), Some(edited.len() as u64));
        let sent: Map<String, Value> = serde_json::from_slice(&edited).unwrap();
        assert_eq!(sent, intended(original.clone(), output_limit));
        assert_eq!(sent[output_limit.as_str()], json!(admission.output_bound));

        // Read again, as the upstream will: the same request, and nothing left to do.
        let again = parse(&edited, &EXTRA).unwrap();
        assert_eq!((again.n, again.stream, &again.extra), (request.n, request.stream, &request.extra));
        let settled = again.admit(&terms).unwrap();
        assert!(settled.edits.edits.is_empty() && settled.output_bound == admission.output_bound);
    }
});

/// The edited body, worked on the parsed one.
fn intended(mut root: Map<String, Value>, limit: OutputLimitField) -> Map<String, Value> {
    root.insert("model".into(), json!(MODEL));
    let named = ["max_tokens", "max_completion_tokens"].map(|name| root.remove(name));
    let bound = named.iter().flatten().filter_map(Value::as_u64).fold(CAP, u64::min);
    root.insert(limit.as_str().into(), json!(bound));
    if root.get("stream") == Some(&json!(true)) {
        let options = root.entry("stream_options").or_insert(Value::Null);
        if options.is_null() {
            *options = json!({});
        }
        options["include_usage"] = json!(true);
    }
    root
}
