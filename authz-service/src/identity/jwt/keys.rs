//! An issuer's key set (RFC 7517): read key by key; one bad key refuses the whole set, with its name. Keys that are not
//! for signatures, or of a kind that is not known, are passed over. What is left is pinned to one algorithm each.

mod error;
mod rsa;

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use serde_json::{Map, Value};

pub use self::error::{JwksError, KeyProblem};
use super::header::is_kid;
use crate::identity::jwt::algorithm::PublicKey;
use crate::identity::strict;

/// The largest document, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// The most keys in one set, those that are passed over included.
const MAX_KEYS: usize = 64;
/// Members that hold a private or a symmetric key.
const PRIVATE: &[&str] = &["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// Verification keys of one issuer, each pinned to one algorithm; never empty.
pub struct KeySet(Vec<NamedKey>);

#[derive(PartialEq)]
struct NamedKey {
    kid: Option<String>,
    key: PublicKey,
}

impl KeySet {
    /// Reads a key set: at most 64 KiB and 64 keys.
    ///
    /// # Errors
    /// [`JwksError`] names the key that spoils the set.
    pub fn parse(jwks: &[u8]) -> Result<Self, JwksError> {
        if jwks.len() > MAX_BYTES {
            return Err(JwksError::TooLarge(jwks.len()));
        }
        let set = strict::object(jwks)?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or(JwksError::NoKeys)?;
        if listed.len() > MAX_KEYS {
            return Err(JwksError::TooMany(listed.len()));
        }
        let mut keys = Vec::new();
        for (place, jwk) in listed.iter().enumerate() {
            let jwk = jwk.as_object().ok_or(JwksError::NoKeys)?;
            let at = |problem| JwksError::Key { name: name(jwk, place), problem };
            if let Some(key) = read(jwk).map_err(at)? {
                let kid = kid(jwk).map_err(at)?;
                if kid.is_some() && keys.iter().any(|other: &(_, NamedKey)| other.1.kid == kid) {
                    return Err(at(KeyProblem::Duplicate));
                }
                keys.push((place, NamedKey { kid, key }));
            }
        }
        if keys.is_empty() {
            return Err(JwksError::Empty);
        }
        match keys.iter().find(|(_, key)| key.kid.is_none()) {
            Some((place, _)) if keys.len() > 1 => {
                Err(JwksError::Key { name: format!("#{place}"), problem: KeyProblem::NoKid })
            }
            _ => Ok(Self(keys.into_iter().map(|(_, key)| key).collect())),
        }
    }

    /// The key of that exact name; without a name, the only key.
    pub(in crate::identity) fn find(&self, kid: Option<&str>) -> Option<&PublicKey> {
        match (kid, self.0.as_slice()) {
            (Some(_), keys) => keys.iter().find(|key| key.kid.as_deref() == kid).map(|key| &key.key),
            (None, [only]) => Some(&only.key),
            (None, _) => None,
        }
    }

    /// Whether another set has each of these keys, under the same name.
    pub(in crate::identity) fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|key| other.0.contains(key))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|key| (key.kid.as_deref().unwrap_or("-"), key.key.alg()))).finish()
    }
}

/// One key, or `None` when it is passed over.
fn read(jwk: &Map<String, Value>) -> Result<Option<PublicKey>, KeyProblem> {
    let kind = text(jwk, "kty")?.ok_or(KeyProblem::Member("kty"))?;
    if kind == "oct" {
        return Err(KeyProblem::Symmetric);
    }
    if PRIVATE.iter().any(|member| jwk.contains_key(*member)) {
        return Err(KeyProblem::Private);
    }
    if text(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Ok(None);
    }
    match jwk.get("key_ops") {
        None => {}
        Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => {}
        Some(_) => return Err(KeyProblem::KeyOps),
    }
    let alg = text(jwk, "alg")?;
    match kind {
        "RSA" => rsa::read(jwk, alg),
        "EC" => elliptic(jwk, alg),
        "OKP" => edwards(jwk, alg),
        _ => Ok(None),
    }
}

fn elliptic(jwk: &Map<String, Value>, alg: Option<&str>) -> Result<Option<PublicKey>, KeyProblem> {
    let fits = |name| match alg {
        None => Ok(()),
        Some(alg) if alg == name => Ok(()),
        Some(_) => Err(KeyProblem::Algorithm),
    };
    match text(jwk, "crv")?.ok_or(KeyProblem::Member("crv"))? {
        "P-256" => {
            fits("ES256")?;
            let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point::<32>(jwk)?);
            key.map(|key| Some(PublicKey::Es256(key))).map_err(|_| KeyProblem::Point)
        }
        "P-384" => {
            fits("ES384")?;
            let key = ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point::<48>(jwk)?);
            key.map(|key| Some(PublicKey::Es384(key))).map_err(|_| KeyProblem::Point)
        }
        _ => Ok(None),
    }
}

fn edwards(jwk: &Map<String, Value>, alg: Option<&str>) -> Result<Option<PublicKey>, KeyProblem> {
    if text(jwk, "crv")?.ok_or(KeyProblem::Member("crv"))? != "Ed25519" {
        return Ok(None);
    }
    if !matches!(alg, None | Some("EdDSA" | "Ed25519")) {
        return Err(KeyProblem::Algorithm);
    }
    let key = VerifyingKey::from_bytes(&coordinate(jwk, "x")?).map_err(|_| KeyProblem::Point)?;
    if key.is_weak() { Err(KeyProblem::Point) } else { Ok(Some(PublicKey::EdDsa(key))) }
}

/// An uncompressed point (SEC 1 §2.3.3).
fn point<const N: usize>(jwk: &Map<String, Value>) -> Result<Vec<u8>, KeyProblem> {
    let (x, y) = (coordinate::<N>(jwk, "x")?, coordinate::<N>(jwk, "y")?);
    Ok([&[4][..], &x, &y].concat())
}

fn coordinate<const N: usize>(jwk: &Map<String, Value>, member: &'static str) -> Result<[u8; N], KeyProblem> {
    bytes(jwk, member)?.try_into().map_err(|_| KeyProblem::Member(member))
}

fn bytes(jwk: &Map<String, Value>, member: &'static str) -> Result<Vec<u8>, KeyProblem> {
    let text = text(jwk, member)?.ok_or(KeyProblem::Member(member))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyProblem::Member(member))
}

fn text<'a>(jwk: &'a Map<String, Value>, member: &'static str) -> Result<Option<&'a str>, KeyProblem> {
    match jwk.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(KeyProblem::Member(member)),
    }
}

fn kid(jwk: &Map<String, Value>) -> Result<Option<String>, KeyProblem> {
    match text(jwk, "kid")? {
        Some(kid) if !is_kid(kid) => Err(KeyProblem::Kid),
        kid => Ok(kid.map(str::to_owned)),
    }
}

/// How an operator finds the key: by its `kid`, made printable and cut, or by its place.
fn name(jwk: &Map<String, Value>, place: usize) -> String {
    match jwk.get("kid").and_then(Value::as_str) {
        Some(kid) => kid.escape_debug().take(64).collect(),
        None => format!("#{place}"),
    }
}

#[cfg(test)]
mod tests;
