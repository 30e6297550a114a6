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
        format!("\"{}\";q={}{window};qu=\"{}\"", s.name, s.amount, unit(s.counts))
    });
    let left = joined(states, |s| format!("\"{}\";r={};t={}", s.name, s.left, seconds(s.reset_after)));
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

/// OpenAI's three headers of the tightest limit that counts this.
fn openai(states: &[LimitState], counts: Counts, names: [&'static str; 3]) -> Vec<Field> {
    let Some(tightest) = states.iter().filter(|state| state.counts == counts).min_by_key(|state| state.left) else {
        return Vec::new();
    };
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

fn window_seconds(refill: &Refill) -> Option<u64> {
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
