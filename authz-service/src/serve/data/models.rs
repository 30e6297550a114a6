//! `GET /v1/models`: the models that the grant lists.

use std::sync::Arc;

use axum::extract::State;
use axum::{Json, Router, routing};
use serde_json::{Value, json};

use super::{Granted, Service};
use crate::registry::EndpointKind;

pub(super) fn route() -> Router<Arc<Service>> {
    let path = EndpointKind::Models.own_path().unwrap_or_default();
    Router::new().route(path, routing::get(list))
}

async fn list(State(service): State<Arc<Service>>, Granted(grant): Granted) -> Json<Value> {
    let registry = service.registry();
    let models: Vec<_> = grant
        .models
        .iter()
        .filter_map(|name| registry.models.get(name.as_str()))
        .map(|model| {
            json!({"id": model.name.as_str(), "object": "model", "created": model.since, "owned_by": "bulkhead"})
        })
        .collect();
    Json(json!({"object": "list", "data": models}))
}
