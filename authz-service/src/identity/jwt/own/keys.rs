//! The service's signing keys over time: one signs; a new one is published before it does; an old one verifies until the
//! last token that it signed has expired.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::MAX_LIFETIME;
use crate::identity::jwt::{JwksError, KeySet, LEEWAY};
use crate::vault::TokenKey;

/// One key. Times are Unix seconds.
#[derive(Clone, Debug)]
pub struct SigningKey {
    id: String,
    pair: Arc<TokenKey>,
    jwk: Value,
    public: Arc<KeySet>,
    signs_from: u64,
    withdrawn_at: Option<u64>,
}

/// Why a pair is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// Its public key is not on the curve, or its id is none.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// It has no coordinates.
    #[error("the key has no public point")]
    Point,
}

/// All keys that were made and kept.
#[derive(Clone, Debug, Default)]
pub struct SigningKeys(Vec<SigningKey>);

impl SigningKey {
    /// A key of this id (`[A-Za-z0-9._-]{1,64}`) that signs from then on, and is good for nothing once it is withdrawn.
    ///
    /// # Errors
    /// [`SigningKeyError`].
    pub fn new(id: &str, pair: TokenKey, signs_from: u64, withdrawn_at: Option<u64>) -> Result<Self, SigningKeyError> {
        let (x, y) = pair.coordinates().ok_or(SigningKeyError::Point)?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "kid": id, "use": "sig"});
        let public = Arc::new(KeySet::parse(json!({"keys": [&jwk]}).to_string().as_bytes())?);
        Ok(Self { id: id.to_owned(), pair: Arc::new(pair), jwk, public, signs_from, withdrawn_at })
    }

    /// Key id, `kid`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn pair(&self) -> &TokenKey {
        &self.pair
    }

    fn is_withdrawn(&self, now: u64) -> bool {
        self.withdrawn_at.is_some_and(|at| at <= now)
    }
}

impl SigningKeys {
    /// With one key more, in place of one of the same id.
    #[must_use]
    pub fn with(&self, key: SigningKey) -> Self {
        let mut keys: Vec<SigningKey> = self.0.iter().filter(|other| other.id != key.id).cloned().collect();
        keys.push(key);
        keys.sort_by_key(|key| key.signs_from);
        Self(keys)
    }

    /// With all keys of before withdrawn.
    #[must_use]
    pub fn withdrawn(&self, at: u64) -> Self {
        let withdrawn = |key: &SigningKey| SigningKey { withdrawn_at: key.withdrawn_at.or(Some(at)), ..key.clone() };
        Self(self.0.iter().map(withdrawn).collect())
    }

    /// The key that signs.
    #[must_use]
    pub fn signing(&self, now: u64) -> Option<&SigningKey> {
        self.0.iter().rev().find(|key| key.signs_from <= now && !key.is_withdrawn(now))
    }

    /// The one key of this id, while a token that it signed may be good.
    pub(super) fn verifying(&self, id: &str, now: u64) -> Option<&KeySet> {
        self.published(now).find(|key| key.id == id).map(|key| &*key.public)
    }

    /// The keys that verify or are going to, as a key set (RFC 7517 §5).
    #[must_use]
    pub fn jwks(&self, now: u64) -> Value {
        json!({"keys": self.published(now).map(|key| &key.jwk).collect::<Vec<_>>()})
    }

    /// All but those whose last token has expired, and those that were withdrawn.
    fn published(&self, now: u64) -> impl Iterator<Item = &SigningKey> {
        let in_force = move |key: &&SigningKey| !key.is_withdrawn(now);
        self.0.iter().enumerate().filter_map(move |(at, key)| {
            let next = self.0.iter().skip(at.saturating_add(1)).find(in_force);
            let last = MAX_LIFETIME.as_secs().saturating_add(LEEWAY);
            let over = next.is_some_and(|next| next.signs_from.saturating_add(last) < now);
            Some(key).filter(|key| !over && in_force(key))
        })
    }
}
