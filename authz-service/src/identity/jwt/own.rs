//! The service's own tokens: what a token exchange hands out (RFC 8693). JWTs by keys of its own, for the gateway as their
//! one audience, of one tenant, with everybody who acted for the subject.
//!
//! What such a token permits is not in it: it names those who stand behind it, and what they may use is looked up whenever
//! it is shown. Its scope only narrows that.

mod keys;
mod mint;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_core::name::TenantName;
use serde_json::{Map, Value};

use super::claims::{Terms, name_in};
use super::{MAX_TOKEN_BYTES, Parts};
use crate::authorization::Login;
use crate::identity::{CredentialError, KEY_PRINCIPAL, Origin, Party};
use crate::registry::Permits;

pub use keys::{SigningKey, SigningKeyError, SigningKeys};
pub use mint::{MintError, Minted};
pub use scope::{BadScope, parse as parse_scope, spell as spell_scope};

/// No token lives longer.
pub const MAX_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// The most that act for one subject, one behind the other.
pub const MAX_ACTORS: usize = 5;

/// The service as an issuer: its name and its keys.
#[derive(Debug, Default)]
pub struct Own {
    url: String,
    audiences: BTreeSet<String>,
    keys: SigningKeys,
}

/// A token of ours, as it is made and as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// The one tenant of everybody in it.
    pub tenant: TenantName,
    /// For whom.
    pub subject: Party,
    /// Who acts for the subject, the latest first; one at least.
    pub actors: Vec<Party>,
    /// Narrows what all of them may use.
    pub scope: Permits,
    /// `jti`
    pub id: String,
    /// `exp`, Unix seconds.
    pub expires_at: u64,
    /// How the subject logged in.
    pub login: Login,
    /// Thumbprint of the certificate that it is bound to (`cnf.x5t#S256`, RFC 8705 §3.1).
    pub certificate: Option<String>,
}

impl Own {
    /// An issuer of this name, which is its tokens' audience too.
    #[must_use]
    pub fn new(url: String, keys: SigningKeys) -> Self {
        Self { audiences: BTreeSet::from([url.clone()]), url, keys }
    }

    /// Exact `iss` and `aud`; empty: there is no such issuer, and no token is its.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its keys.
    #[must_use]
    pub const fn keys(&self) -> &SigningKeys {
        &self.keys
    }

    /// Verifies one of our tokens at `now` Unix seconds.
    pub(super) fn verify(&self, parts: &Parts<'_>, certificate: &str, now: u64) -> Result<Exchanged, CredentialError> {
        let id = parts.header.kid.as_deref().ok_or(CredentialError::invalid("own token: no key id"))?;
        let key = self.keys.verifying(id, now).ok_or(CredentialError::invalid("own token: unknown key"))?;
        parts.check_signature(key)?;
        let claims = &parts.claims;
        let accepted =
            claims.accept(Terms { audiences: &self.audiences, max_lifetime: MAX_LIFETIME }, certificate, now)?;
        let odd = CredentialError::invalid("own token: a claim that we do not write");
        let tenant = claims.name("tenant")?.and_then(|name| TenantName::parse(&name).ok()).ok_or(odd)?;
        let origin = claims.0.get("origin").and_then(Value::as_object).ok_or(odd)?;
        let scope = match claims.0.get("scope") {
            None => Permits::default(),
            Some(scope) => scope.as_str().and_then(|scope| scope::parse(scope).ok()).ok_or(odd)?,
        };
        let bound = claims.0.get("cnf").and_then(|cnf| cnf.get("x5t#S256")).and_then(Value::as_str);
        Ok(Exchanged {
            tenant,
            subject: Party { name: accepted.subject, origin: Some(origin_of(origin)?.ok_or(odd)?) },
            actors: actors(&claims.0)?,
            scope,
            id: accepted.token_id.ok_or(odd)?,
            expires_at: accepted.expires_at,
            login: accepted.login,
            certificate: bound.filter(|_| accepted.bound).map(ToOwned::to_owned),
        })
    }
}

/// The chain of `act` claims (RFC 8693 §4.1).
fn actors(claims: &Map<String, Value>) -> Result<Vec<Party>, CredentialError> {
    let odd = CredentialError::invalid("own token: actors that we do not write");
    let mut actors = Vec::new();
    let mut members = claims;
    while let Some(actor) = members.get("act") {
        members = actor.as_object().ok_or(odd)?;
        let (name, origin) = (name_in(members, "sub")?.ok_or(odd)?, origin_of(members)?);
        if actors.len() >= MAX_ACTORS || origin.is_none() != name.starts_with(KEY_PRINCIPAL) {
            return Err(odd);
        }
        actors.push(Party { name, origin });
    }
    if actors.is_empty() { Err(odd) } else { Ok(actors) }
}

/// Where a party's own token came from; an API key comes from nowhere.
fn origin_of(members: &Map<String, Value>) -> Result<Option<Origin>, CredentialError> {
    let odd = CredentialError::invalid("own token: an origin that we do not write");
    let Some(issuer) = members.get("iss") else { return Ok(None) };
    let issuer = issuer.as_str().ok_or(odd)?.to_owned();
    let scopes = match members.get("scope") {
        None => Vec::new(),
        Some(scopes) => scopes.as_str().ok_or(odd)?.split(' ').map(ToOwned::to_owned).collect(),
    };
    Ok(Some(Origin { issuer, scopes }))
}
