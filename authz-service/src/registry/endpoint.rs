//! The table of endpoints: what requests may ask for, how, and where.

use gateway_core::claims::PathTemplate;
use serde::Deserialize;

/// A path template and what it leads to.
#[derive(Debug)]
pub struct Endpoint {
    /// Its template.
    pub template: PathTemplate,
    /// What it is.
    pub kind: EndpointKind,
}

/// Kinds of endpoints; roles and keys name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointKind {
    /// OpenAI chat completions.
    Chat,
    /// OpenAI models list.
    Models,
    /// An API key's own rotation.
    Rotate,
    /// Token exchange (RFC 8693).
    Token,
    /// Start of a long job.
    Job,
    /// The next credential of a long job.
    JobRenewal,
}

impl EndpointKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [Self::Chat, Self::Models, Self::Rotate, Self::Token, Self::Job, Self::JobRenewal];

    /// As resources and operators name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Models => "models",
            Self::Rotate => "rotate",
            Self::Token => "token",
            Self::Job => "job",
            Self::JobRenewal => "jobRenewal",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The one method it takes.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Chat | Self::Rotate | Self::Token | Self::Job | Self::JobRenewal => "POST",
            Self::Models => "GET",
        }
    }

    /// Its one path where the service answers it itself; none where providers' path templates lead to it.
    #[must_use]
    pub const fn own_path(self) -> Option<&'static str> {
        match self {
            Self::Chat => None,
            Self::Models => Some("/v1/models"),
            Self::Rotate => Some("/bulkhead/v1/keys/rotate"),
            Self::Token => Some("/bulkhead/v1/token"),
            Self::Job => Some("/bulkhead/v1/jobs"),
            Self::JobRenewal => Some("/bulkhead/v1/jobs/renew"),
        }
    }
}
