//! The five algorithms, as jwt-compact plugs them in: aws-lc-rs for RSA and ECDSA, ed25519-dalek's `verify_strict` for
//! EdDSA. They verify only: their signing key is a type without values.

use std::borrow::Cow;
use std::convert::Infallible;
use std::num::NonZeroUsize;

use aws_lc_rs::signature::ParsedPublicKey;
use ed25519_dalek::VerifyingKey;
use jwt_compact::{Algorithm, AlgorithmExt as _, AlgorithmSignature, Empty, UntrustedToken};

/// An algorithm of RFC 7518 or RFC 8037 that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alg {
    Rs256,
    Ps256,
    Es256,
    Es384,
    EdDsa,
}

/// A verification key, pinned to its one algorithm.
#[derive(Debug)]
pub(in crate::identity) enum PublicKey {
    Rs256(ParsedPublicKey),
    Ps256(ParsedPublicKey),
    Es256(ParsedPublicKey),
    Es384(ParsedPublicKey),
    EdDsa(VerifyingKey),
}

impl Alg {
    /// By its name in a header; `EdDSA` (RFC 8037) and `Ed25519` (RFC 9864) are one.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

impl PublicKey {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Rs256(key) | Self::Ps256(key) | Self::Es256(key) | Self::Es384(key) => key.as_ref(),
            Self::EdDsa(key) => key.as_bytes(),
        }
    }

    pub(super) const fn alg(&self) -> Alg {
        match self {
            Self::Rs256(_) => Alg::Rs256,
            Self::Ps256(_) => Alg::Ps256,
            Self::Es256(_) => Alg::Es256,
            Self::Es384(_) => Alg::Es384,
            Self::EdDsa(_) => Alg::EdDsa,
        }
    }

    /// Whether the token names this key's algorithm and carries this key's signature.
    pub(super) fn verifies(&self, token: &UntrustedToken<'_>) -> bool {
        match self {
            Self::Rs256(key) => AwsLc::<ANY>("RS256").validator::<Empty>(key).validate(token).is_ok(),
            Self::Ps256(key) => AwsLc::<ANY>("PS256").validator::<Empty>(key).validate(token).is_ok(),
            Self::Es256(key) => AwsLc::<64>("ES256").validator::<Empty>(key).validate(token).is_ok(),
            Self::Es384(key) => AwsLc::<96>("ES384").validator::<Empty>(key).validate(token).is_ok(),
            Self::EdDsa(key) => ["EdDSA", "Ed25519"]
                .into_iter()
                .filter(|name| *name == token.algorithm())
                .any(|name| Strict25519(name).validator::<Empty>(key).validate(token).is_ok()),
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.alg() == other.alg() && self.bytes() == other.bytes()
    }
}

/// A length that the key decides: RSA's.
const ANY: usize = 0;

/// A signature of `N` bytes.
struct Signature<const N: usize>(Vec<u8>);

impl<const N: usize> AlgorithmSignature for Signature<N> {
    const LENGTH: Option<NonZeroUsize> = NonZeroUsize::new(N);

    fn try_from_slice(slice: &[u8]) -> anyhow::Result<Self> {
        Ok(Self(slice.to_vec()))
    }

    fn as_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.0)
    }
}

/// An algorithm of aws-lc-rs by its name in a header; the parsed key holds its parameters.
struct AwsLc<const N: usize>(&'static str);

impl<const N: usize> Algorithm for AwsLc<N> {
    type SigningKey = Infallible;
    type VerifyingKey = ParsedPublicKey;
    type Signature = Signature<N>;

    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(self.0)
    }

    fn sign(&self, key: &Infallible, _message: &[u8]) -> Self::Signature {
        match *key {}
    }

    fn verify_signature(&self, signature: &Self::Signature, key: &ParsedPublicKey, message: &[u8]) -> bool {
        key.verify_sig(message, &signature.0).is_ok()
    }
}

/// Ed25519 by one of its two names; refuses small-order points, which plain verification takes.
struct Strict25519(&'static str);

impl Algorithm for Strict25519 {
    type SigningKey = Infallible;
    type VerifyingKey = VerifyingKey;
    type Signature = Signature<64>;

    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(self.0)
    }

    fn sign(&self, key: &Infallible, _message: &[u8]) -> Self::Signature {
        match *key {}
    }

    fn verify_signature(&self, signature: &Self::Signature, key: &VerifyingKey, message: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(&signature.0)
            .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
    }
}
