//! Making a token: header (RFC 9068 §2.1), claims, signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::{Exchanged, MAX_ACTORS, MAX_TOKEN_BYTES, Own, scope};
use crate::authorization::Login;
use crate::identity::{Origin, Party};
use crate::vault::RandomError;

/// A token and what its maker tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// The token.
    pub token: String,
    /// Its scope; empty where nothing is narrowed.
    pub scope: String,
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// No key signs now.
    #[error("there is no signing key")]
    NoKey,
    /// It would permit nothing, or name too many models.
    #[error(transparent)]
    Scope(#[from] scope::BadScope),
    /// Too many act for the subject.
    #[error("more than {MAX_ACTORS} act for the subject")]
    TooManyActors,
    /// No gateway would look at it.
    #[error("the token is too large")]
    TooLarge,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl Own {
    /// Signs what was exchanged, at `now` Unix seconds.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn mint(&self, exchanged: &Exchanged, now: u64) -> Result<Minted, MintError> {
        let key = self.keys.signing(now).ok_or(MintError::NoKey)?;
        if exchanged.actors.is_empty() || exchanged.actors.len() > MAX_ACTORS {
            return Err(MintError::TooManyActors);
        }
        let scope = scope::spell(&exchanged.scope)?;
        let Exchanged { tenant, subject, id, expires_at, certificate, login, .. } = exchanged;
        let mut claims = Map::new();
        for (name, value) in [
            ("iss", self.url.as_str().into()),
            ("aud", self.url.as_str().into()),
            ("sub", subject.name.as_str().into()),
            ("tenant", tenant.as_str().into()),
            ("iat", now.into()),
            ("exp", (*expires_at).into()),
            ("jti", id.as_str().into()),
            ("origin", Value::Object(subject.origin.as_ref().map(origin).unwrap_or_default())),
            ("act", acting(&exchanged.actors)),
        ] {
            claims.insert(name.to_owned(), value);
        }
        if !scope.is_empty() {
            claims.insert("scope".to_owned(), scope.as_str().into());
        }
        let Login { class, methods, at } = login;
        let methods = Some(methods).filter(|methods| !methods.is_empty());
        for (name, value) in [
            ("acr", class.as_deref().map(Value::from)),
            ("amr", methods.map(|methods| json!(methods))),
            ("auth_time", at.map(Value::from)),
        ] {
            claims.extend(value.map(|value| (name.to_owned(), value)));
        }
        if let Some(thumbprint) = certificate {
            claims.insert("cnf".to_owned(), json!({"x5t#S256": thumbprint}));
        }
        let header = json!({"alg": "ES256", "kid": key.id(), "typ": "at+jwt"});
        let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(header), encode(Value::Object(claims)));
        let signature = key.pair().sign(signed.as_bytes())?;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        if token.len() > MAX_TOKEN_BYTES { Err(MintError::TooLarge) } else { Ok(Minted { token, scope }) }
    }
}

/// The chain as nested claims, the latest outermost.
fn acting(actors: &[Party]) -> Value {
    actors.iter().rev().fold(Value::Null, |inner, actor| {
        let mut members = actor.origin.as_ref().map(origin).unwrap_or_default();
        members.insert("sub".to_owned(), actor.name.as_str().into());
        if !inner.is_null() {
            members.insert("act".to_owned(), inner);
        }
        Value::Object(members)
    })
}

fn origin(origin: &Origin) -> Map<String, Value> {
    let mut members = Map::from_iter([("iss".to_owned(), Value::from(origin.issuer.as_str()))]);
    if !origin.scopes.is_empty() {
        members.insert("scope".to_owned(), origin.scopes.join(" ").into());
    }
    members
}
