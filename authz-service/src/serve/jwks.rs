//! `GET /jwks.json` on the loopback HTTP port: the public keys of the service's own tokens (RFC 7517), for services that
//! verify them themselves. Empty until the first exchange.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::{Router, routing};

use super::Service;

/// How long a reader may keep the set: less than a new key is published ahead.
const KEPT: &str = "public, max-age=60";

pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new().route("/jwks.json", routing::get(jwks)).with_state(service)
}

async fn jwks(State(service): State<Arc<Service>>) -> impl IntoResponse {
    let set = service.own().keys().jwks(service.now().unix_ms / 1000).to_string();
    ([(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, KEPT)], set)
}
