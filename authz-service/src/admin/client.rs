//! The admin API's client, for the command line: one connection per call over the admin socket.
//!
//! Gives the service thirty seconds and reads a bounded answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use super::messages::{NewAuthorityBody, NewCertificateBody, RevokeCertificateBody, RotateBody};
use super::{
    AuditPage, AuthorityMade, CertificateIssued, CreatedKey, IssuedRow, JobRow, KeyRow, NewKeyBody, NewSigningKey,
    Reloaded, Usage,
};
use crate::vault::Secret;

const DEADLINE: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// Where the service's admin socket is.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answers, or we may not open the socket.
    #[error("cannot reach the service at `unix:{}`: {error}{}", socket.display(), advice(error))]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The service closed the connection: it answers its own user and root only.
    #[error("the service closed the connection; it answers only the user it runs as, and root ({0})")]
    Closed(hyper::Error),
    /// The service refused, and why.
    #[error("{message}{}", problems.iter().map(|line| format!("\n  {line}")).collect::<String>())]
    Refused {
        /// HTTP status.
        status: u16,
        /// What the service said.
        message: String,
        /// One line for each problem of the policies.
        problems: Vec<String>,
    },
    /// The answer is none of ours.
    #[error("the service's answer cannot be read: {0}")]
    Unreadable(String),
    /// No answer in time.
    #[error("the service did not answer within {} s", DEADLINE.as_secs())]
    TimedOut,
}

impl Client {
    /// A client of the service that listens on `socket`.
    #[must_use]
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Makes an API key.
    ///
    /// # Errors
    /// [`CallError`], as each call here.
    pub async fn create_key(&self, body: &NewKeyBody) -> Result<CreatedKey, CallError> {
        read(&self.call(Method::POST, "/v1/keys", JSON, spelled(body)?).await?)
    }

