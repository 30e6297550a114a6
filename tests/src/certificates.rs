//! Certificates for tests: CAs made on the spot, and what they sign.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};

/// A CA.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key, PKCS #8.
    pub key: String,
}

impl Ca {
    /// A new one.
    ///
    /// # Panics
    /// The library refuses.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate for a host's name.
    ///
    /// # Panics
    /// The library refuses.
    #[must_use]
    pub fn server(&self, name: &str) -> Issued {
        let mut params = params(name);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("a name"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    /// A client's certificate with these URIs.
    ///
    /// # Panics
    /// The library refuses.
    #[must_use]
    pub fn client(&self, uris: &[&str]) -> Issued {
        self.issue(&client(uris))
    }

    /// Lists what it revoked, by serial number; valid for a day.
    ///
    /// # Panics
    /// The library refuses.
    #[must_use]
    pub fn revocations(&self, serials: &[&[u8]]) -> String {
        let now = rcgen::date_time_ymd(1970, 1, 1) + UNIX_EPOCH.elapsed().expect("a time after 1970");
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::from_secs(86_400),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).and_then(|list| list.pem()).expect("a list")
    }

    /// The same, with this serial number.
    ///
    /// # Panics
    /// The library refuses.
    #[must_use]
    pub fn client_numbered(&self, uris: &[&str], serial: &[u8]) -> Issued {
        let mut params = client(uris);
        params.serial_number = Some(SerialNumber::from_slice(serial));
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Issued {
    /// Writes `NAME.crt` and `NAME.key` (0600) into a directory, each whole or not at all.
    ///
    /// # Panics
    /// The system refuses.
    pub fn write(&self, directory: &Path, name: &str) {
        replace(&directory.join(format!("{name}.crt")), &self.certificate);
        replace(&directory.join(format!("{name}.key")), &self.key);
    }
}

/// Writes a private file by renaming it into its place.
///
/// # Panics
/// The system refuses.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("the file is written");
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    std::fs::rename(new, path).expect("the file is in its place");
}

fn client(uris: &[&str]) -> CertificateParams {
    let mut params = params("client");
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("a URI"))).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
