//! Limits told to clients: RateLimit header fields (draft-ietf-httpapi-ratelimit-headers-10), OpenAI's
//! `x-ratelimit-*`, and which model and region answer.
//!
//! Of limits as the service states them: in `portable` it writes the fields itself, in `inline` the module does, from
//! what came with a lease.

use std::fmt::Write as _;

use crate::gate::{Counts, Header, LimitState, Refill};
use crate::wire;

/// One header of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Lower-case name.
    pub name: &'static str,
    /// Value, visible ASCII and blanks.
    pub value: String,
}

impl Field {
    /// A header.
    #[must_use]
    pub fn new(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into() }
    }
}

impl From<Field> for Header {
    fn from(field: Field) -> Self {
        Self { name: field.name.to_owned(), value: field.value }
    }
}

/// What an admitted request's answer carries: model, region, and how much of each limit is left.
#[must_use]
pub fn answer_headers(model: &str, region: &str, states: &[LimitState]) -> Vec<Header> {
    let target = [Field::new(wire::MODEL, model), Field::new(wire::REGION, region)];
    target.into_iter().chain(fields(states)).map(Header::from).collect()
}

/// The fields that tell how much of each limit is left.
#[must_use]
pub fn fields(states: &[LimitState]) -> Vec<Field> {
    if states.is_empty() {
        return Vec::new();
    }
    // Written for every admitted request: one text each, grown in place. Writing to a String does not fail.
    let (mut policy, mut left) = (String::with_capacity(256), String::with_capacity(128));
    for state in states {
        if !policy.is_empty() {
            policy.push_str(", ");
            left.push_str(", ");
        }
        let _ = write!(policy, "\"{}\";q={}", state.name, whole(state.amount));
        if state.window_seconds > 0 {
            let _ = write!(policy, ";w={}", state.window_seconds);
        }
        let _ = write!(policy, ";qu=\"{}\"", quota_unit(state));
        let _ = write!(left, "\"{}\";r={}", state.name, whole(state.left));
        if state.refill() != Refill::InFlight {
            let _ = write!(left, ";t={}", seconds(state.reset_after_ms));
        }
    }
    let mut fields = vec![Field::new("ratelimit-policy", policy), Field::new("ratelimit", left)];
    fields.extend(openai(
        states,
        Counts::Requests,
        ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
    ));
    fields.extend(openai(
        states,
        Counts::Tokens,
        ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    ));
    fields
}

/// What a limit counts, as fields and messages name it.
#[must_use]
pub const fn unit(counts: Counts) -> &'static str {
    match counts {
        Counts::Unspecified => "units",
        Counts::GpuMs => "gpu-milliseconds",
        Counts::Tokens => "tokens",
        Counts::MicroUsd => "micro-usd",
        Counts::Requests => "requests",
    }
}

/// Whole seconds, rounded up: a client that waits this long is not refused for being early.
#[must_use]
pub const fn seconds(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(1000)
}

/// OpenAI's three headers of the tightest limit that counts this over time. Requests in flight are none: what is left of
/// them says nothing about how many may follow.
fn openai(states: &[LimitState], counts: Counts, names: [&'static str; 3]) -> Vec<Field> {
    let over_time = states.iter().filter(|state| state.counts() == counts && state.refill() != Refill::InFlight);
    let Some(tightest) = over_time.min_by_key(|state| state.left) else { return Vec::new() };
    let values =
        [tightest.amount.to_string(), tightest.left.to_string(), format!("{}s", seconds(tightest.reset_after_ms))];
    names.into_iter().zip(values).map(|(name, value)| Field { name, value }).collect()
}

/// The draft's own unit where it has one (section 8.2), ours beside.
fn quota_unit(state: &LimitState) -> &'static str {
    if state.refill() == Refill::InFlight { "concurrent-requests" } else { unit(state.counts()) }
}

/// An Integer of structured fields has fifteen digits (RFC 9651 §3.3.1).
fn whole(amount: u64) -> u64 {
    amount.min(999_999_999_999_999)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str, counts: Counts, refill: Refill, left: u64) -> LimitState {
        LimitState {
            name: name.into(),
            counts: counts.into(),
            refill: refill.into(),
            window_seconds: if refill == Refill::InFlight { 0 } else { 60 },
            amount: u64::MAX,
            left,
            reset_after_ms: 1,
        }
    }

    fn shown(fields: &[Field]) -> Vec<(&str, &str)> {
        fields.iter().map(|field| (field.name, field.value.as_str())).collect()
    }

    #[test]
    fn requests_in_flight_are_no_rate_of_requests() {
        let in_flight = state("in-flight", Counts::Requests, Refill::InFlight, 1);
        let told = fields(std::slice::from_ref(&in_flight));
        let policy = r#""in-flight";q=999999999999999;qu="concurrent-requests""#;
        assert_eq!(shown(&told), [("ratelimit-policy", policy), ("ratelimit", r#""in-flight";r=1"#)]);

        let rate = state("per-minute", Counts::Requests, Refill::Rate, 7);
        let told = fields(&[in_flight, rate]);
        let remaining = told.iter().find(|field| field.name == "x-ratelimit-remaining-requests");
        assert_eq!(
            remaining.map(|field| field.value.as_str()),
            Some("7"),
            "the tightest over time, not the one in flight"
        );
    }

    #[test]
    fn an_answer_names_its_model_its_region_and_its_limits() {
        let headers = answer_headers("gpt", "eu", &[state("month", Counts::MicroUsd, Refill::Window, 5)]);
        let shown: Vec<_> = headers.iter().map(|header| (header.name.as_str(), header.value.as_str())).collect();
        let policy = r#""month";q=999999999999999;w=60;qu="micro-usd""#;
        let limits = [("ratelimit-policy", policy), ("ratelimit", r#""month";r=5;t=1"#)];
        assert_eq!(shown[..2], [("x-bulkhead-model", "gpt"), ("x-bulkhead-region", "eu")]);
        assert_eq!(shown[2..], limits);
        assert_eq!(answer_headers("gpt", "eu", &[]).len(), 2);
    }
}
