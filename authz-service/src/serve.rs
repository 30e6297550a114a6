//! The running service: its state, its listeners, its clock.
//!
//! Three listeners that share nothing but state: the proxies' socket (ext_authz, Gate, health, data endpoints), the
//! admin socket, and a loopback HTTP port for probes and metrics.

mod check;
mod gate;
pub mod logs;
pub mod metrics;
mod models;

mod service;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use service::{Service, StartError};

use crate::admin::listener::{self, AdminListener, BindError};
use crate::admin::operations::Administration;
use crate::cli::ServeOptions;
use crate::gate_service::gate_server::GateServer;
use metrics::{HttpError, Phase};

/// Greatest gRPC message from a proxy: the body limit and room for headers beside it, in bytes.
const MAX_MESSAGE: usize = 6 * 1024 * 1024;

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The proxies' socket cannot be opened.
    #[error("cannot listen on `{0}`: {1}")]
    Proxies(PathBuf, io::Error),
    /// Somebody else answers there.
    #[error("`{0}` is in use by a running service")]
    InUse(PathBuf),
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] BindError),
    /// The HTTP port.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// State, keys or resources.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A listener ended by itself.
    #[error("a listener failed: {0}")]
    Listener(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT, then drains: no new connections, answers under way finish, state is flushed.
///
/// # Errors
/// [`ServeError`] when it cannot start or a listener fails.
pub async fn run(options: ServeOptions) -> Result<(), ServeError> {
    let service = Service::start(&options)?;
    let (stop, stopping) = watch::channel(false);
    let proxies = proxy_listener(options.proxies.path())?;
    let admin = AdminListener::bind(options.admin.path())?;
    let http = metrics::bind_http(options.http).await?;
    let probes = metrics::http_router(Arc::clone(service.metrics()), Arc::clone(service.readiness()));
    let operations = Arc::new(Administration::new(Arc::clone(&service)));
    let clock = tokio::spawn(housekeeping(Arc::clone(&service)));
    let signals = tokio::spawn(signals(Arc::clone(&service), stop));
    service.first_keys().await;
    service.enter(Phase::Ready);
    tracing::info!(
        proxies = %options.proxies.path().display(), admin = %options.admin.path().display(), http = %options.http,
        version = service.registry().version, "serving"
    );
    tokio::try_join!(
        axum::serve(proxies, proxy_router(&service)).with_graceful_shutdown(stopped(stopping.clone())),
        axum::serve(http, probes).with_graceful_shutdown(stopped(stopping.clone())),
        listener::serve(admin, operations, stopped(stopping)),
    )?;
    signals.abort();
    clock.abort();
    service.record_refused_sources(service::now()).await;
    tracing::info!("stopped");
    Ok(())
}

/// Everything that proxies reach: gRPC and the data endpoints on one HTTP/2 listener.
fn proxy_router(service: &Arc<Service>) -> Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(async move { reporter.set_service_status("", tonic_health::ServingStatus::Serving).await });
    let check = AuthorizationServer::new(check::Check(Arc::clone(service))).max_decoding_message_size(MAX_MESSAGE);
    let gate = GateServer::new(gate::Gate(Arc::clone(service))).max_decoding_message_size(MAX_MESSAGE);
    tonic::service::Routes::new(check)
        .add_service(gate)
        .add_service(health)
        .into_axum_router()
        .merge(models::router(Arc::clone(service)))
}

/// The proxies' socket, for owner and group; a stale one is replaced, a live one is not.
fn proxy_listener(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |error| ServeError::Proxies(path.to_owned(), error);
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(ServeError::InUse(path.to_owned()));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

async fn housekeeping(service: Arc<Service>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        service.keep_house().await;
    }
}

/// SIGHUP reads the resources again; SIGTERM and SIGINT stop.
async fn signals(service: Arc<Service>, stop: watch::Sender<bool>) {
    let (Ok(mut hup), Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::hangup()), signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be handled");
        return;
    };
    loop {
        tokio::select! {
            _ = hup.recv() => drop(service.reload().await),
            _ = term.recv() => break,
            _ = int.recv() => break,
        }
    }
    tracing::info!("draining");
    service.enter(Phase::Draining);
    // Whoever waits for it may have gone.
    let _ = stop.send(true);
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // The sender is gone only when the process ends.
    let _ = stopping.wait_for(|stop| *stop).await;
}
