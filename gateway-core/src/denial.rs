//! The one table of denials: code → status, OpenAI error type, public message.
//!
//! A denial is not an error: errors mean that Bulkhead failed, and failing means denying with [`Code::Internal`] or
//! [`Code::ServiceUnavailable`]. What a stranger may not know is not in a message; the detail goes to the log only.

mod words;

use serde::Serialize;

pub use words::Words;

/// A refusal's stable code, as it stands in the answer's `error.code` and in the audit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each row of the table below says it in its message")]
pub enum Code {
    // syntax of the request line and headers
    BadRequest,
    DuplicateHeader,
    MalformedHeader,
    MethodNotAllowed,
    UriTooLong,
    HeadersTooLarge,
    UnsupportedEncoding,
    // credential
    MissingCredential,
    AmbiguousCredentials,
    CredentialInUrl,
    InvalidCredential,
    IdpUnavailable,
    CredentialNotAllowed,
    KeyRotated,
    KeyChainEnds,
    // tenant, model, endpoint
    TenantConflict,
    TenantSuspended,
    TenantMismatch,
    ModelConflict,
    ModelNotFound,
    ModelNotAllowed,
    EndpointNotAllowed,
    StepUpRequired,
    PolicyDenied,
    NotFound,
    NoEligibleTarget,
    // body
    MissingBody,
    BodyTooLarge,
    PromptTooLarge,
    InvalidJson,
    InvalidBody,
    UnknownField,
    UnsupportedContent,
    // limits
    RateLimited,
    ConcurrencyLimited,
    InsufficientQuota,
    // our side, and Envoy's own refusals
    NotAdmitted,
    RequestTimeout,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamEncoded,
    ModuleUnavailable,
    ServiceUnavailable,
    Internal,
    Refused,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The stable code.
    pub code: &'static str,
    /// HTTP status, never below 400.
    pub status: u16,
    /// OpenAI's `error.type`.
    pub kind: &'static str,
    /// What anybody may read.
    pub message: &'static str,
}

const fn row(code: &'static str, status: u16, kind: &'static str, message: &'static str) -> Row {
    Row { code, status, kind, message }
}

const INVALID: &str = "invalid_request_error";
const AUTHENTICATION: &str = "authentication_error";
const PERMISSION: &str = "permission_error";
const RATE: &str = "rate_limit_error";
const SERVER: &str = "server_error";

impl Code {
    /// What the module may refuse an answer with, once its request went on.
    pub const OF_ANSWERS: &[Self] = &[
        Self::InvalidCredential,
        Self::TenantMismatch,
        Self::UpstreamUnavailable,
        Self::UpstreamEncoded,
        Self::Internal,
    ];

