//! The private key behind the service's own tokens: ECDSA on P-256 (ES256, RFC 7518 §3.4). Made here, sealed before it is
//! kept, opened to sign, and never shown.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::envelope::{open_at, seal_at, spelled};
use super::{Kek, OpenError, Random, RandomError, SealError, Sealed, Secret};

/// Purpose and version of what is sealed; a record of another one opens nothing.
const PURPOSE: &[u8] = b"bulkhead token key";
const VERSION: u32 = 1;

/// A private key that signs tokens.
pub struct TokenKey(EcdsaKeyPair);

impl TokenKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`RandomError`] when there is no randomness.
    pub fn generate() -> Result<Self, RandomError> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self).map_err(|_| RandomError)
    }

    /// Seals it under its key id.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, kek: &Kek, id: &str, random: &mut Random<'_>) -> Result<Sealed, SealError> {
        let der = self.0.private_key().as_der().map_err(|_| SealError::Cipher)?;
        seal_at(kek, &place(id), &Secret::new(der.as_ref().to_vec()), random)
    }

    /// Opens a key that was sealed under this key id.
    ///
    /// # Errors
    /// [`OpenError`], whatever is wrong.
    pub fn open(kek: &Kek, id: &str, sealed: &Sealed) -> Result<Self, OpenError> {
        let secret = open_at(kek, sealed, &place(id))?;
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, secret.expose());
        pair.map(Self).map_err(|_| OpenError)
    }

    /// Signs: 64 bytes, `r` and `s`.
    ///
    /// # Errors
    /// [`RandomError`] when there is no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, RandomError> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| RandomError)?;
        Ok(signature.as_ref().to_vec())
    }

    /// The coordinates of its public key, 32 bytes each (RFC 7518 §6.2.1).
    #[must_use]
    pub fn coordinates(&self) -> Option<(&[u8], &[u8])> {
        let (_, coordinates) = self.0.public_key().as_ref().split_first()?;
        coordinates.split_at_checked(32)
    }
}

fn place(id: &str) -> Vec<u8> {
    spelled(&[PURPOSE, id.as_bytes(), &VERSION.to_be_bytes()])
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::system_random;

    #[test]
    fn a_key_opens_under_its_own_id_and_key_alone() {
        let kek = Kek::from_bytes(&[7; 32]).unwrap();
        let key = TokenKey::generate().unwrap();
        let sealed = key.seal(&kek, "k1", &mut system_random).unwrap();
        let opened = TokenKey::open(&kek, "k1", &Sealed::from_bytes(&sealed.to_bytes()).unwrap()).unwrap();
        assert_eq!(opened.coordinates(), key.coordinates());
        assert_eq!(key.coordinates().map(|(x, y)| (x.len(), y.len())), Some((32, 32)));
        assert_eq!(opened.sign(b"token").unwrap().len(), 64);
        assert!(TokenKey::open(&kek, "k2", &sealed).is_err());
        assert!(TokenKey::open(&Kek::from_bytes(&[8; 32]).unwrap(), "k1", &sealed).is_err());
        let mut bytes = sealed.to_bytes();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(TokenKey::open(&kek, "k1", &Sealed::from_bytes(&bytes).unwrap()).is_err());
        assert_eq!(format!("{key:?}"), "TokenKey(..)");
    }

    #[test]
    fn what_is_sealed_elsewhere_is_no_token_key() {
        let kek = Kek::from_bytes(&[7; 32]).unwrap();
        let tenant = gateway_core::name::TenantName::parse("acme").unwrap();
        let theirs = crate::vault::seal(&kek, &tenant, "k1", "k1", 1, &Secret::new(vec![4; 65]), &mut system_random);
        assert!(TokenKey::open(&kek, "k1", &theirs.unwrap()).is_err());
    }
}
