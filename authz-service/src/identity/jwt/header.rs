//! A token's header: which key, which algorithm, and nothing else that could steer verification (RFC 7515 §4.1).

use serde_json::Value;

use super::algorithm::Alg;
use crate::identity::CredentialError;
use crate::identity::strict;

/// Fields that would bring a key, point at one, change what is signed, or demand an extension.
const REFUSED: &[&str] = &["crit", "b64", "zip", "enc", "cty", "jwk", "jku", "x5c", "x5u"];
/// Kinds of tokens that are taken; absent is as good (RFC 9068 §2.1, RFC 8725 §3.11).
const TYPES: &[&str] = &["JWT", "at+jwt"];

/// What a header may say.
#[derive(Debug)]
pub(super) struct Header {
    /// The algorithm that the token claims; the key's own decides.
    pub(super) alg: Alg,
    /// Which key of the issuer's set.
    pub(super) kid: Option<String>,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, CredentialError> {
        let fields = strict::object(bytes).map_err(|_| CredentialError::invalid("jwt: header is not strict JSON"))?;
        if REFUSED.iter().any(|name| fields.contains_key(*name)) {
            return Err(CredentialError::invalid("jwt: header field that is not accepted"));
        }
        let alg = fields.get("alg").and_then(Value::as_str).and_then(Alg::parse);
        let kid = match fields.get("kid") {
            None => None,
            Some(Value::String(kid)) if is_kid(kid) => Some(kid.clone()),
            Some(_) => return Err(CredentialError::invalid("jwt: kid is not a key id")),
        };
        match fields.get("typ") {
            None => {}
            Some(Value::String(typ)) if TYPES.contains(&typ.as_str()) => {}
            Some(_) => return Err(CredentialError::invalid("jwt: another kind of token")),
        }
        Ok(Self { alg: alg.ok_or(CredentialError::invalid("jwt: algorithm that is not accepted"))?, kid })
    }
}

/// `[A-Za-z0-9._-]{1,64}`
pub(super) fn is_kid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
