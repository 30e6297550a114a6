//! How principals prove who they are, as plans sell it.

use std::collections::BTreeSet;

use serde::Deserialize;

/// A kind of credential, or what may be asked of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Method {
    /// API keys, and what they obtain.
    Keys,
    /// Tokens of the tenant's issuers, and what they obtain.
    Tokens,
    /// Client certificates.
    Certificates,
    /// Rules that ask for a stronger login.
    StepUp,
}

impl Method {
    /// Every one: what a plan has that does not say.
    #[must_use]
    pub fn all() -> BTreeSet<Self> {
        [Self::Keys, Self::Tokens, Self::Certificates, Self::StepUp].into()
    }
}
