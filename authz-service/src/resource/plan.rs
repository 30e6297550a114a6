//! `Plan`: limits, caps, what is reserved.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_core::wire::MAX_BODY_BYTES;
use serde::Deserialize;

use super::field::{At, Each};
use super::problem::{Place, Problems};
use super::quantity::Quantity;
use crate::registry::{Audit, Counts, Jobs, Limit, Method, Plan, Refill, Reserve, Scope, Window};

/// `Plan.spec`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct PlanSpec {
    limits: Each<RawLimit>,
    caps: RawCaps,
    reserve: Option<RawReserve>,
    longest_stream: Option<At<Quantity>>,
    priority: Option<At<Quantity>>,
    grant_ttl: Option<At<Quantity>>,
    audit: Option<RawAudit>,
    jobs: Option<RawJobs>,
    methods: Option<At<Each<Method>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct RawJobs {
    longest: At<Quantity>,
    renew_every: Option<At<Quantity>>,
}

/// One limit of a plan or a key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RawLimit {
    name: At<String>,
    counts: RawCounts,
    scope: Option<At<RawScope>>,
    amount: At<Quantity>,
    window: Option<RawWindow>,
    rate: Option<At<Quantity>>,
    in_flight: Option<At<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct RawCaps {
    output_tokens: At<Quantity>,
    prompt_tokens: At<Quantity>,
    body_bytes: Option<At<Quantity>>,
    choices: Option<At<Quantity>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawCounts {
    GpuTime,
    Tokens,
    MicroUsd,
    Requests,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum RawScope {
    Tenant,
    Principal,
    Key,
    Model,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawWindow {
    Minute,
    Hour,
    Day,
    Month,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum RawReserve {
    Bound,
    Estimate,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum RawAudit {
    Standard,
    Strict,
}

/// Whose limits they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A plan's: each says its scope.
    Plan,
    /// A key's: they count that key.
    Key,
}

const LONGEST_STREAM: Duration = Duration::from_secs(600);
const GRANT_TTL: Duration = Duration::from_secs(10);
/// A job's credential: as long as a token lives, and within the hour that a leaked one is worth.
const RENEW_EVERY: Duration = Duration::from_secs(3600);
const LONGEST_JOB_DAYS: u64 = 30;
const LONGEST_GRANT_TTL: Duration = Duration::from_secs(60);

/// Compiles a plan.
pub(super) fn compile(name: &str, spec: &PlanSpec, problems: &Problems) -> Option<Plan> {
    let limits = limits(&spec.limits, Owner::Plan, problems);
    let caps = &spec.caps;
    let output_tokens = caps.output_tokens.count_in(1..=u64::from(u32::MAX), problems);
    let prompt_tokens = caps.prompt_tokens.count_in(1..=u64::from(u32::MAX), problems);
    let body_bytes = or(caps.body_bytes.as_ref(), MAX_BODY_BYTES, |bytes| bytes.count_in(1..=MAX_BODY_BYTES, problems));
    let choices = or(caps.choices.as_ref(), 1, |choices| choices.count_in(1..=128, problems));
    let longest_stream = or(spec.longest_stream.as_ref(), LONGEST_STREAM, |longest| longest.duration_to(1, problems));
    let priority = or(spec.priority.as_ref(), 0, |priority| priority.count_in(0..=100, problems));
    let jobs = or(spec.jobs.as_ref(), None, |raw| jobs(raw, problems).map(Some));
    let grant_ttl = or(spec.grant_ttl.as_ref(), GRANT_TTL, |ttl| ttl.duration_within(LONGEST_GRANT_TTL, problems));
    let methods = methods(spec.methods.as_ref(), problems);
    Some(Plan {
        name: name.to_owned(),
        limits,
        output_tokens: output_tokens?,
        prompt_tokens: prompt_tokens?,
        body_bytes: body_bytes?,
        choices: choices?,
        reserve: match spec.reserve {
            None | Some(RawReserve::Bound) => Reserve::Bound,
            Some(RawReserve::Estimate) => Reserve::Estimate,
        },
        longest_stream: longest_stream?,
        priority: u8::try_from(priority?).ok()?,
        grant_ttl: grant_ttl?,
        audit: match spec.audit {
            None | Some(RawAudit::Standard) => Audit::Standard,
            Some(RawAudit::Strict) => Audit::Strict,
        },
        jobs: jobs?,
        methods,
    })
}

/// How principals may prove who they are; a plan under which nobody can is a slip of the pen.
fn methods(raw: Option<&At<Each<Method>>>, problems: &Problems) -> BTreeSet<Method> {
    let Some(At { value, place }) = raw else { return Method::all() };
    let methods: BTreeSet<Method> = value.0.iter().copied().collect();
    if methods.iter().all(|method| *method == Method::StepUp) {
        problems.add(*place, "`methods` must hold one of `keys`, `tokens`, `certificates`");
    }
    methods
}

/// Compiles the limits of a plan or a key.
pub(super) fn limits(raw: &Each<RawLimit>, owner: Owner, problems: &Problems) -> Vec<Limit> {
    let mut names = BTreeSet::new();
    let mut limits = Vec::new();
    for limit in &raw.0 {
        if !names.insert(limit.name.value.as_str()) {
            problems.add(limit.name.place, format!("limit `{}` is there already", limit.name.value));
        }
        limits.extend(compile_limit(limit, owner, problems));
    }
    limits
}

fn compile_limit(raw: &RawLimit, owner: Owner, problems: &Problems) -> Option<Limit> {
    let name = raw.name.label(problems);
    let scope = scope(raw, owner, problems);
    let refill = refill(raw, problems);
    let counts = Counts::from(raw.counts);
    let amount = amount(&raw.amount, counts, problems);
    Some(Limit { name: name?.to_owned(), counts, scope: scope?, amount: amount?, refill: refill? })
}

/// An amount of what is counted.
pub(super) fn amount(raw: &At<Quantity>, counts: Counts, problems: &Problems) -> Option<u64> {
    match counts {
        Counts::GpuMs => raw.gpu_millis_in(1..=u64::MAX, problems),
        Counts::Tokens | Counts::MicroUsd | Counts::Requests => raw.count_in(1..=u64::MAX, problems),
    }
}

impl From<RawCounts> for Counts {
    fn from(raw: RawCounts) -> Self {
        match raw {
            RawCounts::GpuTime => Self::GpuMs,
            RawCounts::Tokens => Self::Tokens,
            RawCounts::MicroUsd => Self::MicroUsd,
            RawCounts::Requests => Self::Requests,
        }
    }
}

impl From<RawWindow> for Window {
    fn from(raw: RawWindow) -> Self {
        match raw {
            RawWindow::Minute => Self::Minute,
            RawWindow::Hour => Self::Hour,
            RawWindow::Day => Self::Day,
            RawWindow::Month => Self::Month,
        }
    }
}

fn scope(raw: &RawLimit, owner: Owner, problems: &Problems) -> Option<Scope> {
    match (owner, &raw.scope) {
        (Owner::Key, None) => Some(Scope::Key),
        (Owner::Key, Some(At { value: RawScope::Key, .. })) => Some(Scope::Key),
        (Owner::Key, Some(other)) => {
            problems.add(other.place, "the limits of a key count that key: `scope` can only be `key`");
            None
        }
        (Owner::Plan, None) => {
            problems.add(raw.name.place, format!("limit `{}`: missing field `scope`", raw.name.value));
            None
        }
        (Owner::Plan, Some(scope)) => Some(match scope.value {
            RawScope::Tenant => Scope::Tenant,
            RawScope::Principal => Scope::Principal,
            RawScope::Key => Scope::Key,
            RawScope::Model => Scope::Model,
        }),
    }
}

fn refill(raw: &RawLimit, problems: &Problems) -> Option<Refill> {
    let refuse = |message: &str| {
        problems.add(raw.name.place, format!("limit `{}`: {message}", raw.name.value));
        None
    };
    match (raw.window, &raw.rate, &raw.in_flight) {
        (Some(window), None, None) => Some(Refill::Window(window.into())),
        (None, Some(rate), None) => match raw.counts {
            RawCounts::Tokens | RawCounts::Requests => rate.duration_to(1, problems).map(Refill::Rate),
            _ => refuse("`rate` goes with `counts: tokens` or `counts: requests` only"),
        },
        (None, None, Some(At { value: true, .. })) if raw.counts == RawCounts::Requests => Some(Refill::InFlight),
        (None, None, Some(At { value: true, .. })) => refuse("`inFlight` goes with `counts: requests` only"),
        (None, None, Some(At { value: false, place })) => {
            problems.add(*place, "`inFlight` can only be `true`: leave it out");
            None
        }
        _ => refuse("write exactly one of `window`, `rate` and `inFlight`"),
    }
}

fn jobs(raw: &RawJobs, problems: &Problems) -> Option<Jobs> {
    let longest = raw.longest.duration_to(LONGEST_JOB_DAYS, problems)?;
    let renew_every = or(raw.renew_every.as_ref(), RENEW_EVERY, |every| every.duration_to(1, problems))?;
    let shortest = Duration::from_secs(60);
    match &raw.renew_every {
        Some(every) if renew_every < shortest => {
            problems.add(every.place, format!("`{}` is out of range: at least 1m, at most 1d", every.value));
            None
        }
        _ if longest < shortest => {
            problems
                .add(raw.longest.place, format!("`{}` is out of range: at least 1m, at most 30d", raw.longest.value));
            None
        }
        _ => Some(Jobs { longest, renew_every }),
    }
}

/// A field's value or its default.
fn or<T, V>(raw: Option<&V>, default: T, read: impl FnOnce(&V) -> Option<T>) -> Option<T> {
    raw.map_or(Some(default), read)
}

/// Where the limit of this name stands.
pub(super) fn place_of(raw: &Each<RawLimit>, name: &str) -> Place {
    raw.0.iter().find(|limit| limit.name.value == name).map(|limit| limit.name.place).unwrap_or_default()
}
