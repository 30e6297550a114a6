//! Identity providers for tests: keys of every algorithm, their JWKS, and tokens that say whatever a test wants.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SystemRandom, fill};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

/// A signature algorithm as JOSE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// Ed25519 under its old name.
    EdDsa,
    /// Ed25519 under the name of RFC 9864.
    Ed25519,
}

impl Alg {
    /// All that the service takes.
    pub const ALL: [Self; 6] = [Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa, Self::Ed25519];

    /// The header's `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// The header's `kid`; one key has one algorithm, and the two names of Ed25519 have two keys.
    #[must_use]
    pub fn kid(self) -> String {
        format!("{}-1", self.name().to_lowercase())
    }
}

/// One issuer with a key for each algorithm.
#[derive(Clone)]
pub struct Issuer {
    /// `iss`.
    pub url: String,
    /// The tenant that its tokens name.
    pub tenant: String,
    keys: Arc<Keys>,
}

struct Keys {
    rs256: RsaKeyPair,
    ps256: RsaKeyPair,
    es256: EcdsaKeyPair,
    es384: EcdsaKeyPair,
    eddsa: SigningKey,
    ed25519: SigningKey,
}

impl Issuer {
    /// The issuer of a tenant: the same keys for the same URL within one test process (RSA keys are slow to make).
    #[must_use]
    pub fn new(url: &str, tenant: &str) -> Self {
        static MADE: LazyLock<Mutex<BTreeMap<String, Arc<Keys>>>> = LazyLock::new(Mutex::default);
        let mut made = MADE.lock().unwrap();
        let keys = made.entry(url.to_owned()).or_insert_with(|| Arc::new(Keys::generate()));
        Self { url: url.into(), tenant: tenant.into(), keys: Arc::clone(keys) }
    }

    /// Public keys as a JWKS document (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Value {
        let Keys { rs256, ps256, es256, es384, eddsa, ed25519 } = &*self.keys;
        json!({"keys": [
            rsa_jwk(Alg::Rs256, rs256), rsa_jwk(Alg::Ps256, ps256),
            ec_jwk(Alg::Es256, "P-256", es256), ec_jwk(Alg::Es384, "P-384", es384),
            ed_jwk(Alg::EdDsa, eddsa), ed_jwk(Alg::Ed25519, ed25519),
        ]})
    }

    /// Claims of a good token: five minutes, audience `bulkhead`, a `jti` of its own.
    #[must_use]
    pub fn claims(&self) -> Value {
        let now = now();
        json!({
            "iss": self.url, "aud": "bulkhead", "sub": format!("user@{}.example", self.tenant), "tenant": self.tenant,
            "iat": now, "exp": now + 300, "jti": random_text(),
        })
    }

    /// A good token.
    #[must_use]
    pub fn token(&self, alg: Alg) -> String {
        self.token_with(alg, &self.claims())
    }

    /// A token with other claims.
    #[must_use]
    pub fn token_with(&self, alg: Alg, claims: &Value) -> String {
        self.sign(alg, &json!({"alg": alg.name(), "kid": alg.kid(), "typ": "JWT"}), claims)
    }

    /// A token with any header and claims, really signed with the key of `alg`.
    #[must_use]
    pub fn sign(&self, alg: Alg, header: &Value, claims: &Value) -> String {
        self.sign_bytes(alg, header.to_string(), claims.to_string())
    }

    /// The same from bytes that need not be JSON.
    #[must_use]
    pub fn sign_bytes(&self, alg: Alg, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.keys.sign(alg, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl Keys {
    fn generate() -> Self {
        let rsa = || RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let ec = |algorithm| EcdsaKeyPair::generate(algorithm).expect("an EC key");
        Self {
            rs256: rsa(),
            ps256: rsa(),
            es256: ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            es384: ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            eddsa: SigningKey::from_bytes(&random()),
            ed25519: SigningKey::from_bytes(&random()),
        }
    }

    fn sign(&self, alg: Alg, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |key: &RsaKeyPair, padding| {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(padding, &random, message, &mut signature).expect("a signature");
            signature
        };
        let ec = |key: &EcdsaKeyPair| key.sign(&random, message).expect("a signature").as_ref().to_vec();
        match alg {
            Alg::Rs256 => rsa(&self.rs256, &RSA_PKCS1_SHA256),
            Alg::Ps256 => rsa(&self.ps256, &RSA_PSS_SHA256),
            Alg::Es256 => ec(&self.es256),
            Alg::Es384 => ec(&self.es384),
            Alg::EdDsa => self.eddsa.sign(message).to_bytes().to_vec(),
            Alg::Ed25519 => self.ed25519.sign(message).to_bytes().to_vec(),
        }
    }
}

fn rsa_jwk(alg: Alg, key: &RsaKeyPair) -> Value {
    // RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER } (RFC 8017 appendix A.1.1)
    let der = key.public_key().as_ref();
    let (sequence, _) = der_value(der);
    let (modulus, rest) = der_value(sequence);
    let (exponent, _) = der_value(rest);
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes.strip_prefix(&[0]).unwrap_or(bytes));
    json!({"kty": "RSA", "n": number(modulus), "e": number(exponent), "alg": alg.name(), "kid": alg.kid(), "use": "sig"})
}

/// One DER element's value and what follows it.
fn der_value(der: &[u8]) -> (&[u8], &[u8]) {
    let (size, from) = match der[1] {
        short @ 0..=127 => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            (der[2..2 + count].iter().fold(0, |size, byte| size << 8 | usize::from(*byte)), 2 + count)
        }
    };
    der[from..].split_at(size)
}

fn ec_jwk(alg: Alg, curve: &str, key: &EcdsaKeyPair) -> Value {
    let point = &key.public_key().as_ref()[1..]; // after the mark of an uncompressed point
    let (x, y) = point.split_at(point.len() / 2);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    json!({"kty": "EC", "crv": curve, "x": x, "y": y, "alg": alg.name(), "kid": alg.kid(), "use": "sig"})
}

fn ed_jwk(alg: Alg, key: &SigningKey) -> Value {
    let x = URL_SAFE_NO_PAD.encode(key.verifying_key().to_bytes());
    json!({"kty": "OKP", "crv": "Ed25519", "x": x, "alg": alg.name(), "kid": alg.kid(), "use": "sig"})
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

/// 32 random bytes.
#[must_use]
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    fill(&mut bytes).expect("random bytes");
    bytes
}

/// 43 random characters of base64url.
#[must_use]
pub fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(random())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_token_verifies_with_what_the_jwks_says() {
        let issuer = Issuer::new("https://id.example", "acme");
        let jwks = issuer.jwks();
        let field = |key: usize, name: &str| URL_SAFE_NO_PAD.decode(jwks["keys"][key][name].as_str().unwrap()).unwrap();

        let token = issuer.token(Alg::Es256);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let point = [vec![4], field(2, "x"), field(2, "y")].concat();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature).unwrap();

        let token = issuer.token(Alg::Rs256);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let parts = aws_lc_rs::signature::RsaPublicKeyComponents { n: field(0, "n"), e: field(0, "e") };
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        parts.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).unwrap();
    }
}
