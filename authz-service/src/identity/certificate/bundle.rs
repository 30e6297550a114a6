//! What vouches for a tenant's certificates: the CAs of its bundle, and what they revoked.
//!
//! The self-signed ones are trusted; the others only lead to them, and are the only ones that do, for Envoy hands over the
//! leaf alone. Nothing here reads a clock: the time is an argument.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use sha2::{Digest as _, Sha256};
use webpki::{
    ALL_VERIFICATION_ALGS, CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage,
    OwnedCertRevocationList, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
    anchor_from_trusted_cert,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, GeneralName, X509Certificate};

use super::Serial;
use crate::identity::spiffe::SpiffeId;

/// The most CAs of one bundle.
const MOST_CAS: usize = 64;
/// The most certificates whose proof is remembered: more are proven again. Signatures cost some 100 µs each.
const MOST_PROVEN: usize = 1024;

/// The CAs of one tenant and what they revoked.
pub struct Bundle {
    roots: Vec<Root>,
    anchors: Vec<TrustAnchor<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
    lists: Vec<CertRevocationList<'static>>,
    /// From here on a list is older than its CA wants it to be used.
    lists_until: i64,
    /// By the SHA-256 of the certificate.
    proven: Mutex<HashMap<[u8; 32], Proven>>,
}

/// A trusted CA.
struct Root {
    key: Vec<u8>,
    valid: Validity,
}

/// Unix seconds: from the first, before the second.
#[derive(Clone, Copy)]
struct Validity(i64, i64);