    /// Revokes a key and what came of it by rotation: the key first.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn revoke_key(&self, id: &str) -> Result<Vec<KeyRow>, CallError> {
        let path = format!("/v1/keys/{}/revoke", segment(id));
        read(&self.call(Method::POST, &path, JSON, Bytes::new()).await?)
    }

    /// Revokes all keys of a tenant.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn revoke_keys(&self, tenant: &str) -> Result<Vec<KeyRow>, CallError> {
        let path = format!("/v1/tenants/{}/keys/revoke", segment(tenant));
        read(&self.call(Method::POST, &path, JSON, Bytes::new()).await?)
    }

    /// Lists keys of one tenant or of all.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_keys(&self, tenant: Option<&str>) -> Result<Vec<KeyRow>, CallError> {
        let path = tenant.map_or_else(|| "/v1/keys".into(), |tenant| format!("/v1/keys?tenant={}", segment(tenant)));
        read(&self.call(Method::GET, &path, JSON, Bytes::new()).await?)
    }

    /// Stores a tenant's own key of a provider.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn put_provider_key(&self, tenant: &str, provider: &str, secret: &Secret) -> Result<(), CallError> {
        let path = format!("/v1/vault/{}/{}", segment(tenant), segment(provider));
        self.call(Method::PUT, &path, BYTES, Bytes::copy_from_slice(secret.expose())).await.map(drop)
    }

    /// Makes a tenant's CA.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create_authority(&self, body: &NewAuthorityBody) -> Result<AuthorityMade, CallError> {
        read(&self.call(Method::POST, "/v1/authorities", JSON, spelled(body)?).await?)
    }

    /// Has a certificate issued.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn issue_certificate(&self, body: &NewCertificateBody) -> Result<CertificateIssued, CallError> {
        read(&self.call(Method::POST, "/v1/certificates", JSON, spelled(body)?).await?)
    }

    /// Revokes a certificate.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn revoke_certificate(&self, body: &RevokeCertificateBody) -> Result<(), CallError> {
        self.call(Method::POST, "/v1/certificates/revoke", JSON, spelled(body)?).await.map(drop)
    }

    /// Lists certificates of one tenant or of all.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_certificates(&self, tenant: Option<&str>) -> Result<Vec<IssuedRow>, CallError> {
        let query = tenant.map(|tenant| format!("?tenant={}", segment(tenant))).unwrap_or_default();
        read(&self.call(Method::GET, &format!("/v1/certificates{query}"), JSON, Bytes::new()).await?)
    }

    /// Audit records after a sequence, or the newest.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn audit(&self, after: Option<u64>, limit: u32) -> Result<AuditPage, CallError> {
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let path = format!("/v1/audit?limit={limit}{after}");
        read(&self.call(Method::GET, &path, JSON, Bytes::new()).await?)
    }

    /// What every tenant has used.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn usage(&self) -> Result<Usage, CallError> {
        read(&self.call(Method::GET, "/v1/usage", JSON, Bytes::new()).await?)
    }

    /// Jobs of one tenant or of all.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_jobs(&self, tenant: Option<&str>) -> Result<Vec<JobRow>, CallError> {
        let path = tenant.map_or_else(|| "/v1/jobs".into(), |tenant| format!("/v1/jobs?tenant={}", segment(tenant)));
        read(&self.call(Method::GET, &path, JSON, Bytes::new()).await?)
    }

    /// Ends a job.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn revoke_job(&self, id: &str) -> Result<JobRow, CallError> {
        let path = format!("/v1/jobs/{}/revoke", segment(id));
        read(&self.call(Method::POST, &path, JSON, Bytes::new()).await?)
    }

    /// Makes another key for the service's own tokens.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn rotate_signing_key(&self, body: &RotateBody) -> Result<NewSigningKey, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Unreadable(error.to_string()))?;
        read(&self.call(Method::POST, "/v1/signing-key/rotate", JSON, body.into()).await?)
    }

    /// Has the policies read again.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn reload(&self) -> Result<Reloaded, CallError> {
        read(&self.call(Method::POST, "/v1/reload", JSON, Bytes::new()).await?)
    }

    async fn call(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Bytes, CallError> {
        tokio::time::timeout(DEADLINE, self.exchange(method, path, kind, body))
            .await
            .map_err(|_| CallError::TimedOut)?
    }

    async fn exchange(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Bytes, CallError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| CallError::Unreachable { socket: self.socket.clone(), error })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(CallError::Closed)?;
        // Ends with the connection; what goes wrong on it is said by the sender too.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "bulkhead")
            .header(header::CONTENT_TYPE, kind)
            .body(Full::new(body))
            .map_err(|error| CallError::Unreadable(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(CallError::Closed)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| CallError::Unreadable(error.to_string()))?
            .to_bytes();
        if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
    }
}

fn spelled(body: &impl Serialize) -> Result<Bytes, CallError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| CallError::Unreadable(error.to_string()))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|error| CallError::Unreadable(error.to_string()))
}

fn refused(status: StatusCode, body: &[u8]) -> CallError {
    #[derive(Deserialize)]
    struct Body {
        error: Text,
    }
    #[derive(Deserialize)]
    struct Text {
        message: String,
        #[serde(default)]
        problems: Vec<String>,
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(Body { error }) => {
            CallError::Refused { status: status.as_u16(), message: error.message, problems: error.problems }
        }
        Err(_) => CallError::Unreadable(format!("status {status} without a reason")),
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "; is `bulkhead serve` running, and is --admin or BULKHEAD_ADMIN its admin socket?"
        }
        io::ErrorKind::PermissionDenied => "; run this as the user that the service runs as, or as root",
        _ => "",
    }
}

/// Percent-encodes one segment of a path or value of a query (RFC 3986 §2.1).
fn segment(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_types_stays_one_segment() {
        assert_eq!(segment("acme"), "acme");
        assert_eq!(segment("../x?y=1&z#é"), "..%2Fx%3Fy%3D1%26z%23%C3%A9");
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_said_so() {
        let directory = tempfile::tempdir().unwrap();
        let error = Client::new(directory.path().join("admin.sock")).usage().await.unwrap_err().to_string();
        assert!(error.contains("cannot reach the service at `unix:/"), "{error}");
        assert!(error.contains("is `bulkhead serve` running"), "{error}");
    }
}
