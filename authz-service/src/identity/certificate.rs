//! A client certificate as Envoy hands it over (`include_peer_certificate`): PEM, URL-encoded, the leaf alone. Envoy saw
//! its holder prove the key and checked it against the union of all bundles; whom it names is decided here, by the bundle
//! of the one tenant whose trust domain its SPIFFE id is of. No other CA, not another tenant's either, vouches for that.

mod bundle;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_core::name::TenantName;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use webpki::EndEntityCert;

use super::CredentialError;
use super::spiffe::SpiffeId;
use crate::registry::{Permits, TrustDomain};

pub use bundle::{Bundle, BundleError};

/// The longest certificate that is looked at, in bytes of its PEM form, URL-encoded.
const MAX_BYTES: usize = 32 * 1024;

/// What certificates are held against.
#[derive(Clone, Copy)]
pub struct CertificateTrust<'a> {
    /// The tenants' trust domains, by name.
    pub domains: &'a HashMap<String, Arc<TrustDomain>>,
    /// What operators revoked here, beside the tenants' own lists.
    pub revoked: &'a RevokedSerials,
}

/// Certificates that operators revoked: tenant and serial number.
pub type RevokedSerials = HashSet<(TenantName, Serial)>;

/// A certificate's serial number: lower-case hexadecimal digits, without zeros in front.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(String);

/// Who holds a certificate.
#[derive(Clone, Debug)]
pub struct CertificateIdentity {
    /// The one tenant, whose CA vouches for it.
    pub tenant: TenantName,
    /// Its SPIFFE id.
    pub principal: String,
    /// What it may use.
    pub permits: Permits,
    /// It, or what vouches for it, is not valid from this instant on.
    pub expires_at: Timestamp,
}

/// Whom a certificate names, and whether the tenant's bundle vouches for that. `None`: it names nobody (it has no `spiffe:`
/// URI), and is at most what a token is bound to.
///
/// # Errors
/// [`CredentialError`], one kind to strangers: it cannot be read, or names somebody and does not prove it.
pub fn read(
    certificate: &str,
    trust: &CertificateTrust<'_>,
    now: Timestamp,
) -> Result<Option<CertificateIdentity>, CredentialError> {
    let der = der(certificate).ok_or(CredentialError::invalid("certificate: malformed"))?;
    let leaf = EndEntityCert::try_from(&der).map_err(|_| CredentialError::invalid("certificate: malformed"))?;
    let mut ids = leaf.valid_uri_names().filter(|uri| is_spiffe(uri));
    let Some(named) = ids.next() else { return Ok(None) };
    let id = named.parse::<SpiffeId>().map_err(|_| CredentialError::invalid("certificate: no SPIFFE id"))?;
    let domain = trust.domains.get(id.trust_domain());
    let domain = domain.ok_or(CredentialError::invalid("certificate: unknown trust domain"))?;
    let proven = domain.bundle.prove(&der, &leaf, now).map_err(CredentialError::invalid)?;
    if proven.id != id {
        return Err(CredentialError::invalid("certificate: not exactly one URI"));
    }
    if trust.revoked.contains(&(domain.tenant.clone(), proven.serial)) {
        return Err(CredentialError::invalid("certificate: revoked here"));
    }
    Ok(Some(CertificateIdentity {
        tenant: domain.tenant.clone(),
        principal: id.as_str().to_owned(),
        permits: domain.permits.clone(),
        expires_at: proven.until,
    }))
}

/// The SPIFFE id of a certificate that a bundle vouches for, in whatever trust domain; `None`: it does not.
#[must_use]
pub fn id_by(certificate: &str, bundle: &Bundle, now: Timestamp) -> Option<SpiffeId> {
    let der = der(certificate)?;
    let leaf = EndEntityCert::try_from(&der).ok()?;
    bundle.prove(&der, &leaf, now).ok().map(|proven| proven.id)
}

/// In any case of its letters: what means to be a SPIFFE id is held to the rules of one.
fn is_spiffe(uri: &str) -> bool {
    uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// The SHA-256 of its DER form, as tokens spell it (`x5t#S256`, RFC 8705 §3.1). `None`: there is no certificate.
pub(crate) fn thumbprint(certificate: &str) -> Option<String> {
    Some(URL_SAFE_NO_PAD.encode(Sha256::digest(&der(certificate)?)))
}

/// The one certificate of a text as Envoy writes it.
fn der(certificate: &str) -> Option<CertificateDer<'static>> {
    if certificate.len() > MAX_BYTES {
        return None;
    }
    let pem = decoded(certificate)?;
    let mut found = CertificateDer::pem_slice_iter(&pem);
    let first = found.next()?.ok()?;
    found.next().is_none().then_some(first)
}

/// Without its percent-encoding (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit =
                    |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                (digit(rest.next())? << 4) | digit(rest.next())?
            }
            other => other,
        };
        bytes.push(byte);
    }
    Some(bytes)
}

impl Serial {
    /// Of the bytes of an INTEGER.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(digits.trim_start_matches('0').to_owned())
    }

    /// Reads what operators and tools write: hexadecimal digits in any case, with or without colons.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
        let short = (1..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        short.then(|| Self(digits.trim_start_matches('0').to_owned()))
    }

    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
