//! One request for one small document: no redirect, no proxy, no reuse of connections, bounded in time, size and headers.
//!
//! The name is resolved once, every address is checked, and the connection goes to a checked address: a name that changes
//! its mind in between reaches nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::request::Builder;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::{Network, may_connect};
use super::endpoint::Endpoint;

/// The largest document, in bytes.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// For each document, from resolving the name to its last byte.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Room for the answer's head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// Why a document was not read; for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error("the name cannot be resolved: {0}")]
    Resolve(io::Error),
    #[error("the name has no address")]
    NoAddress,
    #[error("{0} is not a public address over https, and not listed in `privateAddresses`")]
    Address(IpAddr),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the host is no name that a certificate could have")]
    Name,
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
    #[error("redirects with status {0}, which is not followed")]
    Redirect(u16),
    #[error("answers with status {0}")]
    Status(u16),
    #[error("sends the document encoded")]
    Encoded,
    #[error("the document is over {MAX_BYTES} bytes, or breaks off")]
    Body,
    #[error("took longer than {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// Reads documents. Trusts the system's certificate authorities (or those of `SSL_CERT_FILE`).
pub(crate) struct Reader(TlsConnector);

impl Reader {
    /// Reads the system's authorities; without any, every https document is refused.
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        let (taken, _) = roots.add_parsable_certificates(native.certs);
        if taken == 0 {
            tracing::warn!("the system has no certificate authorities: no https issuer can be reached");
        }
        Self::trusting(roots)
    }

    fn trusting(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// The document at an endpoint.
    pub(crate) async fn get(&self, endpoint: &Endpoint, listed: &[Network]) -> Result<Bytes, GetError> {
        match self.ask(endpoint, listed, Request::get(endpoint.target.as_str()), Bytes::new()).await? {
            (StatusCode::OK, document) => Ok(document),
            (status, _) => Err(GetError::Status(status.as_u16())),
        }
    }

    /// What an endpoint answers to a form (RFC 6749 appendix B), whatever the status; `authorization` is that header.
    pub(crate) async fn post(
        &self,
        endpoint: &Endpoint,
        listed: &[Network],
        form: String,
        authorization: Option<HeaderValue>,
    ) -> Result<(StatusCode, Bytes), GetError> {
        let request = Request::post(endpoint.target.as_str()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = authorization.into_iter().fold(request, |request, value| request.header(AUTHORIZATION, value));
        self.ask(endpoint, listed, request, form.into()).await
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        listed: &[Network],
        request: Builder,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), GetError> {
        let request = request
            .header(HOST, &endpoint.authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "bulkhead")
            .body(Full::new(body))?;
        timeout(TIMEOUT, self.ask_unbounded(endpoint, listed, request)).await.unwrap_or(Err(GetError::Timeout))
    }

    async fn ask_unbounded(
        &self,
        endpoint: &Endpoint,
        listed: &[Network],
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), GetError> {
        let addresses = resolve(endpoint, listed).await?;
        let stream = connect(&addresses).await?;
        if !endpoint.secure {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| GetError::Name)?;
        let stream = self.0.connect(name, stream).await.map_err(GetError::Tls)?;
        exchange(stream, request).await
    }
}

/// Every address of the host; one that may not be connected to spoils them all, for who answers so means no good.
async fn resolve(endpoint: &Endpoint, listed: &[Network]) -> Result<Vec<SocketAddr>, GetError> {
    let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await.map_err(GetError::Resolve)?;
    let addresses: Vec<SocketAddr> = found.collect();
    match addresses.iter().find(|address| !may_connect(address.ip(), listed, endpoint.secure)) {
        Some(refused) => Err(GetError::Address(refused.ip())),
        None => Ok(addresses),
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, GetError> {
    let mut failed = GetError::NoAddress;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = GetError::Connect(error),
        }
    }
    Err(failed)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), GetError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new(); // ends with this call
    driver.spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    if status.is_redirection() {
        return Err(GetError::Redirect(status.as_u16()));
    }
    if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(GetError::Encoded);
    }
    let body = Limited::new(response.into_body(), MAX_BYTES).collect().await.map_err(|_| GetError::Body)?;
    Ok((status, body.to_bytes()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server of one document with a certificate for this name; its port.
    async fn serve(made: &CertifiedKey<KeyPair>) -> u16 {
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
                let _ = stream.shutdown().await;
            }
        });
        port
    }

    fn trusting(made: &CertifiedKey<KeyPair>) -> Reader {
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        Reader::trusting(roots).unwrap()
    }

    #[tokio::test]
    async fn a_server_shows_a_certificate_for_its_name_that_is_trusted() {
        let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (right, wrong) = (made("localhost"), made("elsewhere.example"));
        let listed = ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let at = |port: u16| Endpoint::parse(&format!("https://localhost:{port}/keys")).unwrap();
        let port = serve(&right).await;
        assert_eq!(trusting(&right).get(&at(port), &listed).await.unwrap(), "{}");
        let untrusted = trusting(&wrong).get(&at(port), &listed).await;
        assert!(matches!(untrusted, Err(GetError::Tls(_))), "{untrusted:?}");
        let port = serve(&wrong).await;
        let misnamed = trusting(&wrong).get(&at(port), &listed).await;
        assert!(matches!(misnamed, Err(GetError::Tls(_))), "{misnamed:?}");
        let plain = Endpoint::parse(&format!("http://localhost:{port}/keys")).unwrap();
        assert!(trusting(&wrong).get(&plain, &listed).await.is_err(), "it speaks TLS alone");
    }
}