/// Why a bundle is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not PEM, or nothing of its kind in it.
    #[error("holds no {0} in PEM")]
    Empty(&'static str),
    /// One that cannot be read.
    #[error("{0} {1} cannot be read")]
    Unreadable(&'static str, usize),
    /// A certificate that signs none.
    #[error("certificate {0} is no CA's")]
    NoCa(usize),
    /// Nothing to begin with.
    #[error("holds no self-signed certificate: the root of the tenant's CA")]
    NoRoot,
    /// Too many.
    #[error("holds more than {MOST_CAS} certificates")]
    TooMany,
    /// A list without an end.
    #[error("revocation list {0} does not say when the next one comes (nextUpdate)")]
    NoNextUpdate(usize),
}

/// What a certificate was found to be.
#[derive(Clone)]
pub(super) struct Proven {
    /// Its one URI.
    pub(super) id: SpiffeId,
    pub(super) serial: Serial,
    /// It, or what vouches for it, is not valid before.
    from: i64,
    /// Nor from here on.
    pub(super) until: Timestamp,
}

impl Bundle {
    /// Reads a bundle and the lists of what its CAs revoked, both PEM.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn parse(cas: &str, lists: Option<&str>) -> Result<Self, BundleError> {
        let mut bundle = Self {
            roots: Vec::new(),
            anchors: Vec::new(),
            intermediates: Vec::new(),
            lists: Vec::new(),
            lists_until: i64::MAX,
            proven: Mutex::default(),
        };
        for (at, der) in CertificateDer::pem_slice_iter(cas.as_bytes()).enumerate() {
            let number = at.saturating_add(1);
            if number > MOST_CAS {
                return Err(BundleError::TooMany);
            }
            bundle.add(&der.map_err(|_| BundleError::Unreadable("certificate", number))?, number)?;
        }
        if bundle.anchors.is_empty() && bundle.intermediates.is_empty() {
            return Err(BundleError::Empty("certificate"));
        }
        if bundle.anchors.is_empty() {
            return Err(BundleError::NoRoot);
        }
        if let Some(lists) = lists {
            bundle.add_lists(lists)?;
        }
        Ok(bundle)
    }

    /// Whether a root of this bundle is one of another's: no CA speaks for two tenants.
    #[must_use]
    pub fn shares_root_with(&self, other: &Self) -> bool {
        self.roots.iter().any(|root| other.roots.iter().any(|theirs| root.key == theirs.key))
    }

    fn add(&mut self, der: &CertificateDer<'_>, number: usize) -> Result<(), BundleError> {
        let unreadable = BundleError::Unreadable("certificate", number);
        let (_, ca) = X509Certificate::from_der(der).map_err(|_| unreadable.clone())?;
        if !ca.is_ca() {
            return Err(BundleError::NoCa(number));
        }
        let anchor = anchor_from_trusted_cert(der).map_err(|_| unreadable)?;
        if ca.subject().as_raw() == ca.issuer().as_raw() {
            self.roots.push(Root { key: anchor.subject_public_key_info.to_vec(), valid: Validity::of(&ca) });
            self.anchors.push(anchor.to_owned());
        } else {
            self.intermediates.push(der.clone().into_owned());
        }
        Ok(())
    }

    fn add_lists(&mut self, lists: &str) -> Result<(), BundleError> {
        for (at, der) in CertificateRevocationListDer::pem_slice_iter(lists.as_bytes()).enumerate() {
            let number = at.saturating_add(1);
            let unreadable = BundleError::Unreadable("revocation list", number);
            let der = der.map_err(|_| unreadable.clone())?;
            let owned = OwnedCertRevocationList::from_der(&der).map_err(|_| unreadable.clone())?;
            let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_| unreadable)?;
            let next = list.next_update().ok_or(BundleError::NoNextUpdate(number))?;
            self.lists_until = self.lists_until.min(next.timestamp());
            self.lists.push(owned.into());
        }
        if self.lists.is_empty() { Err(BundleError::Empty("revocation list")) } else { Ok(()) }
    }

    /// What a certificate is, if a CA of this bundle vouches for it now, for clients, and has not revoked it.
    ///
    /// # Errors
    /// Why not, for the log.
    pub(super) fn prove(
        &self,
        der: &CertificateDer<'_>,
        leaf: &EndEntityCert<'_>,
        now: Timestamp,
    ) -> Result<Proven, &'static str> {
        let digest: [u8; 32] = Sha256::digest(der).into();
        let holds = |proven: &&Proven| proven.from <= now.as_second() && now < proven.until;
        // The registry holds this bundle for as long as it is in force: another one remembers nothing of it.
        if let Some(proven) = self.proven().get(&digest).filter(holds) {
            return Ok(proven.clone());
        }
        let proven = self.examine(der, leaf, now)?;
        let mut known = self.proven();
        if known.len() >= MOST_PROVEN {
            known.clear();
        }
        known.insert(digest, proven.clone());
        Ok(proven)
    }

    fn examine(
        &self,
        der: &CertificateDer<'_>,
        leaf: &EndEntityCert<'_>,
        now: Timestamp,
    ) -> Result<Proven, &'static str> {
        let second = u64::try_from(now.as_second()).map_err(|_| "certificate: no time")?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(second));
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::EndEntity)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let usage = KeyUsage::client_auth();
        let stands = |path: &VerifiedPath<'_>| self.root_of(path, now).map(drop).ok_or(Error::UnknownIssuer);
        let path = leaf
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &self.anchors,
                &self.intermediates,
                time,
                usage,
                revocation,
                Some(&stands),
            )
            .map_err(|error| reason(&error))?;
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| "certificate: malformed")?;
        let mut valid = Validity::of(&parsed);
        valid.narrow(self.root_of(&path, now).ok_or("certificate: no CA of the tenant vouches for it")?);
        valid.narrow(Validity(0, self.lists_until));
        for intermediate in path.intermediate_certificates() {
            let der = intermediate.der();
            let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| "certificate: malformed")?;
            valid.narrow(Validity::of(&parsed));
        }
        Ok(Proven {
            id: only_uri(&parsed)?,
            serial: Serial::of(leaf.serial()),
            from: valid.0,
            until: Timestamp::from_second(valid.1).unwrap_or(Timestamp::MAX),
        })
    }

    /// How long the root of a path is valid; nothing where it is not, now.
    fn root_of(&self, path: &VerifiedPath<'_>, now: Timestamp) -> Option<Validity> {
        let key = path.anchor().subject_public_key_info.as_ref();
        let mut same = self.roots.iter().filter(|root| root.key == key).map(|root| root.valid);
        same.find(|valid| valid.holds(now.as_second()))
    }

    /// Nothing in here panics with the lock held.
    fn proven(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Proven>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one URI among a certificate's names; a name that cannot be read might be another one.
fn only_uri(certificate: &X509Certificate<'_>) -> Result<SpiffeId, &'static str> {
    let refused = "certificate: not exactly one URI";
    let names = certificate.subject_alternative_name().map_err(|_| refused)?.ok_or(refused)?;
    let mut found = None;
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) if found.is_none() => found = Some(*uri),
            GeneralName::URI(_) | GeneralName::Invalid(..) => return Err(refused),
            _ => {}
        }
    }
    found.ok_or(refused)?.parse().map_err(|_| "certificate: no SPIFFE id")
}

/// What the log says.
const fn reason(error: &Error) -> &'static str {
    match error {
        Error::CertExpired { .. } => "certificate: expired",
        Error::CertNotValidYet { .. } => "certificate: not yet valid",
        Error::CertRevoked => "certificate: revoked",
        Error::CrlExpired { .. } => "certificate: the revocation list is too old",
        Error::UnknownRevocationStatus => "certificate: its CA has no revocation list",
        Error::RequiredEkuNotFoundContext(_) => "certificate: not for clients",
        Error::CaUsedAsEndEntity => "certificate: a CA's",
        _ => "certificate: no CA of the tenant vouches for it",
    }
}

impl Validity {
    /// `notAfter` is a certificate's last second (RFC 5280 §4.1.2.5).
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self(validity.not_before.timestamp(), validity.not_after.timestamp().saturating_add(1))
    }

    const fn holds(self, second: i64) -> bool {
        self.0 <= second && second < self.1
    }

    fn narrow(&mut self, other: Self) {
        *self = Self(self.0.max(other.0), self.1.min(other.1));
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = (self.anchors.len(), self.intermediates.len(), self.lists.len());
        f.debug_tuple("Bundle").field(&counts).finish()
    }
}
