//! `ModelCost`: what one model costs on one GPU class, and the names it goes by.

use gateway_core::name::ModelName;
use gateway_core::price::{ModelCost, Prices, PricesError};
use serde::Deserialize;

use super::field::{At, Each};
use super::object::Object;
use super::problem::Problems;
use super::quantity::Quantity;
use crate::registry::Model;

/// `ModelCost.spec`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct ModelCostSpec {
    model: Option<At<String>>,
    aliases: Option<Each<At<String>>>,
    gpu_class: At<String>,
    gpu_weight_permille: At<Quantity>,
    gpu_ms_per1k_tokens: RawGpu,
    gpu_ms_fixed: Option<At<Quantity>>,
    micro_usd_per1m_tokens: RawMoney,
    micro_usd_fixed: Option<At<Quantity>>,
    min_bytes_per_token: At<Quantity>,
    mean_bytes_per_token: At<Quantity>,
    media_tokens: Option<At<Quantity>>,
    source: At<String>,
    date: At<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct RawGpu {
    input: At<Quantity>,
    output: At<Quantity>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct RawMoney {
    input: At<Quantity>,
    cached_input: Option<At<Quantity>>,
    output: At<Quantity>,
}

/// The greatest number in a price: large enough for any, small enough that no sum of a request overflows.
const GREATEST: u64 = 1_000_000_000_000;

impl ModelCostSpec {
    /// The canonical name and then the aliases, as they were written.
    pub(super) fn names<'a>(&'a self, object: &'a Object<Self>) -> impl Iterator<Item = &'a At<String>> {
        let canonical = self.model.as_ref().unwrap_or(&object.name);
        std::iter::once(canonical).chain(self.aliases.iter().flat_map(|aliases| &aliases.0))
    }
}

/// Compiles a row of the price book.
pub(super) fn compile(object: &Object<ModelCostSpec>, spec: &ModelCostSpec, problems: &Problems) -> Option<Model> {
    let mut names = spec.names(object).map(|name| model_name(name, problems));
    let name = names.next().flatten();
    // All of them are read: each may be a problem of its own.
    let aliases: Vec<_> = names.collect();
    let aliases = aliases.into_iter().collect::<Option<Vec<_>>>();
    let gpu_class = spec.gpu_class.label(problems);
    let cost = cost(spec, problems);
    let since = provenance(spec, problems);
    Some(Model { name: name?, aliases: aliases?, cost: cost?, gpu_class: gpu_class?.to_owned(), since: since? })
}

fn model_name(name: &At<String>, problems: &Problems) -> Option<ModelName> {
    ModelName::parse(&name.value)
        .inspect_err(|error| problems.add(name.place, format!("`{}` is no model name: {error}", name.value)))
        .ok()
}

fn cost(spec: &ModelCostSpec, problems: &Problems) -> Option<ModelCost> {
    let price = |number: &At<Quantity>| number.count_in(0..=GREATEST, problems);
    let fixed = |number: &Option<At<Quantity>>| number.as_ref().map_or(Some(0), price);
    let bytes = |number: &At<Quantity>| number.count_in(1..=64, problems);
    let gpu_weight_permille = spec.gpu_weight_permille.count_in(1..=1_000_000, problems);
    let gpu =
        (price(&spec.gpu_ms_per1k_tokens.input), price(&spec.gpu_ms_per1k_tokens.output), fixed(&spec.gpu_ms_fixed));
    let money = &spec.micro_usd_per1m_tokens;
    let input = price(&money.input);
    let cached = money.cached_input.as_ref().map_or(input, price);
    let (output, per_request) = (price(&money.output), fixed(&spec.micro_usd_fixed));
    let (min_bytes, mean_bytes) = (bytes(&spec.min_bytes_per_token), bytes(&spec.mean_bytes_per_token));
    let media_tokens = match &spec.media_tokens {
        None => None,
        Some(tokens) => Some(tokens.count_in(1..=1_000_000, problems)?),
    };
    let prices = Prices {
        gpu_ms_per_1k_input: gpu.0?,
        gpu_ms_per_1k_output: gpu.1?,
        gpu_ms_fixed: gpu.2?,
        gpu_weight_permille: gpu_weight_permille?,
        micro_usd_per_1m_input: input?,
        micro_usd_per_1m_cached_input: cached?,
        micro_usd_per_1m_output: output?,
        micro_usd_fixed: per_request?,
        min_bytes_per_token: min_bytes?,
        mean_bytes_per_token: mean_bytes?,
        media_tokens,
    };
    ModelCost::new(prices).inspect_err(|error| refused(spec, *error, problems)).ok()
}

fn refused(spec: &ModelCostSpec, error: PricesError, problems: &Problems) {
    let (field, message) = match error {
        PricesError::Weight => (&spec.gpu_weight_permille, "`gpuWeightPermille` must be at least 1".to_owned()),
        PricesError::MinBytes => (&spec.min_bytes_per_token, "`minBytesPerToken` must be at least 1".to_owned()),
        PricesError::MeanBytes => {
            let mean = &spec.mean_bytes_per_token;
            let message = format!(
                "`{}` is less than `minBytesPerToken`, which is `{}`",
                mean.value, spec.min_bytes_per_token.value
            );
            (mean, message)
        }
    };
    problems.add(field.place, message);
}

/// A price says where it is from and when it was true; the latter in seconds since 1970.
fn provenance(spec: &ModelCostSpec, problems: &Problems) -> Option<i64> {
    if spec.source.value.trim().is_empty() || spec.source.value.len() > 1024 {
        problems.add(spec.source.place, "`source` must be 1 to 1024 bytes: where the numbers are from");
    }
    let text = &spec.date.value;
    let date = text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == 10);
    let midnight = date.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok());
    if midnight.is_none() {
        problems.add(spec.date.place, format!("`{text}` is no date: write YYYY-MM-DD"));
    }
    midnight.map(|midnight| midnight.timestamp().as_second())
}