    /// The code of this name, if the table has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.row().code == name)
    }

    /// The table.
    #[must_use]
    pub const fn row(self) -> Row {
        match self {
            Self::BadRequest => row("bad_request", 400, INVALID, "The request is not valid HTTP for this gateway."),
            Self::DuplicateHeader => {
                row("duplicate_header", 400, INVALID, "A header that may stand once was sent twice.")
            }
            Self::MalformedHeader => row("malformed_header", 400, INVALID, "A header has a value that cannot be read."),
            Self::MethodNotAllowed => {
                row("method_not_allowed", 405, INVALID, "This endpoint does not take this method.")
            }
            Self::UriTooLong => row("uri_too_long", 414, INVALID, "The URL is too long."),
            Self::HeadersTooLarge => row("headers_too_large", 431, INVALID, "The request headers are too large."),
            Self::UnsupportedEncoding => row("unsupported_encoding", 415, INVALID, "Send JSON, not compressed."),
            Self::MissingCredential => {
                row("missing_credential", 401, AUTHENTICATION, "Send an API key or a bearer token.")
            }
            Self::AmbiguousCredentials => {
                row("ambiguous_credentials", 400, AUTHENTICATION, "Send exactly one credential.")
            }
            Self::CredentialInUrl => {
                row("credential_in_url", 401, AUTHENTICATION, "A credential in the URL is not accepted.")
            }
            Self::InvalidCredential => row("invalid_credential", 401, AUTHENTICATION, "The credential is not valid."),
            Self::IdpUnavailable => {
                row("idp_unavailable", 401, AUTHENTICATION, "The identity provider's keys are not available.")
            }
            Self::CredentialNotAllowed => {
                row("credential_not_allowed", 403, PERMISSION, "This tenant does not take this kind of credential.")
            }
            Self::KeyRotated => {
                row("key_rotated", 409, INVALID, "This key was rotated before, and a key is rotated once.")
            }
            Self::KeyChainEnds => {
                row("key_chain_ends", 403, PERMISSION, "This key's chain is at its greatest age: ask for a new key.")
            }
            Self::TenantConflict => {
                row("tenant_conflict", 403, PERMISSION, "The request names another tenant than its credential.")
            }
            Self::TenantSuspended => row("tenant_suspended", 403, PERMISSION, "This tenant's access is suspended."),
            Self::TenantMismatch => row("tenant_mismatch", 502, SERVER, "The answer could not be delivered."),
            Self::ModelConflict => row("model_conflict", 400, INVALID, "The request names two different models."),
            Self::ModelNotFound => {
                row("model_not_found", 404, INVALID, "The model does not exist or you do not have access to it.")
            }
            Self::ModelNotAllowed => {
                row("model_not_allowed", 403, PERMISSION, "This credential may not use this model.")
            }
            Self::EndpointNotAllowed => {
                row("endpoint_not_allowed", 403, PERMISSION, "This credential may not use this endpoint.")
            }
            Self::StepUpRequired => row(
                "insufficient_user_authentication",
                401,
                AUTHENTICATION,
                "This needs a stronger or more recent login; see WWW-Authenticate.",
            ),
            Self::PolicyDenied => row("policy_denied", 403, PERMISSION, "A policy does not allow this request."),
            Self::NotFound => row("not_found", 404, INVALID, "No such endpoint."),
            Self::NoEligibleTarget => {
                row("no_eligible_target", 403, PERMISSION, "No provider in an allowed region serves this model.")
            }
            Self::MissingBody => row("missing_body", 400, INVALID, "The request needs a JSON body."),
            Self::BodyTooLarge => row("body_too_large", 413, INVALID, "The request body is too large."),
            Self::PromptTooLarge => {
                row("prompt_too_large", 413, INVALID, "The prompt is larger than this plan allows.")
            }
            Self::InvalidJson => row("invalid_json", 400, INVALID, "The body is not valid JSON."),
            Self::InvalidBody => {
                row("invalid_body", 400, INVALID, "A field of the body has a value that is not accepted.")
            }
            Self::UnknownField => {
                row("unknown_field", 400, INVALID, "The body has a field that this endpoint does not know.")
            }
            Self::UnsupportedContent => {
                row("unsupported_content", 400, INVALID, "This model does not take this kind of content.")
            }
            Self::RateLimited => {
                row("rate_limit_exceeded", 429, RATE, "Too much in too short a time; see Retry-After.")
            }
            Self::ConcurrencyLimited => {
                row("concurrency_limit_exceeded", 429, RATE, "Too many requests at once; see Retry-After.")
            }
            Self::InsufficientQuota => row("insufficient_quota", 429, "insufficient_quota", "The budget is used up."),
            Self::NotAdmitted => row("not_admitted", 403, PERMISSION, "The request was not admitted."),
            Self::RequestTimeout => row("request_timeout", 408, INVALID, "The request took too long to arrive."),
            Self::UpstreamTimeout => row("upstream_timeout", 504, SERVER, "The model did not answer in time."),
            Self::UpstreamUnavailable => row("upstream_unavailable", 503, SERVER, "The model is not available."),
            Self::UpstreamEncoded => row("upstream_encoded", 502, SERVER, "The answer could not be delivered."),
            Self::ModuleUnavailable => row("module_unavailable", 503, SERVER, "Try again shortly."),
            Self::ServiceUnavailable => row("service_unavailable", 503, SERVER, "Try again shortly."),
            Self::Internal => row("internal", 500, SERVER, "The gateway could not decide this request."),
            Self::Refused => row("refused", 403, SERVER, "The request was refused."),
        }
    }

    /// Every code, for tests and documents.
    pub const ALL: &'static [Self] = &[
        Self::BadRequest,
        Self::DuplicateHeader,
        Self::MalformedHeader,
        Self::MethodNotAllowed,
        Self::UriTooLong,
        Self::HeadersTooLarge,
        Self::UnsupportedEncoding,
        Self::MissingCredential,
        Self::AmbiguousCredentials,
        Self::CredentialInUrl,
        Self::InvalidCredential,
        Self::IdpUnavailable,
        Self::CredentialNotAllowed,
        Self::KeyRotated,
        Self::KeyChainEnds,
        Self::TenantConflict,
        Self::TenantSuspended,
        Self::TenantMismatch,
        Self::ModelConflict,
        Self::ModelNotFound,
        Self::ModelNotAllowed,
        Self::EndpointNotAllowed,
        Self::StepUpRequired,
        Self::PolicyDenied,
        Self::NotFound,
        Self::NoEligibleTarget,
        Self::MissingBody,
        Self::BodyTooLarge,
        Self::PromptTooLarge,
        Self::InvalidJson,
        Self::InvalidBody,
        Self::UnknownField,
        Self::UnsupportedContent,
        Self::RateLimited,
        Self::ConcurrencyLimited,
        Self::InsufficientQuota,
        Self::NotAdmitted,
        Self::RequestTimeout,
        Self::UpstreamTimeout,
        Self::UpstreamUnavailable,
        Self::UpstreamEncoded,
        Self::ModuleUnavailable,
        Self::ServiceUnavailable,
        Self::Internal,
        Self::Refused,
    ];
}

