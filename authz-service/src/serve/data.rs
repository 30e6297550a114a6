//! The data endpoints: what the service answers clients itself. Envoy routes them here after ext_authz, with the grant in a
//! reserved header.
//!
//! The grant's MAC, method, path and age are checked, and nothing else of the request is believed.

mod jobs;
mod models;
mod rotate;
mod token;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gateway_core::denial::{Code, Denial, Words};
use gateway_core::gate::{Caller, Grant};
use gateway_core::name::TenantName;
use gateway_core::wire;
use jiff::Timestamp;

use super::Service;
use super::service::of_grant;
use crate::decide::limits;
use crate::identity::{KEY_PRINCIPAL, Origin, Party};
use crate::store::AuditRecord;

/// The data endpoints.
pub(super) fn router(service: Arc<Service>) -> Router {
    let routes = models::route().merge(rotate::route()).merge(token::route()).merge(jobs::route());
    routes.layer(DefaultBodyLimit::max(wire::MAX_DATA_BODY_BYTES)).with_state(service)
}

/// The grant of a request to a data endpoint, for this very request: whose it is.
struct Granted(Grant);

impl FromRequestParts<Arc<Service>> for Granted {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Refused> {
        let path = parts.uri.path_and_query().map_or("", |target| target.as_str());
        let grant = granted(service, parts.method.as_str(), path, &parts.headers);
        grant.map(Self).map_err(|denial| Refused::new(denial, &parts.headers))
    }
}

fn granted(service: &Service, method: &str, path: &str, headers: &HeaderMap) -> Result<Grant, Denial> {
    let refused = |why: &str| Denial::new(Code::NotAdmitted).detail(why);
    let mut texts = headers.get_all(wire::GRANT_HEADER).iter();
    let (Some(text), None) = (texts.next(), texts.next()) else { return Err(refused("no grant")) };
    let grant = service.verify(text.as_bytes()).ok_or_else(|| refused("not our grant"))?;
    let now = u64::try_from(service.time().as_millisecond()).unwrap_or(u64::MAX);
    let fresh = now.checked_sub(grant.issued_at_ms).is_some_and(|age| age <= u64::from(grant.lifetime_ms));
    if !grant.data_endpoint || grant.method != method || grant.path != path || !fresh {
        return Err(refused("the grant is for another request"));
    }
    Ok(grant)
}

/// The caller as a party, from its grant alone: the holder of a token, or the very key; the holder of a certificate is none.
fn caller_party(grant: &Grant) -> Option<(Party, &Caller)> {
    let caller = grant.caller.as_ref()?;
    let origin = Origin { issuer: caller.issuer.clone(), scopes: caller.scopes.clone() };
    if !origin.issuer.is_empty() {
        return Some((Party { name: grant.principal.clone(), origin: Some(origin) }, caller));
    }
    let key = (!grant.key_id.is_empty()).then(|| format!("{KEY_PRINCIPAL}{}", grant.key_id));
    key.map(|name| (Party { name, origin: None }, caller))
}

/// An audit line of what the caller did.
fn record_of(grant: &Grant, code: &str, detail: String, now: Timestamp) -> AuditRecord {
    AuditRecord {
        at_ms: u64::try_from(now.as_millisecond()).unwrap_or(0),
        request_id: grant.request_id.clone(),
        code: code.to_owned(),
        detail,
        ..of_grant(grant)
    }
}

/// A refusal, in the shape of all the others.
struct Refused {
    denial: Denial,
    request_id: String,
    /// Of the tenant whose caller the client has proved to be.
    words: Option<Arc<Words>>,
    /// When to ask again.
    wait: Option<Duration>,
}

impl Refused {
    fn new(denial: Denial, headers: &HeaderMap) -> Self {
        let id = headers.get(wire::REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        Self { denial, request_id: id.to_owned(), words: None, wait: None }
    }

    /// Of a caller whose grant was good.
    fn told(service: &Service, grant: &Grant, denial: Denial) -> Self {
        let tenant = TenantName::parse(&grant.tenant).ok();
        let words = tenant.map(|tenant| service.registry().words(&tenant)).unwrap_or_default();
        Self { denial, request_id: grant.request_id.clone(), words: Some(words), wait: None }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { denial, request_id, words, wait } = self;
        let row = denial.code.row();
        tracing::warn!(code = row.code, why = denial.detail, "data endpoint refused");
        let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let fields = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        let wait = wait.map(limits::retry_after).map(|field| [(header::RETRY_AFTER, field.value)]);
        let body = words.map_or_else(|| denial.body(&request_id), |words| words.body(&denial, &request_id));
        (status, fields, wait, body).into_response()
    }
}
