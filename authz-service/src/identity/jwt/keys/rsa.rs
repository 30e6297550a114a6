//! RSA keys of a key set (RFC 7518 §6.3.1): size, exponent, and the fingerprint of keys whose primes can be found.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::{Map, Value};

use super::{KeyProblem, bytes};
use crate::identity::jwt::algorithm::PublicKey;

/// What the ROCA fingerprint looks at: the odd primes to 167 (Nemec and others, CCS 2017).
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// One RSA key, pinned to RS256 unless its `alg` says PS256; other RSA algorithms are passed over.
pub(super) fn read(jwk: &Map<String, Value>, alg: Option<&str>) -> Result<Option<PublicKey>, KeyProblem> {
    let (parameters, pin): (_, fn(_) -> _) = match alg {
        None | Some("RS256") => (&RSA_PKCS1_2048_8192_SHA256, PublicKey::Rs256),
        Some("PS256") => (&RSA_PSS_2048_8192_SHA256, PublicKey::Ps256),
        Some(other) if other.starts_with("RS") || other.starts_with("PS") => return Ok(None),
        Some(_) => return Err(KeyProblem::Algorithm),
    };
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    check_modulus(&n)?;
    check_exponent(&e)?;
    let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).map_err(|_| KeyProblem::Rsa)?;
    Ok(Some(pin(key)))
}

fn check_modulus(n: &[u8]) -> Result<(), KeyProblem> {
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if n.first() == Some(&0) {
        return Err(KeyProblem::Member("n"));
    }
    if !(2048..=8192).contains(&bits) {
        return Err(KeyProblem::RsaSize);
    }
    if n.last().is_none_or(|last| last % 2 == 0) {
        return Err(KeyProblem::Rsa);
    }
    if PRIMES.iter().all(|prime| is_power_of_65537(remainder(n, *prime), *prime)) {
        return Err(KeyProblem::Roca);
    }
    Ok(())
}

fn check_exponent(e: &[u8]) -> Result<(), KeyProblem> {
    if e.first() == Some(&0) {
        return Err(KeyProblem::Member("e"));
    }
    let odd = e.last().is_some_and(|last| last % 2 == 1);
    if !odd || e.len() > 4 || e == [1] { Err(KeyProblem::RsaExponent) } else { Ok(()) }
}

fn remainder(n: &[u8], prime: u32) -> u32 {
    n.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime)
}

fn is_power_of_65537(value: u32, prime: u32) -> bool {
    let mut power = 1;
    (0..prime).any(|_| {
        let same = power == value;
        power = power * (65537 % prime) % prime;
        same
    })
}
