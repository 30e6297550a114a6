//! `GET /v1/models`, a data endpoint: Envoy routes it here after ext_authz, with the grant in a reserved header.
//!
//! The grant's MAC, method, path and age are checked, and nothing else of the request is believed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router, routing};
use gateway_core::denial::{Code, Denial};
use gateway_core::gate::Grant;
use gateway_core::wire;
use serde_json::json;

use super::Service;

/// The data endpoints.
pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new().route("/v1/models", routing::get(list)).with_state(service)
}

async fn list(State(service): State<Arc<Service>>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path_and_query().map_or("", |target| target.as_str());
    match granted(&service, "GET", path, &headers) {
        Ok(grant) => {
            let registry = service.registry();
            let models: Vec<_> = grant
                .models
                .iter()
                .filter_map(|name| registry.models.get(name.as_str()))
                .map(|model| {
                    json!({"id": model.name.as_str(), "object": "model", "created": model.since, "owned_by": "bulkhead"})
                })
                .collect();
            Json(json!({"object": "list", "data": models})).into_response()
        }
        Err(denial) => refused(&denial, &headers),
    }
}

/// The grant of a request to a data endpoint.
fn granted(service: &Service, method: &str, path: &str, headers: &HeaderMap) -> Result<Grant, Denial> {
    let refused = |why: &str| Denial::new(Code::NotAdmitted).detail(why);
    let mut texts = headers.get_all(wire::GRANT_HEADER).iter();
    let (Some(text), None) = (texts.next(), texts.next()) else { return Err(refused("no grant")) };
    let grant = service.verify(text.as_bytes()).ok_or_else(|| refused("not our grant"))?;
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(u64::MAX);
    let fresh = now.checked_sub(grant.issued_at_ms).is_some_and(|age| age <= u64::from(grant.lifetime_ms));
    if !grant.data_endpoint || grant.method != method || grant.path != path || !fresh {
        return Err(refused("the grant is for another request"));
    }
    Ok(grant)
}

fn refused(denial: &Denial, headers: &HeaderMap) -> Response {
    tracing::warn!(code = denial.code.row().code, why = denial.detail, "data endpoint refused");
    let request_id = headers.get(wire::REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let status = StatusCode::from_u16(denial.code.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], denial.body(request_id, false)).into_response()
}
