//! The HTTP listener: `/metrics`, `/healthz`, `/readyz`, on loopback. It answers strangers, so it says nothing else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::Metrics;

/// Where the service is in its life; only [`Phase::Ready`] makes `/readyz` answer 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No registry or no ledger yet.
    Starting,
    /// Decides requests.
    Ready,
    /// Denies requests: the state file cannot be written.
    StateFailing,
    /// Finishes what is under way.
    Draining,
}

/// The phase, shared by who sets it and who shows it.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

/// Why the HTTP listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// It would answer strangers.
    #[error("`{0}` is not a loopback address: metrics and health are for this host alone")]
    NotLoopback(SocketAddr),
    /// The system refused.
    #[error("cannot listen on `{0}`: {1}")]
    Io(SocketAddr, io::Error),
}

/// Opens the HTTP listener.
///
/// # Errors
/// [`HttpError`].
pub async fn bind_http(address: SocketAddr) -> Result<TcpListener, HttpError> {
    if !address.ip().is_loopback() {
        return Err(HttpError::NotLoopback(address));
    }
    TcpListener::bind(address).await.map_err(|error| HttpError::Io(address, error))
}

/// `/metrics`, `/healthz` (200 while the process answers) and `/readyz` (200 while it decides requests, else 503).
pub fn http_router(metrics: Arc<Metrics>, readiness: Arc<Readiness>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .with_state(metrics)
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(readiness)
}

async fn metrics_text(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.text())
}

async fn ready(State(readiness): State<Arc<Readiness>>) -> impl IntoResponse {
    match readiness.phase() {
        Phase::Ready => (StatusCode::OK, "ready\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::StateFailing => (StatusCode::SERVICE_UNAVAILABLE, "the state file cannot be written\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

impl Readiness {
    /// Starts as [`Phase::Starting`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves to another phase.
    pub fn set(&self, phase: Phase) {
        let number = match phase {
            Phase::Starting => 0,
            Phase::Ready => 1,
            Phase::StateFailing => 2,
            Phase::Draining => 3,
        };
        self.0.store(number, Ordering::Relaxed);
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            1 => Phase::Ready,
            2 => Phase::StateFailing,
            3 => Phase::Draining,
            _ => Phase::Starting,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn get_text(router: &Router, path: &str) -> (u16, String) {
        let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_only_while_requests_are_decided() {
        let readiness = Arc::new(Readiness::new());
        let router = http_router(Arc::default(), readiness.clone());
        assert_eq!(get_text(&router, "/readyz").await, (503, "starting\n".into()));
        assert_eq!(get_text(&router, "/healthz").await, (200, "ok\n".into()));
        for (phase, status) in
            [(Phase::Ready, 200), (Phase::StateFailing, 503), (Phase::Draining, 503), (Phase::Starting, 503)]
        {
            readiness.set(phase);
            assert_eq!(readiness.phase(), phase);
            assert_eq!(get_text(&router, "/readyz").await.0, status, "{phase:?}");
        }
    }

    #[tokio::test]
    async fn metrics_are_there_and_nothing_else_is() {
        let router = http_router(Arc::default(), Arc::default());
        let (status, text) = get_text(&router, "/metrics").await;
        assert!(status == 200 && text.ends_with("# EOF\n"), "{text}");
        for path in ["/", "/v1/usage", "/v1/keys", "/debug"] {
            assert_eq!(get_text(&router, path).await.0, 404, "{path}");
        }
    }

    #[tokio::test]
    async fn only_loopback_is_listened_on() {
        for bad in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            assert!(matches!(bind_http(bad.parse().unwrap()).await, Err(HttpError::NotLoopback(_))), "{bad}");
        }
        assert!(bind_http("127.0.0.1:0".parse().unwrap()).await.is_ok());
    }
}
