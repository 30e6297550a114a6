//! The audit record: one per decision, refusal and admin action. Text is cut to bounds; a path has no query.

use gateway_core::gate::{Cost, Outcome, Usage};
use rusqlite::{Connection, Row, params};
use serde::{Serialize, Serializer};

use super::WriteError;
use super::integer::{int, optional, uint};
use super::restored::cost;
use crate::ledger::GrantId;

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
    /// Refused by the service.
    #[default]
    Deny,
    /// Refused by Envoy or the module alone.
    Refused,
    /// An operator's action.
    Admin,
    /// Granted, and never started.
    Undone,
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

/// Inserts a record of the service's own.
pub(super) fn insert(db: &Connection, record: &AuditRecord) -> Result<(), WriteError> {
    insert_row(db, record, None)
}

/// Inserts a record that a worker reports; a repeat is ignored.
pub(super) fn insert_reported(
    db: &Connection,
    record: &AuditRecord,
    worker: &[u8; 16],
    sequence: i64,
) -> Result<(), WriteError> {
    insert_row(db, record, Some((worker, sequence)))
}

fn insert_row(db: &Connection, record: &AuditRecord, report: Option<(&[u8; 16], i64)>) -> Result<(), WriteError> {
    let sql = "INSERT INTO audit (at_ms, request_id, tenant, principal, key_id, credential, policy_version, decision,
        code, status, method, path, model, provider, region, proxy, detail, grant_id, worker, sequence,
        reserved_tokens, reserved_gpu_ms, reserved_micro_usd, reserved_requests)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
        ?21, ?22, ?23, ?24) ON CONFLICT (worker, sequence) WHERE worker IS NOT NULL DO NOTHING";
    let reserved = record.reserved.as_ref();
    let path = record.path.split(['?', '#']).next().unwrap_or_default();
    db.prepare_cached(sql)?.execute(params![
        int(record.at_ms),
        cut(&record.request_id, 128),
        cut(&record.tenant, 63),
        cut(&record.principal, 256),
        cut(&record.key_id, 64),
        cut(&record.credential, 32),
        cut(&record.policy_version, 64),
        record.decision.name(),
        cut(&record.code, 64),
        record.status,
        cut(&record.method, 32),
        cut(path, 512),
        cut(&record.model, 128),
        cut(&record.provider, 128),
        cut(&record.region, 128),
        cut(&record.proxy, 128),
        cut(&record.detail, 512),
        record.grant_id.map(|id| id.0),
        report.map(|(worker, _)| worker),
        report.map(|(_, sequence)| sequence),
        reserved.map(|cost| int(cost.tokens)),
        reserved.map(|cost| int(cost.gpu_ms)),
        reserved.map(|cost| int(cost.micro_usd)),
        reserved.map(|cost| int(cost.requests)),
    ])?;
    Ok(())
}

/// The columns that [`line`] reads.
pub(super) const COLUMNS: &str = "seq, at_ms, request_id, tenant, principal, key_id, credential, policy_version,
    decision, code, status, method, path, model, provider, region, proxy, detail, grant_id,
    reserved_tokens, reserved_gpu_ms, reserved_micro_usd, reserved_requests,
    settled_ms, outcome, estimated, duration_ms, details,
    charged_tokens, charged_gpu_ms, charged_micro_usd, charged_requests, input, cached_input, output, reasoning";

/// One row of [`COLUMNS`].
pub(super) fn line(row: &Row<'_>) -> rusqlite::Result<AuditLine> {
    let record = AuditRecord {
        at_ms: uint(row, 1)?,
        request_id: row.get(2)?,
        tenant: row.get(3)?,
        principal: row.get(4)?,
        key_id: row.get(5)?,
        credential: row.get(6)?,
        policy_version: row.get(7)?,
        decision: Decision::named(row.get_ref(8)?.as_str()?),
        code: row.get(9)?,
        status: row.get(10)?,
        method: row.get(11)?,
        path: row.get(12)?,
        model: row.get(13)?,
        provider: row.get(14)?,
        region: row.get(15)?,
        proxy: row.get(16)?,
        detail: row.get(17)?,
        grant_id: row.get::<_, Option<[u8; 16]>>(18)?.map(GrantId),
        reserved: optional(row, 19)?.map(|_| cost(row, 19)).transpose()?,
    };
    let settled = optional(row, 23)?.map(|settled_ms| settled(row, settled_ms)).transpose()?;
    let charged = optional(row, 28)?.map(|_| cost(row, 28)).transpose()?;
    Ok(AuditLine { seq: uint(row, 0)?, record, charged, settled })
}

fn settled(row: &Row<'_>, settled_ms: u64) -> rusqlite::Result<SettledLine> {
    let count = |column: usize| Ok::<_, rusqlite::Error>(optional(row, column)?.unwrap_or(0));
    Ok(SettledLine {
        settled_ms,
        outcome: row.get::<_, Option<String>>(24)?.unwrap_or_default(),
        estimated: row.get::<_, Option<bool>>(25)?.unwrap_or(true),
        duration_ms: count(26)?,
        details: row.get::<_, Option<String>>(27)?.unwrap_or_default(),
        usage: Usage { input: count(32)?, cached_input: count(33)?, output: count(34)?, reasoning: count(35)? },
    })
}

impl Decision {
    fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Refused => "refused",
            Self::Admin => "admin",
            Self::Undone => "undone",
        }
    }

    fn named(name: &str) -> Self {
        [Self::Allow, Self::Refused, Self::Admin, Self::Undone]
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
