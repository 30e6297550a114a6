//! What the admin API says and hears of clients' certificates and of the tenants' own CAs.

use std::time::Duration;

use gateway_core::name::TenantName;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{AdminError, tenant};
use crate::identity::authority::{MAX_TTL, MIN_TTL};
use crate::identity::certificate::Serial;

/// A certificate lives for this long unless asked otherwise.
pub const DEFAULT_CERTIFICATE_TTL: &str = "1h";

/// `POST /v1/authorities`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAuthorityBody {
    /// Whose CA.
    pub tenant: String,
    /// In place of the one that is there.
    #[serde(default)]
    pub replace: bool,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityMade {
    /// Whose.
    pub tenant: String,
    /// From 1; grows with each new CA.
    pub version: u64,
    /// Its certificate, PEM: for the tenant's bundle, and for Envoy's.
    pub certificate: String,
}

/// `POST /v1/certificates` as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewCertificateBody {
    /// Whose.
    pub tenant: String,
    /// Path of its SPIFFE id: `/workload/train`.
    pub path: String,
    /// How long it lives, `90m`; absent: [`DEFAULT_CERTIFICATE_TTL`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// The workload's request: PKCS #10, PEM.
    pub request: String,
}

/// A checked request for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueCertificate {
    /// Whose.
    pub tenant: TenantName,
    /// Path of its SPIFFE id; read with the tenant's trust domain in front.
    pub path: String,
    /// A minute to a day.
    pub ttl: Duration,
    /// PKCS #10, PEM; not read yet.
    pub request: String,
}

impl TryFrom<NewCertificateBody> for IssueCertificate {
    type Error = AdminError;

    fn try_from(raw: NewCertificateBody) -> Result<Self, AdminError> {
        let ttl = raw.ttl.as_deref().unwrap_or(DEFAULT_CERTIFICATE_TTL);
        let parsed = ttl.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
        let parsed = parsed.filter(|ttl| (MIN_TTL..=MAX_TTL).contains(ttl));
        let refused = || AdminError::Invalid(format!("ttl `{ttl}` is not a duration from 1m to 24h"));
        Ok(Self {
            tenant: tenant(&raw.tenant)?,
            path: raw.path,
            ttl: parsed.ok_or_else(refused)?,
            request: raw.request,
        })
    }
}

/// The answer to `POST /v1/certificates`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateIssued {
    /// Its serial number.
    pub serial: String,
    /// Its SPIFFE id.
    pub spiffe_id: String,
    /// Not valid from this instant on.
    pub expires_at: Timestamp,
    /// The certificate, PEM.
    pub certificate: String,
    /// Its CA's, PEM.
    pub authority: String,
}

/// `POST /v1/certificates/revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevokeCertificateBody {
    /// Whose.
    pub tenant: String,
    /// Its serial number, hexadecimal, with or without colons.
    pub serial: String,
}

/// A certificate's serial number as an operator gives it.
///
/// # Errors
/// [`AdminError::Invalid`], with the rule.
pub fn serial(text: &str) -> Result<Serial, AdminError> {
    Serial::parse(text).ok_or_else(|| AdminError::Invalid(format!("serial `{text}` is not 1 to 64 hexadecimal digits")))
}

/// One certificate as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedRow {
    /// Whose.
    pub tenant: String,
    /// Its serial number.
    pub serial: String,
    /// Its SPIFFE id; absent where it was not issued here.
    pub spiffe_id: Option<String>,
    /// Whether it opens anything.
    pub state: CertificateState,
    /// Not valid from this instant on, where that is known.
    pub expires_at: Option<Timestamp>,
}

/// Whether a certificate opens anything; only `Active` does, while the tenant's bundle holds its CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// Its time is not over.
    Active,
    /// It is.
    Expired,
    /// Revoked; for good.
    Revoked,
}

impl CertificateState {
    /// As lists print it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}
