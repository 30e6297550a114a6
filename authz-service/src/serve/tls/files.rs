//! PEM files → what TLS handshakes use. All three or nothing; a key never gets into a message.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::cli::TlsFiles;
use crate::vault::{PrivateFileError, read_private};

/// Greatest key file, in bytes.
const MAX_KEY_BYTES: usize = 64 * 1024;

/// Why the files are not taken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates.
    #[error("`{0}` holds no certificate: {1}")]
    Certificates(PathBuf, PemError),
    /// The key's file.
    #[error("`{0}` {1}")]
    KeyFile(PathBuf, PrivateFileError),
    /// What is in it.
    #[error("`{0}` holds no private key: {1}")]
    Key(PathBuf, PemError),
    /// The CA.
    #[error("`{0}` holds no CA that clients can be verified against: {1}")]
    Ca(PathBuf, VerifierBuilderError),
    /// One of its certificates.
    #[error("`{0}` holds a certificate that is no CA: {1}")]
    Anchor(PathBuf, rustls::Error),
    /// Certificate and key together.
    #[error("`{0}` and `{1}` do not make a server: {2}")]
    Pair(PathBuf, PathBuf, rustls::Error),
}

/// Reads the files.
pub(super) fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let TlsFiles { certificate, key, client_ca } = files;
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    for anchor in certificates(client_ca)? {
        roots.add(anchor).map_err(|error| TlsError::Anchor(client_ca.clone(), error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let verifier = verifier.map_err(|error| TlsError::Ca(client_ca.clone(), error))?;
    let pem = read_private(key, MAX_KEY_BYTES).map_err(|error| TlsError::KeyFile(key.clone(), error))?;
    let private = PrivateKeyDer::from_pem_slice(pem.expose()).map_err(|error| TlsError::Key(key.clone(), error))?;
    let chain = certificates(certificate)?;
    let pair = |error| TlsError::Pair(certificate.clone(), key.clone(), error);
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(pair)?;
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, private).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Proxies keep their connections: each handshake verifies the certificate that is shown now.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// At least one certificate; what else is in the file is passed over.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| TlsError::Certificates(path.to_owned(), error);
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    match read.map_err(failed)? {
        none if none.is_empty() => Err(failed(PemError::NoItemsFound)),
        certificates => Ok(certificates),
    }
}
