//! What the admin API says and hears, as JSON: camelCase, integers only, times in RFC 3339 (UTC).
//!
//! Each message is spelled here once, for the service and for its client.

mod certificates;
mod jobs;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use gateway_core::name::{ModelName, TenantName};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::AdminError;
use crate::identity::discovery::Network;

pub use certificates::{
    AuthorityMade, CertificateIssued, CertificateState, DEFAULT_CERTIFICATE_TTL, IssueCertificate, IssuedRow,
    NewAuthorityBody, NewCertificateBody, RevokeCertificateBody, serial,
};
pub use jobs::{JobRow, JobState, NewSigningKey, RotateBody};

/// A key lives for this long unless asked otherwise.
pub const DEFAULT_TTL: &str = "24h";
/// No key lives longer.
pub const MAX_TTL: Duration = crate::resource::LONGEST_KEY;
const MIN_TTL: Duration = Duration::from_secs(60);

/// `POST /v1/keys` as it travels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewKeyBody {
    /// Whose key.
    pub tenant: String,
    /// Models it may use; absent: all that the tenant and the role allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Endpoints it may use; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<String>>,
    /// A role that narrows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Blocks of addresses that it may be used from, `10.1.0.0/16` or `2001:db8::/32`; absent: anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
    /// How long it lives, `90m` or `24h`; absent: [`DEFAULT_TTL`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Namespace of its resource, one that the tenant lists; absent: the tenant's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A checked request for a key; that its tenant, models, endpoints and role exist is for the registry to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateKey {
    /// Whose key.
    pub tenant: TenantName,
    /// Models it may use; `None`: all that the tenant and the role allow.
    pub models: Option<Vec<ModelName>>,
    /// Endpoints it may use; `None`: all.
    pub endpoints: Option<Vec<String>>,
    /// A role that narrows it.
    pub role: Option<String>,
    /// Blocks of addresses that it may be used from; `None`: anywhere.
    pub sources: Option<Vec<String>>,
    /// How long it lives: a minute to [`MAX_TTL`].
    pub ttl: Duration,
    /// Namespace of its resource, a DNS label; `None`: the tenant's name.
    pub namespace: Option<String>,
}

impl TryFrom<NewKeyBody> for CreateKey {
    type Error = AdminError;

    fn try_from(raw: NewKeyBody) -> Result<Self, AdminError> {
        let models = raw.models.map(|models| models.iter().map(|name| model(name)).collect()).transpose()?;
        let empty = |list: &Option<Vec<String>>| list.as_ref().is_some_and(Vec::is_empty);
        if models.as_ref().is_some_and(Vec::is_empty) || empty(&raw.endpoints) || empty(&raw.sources) {
            return Err(AdminError::Invalid("an empty list allows nothing: leave it out to allow all".into()));
        }
        if let Some(name) = raw.namespace.as_deref().filter(|name| !is_dns_label(name)) {
            return Err(AdminError::Invalid(format!("namespace `{name}` is not a DNS label")));
        }
        for text in raw.sources.iter().flatten() {
            let bad = |error| AdminError::Invalid(format!("source `{text}` {error}"));
            text.parse::<Network>().map(drop).map_err(bad)?;
        }
        Ok(Self {
            tenant: tenant(&raw.tenant)?,
            models,
            endpoints: raw.endpoints,
            role: raw.role,
            sources: raw.sources,
            ttl: lifetime(raw.ttl.as_deref().unwrap_or(DEFAULT_TTL))?,
            namespace: raw.namespace,
        })
    }
}

/// Parses a tenant's name that an operator gave.
///
/// # Errors
/// [`AdminError::Invalid`], with the rule.
pub fn tenant(name: &str) -> Result<TenantName, AdminError> {
    TenantName::parse(name).map_err(|error| AdminError::Invalid(format!("tenant `{name}` {error}")))
}

fn model(name: &str) -> Result<ModelName, AdminError> {
    ModelName::parse(name).map_err(|error| AdminError::Invalid(format!("model `{name}` {error}")))
}

fn lifetime(text: &str) -> Result<Duration, AdminError> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|span| Duration::try_from(span).ok())
        .filter(|ttl| (MIN_TTL..=MAX_TTL).contains(ttl))
        .ok_or_else(|| AdminError::Invalid(format!("ttl `{text}` is not a duration from 1m to 72h")))
}

/// RFC 1123: 1 to 63 of `a-z`, `0-9` and `-`, not at the edges.
fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// An API key in clear text: shown once, never logged, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(Zeroizing<String>);

impl KeyText {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(..)")
    }
}

impl Serialize for KeyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// The answer to `POST /v1/keys`: the one place where a key is ever shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedKey {
    /// Its id: not secret, in audit records and in the resource's name.
    pub id: String,
    /// The key, for `Authorization: Bearer` or `x-api-key`.
    pub key: KeyText,
    /// Not valid from this instant on.
    pub expires_at: Timestamp,
    /// The `ApiKey` resource that was written.
    pub file: String,
}

