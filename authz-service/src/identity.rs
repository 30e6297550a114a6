//! Who is asking: one credential in, exactly one tenant and principal out.
//!
//! Never keeps, logs or echoes a credential: an error carries a fixed text for the log and nothing of what was sent.

pub mod api_key;
pub mod authority;
pub mod certificate;
mod credential_kind;
pub mod discovery;
pub mod exchange;
pub mod forwarded;
pub mod job;
pub mod jwt;
pub mod last_used;
mod party;
pub mod spiffe;
mod strict;

use gateway_core::denial::Code;
use gateway_core::name::TenantName;

use crate::authorization::Login;
use crate::registry::{Limit, Permits};

pub use credential_kind::CredentialKind;
pub use party::{Origin, Party, Standing};

/// Prefix of the principals that API keys stand for; no token's subject may start with it.
pub const KEY_PRINCIPAL: &str = "key:";

/// A verified caller, whatever proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The one tenant it belongs to.
    pub tenant: TenantName,
    /// Who within the tenant: a token's `sub`; `key:` and the id of an API key, the first of its chain: a rotation makes nobody
    /// else of its holder; or a certificate's SPIFFE id.
    pub principal: String,
    /// The API key's id, when one was used.
    pub key_id: Option<String>,
    /// The first key of that key's chain: what limits count per key, they count per chain.
    pub chain: Option<String>,
    /// What the credential may use.
    pub permits: Permits,
    /// It proves nothing on another connection, or from another place: its answer is not to be kept for one.
    pub bound: bool,
    /// It proves nothing without the certificate that stood beside it (RFC 8705 §3): what it starts is bound to that too.
    pub certificate_bound: bool,
    /// The credential's own limits, beside the plan's.
    pub limits: Vec<Limit>,
    /// It proves nothing from here on, at the latest.
    pub expires_at: jiff::Timestamp,
    /// Nobody would take it from here on, with the leeway for clocks; or its whole job ends: so may what it began.
    pub ends_at: jiff::Timestamp,
    /// How its holder logged in, or who started the job; of a key or a certificate, nothing is known.
    pub login: Login,
    /// What proved it.
    pub kind: CredentialKind,
    /// Where the principal's token came from; none: it is an API key.
    pub origin: Option<Origin>,
    /// Who acts for the principal, the latest first; empty: it acts itself.
    pub actors: Vec<Party>,
    /// The job whose credential it is, and which of its two.
    pub job: Option<(String, job::Shown)>,
}

/// A credential that proves nobody: the same to every stranger, with a reason for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credential is not valid")]
pub struct CredentialError {
    code: Code,
    reason: &'static str,
}

impl CredentialError {
    /// Refuses a stranger.
    pub(crate) const fn invalid(reason: &'static str) -> Self {
        Self { code: Code::InvalidCredential, reason }
    }

    /// Refuses the holder of a genuine token that names another tenant than the one its issuer speaks for.
    const fn conflict(reason: &'static str) -> Self {
        Self { code: Code::TenantConflict, reason }
    }

    /// Refuses everybody of an issuer that nobody can be verified for.
    const fn unavailable(reason: &'static str) -> Self {
        Self { code: Code::IdpUnavailable, reason }
    }

    /// [`Code::InvalidCredential`] for strangers; [`Code::TenantConflict`] only once a signature was verified.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Why, for the log alone: never in an answer.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

impl From<jwt::JwtIdentity> for Identity {
    fn from(token: jwt::JwtIdentity) -> Self {
        Self {
            tenant: token.tenant,
            principal: token.principal,
            key_id: None,
            chain: None,
            permits: token.permits,
            bound: token.bound,
            certificate_bound: token.bound,
            limits: Vec::new(),
            expires_at: instant(token.expires_at),
            ends_at: instant(token.expires_at.saturating_add(jwt::LEEWAY)),
            login: token.login,
            kind: CredentialKind::Jwt,
            origin: Some(Origin { issuer: token.issuer.url.clone(), scopes: token.scopes }),
            actors: Vec::new(),
            job: None,
        }
    }
}

impl From<api_key::KeyIdentity> for Identity {
    fn from(key: api_key::KeyIdentity) -> Self {
        Self {
            tenant: key.tenant,
            principal: format!("{KEY_PRINCIPAL}{}", key.chain),
            key_id: Some(key.id),
            chain: Some(key.chain),
            permits: key.permits,
            bound: key.placed,
            certificate_bound: false,
            limits: key.limits,
            expires_at: key.expires_at,
            ends_at: key.expires_at,
            login: Login::default(),
            kind: CredentialKind::ApiKey,
            origin: None,
            actors: Vec::new(),
            job: None,
        }
    }
}

impl From<certificate::CertificateIdentity> for Identity {
    fn from(certificate: certificate::CertificateIdentity) -> Self {
        Self {
            tenant: certificate.tenant,
            principal: certificate.principal,
            key_id: None,
            chain: None,
            permits: certificate.permits,
            bound: true,
            certificate_bound: true,
            limits: Vec::new(),
            expires_at: certificate.expires_at,
            ends_at: certificate.expires_at,
            login: Login::default(),
            kind: CredentialKind::Certificate,
            origin: None,
            actors: Vec::new(),
            job: None,
        }
    }
}

/// Unix seconds that no clock here reaches are the latest instant there is.
fn instant(unix: u64) -> jiff::Timestamp {
    let at = i64::try_from(unix).ok().and_then(|unix| jiff::Timestamp::from_second(unix).ok());
    at.unwrap_or(jiff::Timestamp::MAX)
}
