//! The key behind a grant's MAC: only the service can make one, and it is the same after a restart.

use std::fmt;

use aws_lc_rs::hmac;

use super::Kek;
use super::kek::digest;

const LABEL: &[u8] = b"bulkhead grant mac v1";

/// Signs grants and recognises its own. HMAC-SHA-256 under a sub-key of the key-encryption key and the store's salt.
pub struct GrantKey(hmac::Key);

impl GrantKey {
    /// The key of the store that holds `salt`: random, 16 bytes or more, made once with the store.
    #[must_use]
    pub fn derive(kek: &Kek, salt: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, kek.sub_key(&[LABEL, salt]).as_slice()))
    }

    /// The MAC of an encoded grant.
    #[must_use]
    pub fn sign(&self, grant: &[u8]) -> [u8; 32] {
        digest(&hmac::sign(&self.0, grant))
    }

    /// Whether `mac` is this key's over `grant`, in time that does not depend on where they differ.
    #[must_use]
    pub fn verify(&self, grant: &[u8], mac: &[u8]) -> bool {
        hmac::verify(&self.0, grant, mac).is_ok()
    }
}

impl fmt::Debug for GrantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_its_own_and_nothing_else() {
        let kek = Kek::from_bytes(&[7; 32]).unwrap();
        let key = GrantKey::derive(&kek, b"salt");
        let mac = key.sign(b"grant");
        assert!(GrantKey::derive(&kek, b"salt").verify(b"grant", &mac), "the same after a restart");
        assert!(!key.verify(b"grane", &mac));
        assert!(!GrantKey::derive(&kek, b"salu").verify(b"grant", &mac));
        assert!(!GrantKey::derive(&Kek::from_bytes(&[8; 32]).unwrap(), b"salt").verify(b"grant", &mac));
        for cut in 0..32 {
            assert!(!key.verify(b"grant", &mac[..cut]));
        }
        for bit in 0..256 {
            let mut other = mac;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verify(b"grant", &other));
        }
        assert_eq!(format!("{key:?}"), "GrantKey(..)");
    }
}
