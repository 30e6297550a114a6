//! The HTTP listener: `/metrics`, `/healthz`, `/readyz`, on loopback. It answers strangers, so it says nothing else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

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

/// What the HTTP listener shows of the service.
pub trait Probed: Send + Sync + 'static {
    /// Its metrics.
    fn metrics(&self) -> &Metrics;
    /// Its phase now.
    fn phase(&self) -> Phase;
}

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
pub fn http_router<P: Probed>(probed: Arc<P>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text::<P>))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready::<P>))
        .with_state(probed)
}

async fn metrics_text<P: Probed>(State(probed): State<Arc<P>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], probed.metrics().text())
}

async fn ready<P: Probed>(State(probed): State<Arc<P>>) -> impl IntoResponse {
    match probed.phase() {
        Phase::Ready => (StatusCode::OK, "ready\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::StateFailing => (StatusCode::SERVICE_UNAVAILABLE, "the state file cannot be written\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    struct Service {
        metrics: Metrics,
        phase: Phase,
    }

    impl Probed for Service {
        fn metrics(&self) -> &Metrics {
            &self.metrics
        }

        fn phase(&self) -> Phase {
            self.phase
        }
    }

    fn router(phase: Phase) -> Router {
        http_router(Arc::new(Service { metrics: Metrics::new(), phase }))
    }

    async fn get_text(router: &Router, path: &str) -> (u16, String) {
        let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_only_while_requests_are_decided() {
        for (phase, status, text) in [
            (Phase::Starting, 503, "starting\n"),
            (Phase::Ready, 200, "ready\n"),
            (Phase::StateFailing, 503, "the state file cannot be written\n"),
            (Phase::Draining, 503, "draining\n"),
        ] {
            assert_eq!(get_text(&router(phase), "/readyz").await, (status, text.into()));
            assert_eq!(get_text(&router(phase), "/healthz").await, (200, "ok\n".into()));
        }
    }

    #[tokio::test]
    async fn metrics_are_there_and_nothing_else_is() {
        let router = router(Phase::Ready);
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
