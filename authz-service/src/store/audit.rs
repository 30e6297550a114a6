//! The audit record: one per decision, refusal and admin action. Text is cut to bounds; a path has no query.

mod rows;

use gateway_core::gate::{Cost, Outcome, Usage};
use serde::{Serialize, Serializer};

use crate::ledger::GrantId;

pub(super) use rows::{COLUMNS, end, insert, insert_new, insert_reported, line, report_refusal};

/// Kind of credential of what a proxy says in its own name: admissions and charges of `ShouldRateLimit`.
pub const BY_PROXY: &str = "proxy";

/// What is known when it is decided. Empty text: not known, or not applicable.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// When, milliseconds since 1970; `time` in JSON, RFC 3339.
    #[serde(rename = "time", serialize_with = "time")]
    pub at_ms: u64,
    /// Envoy's request id.
    pub request_id: String,
    /// The tenant that was decided.
    pub tenant: String,
    /// The principal.
    pub principal: String,
    /// The API key, where the credential is one.
    pub key_id: String,
    /// Kind of credential.
    pub credential: String,
    /// Who acts for the principal, the latest first; names without spaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<String>,
    /// Version of the resources that decided.
    pub policy_version: String,
    /// The decision.
    pub decision: Decision,
    /// Code of the denial, or name of the admin action.
    pub code: String,
    /// Status that the client got; 0: not known, or nothing.
    pub status: u16,
    /// Method.
    pub method: String,
    /// Path template, or path; what follows a `?` is cut off.
    pub path: String,
    /// Canonical model.
    pub model: String,
    /// Provider.
    pub provider: String,
    /// Region.
    pub region: String,
    /// Proxy that asked.
    pub proxy: String,
    /// For the log only, at most 512 bytes.
    pub detail: String,
    /// The grant, where one was given.
    #[serde(serialize_with = "hex")]
    pub grant_id: Option<GrantId>,
    /// What was reserved.
    #[serde(serialize_with = "amounts")]
    pub reserved: Option<Cost>,
}

/// What was decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Granted.
    Allow,
    /// Granted for requests alike, which are admitted one by one (profile `inline`).
    Grant,
    /// Refused by the service.
    #[default]
    Deny,
    /// Refused by Envoy or the module alone.
    Refused,
    /// An operator's action.
    Admin,
    /// Granted, and never started.
    Undone,
    /// Requests of a lease that nobody reported, together.
    Gap,
}

/// A record as it is read back.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditLine {
    /// Its place, ascending.
    pub seq: u64,
    /// The record.
    #[serde(flatten)]
    pub record: AuditRecord,
    /// What was charged; nothing until it is settled.
    #[serde(serialize_with = "amounts")]
    pub charged: Option<Cost>,
    /// How it ended; absent until it is settled.
    #[serde(flatten)]
    pub settled: Option<SettledLine>,
}

/// How a granted request ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SettledLine {
    /// When, milliseconds since 1970; RFC 3339 in JSON.
    #[serde(rename = "settledAt", serialize_with = "time")]
    pub settled_ms: u64,
    /// `answered`, `refused`, `failed`, `hung_up`, `not_sent`, `unknown`; `expired`: nobody said.
    pub outcome: String,
    /// The usage is an estimate.
    pub estimated: bool,
    /// How long it took.
    pub duration_ms: u64,
    /// Envoy's response code details.
    pub details: String,
    /// What it was charged for.
    #[serde(serialize_with = "usage")]
    pub usage: Usage,
}

impl Decision {
    fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Grant => "grant",
            Self::Deny => "deny",
            Self::Refused => "refused",
            Self::Admin => "admin",
            Self::Undone => "undone",
            Self::Gap => "gap",
        }
    }

    fn named(name: &str) -> Self {
        [Self::Allow, Self::Grant, Self::Refused, Self::Admin, Self::Undone, Self::Gap]
            .into_iter()
            .find(|decision| decision.name() == name)
            .unwrap_or_default()
    }
}

/// How audit lines spell an outcome.
pub(super) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unspecified => "unknown",
        Outcome::NotSent => "not_sent",
        Outcome::Answered => "answered",
        Outcome::Refused => "refused",
        Outcome::Failed => "failed",
        Outcome::HungUp => "hung_up",
    }
}

/// At most `bytes` of a text, whole characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

fn time<S: Serializer>(ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    let at = i64::try_from(*ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map(|at| format!("{at:.3}")).serialize(serializer)
}

fn hex<S: Serializer>(id: &Option<GrantId>, serializer: S) -> Result<S::Ok, S::Error> {
    id.map(|id| format!("{id:?}")).serialize(serializer)
}

fn amounts<S: Serializer>(cost: &Option<Cost>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Amounts {
        tokens: u64,
        gpu_ms: u64,
        micro_usd: u64,
        requests: u64,
    }
    let amounts = cost.as_ref().map(|cost| Amounts {
        tokens: cost.tokens,
        gpu_ms: cost.gpu_ms,
        micro_usd: cost.micro_usd,
        requests: cost.requests,
    });
    amounts.serialize(serializer)
}

fn usage<S: Serializer>(usage: &Usage, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Spelled {
        input: u64,
        cached_input: u64,
        output: u64,
        reasoning: u64,
    }
    let Usage { input, cached_input, output, reasoning } = *usage;
    Spelled { input, cached_input, output, reasoning }.serialize(serializer)
}
