//! The admin API: what operators ask of a running service, over HTTP/1.1 and JSON on a Unix socket of its own.
//!
//! Whoever may open the socket may operate: it is 0600 and each peer's uid is checked. Nothing here decides a request
//! of a tenant, and no answer but the one that creates a key holds a secret.

pub mod client;
#[cfg(test)]
pub(crate) mod double;
pub mod listener;
pub mod messages;
pub mod operations;
pub mod router;

use std::future::Future;

use gateway_core::name::TenantName;

pub use messages::{
    AuditPage, AuthorityMade, CertificateIssued, CertificateState, CreateKey, CreatedKey, IssueCertificate, IssuedRow,
    JobRow, JobState, KeyRow, KeyState, KeyText, LimitLeft, NewKeyBody, NewSigningKey, Reloaded, TenantUsage, Usage,
};

pub use operations::{Administration, Running};

use crate::identity::certificate::Serial;
use crate::vault::Secret;

/// Who asks: the process at the other end of the admin socket, as the kernel names it (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its effective user id when it connected.
    pub uid: u32,
    /// Its process id, where the kernel said so.
    pub pid: Option<i32>,
}

/// What operators may do. Every change is durable in the audit log, with its [`Operator`], before its effect is
/// answered; a change whose record cannot be written does not happen.
pub trait Operations: Send + Sync + 'static {
    /// Makes an API key: its hash is durable and its resource in the policies' directory before the answer.
    fn create_key(&self, by: Operator, asked: CreateKey)
    -> impl Future<Output = Result<CreatedKey, AdminError>> + Send;

    /// Revokes a key for good, and every key that came of it by rotation: it and these. Revoking it again is no error.
    fn revoke_key(&self, by: Operator, id: String) -> impl Future<Output = Result<Vec<KeyRow>, AdminError>> + Send;

    /// Revokes all keys of a tenant for good: those that were not revoked before.
    fn revoke_keys(
        &self,
        by: Operator,
        tenant: TenantName,
    ) -> impl Future<Output = Result<Vec<KeyRow>, AdminError>> + Send;

    /// Keys of one tenant, or of all, by tenant and id.
    fn list_keys(&self, tenant: Option<TenantName>) -> impl Future<Output = Result<Vec<KeyRow>, AdminError>> + Send;

    /// Stores a tenant's own key of a provider, in place of the one before.
    fn put_provider_key(
        &self,
        by: Operator,
        tenant: TenantName,
        provider: String,
        secret: Secret,
    ) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// Makes a tenant's own CA; its key never leaves the service. Where there is one, only to `replace` it.
    fn create_authority(
        &self,
        by: Operator,
        tenant: TenantName,
        replace: bool,
    ) -> impl Future<Output = Result<AuthorityMade, AdminError>> + Send;

    /// Issues a short certificate by the tenant's CA, in the tenant's trust domain.
    fn issue_certificate(
        &self,
        by: Operator,
        asked: IssueCertificate,
    ) -> impl Future<Output = Result<CertificateIssued, AdminError>> + Send;

    /// Revokes a certificate of a tenant for good, whoever issued it; revoking it again is no error.
    fn revoke_certificate(
        &self,
        by: Operator,
        tenant: TenantName,
        serial: Serial,
    ) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// Certificates that were issued or revoked here, of one tenant or of all.
    fn list_certificates(
        &self,
        tenant: Option<TenantName>,
    ) -> impl Future<Output = Result<Vec<IssuedRow>, AdminError>> + Send;

    /// At most `limit` audit records, oldest first: those after sequence `after`, or the newest ones.
    fn audit(&self, after: Option<u64>, limit: u32) -> impl Future<Output = Result<AuditPage, AdminError>> + Send;

    /// What every tenant has used, and what is left of each limit.
    fn usage(&self) -> impl Future<Output = Result<Usage, AdminError>> + Send;

    /// Makes another key for the service's own tokens; `at_once`: those of before are not good any more.
    fn rotate_signing_key(
        &self,
        by: Operator,
        at_once: bool,
    ) -> impl Future<Output = Result<NewSigningKey, AdminError>> + Send;

    /// Jobs of one tenant, or of all, by tenant and start.
    fn list_jobs(&self, tenant: Option<TenantName>) -> impl Future<Output = Result<Vec<JobRow>, AdminError>> + Send;

    /// Ends a job for good; ending it again is no error.
    fn revoke_job(&self, by: Operator, id: String) -> impl Future<Output = Result<JobRow, AdminError>> + Send;

    /// Reads the policies' directory again, as on SIGHUP; a bad set leaves the last good one in force.
    fn reload(&self, by: Operator) -> impl Future<Output = Result<Reloaded, AdminError>> + Send;
}

/// Why an operator's request was not carried out. Messages name what was asked for, never a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The request itself cannot be read or asks for what is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// It names something that does not exist.
    #[error("unknown {kind} `{name}`{}", near.as_ref().map(|near| format!(", did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// `tenant`, `provider`, `key`, `model`, `endpoint`, `role`.
        kind: &'static str,
        /// The name as it was given.
        name: String,
        /// The nearest name that exists.
        near: Option<String>,
    },
    /// It contradicts what is there already.
    #[error("{0}")]
    Conflict(String),
    /// The policies do not parse; the last good set stays in force.
    #[error("the policies are refused, version `{version}` stays in force")]
    PoliciesRefused {
        /// The version that stays.
        version: String,
        /// Each with file, line, reason and nearest known name.
        problems: Vec<String>,
    },
    /// The body is larger than this endpoint reads.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The state file cannot be written or read now; nothing was changed.
    #[error("{0}")]
    Unavailable(String),
}

impl AdminError {
    /// An [`AdminError::Unknown`] with the nearest of the names that exist.
    pub fn unknown<'a>(kind: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let near = known
            .into_iter()
            .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
            .min()
            .filter(|(distance, candidate)| *distance <= 2 && *distance < candidate.len())
            .map(|(_, candidate)| candidate.to_owned());
        Self::Unknown { kind, name: name.to_owned(), near }
    }

    /// HTTP status and stable code.
    #[must_use]
    pub const fn row(&self) -> (u16, &'static str) {
        match self {
            Self::Invalid(_) => (400, "invalid_request"),
            Self::Unknown { .. } => (404, "not_found"),
            Self::Conflict(_) => (409, "conflict"),
            Self::TooLarge(_) => (413, "body_too_large"),
            Self::PoliciesRefused { .. } => (422, "policies_refused"),
            Self::Unavailable(_) => (503, "unavailable"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_come_with_the_nearest_one() {
        let message = |name: &str| AdminError::unknown("tenant", name, ["acme", "globex"]).to_string();
        assert_eq!(message("acm"), "unknown tenant `acm`, did you mean `acme`?");
        assert_eq!(message("golbex"), "unknown tenant `golbex`, did you mean `globex`?");
        assert_eq!(message("initech"), "unknown tenant `initech`");
        assert_eq!(AdminError::unknown("key", "k1", []).to_string(), "unknown key `k1`");
    }

    #[test]
    fn a_short_name_is_not_near_to_everything() {
        assert_eq!(AdminError::unknown("role", "x", ["a", "b"]).to_string(), "unknown role `x`");
    }
}
