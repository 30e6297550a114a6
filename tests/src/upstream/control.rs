//! The upstream's second port: asked for what reached it, told how to behave. Never behind the gateway.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State as Shared;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::State;

/// `GET /_record`, `DELETE /_record`, `POST /_behave` (directives as text), `POST /_release`, `GET /_held`.
pub(super) async fn run(listener: TcpListener, state: Arc<State>) {
    let router = Router::new()
        .route("/_record", get(record).delete(clear))
        .route("/_behave", post(behave))
        .route("/_release", post(release))
        .route("/_held", get(held))
        .with_state(state);
    let _ = axum::serve(listener, router).await;
}

async fn record(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    let requests: Vec<Value> = state.record.all().iter().map(super::Seen::shown).collect();
    Json(json!({"requests": requests, "connection_errors": state.record.errors()}))
}

async fn clear(Shared(state): Shared<Arc<State>>) {
    state.record.clear();
}

async fn behave(Shared(state): Shared<Arc<State>>, directives: String) {
    state.behave(&directives);
}

async fn release(Shared(state): Shared<Arc<State>>) {
    state.release();
}

async fn held(Shared(state): Shared<Arc<State>>) -> Json<usize> {
    Json(state.held.load(Ordering::SeqCst))
}
