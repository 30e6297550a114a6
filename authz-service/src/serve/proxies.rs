//! Who may ask on the proxies' listeners: the proxies that were listed, each under the ids of its certificate.
//!
//! Stands before every service on those listeners; what it does not know by name is refused. It never looks at a
//! message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::serve::IncomingStream;
use gateway_core::wire;
use tokio::net::{TcpListener, UnixListener};
use tonic::Status;

use super::tls::TlsListener;
use crate::cli::ListedProxy;

/// What any listed peer may ask for without saying which proxy it is: probes, reflection, and what Envoy routes here for
/// clients, which carries a signed grant. Everything else names its proxy.
const UNNAMED: [&str; 4] =
    ["/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/", "/v1/models", wire::OWN_PATHS];

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    who: Who,
    /// One line in the log for each connection that is refused.
    told: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
enum Who {
    /// A process of this host.
    Local,
    /// Whom a verified certificate names; `None`: it does not name exactly one workload.
    Certified(Option<Arc<str>>),
}

impl Peer {
    /// A process of this host.
    fn local() -> Self {
        Self { who: Who::Local, told: Arc::default() }
    }

    /// The holder of a verified certificate with this one URI.
    pub(super) fn certified(uri: Option<&str>) -> Self {
        Self { who: Who::Certified(uri.map(Arc::from)), told: Arc::default() }
    }
}

/// The proxies that may ask.
#[derive(Debug)]
pub(super) struct Listed(pub(super) Vec<ListedProxy>);

impl Listed {
    /// Whether a peer may make this call, or why not.
    fn admits(&self, peer: &Peer, path: &str, headers: &HeaderMap) -> Result<(), &'static str> {
        let mut named = headers.get_all(wire::PROXY).iter();
        let (id, more) = (named.next(), named.next());
        if more.is_some() {
            return Err("the call names two proxies");
        }
        let id = id.map(|id| id.as_bytes());
        let unnamed = id.is_none() && UNNAMED.iter().any(|open| is_under(path, open));
        let listed = |fits: &dyn Fn(&ListedProxy) -> bool| {
            self.0.iter().any(|proxy| fits(proxy) && (unnamed || id == Some(proxy.id.as_bytes())))
        };
        let admitted = match &peer.who {
            Who::Local => self.0.is_empty() || unnamed || listed(&|_| true),
            Who::Certified(None) => return Err("the certificate does not have exactly one URI"),
            Who::Certified(Some(uri)) => listed(&|proxy| proxy.spiffe_id.as_deref() == Some(uri)),
        };
        if admitted { Ok(()) } else { Err("no such proxy is listed for this peer") }
    }
}

/// `open` is a path, or the start of one where it ends with `/`.
fn is_under(path: &str, open: &str) -> bool {
    if open.ends_with('/') { path.starts_with(open) } else { path == open }
}

/// Refuses, before any service sees the call, what [`Listed`] does not admit; a connection without a known peer too.
pub(super) async fn guard(State(listed): State<Arc<Listed>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.clone());
    let path = request.uri().path();
    let admitted =
        peer.as_ref().map_or(Err("the peer is not known"), |peer| listed.admits(peer, path, request.headers()));
    let Err(why) = admitted else { return next.run(request).await };
    if peer.as_ref().is_none_or(|peer| !peer.told.swap(true, Ordering::Relaxed)) {
        let proxy = request.headers().get(wire::PROXY).map(|id| String::from_utf8_lossy(id.as_bytes()));
        tracing::warn!(why, ?peer, ?proxy, path, "a proxy is refused");
    }
    let grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        Status::permission_denied("this proxy is not listed").into_http::<Body>()
    } else {
        StatusCode::FORBIDDEN.into_response()
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(_: IncomingStream<'_, UnixListener>) -> Self {
        Self::local()
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(_: IncomingStream<'_, TcpListener>) -> Self {
        Self::local()
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        stream.remote_addr().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
    const HEALTH: &str = "/grpc.health.v1.Health/Check";

    fn listed(proxies: &[&str]) -> Listed {
        Listed(proxies.iter().map(|proxy| proxy.parse().unwrap()).collect())
    }

    fn admits(listed: &Listed, peer: &Peer, path: &str, ids: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for id in ids {
            headers.append(wire::PROXY, id.parse().unwrap());
        }
        listed.admits(peer, path, &headers).is_ok()
    }

    #[test]
    fn over_tls_a_proxy_is_its_certificate_and_its_id() {
        let set = listed(&["edge-1=spiffe://t/a", "edge-2=spiffe://t/b", "edge-3"]);
        let peer = |uri| Peer::certified(Some(uri));
        assert!(admits(&set, &peer("spiffe://t/a"), CHECK, &["edge-1"]));
        for (uri, ids) in [
            ("spiffe://t/a", &["edge-2"][..]),
            ("spiffe://t/a", &["edge-3"]),
            ("spiffe://t/a", &["edge-1", "edge-1"]),
            ("spiffe://t/a", &[]),
            ("spiffe://t/c", &["edge-1"]),
            ("", &["edge-3"]),
        ] {
            assert!(!admits(&set, &peer(uri), CHECK, ids), "{uri} {ids:?}");
        }
        assert!(!admits(&set, &Peer::certified(None), CHECK, &["edge-1"]));
        assert!(!admits(&listed(&[]), &peer("spiffe://t/a"), CHECK, &["edge-1"]), "an empty list is not everybody");
        assert!(!admits(&listed(&[]), &Peer::certified(None), HEALTH, &[]));
        assert!(admits(&set, &peer("spiffe://t/b"), HEALTH, &[]), "a listed peer may probe");
        assert!(!admits(&set, &peer("spiffe://t/c"), HEALTH, &[]));
        assert!(!admits(&set, &peer("spiffe://t/b"), HEALTH, &["edge-1"]), "nor there in another's name");
    }

    #[test]
    fn on_this_host_ids_count_once_there_is_a_list() {
        let (none, some) = (listed(&[]), listed(&["edge-1"]));
        assert!(admits(&none, &Peer::local(), CHECK, &["any"]) && admits(&none, &Peer::local(), CHECK, &[]));
        assert!(admits(&some, &Peer::local(), CHECK, &["edge-1"]));
        for ids in [&["edge-2"][..], &[], &["edge-1", "edge-2"]] {
            assert!(!admits(&some, &Peer::local(), CHECK, ids), "{ids:?}");
        }
        for open in [HEALTH, "/v1/models", "/bulkhead/v1/token"] {
            assert!(admits(&some, &Peer::local(), open, &[]), "{open}");
        }
        for named in ["/v1/modelsx", "/", "/bulkhead.v1.Gate/Lease", "/grpc.reflection.v1alpha.ServerReflection/X"] {
            assert!(!admits(&some, &Peer::local(), named, &[]), "{named}");
        }
    }
}
