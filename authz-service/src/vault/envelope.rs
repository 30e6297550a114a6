//! The envelope: each version of a secret is sealed under a data key of its own, and that key under the key-encryption
//! key. Both layers are AES-256-GCM and bound to the place where the record belongs, so that a record moved elsewhere
//! opens nothing. GCM does not commit to its key; a digest of the data key, stored and checked, does.
//!
//! Each wrapping key is a sub-key for one place, so a repeated nonce or 2^32 records under one key are out of reach.

use std::fmt;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use gateway_core::name::TenantName;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::kek::expand;
use super::{Kek, Random, RandomError, Secret, draw};

/// First byte of a record's layout, and part of what its two layers are bound to.
const SCHEMA: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;
const WRAPPED: usize = 32 + TAG;
const COMMITMENT: usize = 32;
/// Layout: schema 1, wrapping nonce 12, wrapped data key 48, commitment 32, nonce 12, sealed secret.
const HEAD: usize = 1 + NONCE + WRAPPED + COMMITMENT + NONCE;
/// The longest secret, in bytes.
const MAX_SECRET: usize = 8 * 1024;

/// A sealed secret, safe to store.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    wrap_nonce: [u8; NONCE],
    wrapped_key: [u8; WRAPPED],
    commitment: [u8; COMMITMENT],
    nonce: [u8; NONCE],
    ciphertext: Vec<u8>,
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Empty or too long.
    #[error("a secret has 1 to 8192 bytes")]
    Size,
    /// The cipher refused.
    #[error("the cipher failed")]
    Cipher,
}

/// Changed, cut, moved from elsewhere, or sealed under another key: which of them is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed secret cannot be opened")]
pub struct OpenError;

/// Seals one version of a secret for one place.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    kek: &Kek,
    tenant: &TenantName,
    provider: &str,
    key_id: &str,
    version: u32,
    secret: &Secret,
    random: &mut Random<'_>,
) -> Result<Sealed, SealError> {
    seal_at(kek, &place(tenant, provider, key_id, version), secret, random)
}

/// Seals a secret for the place that is spelled so ([`spelled`]).
pub(super) fn seal_at(kek: &Kek, place: &[u8], secret: &Secret, random: &mut Random<'_>) -> Result<Sealed, SealError> {
    if !(1..=MAX_SECRET).contains(&secret.expose().len()) {
        return Err(SealError::Size);
    }
    let data_key = draw::<32>(random)?;
    let wrap_nonce = *draw::<NONCE>(random)?;
    let nonce = *draw::<NONCE>(random)?;
    let wrapped = encrypt(&wrapping_key(kek, place), &wrap_nonce, data_key.as_slice(), place)?;
    let ciphertext = encrypt(&sealing_key(&data_key, place), &nonce, secret.expose(), place)?;
    Ok(Sealed {
        wrap_nonce,
        wrapped_key: wrapped.try_into().map_err(|_| SealError::Cipher)?,
        commitment: *commitment(&data_key, place),
        nonce,
        ciphertext,
    })
}

/// Opens what was sealed for this place.
///
/// # Errors
/// [`OpenError`], whatever is wrong.
pub fn open(
    kek: &Kek,
    sealed: &Sealed,
    tenant: &TenantName,
    provider: &str,
    key_id: &str,
    version: u32,
) -> Result<Secret, OpenError> {
    open_at(kek, sealed, &place(tenant, provider, key_id, version))
}

/// Opens what was sealed by [`seal_at`] for the place.
pub(super) fn open_at(kek: &Kek, sealed: &Sealed, place: &[u8]) -> Result<Secret, OpenError> {
    let unwrapped = decrypt(&wrapping_key(kek, place), &sealed.wrap_nonce, &sealed.wrapped_key, place)?;
    let data_key: Zeroizing<[u8; 32]> = Zeroizing::new(unwrapped.as_slice().try_into().map_err(|_| OpenError)?);
    if !bool::from(commitment(&data_key, place).ct_eq(&sealed.commitment)) {
        return Err(OpenError);
    }
    decrypt(&sealing_key(&data_key, place), &sealed.nonce, &sealed.ciphertext, place).map(Secret)
}

impl Sealed {
    /// The record as the store keeps it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts: [&[u8]; 6] =
            [&[SCHEMA], &self.wrap_nonce, &self.wrapped_key, &self.commitment, &self.nonce, &self.ciphertext];
        parts.concat()
    }

    /// Reads a record back; whether it opens is [`open`]'s to say.
    ///
    /// # Errors
    /// [`OpenError`] when it is of another schema, or too short or too long for one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OpenError> {
        if !(HEAD + TAG + 1..=HEAD + TAG + MAX_SECRET).contains(&bytes.len()) {
            return Err(OpenError);
        }
        let mut rest = bytes;
        if take::<1>(&mut rest)? != [SCHEMA] {
            return Err(OpenError);
        }
        Ok(Self {
            wrap_nonce: take(&mut rest)?,
            wrapped_key: take(&mut rest)?,
            commitment: take(&mut rest)?,
            nonce: take(&mut rest)?,
            ciphertext: rest.to_vec(),
        })
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(..)")
    }
}

/// Where a tenant's provider key belongs.
fn place(tenant: &TenantName, provider: &str, key_id: &str, version: u32) -> Vec<u8> {
    spelled(&[tenant.as_str().as_bytes(), provider.as_bytes(), key_id.as_bytes(), &version.to_be_bytes()])
}

/// Where a record belongs, each part behind its length so that no two places spell alike.
pub(super) fn spelled(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [&[SCHEMA][..]].iter().chain(parts) {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

fn wrapping_key(kek: &Kek, place: &[u8]) -> Zeroizing<[u8; 32]> {
    kek.sub_key(&[b"bulkhead vault wrap v1", place])
}

fn sealing_key(data_key: &[u8; 32], place: &[u8]) -> Zeroizing<[u8; 32]> {
    expand(data_key, &[b"bulkhead vault seal v1", place])
}

fn commitment(data_key: &[u8; 32], place: &[u8]) -> Zeroizing<[u8; COMMITMENT]> {
    expand(data_key, &[b"bulkhead vault commit v1", place])
}

fn encrypt(key: &[u8; 32], nonce: &[u8; NONCE], msg: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealError> {
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key));
    cipher.encrypt(&Nonce::from(*nonce), Payload { msg, aad }).map_err(|_| SealError::Cipher)
}

fn decrypt(key: &[u8; 32], nonce: &[u8; NONCE], msg: &[u8], aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key));
    cipher.decrypt(&Nonce::from(*nonce), Payload { msg, aad }).map(Zeroizing::new).map_err(|_| OpenError)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], OpenError> {
    let (part, behind) = rest.split_first_chunk::<N>().ok_or(OpenError)?;
    *rest = behind;
    Ok(*part)
}

#[cfg(test)]
mod tests;
