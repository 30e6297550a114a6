//! `POST /bulkhead/v1/token`: token exchange (RFC 8693). The caller is the actor, by the credential of its own request,
//! which the grant tells of; the subject's token is in the body. Each exchange and each refusal is in the audit log.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Form, Json, Router, routing};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_core::gate::Grant;
use gateway_core::name::TenantName;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Granted, Service, caller_party, record_of};
use crate::identity::exchange::{self, Actor, Asked, Ground, Refusal};
use crate::identity::jwt::own::{Exchanged, MintError, Minted};
use crate::identity::{Standing, jwt};
use crate::registry::EndpointKind;
use crate::store::{AuditRecord, Command, Decision};
use crate::vault::{draw, system_random};

/// Pairs of a form.
type Pairs = Vec<(String, String)>;

pub(super) fn route() -> Router<Arc<Service>> {
    let path = EndpointKind::Token.own_path().unwrap_or_default();
    Router::new().route(path, routing::post(token))
}

async fn token(
    State(service): State<Arc<Service>>,
    Granted(grant): Granted,
    form: Result<Form<Pairs>, FormRejection>,
) -> Response {
    let now = service.time();
    let asked = match form {
        Ok(Form(form)) => Asked::read(&form, service.own().url()),
        Err(_) => Err(Refusal::unreadable()),
    };
    let exchanged = match asked {
        Ok(asked) => exchanged(&service, &grant, asked, now).await,
        Err(refusal) => Err(Stop::Refused(refusal)),
    };
    match exchanged {
        Ok(answer) => answer,
        Err(Stop::Refused(refusal)) => refused(&service, &grant, &refusal, now).await,
        Err(Stop::Failed(why)) => failed(&why),
    }
}

/// Why there is no token.
enum Stop {
    Refused(Refusal),
    Failed(String),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

async fn exchanged(service: &Service, grant: &Grant, asked: Asked, now: Timestamp) -> Result<Response, Stop> {
    let failed = |error: &dyn std::fmt::Display| Stop::Failed(error.to_string());
    let own = service.own_signing().await.map_err(|error| failed(&error))?;
    if let Some(named) = jwt::named_key(&asked.subject_token) {
        service.published.wait_for(&named, unix(now)).await;
    }
    let id = draw::<16>(&mut system_random).map_err(|error| failed(&error))?;
    let exchanged = {
        let (registry, keys) = (service.registry(), service.keys.load());
        let standing = Standing { registry: &registry, keys: &keys, source: None, now };
        let ground = Ground { standing, published: &service.published, own: &own };
        of_caller(grant, |actor| exchange::exchange(&asked, actor, &ground, URL_SAFE_NO_PAD.encode(id.as_slice())))?
    };
    let minted = own.mint(&exchanged, unix(now)).map_err(|error| match error {
        MintError::Scope(_) | MintError::TooLarge => Stop::Refused(Refusal::too_large()),
        MintError::NoKey | MintError::TooManyActors | MintError::Random(_) => failed(&error),
    })?;
    let (seconds, scope) = (exchange::expires_in(&exchanged, now), &minted.scope);
    let detail = format!("token {}, {seconds} s, scope `{scope}`", exchanged.id);
    let record = AuditRecord {
        principal: exchanged.subject.name.clone(),
        actors: exchanged.actors.iter().map(|actor| actor.name.clone()).collect(),
        ..record_of(grant, "token.exchange", detail, now)
    };
    service.write(Command::AdminAudit(Box::new(record))).await.map_err(|error| failed(&error))?;
    Ok(answer(&asked, &exchanged, minted, now))
}

/// The caller as an actor, from its grant alone.
fn of_caller<T>(grant: &Grant, then: impl FnOnce(&Actor<'_>) -> Result<T, Refusal>) -> Result<T, Stop> {
    let nobody = || Stop::Failed("the grant does not say whose it is".to_owned());
    let tenant = TenantName::parse(&grant.tenant).map_err(|_| nobody())?;
    let (party, caller) = caller_party(grant).ok_or_else(nobody)?;
    let actor = Actor {
        tenant: &tenant,
        party: &party,
        acts: !grant.actors.is_empty(),
        certificate: &caller.certificate,
        expires_at: caller.expires_at,
    };
    Ok(then(&actor)?)
}

/// RFC 8693 §2.2.1.
fn answer(asked: &Asked, exchanged: &Exchanged, minted: Minted, now: Timestamp) -> Response {
    let mut body = json!({
        "access_token": minted.token,
        "issued_token_type": asked.token_type.name(),
        "token_type": "Bearer",
        "expires_in": exchange::expires_in(exchanged, now),
    });
    if let Some(members) = body.as_object_mut().filter(|_| !minted.scope.is_empty()) {
        members.insert("scope".to_owned(), minted.scope.into());
    }
    unkept(StatusCode::OK, body)
}

async fn refused(service: &Service, grant: &Grant, refusal: &Refusal, now: Timestamp) -> Response {
    let record = AuditRecord {
        decision: Decision::Deny,
        status: StatusCode::BAD_REQUEST.as_u16(),
        ..record_of(grant, refusal.code, refusal.reason.to_owned(), now)
    };
    if let Err(error) = service.write(Command::Decision(Box::new(record), None)).await {
        return failed(&error.to_string());
    }
    unkept(StatusCode::BAD_REQUEST, json!({"error": refusal.error, "error_description": refusal.description}))
}

fn failed(why: &str) -> Response {
    tracing::error!(why, "no token was exchanged");
    unkept(StatusCode::SERVICE_UNAVAILABLE, json!({"error": "temporarily_unavailable"}))
}

/// An answer that nobody may keep (RFC 6749 §5.1).
fn unkept(status: StatusCode, body: Value) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], Json(body)).into_response()
}

fn unix(now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or(0)
}
