//! How a key's parts are spelled: base62 of fixed width, an id of twelve fair characters, a CRC-32.

use zeroize::Zeroizing;

use crate::vault::{Random, RandomError, draw};

/// Characters of an id.
pub(super) const ID: usize = 12;
/// Digits of 256 bits.
pub(super) const SECRET: usize = 43;
/// Digits of a CRC-32.
pub(super) const CHECKSUM: usize = 6;
pub(super) const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
pub(super) const BASE36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Twelve characters, each equally likely: bytes that would favour some are drawn again, a few times at most.
pub(super) fn new_id(random: &mut Random<'_>) -> Result<String, RandomError> {
    let mut id = String::with_capacity(ID);
    for _ in 0..8 {
        for byte in *draw::<16>(random)? {
            let fair = byte < 252;
            match BASE36.get(usize::from(byte % 36)) {
                Some(digit) if fair && id.len() < ID => id.push(char::from(*digit)),
                _ => {}
            }
        }
        if id.len() == ID {
            return Ok(id);
        }
    }
    Err(RandomError)
}

/// CRC-32 (IEEE) as six digits of base62.
pub(super) fn checksum(text: &[u8]) -> [u8; CHECKSUM] {
    *base62::<CHECKSUM>(&crc32fast::hash(text).to_be_bytes())
}

/// A big-endian number in `N` digits of base62, the most significant first; `N` digits must be enough for it.
pub(super) fn base62<const N: usize>(number: &[u8]) -> Zeroizing<[u8; N]> {
    let mut number = Zeroizing::new(number.to_vec());
    let mut digits = Zeroizing::new([b'0'; N]);
    for digit in digits.iter_mut().rev() {
        let mut rest = 0_u32;
        for byte in number.iter_mut() {
            let value = rest << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        *digit = BASE62.get(rest as usize).copied().unwrap_or(b'0');
    }
    digits
}
