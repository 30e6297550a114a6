//! The ledger's limits as answers tell them, and the denial of a request that one of them refused.
//!
//! Says where limits stand and never counts.

use std::time::Duration;

use gateway_core::denial::{Code, Denial};
use gateway_core::gate;
use gateway_core::limits::{Field, fields, seconds, unit};

use super::Stop;
use crate::ledger::{LimitState, Refused, RefusedBy, amount_of};
use crate::registry::{Counts, Refill, Window};

/// Where limits stand, as the Gate says it.
#[must_use]
pub(crate) fn told(states: &[LimitState]) -> Vec<gate::LimitState> {
    states.iter().map(state).collect()
}

/// The denial of a request that a limit refused, and the headers that go with it.
pub(crate) fn refusal(refused: &Refused) -> Stop {
    let limit = &refused.limit;
    let code = match refused.kind {
        RefusedBy::Budget => Code::InsufficientQuota,
        RefusedBy::Rate => Code::RateLimited,
        RefusedBy::InFlight => Code::ConcurrencyLimited,
    };
    let denial = Denial::new(code).detail(format!(
        "Limit `{}` allows {} {}, {} are left.",
        limit.name,
        limit.amount,
        unit(counts(limit.counts)),
        refused.left
    ));
    let mut headers = fields(&told(&refused.states));
    headers.extend(refused.retry_after.map(retry_after));
    headers.push(Field::new("x-bulkhead-limit", limit.name.clone()));
    Stop { headers, ..denial.into() }
}

/// When to come back, in whole seconds.
pub(crate) fn retry_after(wait: Duration) -> Field {
    Field::new("retry-after", seconds(milliseconds(wait)).max(1).to_string())
}

/// Whether the next request may be waiting for what a request that took this gives back.
pub(crate) fn is_short(state: &LimitState, taken: &gate::Cost) -> bool {
    match state.refill {
        Refill::InFlight => state.left <= (state.amount / 8).max(4),
        Refill::Window(_) => state.left < amount_of(taken, state.counts),
        Refill::Rate(_) => false,
    }
}

fn state(state: &LimitState) -> gate::LimitState {
    let (refill, window_seconds) = match state.refill {
        Refill::Window(window) => (gate::Refill::Window, window_seconds(window)),
        Refill::Rate(period) => (gate::Refill::Rate, seconds(milliseconds(period))),
        Refill::InFlight => (gate::Refill::InFlight, 0),
    };
    gate::LimitState {
        name: state.name.clone(),
        counts: counts(state.counts).into(),
        refill: refill.into(),
        window_seconds,
        amount: state.amount,
        left: state.left,
        reset_after_ms: milliseconds(state.reset_after),
    }
}

const fn counts(counts: Counts) -> gate::Counts {
    match counts {
        Counts::GpuMs => gate::Counts::GpuMs,
        Counts::Tokens => gate::Counts::Tokens,
        Counts::MicroUsd => gate::Counts::MicroUsd,
        Counts::Requests => gate::Counts::Requests,
    }
}

/// 0 where it varies.
const fn window_seconds(window: Window) -> u64 {
    match window {
        Window::Minute => 60,
        Window::Hour => 3600,
        Window::Day => 86_400,
        Window::Month => 0,
    }
}

/// Rounded up: nobody is told to come back too early.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_with_their_windows_and_rounded_up() {
        let state = |refill| LimitState {
            name: "l".into(),
            counts: Counts::MicroUsd,
            refill,
            amount: 9,
            left: 3,
            reset_after: Duration::from_nanos(1_000_001),
        };
        let refills = [
            (Refill::Window(Window::Minute), gate::Refill::Window, 60),
            (Refill::Window(Window::Hour), gate::Refill::Window, 3600),
            (Refill::Window(Window::Day), gate::Refill::Window, 86_400),
            (Refill::Window(Window::Month), gate::Refill::Window, 0),
            (Refill::Rate(Duration::from_millis(1500)), gate::Refill::Rate, 2),
            (Refill::InFlight, gate::Refill::InFlight, 0),
        ];
        for (refill, want, window_seconds) in refills {
            let told = told(&[state(refill)]);
            let want = gate::LimitState {
                name: "l".into(),
                counts: gate::Counts::MicroUsd.into(),
                refill: want.into(),
                window_seconds,
                amount: 9,
                left: 3,
                reset_after_ms: 2,
            };
            assert_eq!(told, [want]);
        }
    }
}
