//! Token exchange (RFC 8693): who calls with its own credential, and shows a subject's token, may act for that subject
//! within one tenant. Decides and makes nothing durable.

mod asked;

use gateway_core::denial::Code;
use gateway_core::name::TenantName;
use jiff::Timestamp;

use super::discovery::KeyRing;
use super::jwt::own::{Exchanged, MAX_ACTORS, MAX_LIFETIME, Own};
use super::jwt::{self, JwtIdentity, Proof, Trust};
use super::{CredentialError, Origin, Party, Standing, certificate};
use crate::registry::{EndpointKind, Permits};

pub use asked::{Asked, TokenType};

/// Who calls: proved already, by the credential of its request.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// Its tenant.
    pub tenant: &'a TenantName,
    /// Itself.
    pub party: &'a Party,
    /// It acts for somebody itself.
    pub acts: bool,
    /// Its certificate as Envoy gives it (PEM, URL-encoded); empty without one.
    pub certificate: &'a str,
    /// Its credential proves nothing from here on, Unix seconds.
    pub expires_at: u64,
}

/// What tokens are held against.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// What operators wrote, and what there is of API keys.
    pub standing: Standing<'a>,
    /// The keys that issuers publish.
    pub published: &'a KeyRing,
    /// The service as an issuer.
    pub own: &'a Own,
}

/// No exchange, as OAuth says it (RFC 6749 §5.2, RFC 8693 §2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `error`
    pub error: &'static str,
    /// `error_description`: what the caller may know.
    pub description: &'static str,
    /// What the audit log says it is.
    pub code: &'static str,
    /// Why, for the log alone.
    pub reason: &'static str,
}

impl Refusal {
    /// Of a body that is no form.
    #[must_use]
    pub const fn unreadable() -> Self {
        Self::new("invalid_request", "the body is not a form (application/x-www-form-urlencoded)")
    }

    /// Of a token that no header would carry.
    #[must_use]
    pub const fn too_large() -> Self {
        Self::new("invalid_scope", "the scope does not fit into a token")
    }

    const fn new(error: &'static str, description: &'static str) -> Self {
        Self { error, description, code: error, reason: description }
    }
}

/// Of a subject's token that proves nobody: all are alike to the caller, and the log tells them apart.
const SUBJECT: Refusal = Refusal::new("invalid_request", "the subject token is not accepted");
const SCOPE: Refusal = Refusal::new("invalid_scope", "the scope is more than subject and actor may both use");

impl From<CredentialError> for Refusal {
    fn from(error: CredentialError) -> Self {
        let code = if error.code() == Code::TenantConflict { Code::TenantConflict.row().code } else { SUBJECT.code };
        Self { code, reason: error.reason(), ..SUBJECT }
    }
}

/// The token that the actor gets, still to be signed; `id` names it.
///
/// # Errors
/// [`Refusal`].
pub fn exchange(asked: &Asked, actor: &Actor<'_>, ground: &Ground<'_>, id: String) -> Result<Exchanged, Refusal> {
    if actor.acts {
        let text = "who acts for somebody cannot have another one act through it: use the service's own credential";
        return Err(Refusal::new("unauthorized_client", text));
    }
    let now = u64::try_from(ground.standing.now.as_second()).unwrap_or(0);
    let subject = subject(asked, actor, ground, now)?;
    if subject.tenant != *actor.tenant {
        return Err(Refusal {
            code: Code::TenantConflict.row().code,
            reason: "the subject is of another tenant than the actor",
            ..SUBJECT
        });
    }
    if subject.actors.len() >= MAX_ACTORS {
        return Err(Refusal::new("invalid_request", "too many act for the subject already"));
    }
    let actors: Vec<Party> = [actor.party].into_iter().chain(&subject.actors).cloned().collect();
    let longest = now.saturating_add(MAX_LIFETIME.as_secs());
    let expires_at = subject.expires_at.min(actor.expires_at).min(longest);
    if expires_at <= now {
        return Err(Refusal { reason: "a credential expires now", ..SUBJECT });
    }
    let exchanged = Exchanged { actors, expires_at, id, ..subject };
    let scope = scope(asked, &exchanged, &ground.standing)?;
    Ok(Exchanged { scope, ..exchanged })
}

/// The subject of a token that the actor may show, as if it had been exchanged already.
fn subject(asked: &Asked, actor: &Actor<'_>, ground: &Ground<'_>, now: u64) -> Result<Exchanged, Refusal> {
    let trust = Trust {
        issuers: &ground.standing.registry.issuers,
        published: ground.published,
        certificate: actor.certificate,
        endpoint: EndpointKind::Token,
    };
    let token = match jwt::prove(&asked.subject_token, &trust, ground.own, now)? {
        Proof::Own(token) => return Ok(token),
        Proof::Issued(token) => token,
    };
    if token.may_act.as_ref().is_some_and(|named| *named != actor.party.name) {
        return Err(Refusal { reason: "the subject's token names another actor (`may_act`)", ..SUBJECT });
    }
    let JwtIdentity { tenant, principal, expires_at, issuer, scopes, bound, login, .. } = token;
    let origin = Origin { issuer: issuer.url.clone(), scopes };
    Ok(Exchanged {
        tenant,
        subject: Party { name: principal, origin: Some(origin) },
        actors: Vec::new(),
        scope: Permits::default(),
        id: String::new(),
        expires_at,
        login,
        certificate: certificate::thumbprint(actor.certificate).filter(|_| bound),
    })
}

/// What is asked for, where all who stand behind the token may use it; without a wish, all that they may.
fn scope(asked: &Asked, exchanged: &Exchanged, standing: &Standing<'_>) -> Result<Permits, Refusal> {
    let wanted = asked.scope.clone().unwrap_or_default();
    let tenant = standing.registry.tenants.get(&exchanged.tenant).ok_or(SUBJECT)?;
    let mut endpoints = std::collections::BTreeSet::new();
    let mut models_left = wanted.models.clone().unwrap_or_default();
    if !models_left.is_subset(&tenant.models) {
        return Err(SCOPE);
    }
    for endpoint in EndpointKind::ALL {
        let permits = exchanged.permits(standing, endpoint)?;
        let permitted = permits.endpoints.as_ref().is_none_or(|kinds| kinds.contains(&endpoint));
        match &wanted.endpoints {
            Some(kinds) if !kinds.contains(&endpoint) => continue,
            Some(_) if !permitted => return Err(SCOPE),
            _ if !permitted => continue,
            _ => {}
        }
        endpoints.insert(endpoint);
        models_left.retain(|model| permits.models.as_ref().is_some_and(|models| !models.contains(model)));
    }
    if endpoints.is_empty() || !models_left.is_empty() {
        return Err(SCOPE);
    }
    let endpoints = Some(endpoints).filter(|kinds| kinds.len() < EndpointKind::ALL.len());
    Ok(exchanged.scope.clone().narrow(Permits { endpoints, models: wanted.models, ..Permits::default() }))
}

/// Seconds from `now` until a token expires.
#[must_use]
pub fn expires_in(exchanged: &Exchanged, now: Timestamp) -> u64 {
    exchanged.expires_at.saturating_sub(u64::try_from(now.as_second()).unwrap_or(0))
}
