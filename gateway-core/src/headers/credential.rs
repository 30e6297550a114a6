//! The one credential of a request, by its carrier. Reads its form only: whom it proves is `identity`'s to say.

use std::fmt;

use super::{Head, malformed, printable, values};
use crate::denial::{Code, Denial};

/// Headers that may carry a credential; behind room 2 one of them holds the provider's.
pub const CREDENTIAL_CARRIERS: [&str; 3] = ["authorization", "x-api-key", "x-goog-api-key"];

/// Names under which clients put credentials into a query, once decoded, lower case.
const QUERY_NAMES: &[&str] =
    &["access_token", "api-key", "api_key", "apikey", "authorization", "key", "token", "x-api-key", "x-goog-api-key"];

/// What a request proves itself with; its `Debug` never prints it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// Nothing.
    None,
    /// The token of `authorization: bearer` (RFC 6750 §2.1): a JWT or an API key.
    Bearer(&'a str),
    /// The value of `x-api-key` or `x-goog-api-key`.
    ApiKey(&'a str),
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bearer(_) => "Bearer(..)",
            Self::ApiKey(_) => "ApiKey(..)",
        })
    }
}

/// The credential of a head: at most one over all carriers, even when two agree, and none in the query.
///
/// # Errors
/// [`Code::CredentialInUrl`], [`Code::AmbiguousCredentials`] (twice, or joined by a comma), [`Code::MalformedHeader`],
/// [`Code::InvalidCredential`] (another scheme than bearer, or no token).
pub(super) fn read<'a>(head: &Head<'a>, query: Option<&str>) -> Result<Credential<'a>, Denial> {
    if query.is_some_and(has_credential) {
        return Err(Code::CredentialInUrl.into());
    }
    let mut found = CREDENTIAL_CARRIERS.iter().flat_map(|name| values(head, name).map(move |value| (*name, value)));
    let Some((name, value)) = found.next() else { return Ok(Credential::None) };
    if found.next().is_some() || value.contains(&b',') {
        return Err(Code::AmbiguousCredentials.into());
    }
    let value = printable(name, value)?;
    if name == "authorization" {
        let refused = || Denial::new(Code::InvalidCredential).detail("It is not `Bearer` and one token.");
        return bearer(value).map(Credential::Bearer).ok_or_else(refused);
    }
    if value.contains(' ') { Err(malformed(name)) } else { Ok(Credential::ApiKey(value)) }
}

/// `Bearer`, one blank, one `b64token`.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let body = token.trim_end_matches('=');
    let plain = body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
    (scheme.eq_ignore_ascii_case("bearer") && plain && !body.is_empty()).then_some(token)
}

/// `;` separates too: some servers read it so.
fn has_credential(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = decoded(pair.split_once('=').map_or(pair, |(name, _)| name));
        QUERY_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    })
}

/// Percent-decoded once; the query's syntax is known to be right.
fn decoded(name: &str) -> Vec<u8> {
    let mut bytes = name.bytes();
    let mut out = Vec::with_capacity(name.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        out.push(match byte {
            b'%' => digit().unwrap_or(0) << 4 | digit().unwrap_or(0),
            _ => byte,
        });
    }
    out
}
