//! What kind of credential proved a caller, and how grants and the audit log call it.

/// A kind of credential. What a plan sells is coarser: [`Method`](crate::registry::Method).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// A token of a tenant's issuer.
    Jwt,
    /// An API key.
    ApiKey,
    /// A client certificate alone.
    Certificate,
    /// A token that the service itself gave in exchange (RFC 8693).
    Exchange,
    /// A long job's own.
    Job,
}

impl CredentialKind {
    /// Its name in grants and in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
            Self::Certificate => "certificate",
            Self::Exchange => "exchange",
            Self::Job => "job",
        }
    }
}
