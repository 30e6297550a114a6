//! Limits told to clients: RateLimit header fields (draft-ietf-httpapi-ratelimit-headers-10), OpenAI's
//! `x-ratelimit-*`, and `Retry-After` (RFC 9110 §10.2.3).

use std::time::Duration;

use gateway_core::denial::{Code, Denial};

use super::Stop;
use crate::ledger::{LimitState, Refused, RefusedBy};
use crate::registry::{Counts, Refill, Window};

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

/// The fields that tell how much of each limit is left.
#[must_use]
pub fn fields(states: &[LimitState]) -> Vec<Field> {
    if states.is_empty() {
        return Vec::new();
    }
    let policy = joined(states, |s| {
        let window = window_seconds(&s.refill).map_or_else(String::new, |seconds| format!(";w={seconds}"));
        format!("\"{}\";q={}{window};qu=\"{}\"", s.name, whole(s.amount), quota_unit(s))
    });
    let left = joined(states, |s| {
        let time = if s.refill == Refill::InFlight { String::new() } else { format!(";t={}", seconds(s.reset_after)) };
        format!("\"{}\";r={}{time}", s.name, whole(s.left))
    });
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

/// The denial of a request that a limit refused.
pub(super) fn refusal(refused: &Refused) -> Stop {
    let limit = &refused.limit;
    let (code, wait) = match refused.kind {
        RefusedBy::Budget => (Code::InsufficientQuota, refused.retry_after),
        RefusedBy::Rate => (Code::RateLimited, refused.retry_after),
        RefusedBy::InFlight => (Code::ConcurrencyLimited, refused.retry_after),
    };
    let denial = Denial::new(code).detail(format!(
        "Limit `{}` allows {} {}, {} are left.",
        limit.name,
        limit.amount,
        unit(limit.counts),
        refused.left
    ));
    let mut headers = fields(&refused.states);
    headers.extend(wait.map(|wait| Field::new("retry-after", seconds(wait).max(1).to_string())));
    headers.push(Field::new("x-bulkhead-limit", limit.name.clone()));
    Stop { denial, headers }
}

fn joined(states: &[LimitState], item: impl Fn(&LimitState) -> String) -> String {
    states.iter().map(item).collect::<Vec<_>>().join(", ")
}

/// OpenAI's three headers of the tightest limit that counts this over time. Requests in flight are none: what is left of
/// them says nothing about how many may follow.
fn openai(states: &[LimitState], counts: Counts, names: [&'static str; 3]) -> Vec<Field> {
    let over_time = states.iter().filter(|state| state.counts == counts && state.refill != Refill::InFlight);
    let Some(tightest) = over_time.min_by_key(|state| state.left) else { return Vec::new() };
    let values =
        [tightest.amount.to_string(), tightest.left.to_string(), format!("{}s", seconds(tightest.reset_after))];
    names.into_iter().zip(values).map(|(name, value)| Field { name, value }).collect()
}

const fn unit(counts: Counts) -> &'static str {
    match counts {
        Counts::GpuMs => "gpu-milliseconds",
        Counts::Tokens => "tokens",
        Counts::MicroUsd => "micro-usd",
        Counts::Requests => "requests",
    }
}

/// The draft's own unit where it has one (section 8.2), ours beside.
fn quota_unit(state: &LimitState) -> &'static str {
    if state.refill == Refill::InFlight { "concurrent-requests" } else { unit(state.counts) }
}

/// An Integer of structured fields has fifteen digits (RFC 9651 §3.3.1).
fn whole(amount: u64) -> u64 {
    amount.min(999_999_999_999_999)
}

pub(super) fn window_seconds(refill: &Refill) -> Option<u64> {
    match refill {
        Refill::Window(Window::Minute) => Some(60),
        Refill::Window(Window::Hour) => Some(3600),
        Refill::Window(Window::Day) => Some(86_400),
        Refill::Window(Window::Month) | Refill::InFlight => None,
        Refill::Rate(period) => Some(seconds(*period)),
    }
}

/// Whole seconds, rounded up: a client that waits this long is not refused for being early.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str, counts: Counts, refill: Refill, left: u64) -> LimitState {
        LimitState { name: name.into(), counts, refill, amount: u64::MAX, left, reset_after: Duration::from_millis(1) }
    }

    #[test]
    fn requests_in_flight_are_no_rate_of_requests() {
        let in_flight = state("in-flight", Counts::Requests, Refill::InFlight, 1);
        let told = fields(std::slice::from_ref(&in_flight));
        let shown: Vec<_> = told.iter().map(|field| (field.name, field.value.as_str())).collect();
        let policy = r#""in-flight";q=999999999999999;qu="concurrent-requests""#;
        assert_eq!(shown, [("ratelimit-policy", policy), ("ratelimit", r#""in-flight";r=1"#)]);

        let rate = state("per-minute", Counts::Requests, Refill::Rate(Duration::from_secs(60)), 7);
        let told = fields(&[in_flight, rate]);
        let remaining = told.iter().find(|field| field.name == "x-ratelimit-remaining-requests");
        assert_eq!(
            remaining.map(|field| field.value.as_str()),
            Some("7"),
            "the tightest over time, not the one in flight"
        );
    }
}
