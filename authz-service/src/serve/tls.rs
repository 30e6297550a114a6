//! The proxies' listener on TLS: a client certificate of our CA is required, and the files are read again when they
//! change.
//!
//! It finds out who the peer is; `proxies` decides what that peer may do. Connections that stand are left alone when a
//! certificate changes: no call is dropped, and the next handshake uses the new one.

mod files;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use webpki::EndEntityCert;

pub use files::TlsError;

use super::proxies::Peer;
use super::watch::{self, Look};
use crate::cli::TlsFiles;

/// Longest time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at once; further connections wait in the kernel.
const HANDSHAKES: usize = 512;

/// What new handshakes use.
pub(super) struct Tls {
    files: TlsFiles,
    /// What they looked like before they were read first.
    taken: Look,
    config: ArcSwap<ServerConfig>,
    began: Instant,
    /// The second, since `began`, in which a failed handshake was last logged: strangers fill no log.
    told_second: AtomicU64,
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn load(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        let taken = watch::look(&paths(files));
        let config = ArcSwap::new(files::load(files)?);
        Ok(Arc::new(Self {
            files: files.clone(),
            taken,
            config,
            began: Instant::now(),
            told_second: AtomicU64::new(u64::MAX),
        }))
    }

    /// Takes each change of the files until the process ends: all three as they are, or none.
    pub(super) async fn follow(self: Arc<Self>) {
        let take = || match files::load(&self.files) {
            Ok(config) => {
                self.config.store(config);
                tracing::info!("certificates loaded: new connections use them");
            }
            Err(error) => tracing::error!(%error, "the certificates are refused, those before stay"),
        };
        watch::files(paths(&self.files), self.taken, take).await;
    }

    async fn handshake(&self, tcp: TcpStream) -> io::Result<(TlsStream<TcpStream>, Peer)> {
        tcp.set_nodelay(true)?;
        let accepting = TlsAcceptor::from(self.config.load_full()).accept(tcp);
        let stream = tokio::time::timeout(HANDSHAKE, accepting).await.map_err(io::Error::from)??;
        let peer = peer(&stream);
        Ok((stream, peer))
    }

    fn tell(&self, from: SocketAddr, error: &io::Error) {
        let second = self.began.elapsed().as_secs();
        if self.told_second.swap(second, Ordering::Relaxed) != second {
            tracing::warn!(%from, %error, "a TLS handshake failed");
        }
    }
}

fn paths(files: &TlsFiles) -> Vec<PathBuf> {
    vec![files.certificate.clone(), files.key.clone(), files.client_ca.clone()]
}

/// Whom the verified certificate names, if it is exactly one URI (X509-SVID §2).
fn peer(stream: &TlsStream<TcpStream>) -> Peer {
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let parsed = certificate.and_then(|certificate| EndEntityCert::try_from(certificate).ok());
    let mut uris = parsed.iter().flat_map(|certificate| certificate.valid_uri_names());
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Peer::certified(Some(uri)),
        _ => Peer::certified(None),
    }
}

/// Connections whose handshake is done.
pub(super) struct TlsListener {
    connections: mpsc::Receiver<(TlsStream<TcpStream>, Peer)>,
}

impl TlsListener {
    /// Opens the port. Dropping the listener closes it; connections that were handed out go on.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn bind(address: SocketAddr, tls: Arc<Tls>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (sender, connections) = mpsc::channel(1);
        tokio::spawn(accept(listener, tls, sender));
        Ok(Self { connections })
    }
}

/// A handshake never holds up another one.
async fn accept(mut listener: TcpListener, tls: Arc<Tls>, to: mpsc::Sender<(TlsStream<TcpStream>, Peer)>) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (slot, Listener::accept(&mut listener).await)
        };
        let (slot, (tcp, from)) = tokio::select! {
            next = next => next,
            () = to.closed() => return,
        };
        let (tls, to) = (Arc::clone(&tls), to.clone());
        tokio::spawn(async move {
            let _slot = slot;
            match tls.handshake(tcp).await {
                // Nobody takes it once the service ends.
                Ok(connection) => drop(to.send(connection).await),
                Err(error) => tls.tell(from, &error),
            }
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Peer) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // The acceptor ends only with this listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer::certified(None))
    }
}
