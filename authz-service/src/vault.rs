//! The tenants' own provider keys and the key of the service's own tokens, sealed; and the key that everything is sealed
//! under.
//!
//! Plaintext lives in [`Secret`]s only: never in a log, an error, a `Debug` output or the store.

mod envelope;
mod grant_key;
mod kek;
mod private_file;
mod random;
mod token_key;

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

pub use envelope::{OpenError, SealError, Sealed, open, seal};
pub use grant_key::GrantKey;
pub use kek::{Kek, KekError};
pub use private_file::{PrivateFileError, read_private};
pub(crate) use random::draw;
pub use random::{Random, RandomError, system_random};
pub use token_key::TokenKey;

/// Bytes that nobody may read by accident: wiped when dropped, compared in constant time, never shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; other copies of them are the caller's to wipe.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the one place that sends them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_compares_and_never_shows() {
        let secret = Secret::new(b"canary-7f3a".to_vec());
        assert_eq!(secret, secret.clone());
        assert_ne!(secret, Secret::new(b"canary-7f3b".to_vec()));
        assert_ne!(secret, Secret::new(b"canary".to_vec()));
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(..) Secret(..)");
        assert_eq!(secret.expose(), b"canary-7f3a");
    }
}
