//! A tenant's own CA: what it is made of, and the short certificates that it issues to the tenant's workloads. Its key
//! (P-256) is sealed wherever it is kept; here it is open for one signature.
//!
//! A workload makes its key itself: what arrives is a request (PKCS #10) that proves it holds the key. Nothing else in
//! the request is taken over.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use gateway_core::name::TenantName;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
    SigningKey,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::certificate::Serial;
use super::spiffe::SpiffeId;
use crate::vault::{Random, RandomError, Secret, draw};

/// A certificate lives for this long unless asked otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(3600);
/// No certificate lives longer.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
/// Nor shorter.
pub const MIN_TTL: Duration = Duration::from_secs(60);

/// How long a CA lives: three years.
const CA_TTL: Duration = Duration::from_secs(3 * 365 * 24 * 3600);
/// Workloads' clocks may be this late.
const BACKDATED: Duration = Duration::from_secs(60);

/// Why nothing was made or issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The library refused.
    #[error("the CA's key or certificate cannot be used")]
    Library,
    /// The request.
    #[error("the request is not PKCS #10 in PEM, or it is not signed by the key that it is for")]
    Request,
    /// Its key.
    #[error("the request's key is none of ECDSA P-256, ECDSA P-384 and Ed25519")]
    Key,
}

/// A new CA.
pub struct NewAuthority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PKCS #8, to be sealed.
    pub key: Secret,
}

/// What was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its serial number.
    pub serial: Serial,
    /// Not valid from this instant on.
    pub expires_at: Timestamp,
}

/// Makes a CA for a tenant.
///
/// # Errors
/// [`AuthorityError::Library`], [`AuthorityError::Random`].
pub fn create(
    tenant: &TenantName,
    version: u64,
    now: Timestamp,
    random: &mut Random<'_>,
) -> Result<NewAuthority, AuthorityError> {
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    let key = Secret::new(made.map_err(|_| AuthorityError::Library)?.as_ref().to_vec());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Bulkhead");
    params.distinguished_name.push(DnType::CommonName, format!("CA {version} of tenant {tenant}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial_number(random)?);
    valid(&mut params, now, CA_TTL);
    let certificate = params.self_signed(&Key::open(&key)?).map_err(|_| AuthorityError::Library)?;
    Ok(NewAuthority { certificate: certificate.pem(), key })
}

/// Issues a certificate for clients, to whoever holds the key of `request` (PKCS #10, PEM), under this id.
///
/// # Errors
/// [`AuthorityError`].
pub fn issue(
    ca: (&str, &Secret),
    request: &str,
    id: &SpiffeId,
    ttl: Duration,
    now: Timestamp,
    random: &mut Random<'_>,
) -> Result<Issued, AuthorityError> {
    let (ca_certificate, ca_key) = ca;
    let request = CertificateSigningRequestParams::from_pem(request).map_err(|_| AuthorityError::Request)?;
    let algorithm = PublicKeyData::algorithm(&request.public_key);
    // Bytes of a point as the algorithm has it: the request names the algorithm twice.
    let accepted =
        [(&rcgen::PKCS_ECDSA_P256_SHA256, 65), (&rcgen::PKCS_ECDSA_P384_SHA384, 97), (&rcgen::PKCS_ED25519, 32)];
    if !accepted.contains(&(algorithm, request.public_key.der_bytes().len())) {
        return Err(AuthorityError::Key);
    }
    let number = serial_number(random)?;
    let serial = Serial::of(&number.to_bytes());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = id.as_str().try_into().map_err(|_| AuthorityError::Library)?;
    params.subject_alt_names = vec![SanType::URI(name)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(number);
    let expires_at = valid(&mut params, now, ttl);
    let der = CertificateDer::from_pem_slice(ca_certificate.as_bytes()).map_err(|_| AuthorityError::Library)?;
    let issuer = Issuer::from_ca_cert_der(&der, Key::open(ca_key)?).map_err(|_| AuthorityError::Library)?;
    let certificate = params.signed_by(&request.public_key, &issuer).map_err(|_| AuthorityError::Library)?;
    Ok(Issued { certificate: certificate.pem(), serial, expires_at })
}

/// From a little before now; the first instant at which it is over.
fn valid(params: &mut CertificateParams, now: Timestamp, ttl: Duration) -> Timestamp {
    let second = u64::try_from(now.as_second()).unwrap_or(0);
    let last = second.saturating_add(ttl.as_secs()).saturating_sub(1);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(second.saturating_sub(BACKDATED.as_secs()));
    params.not_after = epoch + Duration::from_secs(last);
    i64::try_from(last.saturating_add(1)).ok().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(Timestamp::MAX)
}

/// 127 random bits, positive and 16 bytes long (RFC 5280 §4.1.2.2).
fn serial_number(random: &mut Random<'_>) -> Result<SerialNumber, AuthorityError> {
    let mut bytes = *draw::<16>(random)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// A CA's key, open.
struct Key(EcdsaKeyPair);

impl Key {
    fn open(pkcs8: &Secret) -> Result<Self, AuthorityError> {
        let opened = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.expose());
        opened.map(Self).map_err(|_| AuthorityError::Library)
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_ref().to_vec())
    }
}