/// One key as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRow {
    /// Its id.
    pub id: String,
    /// Whose; absent where no resource says so.
    pub tenant: Option<String>,
    /// Whether it opens anything.
    pub state: KeyState,
    /// Models it may use; absent: all.
    pub models: Option<Vec<String>>,
    /// Endpoints it may use; absent: all.
    pub endpoints: Option<Vec<String>>,
    /// Blocks of addresses that it may be used from; absent: anywhere.
    #[serde(default)]
    pub sources: Option<Vec<String>>,
    /// Not valid from this instant on: its expiry, its greatest age, its chain's, or the end of an overlap.
    pub expires_at: Option<Timestamp>,
    /// The key that it took over from by rotation.
    #[serde(default)]
    pub parent: Option<String>,
    /// The key that took over from it.
    #[serde(default)]
    pub child: Option<String>,
    /// When it was last used, to some seconds.
    #[serde(default)]
    pub last_used: Option<Timestamp>,
}

/// Whether a key opens anything; only `Active` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Resource and hash are there and agree.
    Active,
    /// Its time is over.
    Expired,
    /// Revoked; for good.
    Revoked,
    /// The store has its hash, no resource names it.
    NoResource,
    /// A resource names it, the store has no hash: it was never created here.
    NoHash,
}

impl KeyState {
    /// As lists print it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::NoResource => "no_resource",
            Self::NoHash => "no_hash",
        }
    }
}

/// A page of the audit log, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditPage {
    /// Records exactly as the store writes them.
    pub records: Vec<Box<RawValue>>,
    /// Ask `after` this for what comes next.
    pub next: u64,
}

/// What every tenant has used since the state file was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// By name.
    pub tenants: Vec<TenantUsage>,
}

/// One tenant's usage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantUsage {
    /// Its name; empty: refused before the tenant was known.
    pub tenant: String,
    /// Requests that were admitted.
    pub admitted: u64,
    /// Requests that were refused, by code.
    pub denied: BTreeMap<String, u64>,
    /// Tokens in.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// GPU-milliseconds, weighted.
    pub gpu_ms: u64,
    /// Millionths of a US dollar.
    pub micro_usd: u64,
    /// What is left, of limits over the whole tenant.
    pub limits: Vec<LimitLeft>,
}

/// What is left of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitLeft {
    /// The limit's name in its plan.
    pub name: String,
    /// `gpu_ms`, `tokens`, `micro_usd` or `requests`: the unit of the amounts.
    pub counts: String,
    /// The greatest amount.
    pub amount: u64,
    /// What may still be reserved.
    pub left: u64,
    /// When all of it is there again, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Timestamp>,
}

/// The answer to a reload that was good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// Version in force now.
    pub version: String,
    /// Whether it differs from the one before.
    pub changed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(edit: impl FnOnce(&mut NewKeyBody)) -> String {
        let mut raw = NewKeyBody { tenant: "acme".into(), ..NewKeyBody::default() };
        edit(&mut raw);
        CreateKey::try_from(raw).unwrap_err().to_string()
    }

    #[test]
    fn a_key_lives_a_day_unless_told() {
        let ttl = |text: Option<&str>| {
            let raw = NewKeyBody { tenant: "acme".into(), ttl: text.map(Into::into), ..NewKeyBody::default() };
            CreateKey::try_from(raw).unwrap().ttl.as_secs()
        };
        assert_eq!(ttl(None), 86_400);
        assert_eq!(ttl(Some("72h")), 259_200);
        assert_eq!(ttl(Some("90m")), 5_400);
    }

    #[test]
    fn what_cannot_be_a_key_is_refused_with_its_reason() {
        for ttl in ["73h", "59s", "0h", "-1h", "", "24", "forever", "99999999999h"] {
            assert_eq!(
                refusal(|raw| raw.ttl = Some(ttl.into())),
                format!("ttl `{ttl}` is not a duration from 1m to 72h")
            );
        }
        assert!(refusal(|raw| raw.tenant = "Acme".into()).starts_with("tenant `Acme` must be"));
        assert!(refusal(|raw| raw.models = Some(vec!["a b".into()])).starts_with("model `a b` must be"));
        assert!(refusal(|raw| raw.models = Some(vec![])).starts_with("an empty list allows nothing"));
        assert_eq!(refusal(|raw| raw.namespace = Some("../x".into())), "namespace `../x` is not a DNS label");
        assert!(refusal(|raw| raw.sources = Some(vec![])).starts_with("an empty list allows nothing"));
        for source in ["10.0.0.1", "10.0.0.1/8", "fe80::/129", "localhost/8", ""] {
            let told = refusal(|raw| raw.sources = Some(vec!["10.0.0.0/8".into(), source.into()]));
            assert_eq!(told, format!("source `{source}` is no block of addresses, as `10.1.0.0/16` or `::1/128`"));
        }
    }

    #[test]
    fn a_key_is_never_in_debug_output() {
        let created = CreatedKey {
            id: "k1".into(),
            key: KeyText::new("bh_sesame".into()),
            expires_at: Timestamp::UNIX_EPOCH,
            file: "f".into(),
        };
        assert!(!format!("{created:?}").contains("sesame"));
        assert!(
            serde_json::to_string(&created)
                .unwrap()
                .contains(r#""key":"bh_sesame","expiresAt":"1970-01-01T00:00:00Z""#)
        );
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        assert!(serde_json::from_str::<NewKeyBody>(r#"{"tenant":"acme","model":"x"}"#).is_err());
    }
}
