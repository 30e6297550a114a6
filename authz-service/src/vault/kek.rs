//! The key-encryption key: 256 bits from a private file. It seals nothing itself; sub-keys of it do, one per purpose.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{PrivateFileError, read_private};

/// Longest file: 64 hexadecimal digits and a line end.
const MAX_FILE_BYTES: usize = 65;

/// The key that all others hang on. Lost, everything sealed under it is lost.
pub struct Kek(Zeroizing<[u8; 32]>);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    /// The file is not private, not there, or too long.
    #[error("key file `{path}` {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: PrivateFileError,
    },
    /// It holds something else.
    #[error("key file `{0}` must hold 32 raw bytes, 64 hexadecimal digits or 44 characters of base64")]
    Format(PathBuf),
    /// A key of zeros is a file that was never written.
    #[error("the key is all zeros")]
    Zero,
}

impl Kek {
    /// Reads a key file: 0600 or stricter; 32 raw bytes, or 64 hexadecimal digits, or 44 characters of base64, the
    /// latter two with or without a line end.
    ///
    /// # Errors
    /// [`KekError`] names the file and never quotes it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KekError> {
        let path = path.as_ref();
        let file =
            read_private(path, MAX_FILE_BYTES).map_err(|source| KekError::File { path: path.to_owned(), source })?;
        let bytes = decode(file.expose()).ok_or_else(|| KekError::Format(path.to_owned()))?;
        Self::from_bytes(&bytes)
    }

    /// Takes a key over from its bytes.
    ///
    /// # Errors
    /// [`KekError::Zero`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KekError> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(KekError::Zero);
        }
        Ok(Self(Zeroizing::new(*bytes)))
    }

    /// HMAC-SHA-256 of `bytes` under the sub-key that `label` names; another label is another, unrelated key.
    #[must_use]
    pub fn mac(&self, label: &str, bytes: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.sub_key(&[label.as_bytes()]).as_slice());
        digest(&hmac::sign(&key, bytes))
    }

    /// The sub-key for a purpose.
    pub(super) fn sub_key(&self, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        expand(&self.0, info)
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(..)")
    }
}

/// HKDF-Expand with SHA-256 (RFC 5869 §2.3) for one block: `key` is uniformly random already, so nothing is extracted.
pub(super) fn expand(key: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    for part in info {
        context.update(part);
    }
    context.update(&[1]);
    Zeroizing::new(digest(&context.sign()))
}

/// The 32 bytes of an HMAC-SHA-256.
pub(super) fn digest(tag: &hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    bytes
}

fn decode(file: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    if file.len() == key.len() {
        key.copy_from_slice(file);
        return Some(key);
    }
    let text = file.strip_suffix(b"\n").unwrap_or(file);
    match text.len() {
        64 => {
            for (byte, pair) in key.iter_mut().zip(text.as_chunks::<2>().0) {
                *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
            }
        }
        44 => {
            let decoded = Zeroizing::new(STANDARD.decode(text).ok()?);
            key = Zeroizing::new(decoded.as_slice().try_into().ok()?);
        }
        _ => return None,
    }
    Some(key)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn load(bytes: &[u8]) -> Result<Kek, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        let path = format!("`{}`", file.path().display());
        Kek::from_file(file.path()).map_err(|error| error.to_string().replace(&path, "F"))
    }

    #[test]
    fn reads_three_spellings_of_one_key() {
        let raw: [u8; 32] = std::array::from_fn(|n| n as u8 * 7 + 1);
        let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        let base64 = STANDARD.encode(raw);
        let want = Kek::from_bytes(&raw).unwrap().mac("label", b"x");
        for file in [raw.to_vec(), hex.clone().into(), hex.to_uppercase().into(), format!("{hex}\n").into()] {
            assert_eq!(load(&file).unwrap().mac("label", b"x"), want);
        }
        for file in [base64.clone(), format!("{base64}\n")] {
            assert_eq!(load(file.as_bytes()).unwrap().mac("label", b"x"), want);
        }
    }

    #[test]
    fn refuses_everything_else_and_quotes_nothing() {
        let format = "key file F must hold 32 raw bytes, 64 hexadecimal digits or 44 characters of base64";
        for (file, want) in [
            (&b"canary"[..], format),
            (&[7; 31], format),
            (&[7; 33], format),
            (&[b'g'; 64], format),
            (&[b'a'; 65], format),
            (&[b'!'; 44], format),
            (&[b'A'; 44], format),
            (&[b'a'; 66], "key file F has more than 65 bytes"),
            (&[0; 32], "the key is all zeros"),
            (&[b'0'; 64], "the key is all zeros"),
            (b"", "key file F is empty"),
        ] {
            assert_eq!(load(file).unwrap_err(), want);
        }
        assert_eq!(format!("{:?}", Kek::from_bytes(b"canary-canary-canary-canary-cana").unwrap()), "Kek(..)");
    }

    #[test]
    fn expands_as_rfc_5869_says() {
        // test case 1: PRK, info and the first 32 bytes of OKM
        let prk = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let okm = hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
        assert_eq!(*expand(&prk, &[&[0xf0, 0xf1, 0xf2, 0xf3, 0xf4], &[0xf5, 0xf6, 0xf7, 0xf8, 0xf9]]), okm);
    }

    #[test]
    fn labels_are_unrelated_keys() {
        let kek = Kek::from_bytes(&[7; 32]).unwrap();
        assert_ne!(kek.mac("a", b"x"), kek.mac("b", b"x"));
        assert_ne!(kek.mac("a", b"x"), kek.mac("a", b"y"));
        assert_ne!(kek.mac("a", b"x"), Kek::from_bytes(&[8; 32]).unwrap().mac("a", b"x"));
    }

    fn hex(text: &str) -> [u8; 32] {
        std::array::from_fn(|n| u8::from_str_radix(text.get(2 * n..2 * n + 2).unwrap(), 16).unwrap())
    }
}