/// A refusal of one request: its row, and what the log and an authenticated caller may also read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Which row.
    pub code: Code,
    /// The field of the body or the header that was refused, for `error.param`.
    pub param: Option<String>,
    /// More than the public message, for authenticated callers and the log: never a secret, never another tenant.
    pub detail: Option<String>,
    /// What it goes by, for the log alone.
    pub why: Option<Box<str>>,
    /// What a 401 asks for, where that is more than some credential: [`Denial::challenge`].
    pub challenge: Option<Box<str>>,
}

impl Denial {
    /// A denial with nothing to add.
    #[must_use]
    pub const fn new(code: Code) -> Self {
        Self { code, param: None, detail: None, why: None, challenge: None }
    }

    /// Names the offending field or header.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says more to the authenticated caller and the log.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// What the answer's `WWW-Authenticate` says: on a 401 always something (RFC 9110 §15.5.2), otherwise nothing.
    #[must_use]
    pub fn challenge(&self) -> Option<&str> {
        (self.code.row().status == 401).then(|| self.challenge.as_deref().unwrap_or("Bearer"))
    }

    /// The detail as the log has it: with what it goes by, which the caller is not told.
    #[must_use]
    pub fn logged(&self) -> String {
        let detail = self.detail.clone().unwrap_or_default();
        match &self.why {
            None => detail,
            Some(why) => format!("{detail} It applies to: {why}."),
        }
    }

    /// The answer's body for a stranger, `{"error":{message,type,param,code,request_id}}` as OpenAI clients raise it: the
    /// table's row and nothing else. The authenticated read [`Words::body`].
    #[must_use]
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        self.saying(&[Some(self.code.row().message)], None, request_id)
    }

    fn saying(&self, message: &[Option<&str>], param: Option<&str>, request_id: &str) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            message: &'a str,
            r#type: &'a str,
            param: Option<&'a str>,
            code: &'a str,
            request_id: &'a str,
        }
        let row = self.code.row();
        let message: Vec<&str> = message.iter().copied().flatten().collect();
        let error = Error { message: &message.join(" "), r#type: row.kind, param, code: row.code, request_id };
        serde_json::to_vec(&Body { error }).unwrap_or_default()
    }
}

impl From<Code> for Denial {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_spelled_once_and_refuses() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let row = code.row();
            assert!(row.status >= 400, "{}", row.code);
            assert!(seen.insert(row.code), "{} twice", row.code);
            assert_eq!(Code::named(row.code), Some(*code));
        }
        assert_eq!(Code::named("ok"), None);
    }

    #[test]
    fn strangers_read_the_row_and_nothing_else() {
        let denial = Denial::new(Code::ModelNotAllowed).param("model").detail("Key k1 lists llama.");
        assert_eq!(
            String::from_utf8(denial.body("r-1")).unwrap(),
            r#"{"error":{"message":"This credential may not use this model.","type":"permission_error","param":null,"code":"model_not_allowed","request_id":"r-1"}}"#
        );
    }
}
