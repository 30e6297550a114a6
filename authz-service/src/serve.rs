//! The running service: its state, its listeners, its clock.
//!
//! Listeners that share nothing but state: the proxies' (ext_authz, rate limits, Gate, health, data endpoints) on this host
//! and on TLS, the admin socket, and a loopback HTTP port for probes, metrics and our public keys.

mod check;
mod data;
mod gate;
mod jwks;
mod last_hop;
pub mod logs;
mod mesh;
pub mod metrics;
mod proxies;
mod rate_limit;
mod revocations;
mod router;
mod service;
mod tls;
mod watch;
mod wording;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as flag;

pub use mesh::MeshError;
pub use service::{Clock, NewSigningKeyError, Rotation, Service, StartError, wall_clock};
pub use tls::TlsError;

use crate::admin::listener::{self, AdminListener, BindError};
use crate::admin::operations::Administration;
use crate::cli::{ListedProxy, ProxiesAddr, ServeOptions};
use metrics::{HttpError, Phase};
use proxies::Peer;
use tls::{Tls, TlsListener};

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
    /// The port that proxies ask on.
    #[error("cannot listen on `{0}`: {1}")]
    Port(SocketAddr, io::Error),
    /// Its certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody could ask there.
    #[error("no listed proxy has a SPIFFE id: `--proxies-tls` needs `--proxy ID=SPIFFE_ID`")]
    NobodyOverTls,
    /// The descriptions of our own services.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A listener ended by itself.
    #[error("a listener failed: {0}")]
    Listener(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT, then drains: no new connections, answers under way finish, state is flushed.
///
/// # Errors
/// [`ServeError`] when it cannot start or a listener fails.
pub async fn run(options: ServeOptions) -> Result<(), ServeError> {
    run_by(options, wall_clock()).await
}

/// [`run`] by another clock: what no command line says.
///
/// # Errors
/// As [`run`].
pub async fn run_by(options: ServeOptions, clock: Clock) -> Result<(), ServeError> {
    // Before they are read: what changes meanwhile is a change.
    let (look, _) = watch::looked(vec![options.policies.clone()]).await;
    let service = Service::start(&options, clock)?;
    let (stop, stopping) = flag::channel(false);
    let router = router::proxies(&service, &options.listed)?;
    let proxies = LocalListener::bind(&options.proxies).await?;
    let tls = tls_listener(&options).await?;
    let admin = AdminListener::bind(options.admin.path())?;
    let http = metrics::bind_http(options.http).await?;
    let probes = metrics::http_router(Arc::clone(service.metrics()), Arc::clone(service.readiness()));
    let probes = probes.merge(jwks::router(Arc::clone(&service)));
    let operations = Arc::new(Administration::new(Arc::clone(&service)));
    let clock = tokio::spawn(housekeeping(Arc::clone(&service)));
    let watch = tokio::spawn(watch::resources(Arc::clone(&service), look));
    service.mesh().map(|mesh| tokio::spawn(mesh.follow()));
    let signals = tokio::spawn(signals(Arc::clone(&service), stop));
    service.first_keys().await;
    service.enter(Phase::Ready);
    tracing::info!(
        proxies = %options.proxies, admin = %options.admin.path().display(), http = %options.http,
        tls = options.proxies_tls.map(|(address, _)| address.to_string()), version = service.registry().version, "serving"
    );
    tokio::try_join!(
        proxies.serve(router.clone(), stopping.clone()),
        over_tls(tls, router, stopping.clone()),
        axum::serve(http, probes).with_graceful_shutdown(stopped(stopping.clone())),
        listener::serve(admin, operations, stopped(stopping)),
    )?;
    signals.abort();
    clock.abort();
    watch.abort();
    service.record_refused_sources(service.now()).await;
    service.keep_last_used().await;
    tracing::info!("stopped");
    Ok(())
}

/// Where proxies of this host ask.
enum LocalListener {
    Unix(UnixListener),
    Loopback(TcpListener),
}

impl LocalListener {
    async fn bind(address: &ProxiesAddr) -> Result<Self, ServeError> {
        match address {
            ProxiesAddr::Unix(socket) => unix_listener(socket.path()).map(Self::Unix),
            ProxiesAddr::Loopback(port) => {
                TcpListener::bind(port).await.map(Self::Loopback).map_err(|error| ServeError::Port(*port, error))
            }
        }
    }

    async fn serve(self, router: Router, stopping: flag::Receiver<bool>) -> io::Result<()> {
        let router = router.into_make_service_with_connect_info::<Peer>();
        match self {
            Self::Unix(socket) => axum::serve(socket, router).with_graceful_shutdown(stopped(stopping)).await,
            Self::Loopback(port) => axum::serve(port, router).with_graceful_shutdown(stopped(stopping)).await,
        }
    }
}

/// The TLS listener, whose certificates are followed from here on.
async fn tls_listener(options: &ServeOptions) -> Result<Option<TlsListener>, ServeError> {
    let Some((address, files)) = &options.proxies_tls else { return Ok(None) };
    if !options.listed.iter().any(|proxy: &ListedProxy| proxy.spiffe_id.is_some()) {
        return Err(ServeError::NobodyOverTls);
    }
    let tls = Tls::load(files)?;
    let listener = TlsListener::bind(*address, Arc::clone(&tls)).await;
    let listener = listener.map_err(|error| ServeError::Port(*address, error))?;
    tokio::spawn(tls.follow());
    Ok(Some(listener))
}

async fn over_tls(listener: Option<TlsListener>, router: Router, stopping: flag::Receiver<bool>) -> io::Result<()> {
    let Some(listener) = listener else { return Ok(()) };
    let router = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, router).with_graceful_shutdown(stopped(stopping)).await
}

/// The proxies' socket, for owner and group; a stale one is replaced, a live one is not.
fn unix_listener(path: &Path) -> Result<UnixListener, ServeError> {
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
async fn signals(service: Arc<Service>, stop: flag::Sender<bool>) {
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

async fn stopped(mut stopping: flag::Receiver<bool>) {
    // The sender is gone only when the process ends.
    let _ = stopping.wait_for(|stop| *stop).await;
}
