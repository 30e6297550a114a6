//! What was counted, as Envoy reads it: a code for each descriptor, the limit that is nearest, and the headers and the body
//! that a refused client gets.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus, RateLimit};
use envoy_types::pb::google;
use gateway_core::denial::{self, Denial};
use gateway_core::limits::{Field, fields};

use crate::decide::Stop;
use crate::decide::limits::{refusal, told};
use crate::ledger::{LimitState, Refused};
use crate::registry::{Refill, Window};

/// What became of one descriptor.
#[derive(Clone)]
pub(super) struct Verdict {
    /// Why not, if not.
    denial: Option<Denial>,
    /// The limit that the status tells of.
    nearest: Option<LimitState>,
    /// Headers of the client's answer.
    headers: Vec<Field>,
}

impl Verdict {
    /// Counted; limits stand there now.
    pub(super) fn counted(states: &[LimitState]) -> Self {
        Self { denial: None, nearest: nearest(states).cloned(), headers: fields(&told(states)) }
    }

    /// Refused by a limit.
    pub(super) fn over(refused: &Refused) -> Self {
        let Stop { denial, headers, .. } = refusal(refused);
        let bound = refused.states.iter().find(|state| state.name == refused.limit.name).cloned();
        Self { denial: Some(denial), nearest: bound, headers }
    }

    /// Refused without a limit: it cannot be decided, or not for this subject.
    pub(super) fn denied(denial: Denial) -> Self {
        Self { denial: Some(denial), nearest: None, headers: Vec::new() }
    }

    /// The denial's code; internal where there is none.
    pub(super) fn code(&self) -> denial::Code {
        self.denial.as_ref().map_or(denial::Code::Internal, |denial| denial.code)
    }

    fn status(&self) -> DescriptorStatus {
        let code = if self.denial.is_some() { Code::OverLimit } else { Code::Ok };
        let limit = self.nearest.as_ref();
        DescriptorStatus {
            code: code.into(),
            current_limit: limit.map(|state| RateLimit {
                name: state.name.clone(),
                requests_per_unit: clamp(state.amount),
                unit: unit(&state.refill).into(),
            }),
            limit_remaining: limit.map_or(0, |state| clamp(state.left)),
            duration_until_reset: limit.map(|state| duration(state.reset_after)),
            ..DescriptorStatus::default()
        }
    }
}

/// The answer to a call: over the limit where one descriptor is, with the words of the first that is.
pub(super) fn response(verdicts: Vec<Verdict>) -> RateLimitResponse {
    let over = verdicts.iter().find(|verdict| verdict.denial.is_some());
    // A call without descriptors has no status, and is no question.
    let refused = over.is_some() || verdicts.is_empty();
    let mut headers = over.or(verdicts.first()).map(|verdict| verdict.headers.clone()).unwrap_or_default();
    let mut body = Vec::new();
    if refused {
        let unknown = Denial::new(denial::Code::Internal);
        body = over.and_then(|verdict| verdict.denial.as_ref()).unwrap_or(&unknown).body("");
        headers.push(Field::new("content-type", "application/json"));
    }
    let header =
        |field: Field| HeaderValue { key: field.name.to_owned(), value: field.value, ..HeaderValue::default() };
    RateLimitResponse {
        overall_code: if refused { Code::OverLimit } else { Code::Ok }.into(),
        statuses: verdicts.iter().map(Verdict::status).collect(),
        response_headers_to_add: headers.into_iter().map(header).collect(),
        raw_body: body,
        ..RateLimitResponse::default()
    }
}

/// Whether an answer refuses.
pub(super) fn is_over(response: &RateLimitResponse) -> bool {
    response.overall_code() != Code::Ok
}

/// The limit over time of which the smallest part is left.
fn nearest(states: &[LimitState]) -> Option<&LimitState> {
    let over_time = states.iter().filter(|state| state.refill != Refill::InFlight);
    let cross = |a: &LimitState, b: &LimitState| u128::from(a.left).saturating_mul(u128::from(b.amount));
    over_time.min_by(|a, b| cross(a, b).cmp(&cross(b, a)))
}

fn clamp(amount: u64) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}

fn unit(refill: &Refill) -> Unit {
    match refill {
        Refill::Window(Window::Minute) => Unit::Minute,
        Refill::Window(Window::Hour) => Unit::Hour,
        Refill::Window(Window::Day) => Unit::Day,
        Refill::Window(Window::Month) => Unit::Month,
        Refill::Rate(period) => match period.as_secs() {
            1 => Unit::Second,
            60 => Unit::Minute,
            3_600 => Unit::Hour,
            86_400 => Unit::Day,
            _ => Unit::Unknown,
        },
        Refill::InFlight => Unit::Unknown,
    }
}

fn duration(duration: Duration) -> google::protobuf::Duration {
    google::protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Counts;

    fn state(name: &str, amount: u64, left: u64, refill: Refill) -> LimitState {
        let reset_after = Duration::from_millis(1_500);
        LimitState { name: name.into(), counts: Counts::Tokens, refill, amount, left, reset_after }
    }

    #[test]
    fn the_status_tells_of_the_limit_that_is_nearest() {
        let states = [
            state("at-once", 10, 0, Refill::InFlight),
            state("day", 1_000, 400, Refill::Window(Window::Day)),
            state("minute", u64::MAX, u64::MAX / 10, Refill::Rate(Duration::from_secs(60))),
        ];
        let answer = response(vec![Verdict::counted(&states)]);
        let limit = answer.statuses[0].current_limit.as_ref().unwrap();
        assert_eq!((limit.name.as_str(), limit.requests_per_unit, limit.unit()), ("minute", u32::MAX, Unit::Minute));
        let reset = answer.statuses[0].duration_until_reset.as_ref().unwrap();
        assert_eq!((reset.seconds, reset.nanos), (1, 500_000_000));
        assert_eq!((answer.overall_code(), answer.raw_body.len()), (Code::Ok, 0));
        assert!(answer.response_headers_to_add.iter().any(|header| header.key == "ratelimit"));
    }

    #[test]
    fn one_descriptor_over_is_the_call_over_and_no_question_is_too() {
        let good = Verdict::counted(&[state("day", 10, 9, Refill::Window(Window::Day))]);
        let answer = response(vec![good, Verdict::denied(denial::Code::TenantSuspended.into())]);
        assert_eq!(answer.overall_code(), Code::OverLimit);
        assert_eq!(answer.statuses.iter().map(DescriptorStatus::code).collect::<Vec<_>>(), [Code::Ok, Code::OverLimit]);
        assert!(String::from_utf8(answer.raw_body).unwrap().contains("tenant_suspended"));
        assert!(is_over(&response(Vec::new())) && is_over(&RateLimitResponse::default()));
    }
}
