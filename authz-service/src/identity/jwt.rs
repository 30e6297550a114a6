//! Bearer tokens: one JWS in compact form, verified by the keys of the one issuer that it names (RFC 7515, 7519, 8725).
//!
//! Order: size, structure, header, issuer, key, signature, claims. Nothing that the token says chooses an algorithm, a
//! key outside its issuer's set, or an address: this module fetches nothing. Keys that issuers publish are those that
//! [`KeyRing`] holds by then.

mod algorithm;
mod claims;
mod header;
mod keys;
pub mod own;

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_core::name::TenantName;
use jwt_compact::UntrustedToken;

use self::claims::Claims;
use self::header::Header;
use super::CredentialError;
use super::discovery::KeyRing;
use crate::authorization::Login;
use crate::registry::{EndpointKind, Issuer, IssuerKeys, Permits};

pub use keys::{JwksError, KeyProblem, KeySet};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How far clocks may differ, in seconds.
pub const LEEWAY: u64 = 30;

/// Who a genuine token stands for.
#[derive(Clone, Debug)]
pub struct JwtIdentity {
    /// The one tenant.
    pub tenant: TenantName,
    /// `sub`.
    pub principal: String,
    /// `jti`; with the issuer it names the token. A token's bytes do not: an ECDSA signature has two spellings.
    pub token_id: Option<String>,
    /// `exp`, Unix seconds.
    pub expires_at: u64,
    /// How its holder logged in.
    pub login: Login,
    /// Which issuer vouched, as that tenant trusts it.
    pub issuer: Arc<Issuer>,
    /// What it may use at this endpoint.
    pub permits: Permits,
    /// Its scopes, those that the issuer's entry names.
    pub scopes: Vec<String>,
    /// The one who may act for it (RFC 8693 §4.4), where it names one; of a claim that cannot be read, nobody.
    pub may_act: Option<String>,
    /// It names the certificate of the connection: on another one it proves nothing.
    pub bound: bool,
}

/// What a token is held against.
#[derive(Clone, Copy)]
pub struct Trust<'a> {
    /// The issuers that tenants trust, by their exact URL.
    pub issuers: &'a HashMap<String, Vec<Arc<Issuer>>>,
    /// The keys that issuers publish.
    pub published: &'a KeyRing,
    /// The client's certificate as Envoy gives it (PEM, URL-encoded); empty without one.
    pub certificate: &'a str,
    /// What is asked for.
    pub endpoint: EndpointKind,
}

/// Which key a token names, before anything of it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKey {
    /// `iss`.
    pub issuer: String,
    /// `kid`.
    pub kid: Option<String>,
}

/// The key that a token names, unless the token is refused whatever its key.
#[must_use]
pub fn named_key(token: &str) -> Option<NamedKey> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let (header, payload) = segments(token)?;
    let kid = Header::parse(&header).ok()?.kid;
    Some(NamedKey { issuer: Claims::parse(&payload).ok()?.issuer().ok()?.to_owned(), kid })
}

/// Verifies a token at `now_unix` seconds.
///
/// # Errors
/// [`CredentialError`], one kind to strangers; a genuine token that names another tenant is told apart, and so is an
/// issuer whose keys are not there.
pub fn verify(token: &str, trust: &Trust<'_>, now_unix: u64) -> Result<JwtIdentity, CredentialError> {
    Parts::read(token)?.issued(trust, now_unix)
}

/// A genuine token, whoever made it.
#[derive(Clone, Debug)]
pub enum Proof {
    /// An issuer that a tenant trusts.
    Issued(JwtIdentity),
    /// The service itself.
    Own(own::Exchanged),
}

/// [`verify`], which also knows the service's own tokens: a token with its name is nobody else's.
///
/// # Errors
/// As [`verify`].
pub fn prove(token: &str, trust: &Trust<'_>, own: &own::Own, now_unix: u64) -> Result<Proof, CredentialError> {
    let parts = Parts::read(token)?;
    if parts.claims.issuer()? == own.url() {
        return own.verify(&parts, trust.certificate, now_unix).map(Proof::Own);
    }
    parts.issued(trust, now_unix).map(Proof::Issued)
}

