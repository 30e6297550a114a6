//! What the admin API says of long jobs and of the service's own signing key.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One long job as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRow {
    /// Its id.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// What its owner calls it.
    pub job: String,
    /// Who started it.
    pub principal: String,
    /// Whether it runs.
    pub state: JobState,
    /// When it was started.
    pub started_at: Timestamp,
    /// Its credential is not good from this instant on, unless it is renewed.
    pub expires_at: Timestamp,
    /// It is over from this instant on.
    pub ends_at: Timestamp,
}

/// Whether a job runs; only `Active` ones do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Its credential is good.
    Active,
    /// It was not renewed in time.
    Lapsed,
    /// Its time is over.
    Ended,
    /// Revoked; for good.
    Revoked,
}

impl JobState {
    /// As lists print it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Lapsed => "lapsed",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
        }
    }
}

/// `POST /v1/signing-key/rotate`, and its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateBody {
    /// It signs now, and tokens of the keys before it are not good any more.
    #[serde(default)]
    pub at_once: bool,
}

/// A key for the service's own tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSigningKey {
    /// Key id, `kid`.
    pub id: String,
    /// It signs from this instant on.
    pub signs_from: Timestamp,
}
