//! A token's claims: exact types, no defaults, each checked against what the tenant said of this issuer (RFC 7519 §4.1).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};

use super::LEEWAY;
use crate::authorization::Login;
use crate::identity::{CredentialError, KEY_PRINCIPAL, certificate, strict};
use crate::registry::Issuer;

/// The greatest instant: what every JSON reader holds exactly (RFC 8259 §6).
const MAX_TIME: u64 = (1 << 53) - 1;
/// The longest `sub` or `jti`, in bytes.
const MAX_NAME: usize = 255;

/// The payload as it stands: nothing in it is true before its signature is verified.
pub(super) struct Claims(pub(super) Map<String, Value>);

/// What the tokens of an issuer must be like.
pub(super) struct Terms<'a> {
    /// One of these must be among the token's.
    pub(super) audiences: &'a BTreeSet<String>,
    /// Greatest `exp - iat`.
    pub(super) max_lifetime: Duration,
}

impl<'a> From<&'a Issuer> for Terms<'a> {
    fn from(issuer: &'a Issuer) -> Self {
        Self { audiences: &issuer.audiences, max_lifetime: issuer.max_lifetime }
    }
}

/// What an accepted token says.
pub(super) struct Accepted {
    /// `sub`
    pub(super) subject: String,
    /// `jti`
    pub(super) token_id: Option<String>,
    /// `exp`
    pub(super) expires_at: u64,
    /// `acr`, `amr`, `auth_time`
    pub(super) login: Login,
    /// `cnf` names the certificate of the connection.
    pub(super) bound: bool,
}

impl Claims {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, CredentialError> {
        strict::object(bytes).map(Self).map_err(|_| CredentialError::invalid("jwt: payload is not strict JSON"))
    }

    /// `iss`, to find the keys by.
    pub(super) fn issuer(&self) -> Result<&str, CredentialError> {
        self.0.get("iss").and_then(Value::as_str).ok_or(CredentialError::invalid("jwt: no issuer"))
    }

    /// Whether the tenant claim, where this issuer has one, is exactly the tenant's name.
    pub(super) fn names_tenant_of(&self, issuer: &Issuer) -> bool {
        issuer.tenant_claim.as_ref().is_none_or(|name| {
            self.0.get(name).and_then(Value::as_str).is_some_and(|tenant| tenant == issuer.tenant.as_str())
        })
    }