/// A token taken apart, none of it believed.
struct Parts<'a> {
    untrusted: UntrustedToken<'a>,
    header: Header,
    claims: Claims,
}

impl<'a> Parts<'a> {
    fn read(token: &'a str) -> Result<Self, CredentialError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(CredentialError::invalid("jwt: too large"));
        }
        let untrusted = UntrustedToken::new(token).map_err(|_| CredentialError::invalid("jwt: malformed"))?;
        let (header, payload) = segments(token).ok_or(CredentialError::invalid("jwt: malformed"))?;
        Ok(Self { untrusted, header: Header::parse(&header)?, claims: Claims::parse(&payload)? })
    }

    fn issued(&self, trust: &Trust<'_>, now_unix: u64) -> Result<JwtIdentity, CredentialError> {
        let Self { claims, .. } = self;
        let trusting = trust.issuers.get(claims.issuer()?).ok_or(CredentialError::invalid("jwt: unknown issuer"))?;
        let issuer = choose(trusting, claims)?;
        let keys = match &issuer.keys {
            IssuerKeys::File(keys) => Some(Arc::clone(keys)),
            IssuerKeys::Published(_) => trust.published.keys(&issuer.url, now_unix),
        };
        let keys = keys.ok_or(CredentialError::unavailable("jwt: the issuer's keys cannot be read"))?;
        self.check_signature(&keys)?;
        let accepted = claims.accept(&**issuer, trust.certificate, now_unix)?;
        if !claims.names_tenant_of(issuer) {
            return Err(CredentialError::conflict("jwt: names another tenant than its issuer speaks for"));
        }
        let scopes = claims.scopes(issuer)?;
        Ok(JwtIdentity {
            tenant: issuer.tenant.clone(),
            principal: accepted.subject,
            token_id: accepted.token_id,
            expires_at: accepted.expires_at,
            login: accepted.login,
            issuer: Arc::clone(issuer),
            permits: issuer.permits_at(scopes.iter().map(String::as_str), trust.endpoint),
            scopes,
            may_act: claims
                .0
                .get("may_act")
                .map(|named| named.get("sub").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()),
            bound: accepted.bound,
        })
    }

    /// Whether one of the keys has signed it, by the one algorithm that is the key's.
    fn check_signature(&self, keys: &KeySet) -> Result<(), CredentialError> {
        let key = keys.find(self.header.kid.as_deref()).ok_or(CredentialError::invalid("jwt: unknown key"))?;
        if key.alg() != self.header.alg {
            return Err(CredentialError::invalid("jwt: another algorithm than the key's"));
        }
        if key.verifies(&self.untrusted) { Ok(()) } else { Err(CredentialError::invalid("jwt: signature")) }
    }
}

/// Whose view of the issuer decides. Tenants that share one are told apart by their tenant claims, each tenant's under
/// its own claim name: exactly one must fit. When none does, the first one's keys still tell a genuine token, which is
/// then refused for its tenant, from a forged one.
fn choose<'a>(trusting: &'a [Arc<Issuer>], claims: &Claims) -> Result<&'a Arc<Issuer>, CredentialError> {
    let ambiguous = CredentialError::invalid("jwt: several tenants could be meant");
    if trusting.len() > 1 && trusting.iter().any(|issuer| issuer.tenant_claim.is_none()) {
        return Err(ambiguous);
    }
    let mut fitting = trusting.iter().filter(|issuer| claims.names_tenant_of(issuer));
    match (fitting.next(), fitting.next()) {
        (Some(_), Some(_)) => Err(ambiguous),
        (Some(one), None) => Ok(one),
        (None, _) => trusting.first().ok_or(CredentialError::invalid("jwt: unknown issuer")),
    }
}

/// The bytes of header and payload.
fn segments(token: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut parts = token.split('.');
    let header = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
    Some((header, payload))
}

#[cfg(test)]
mod tests;