    /// Checks all that does not name the tenant. `certificate` is the client's, as Envoy gives it.
    pub(super) fn accept<'a>(
        &self,
        of: impl Into<Terms<'a>>,
        certificate: &str,
        now: u64,
    ) -> Result<Accepted, CredentialError> {
        let of = &of.into();
        let expires_at = self.time("exp")?.ok_or(CredentialError::invalid("jwt: no expiry"))?;
        self.check_time(expires_at, of, now)?;
        self.check_audience(of)?;
        let bound = self.check_holder(certificate)?;
        let subject = self.name("sub")?.ok_or(CredentialError::invalid("jwt: no subject"))?;
        if subject.starts_with(KEY_PRINCIPAL) {
            return Err(CredentialError::invalid("jwt: subject poses as an api key"));
        }
        Ok(Accepted { subject, token_id: self.name("jti")?, expires_at, bound, login: self.login(now)? })
    }

    /// How the holder logged in (RFC 9470 §6). A single method may stand without a list, as some issuers write it.
    fn login(&self, now: u64) -> Result<Login, CredentialError> {
        let odd = CredentialError::invalid("jwt: acr, amr or auth_time is none");
        let methods = match self.0.get("amr") {
            None => Vec::new(),
            Some(Value::String(method)) => vec![method.clone()],
            Some(Value::Array(methods)) => {
                methods.iter().map(|method| method.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or(odd)?
            }
            Some(_) => return Err(odd),
        };
        let class = match self.0.get("acr") {
            None => None,
            Some(class) => Some(class.as_str().ok_or(odd)?.to_owned()),
        };
        let at = self.time("auth_time")?;
        if at.is_some_and(|at| at > now.saturating_add(LEEWAY)) {
            return Err(odd);
        }
        Ok(Login { class, methods, at: at.and_then(|at| i64::try_from(at).ok()) })
    }

    /// The token's scopes, those that the issuer's entry names; an issuer without scopes has none.
    pub(super) fn scopes(&self, issuer: &Issuer) -> Result<Vec<String>, CredentialError> {
        let Some(scopes) = &issuer.scopes else { return Ok(Vec::new()) };
        let malformed = CredentialError::invalid("jwt: scopes that are no list of names");
        let named: Vec<&str> = match self.0.get(&scopes.claim) {
            None => Vec::new(),
            Some(Value::String(names)) => names.split(' ').filter(|name| !name.is_empty()).collect(),
            Some(Value::Array(names)) => names.iter().map(Value::as_str).collect::<Option<_>>().ok_or(malformed)?,
            Some(_) => return Err(malformed),
        };
        Ok(named.into_iter().filter(|name| scopes.permits.contains_key(*name)).map(ToOwned::to_owned).collect())
    }

    /// Whether the token is bound to its holder (RFC 7800), who must have shown that key: a certificate by its SHA-256
    /// (RFC 8705 §3.1). Bound in another way it would lose that protection if it were taken as a plain bearer token.
    fn check_holder(&self, certificate: &str) -> Result<bool, CredentialError> {
        let refused = CredentialError::invalid("jwt: bound to a key that was not shown");
        let Some(confirmation) = self.0.get("cnf") else { return Ok(false) };
        let members = confirmation.as_object().filter(|members| members.len() == 1).ok_or(refused)?;
        let named = members.get("x5t#S256").and_then(Value::as_str).ok_or(refused)?;
        let shown = certificate::thumbprint(certificate).ok_or(refused)?;
        if named == shown { Ok(true) } else { Err(refused) }
    }

    fn check_time(&self, expires_at: u64, of: &Terms<'_>, now: u64) -> Result<(), CredentialError> {
        let (not_before, issued_at) = (self.time("nbf")?, self.time("iat")?);
        if now.saturating_sub(expires_at) >= LEEWAY {
            return Err(CredentialError::invalid("jwt: expired"));
        }
        let latest = now.saturating_add(LEEWAY);
        if not_before.is_some_and(|time| time > latest) || issued_at.is_some_and(|time| time > latest) {
            return Err(CredentialError::invalid("jwt: not yet valid"));
        }
        if not_before.is_some_and(|time| expires_at < time) || issued_at.is_some_and(|time| expires_at < time) {
            return Err(CredentialError::invalid("jwt: expires before it begins"));
        }
        if expires_at.saturating_sub(issued_at.unwrap_or(now)) > of.max_lifetime.as_secs() {
            return Err(CredentialError::invalid("jwt: lives too long"));
        }
        Ok(())
    }

    fn check_audience(&self, of: &Terms<'_>) -> Result<(), CredentialError> {
        let is_ours = |audience: &str| of.audiences.contains(audience);
        let ours = match self.0.get("aud") {
            Some(Value::String(audience)) => is_ours(audience),
            Some(Value::Array(audiences)) => {
                audiences.iter().all(Value::is_string) && audiences.iter().filter_map(Value::as_str).any(is_ours)
            }
            _ => false,
        };
        if ours { Ok(()) } else { Err(CredentialError::invalid("jwt: for another audience")) }
    }

    /// A whole number of Unix seconds; written as a float, a string or `null` it is none.
    fn time(&self, name: &str) -> Result<Option<u64>, CredentialError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let time = value.as_u64().filter(|time| *time <= MAX_TIME);
        time.map(Some).ok_or(CredentialError::invalid("jwt: a time that is no instant"))
    }

    /// 1 to 255 bytes of visible ASCII: safe in a header, a log line and a map key.
    pub(super) fn name(&self, name: &str) -> Result<Option<String>, CredentialError> {
        name_in(&self.0, name)
    }
}

/// The same, of any object.
pub(super) fn name_in(members: &Map<String, Value>, name: &str) -> Result<Option<String>, CredentialError> {
    let Some(value) = members.get(name) else { return Ok(None) };
    let fits = |text: &&str| (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let text = value.as_str().filter(fits);
    text.map(|text| Some(text.to_owned())).ok_or(CredentialError::invalid("jwt: sub or jti is no name"))
}
