//! Signs with aws-lc-rs and ed25519-dalek directly, and knows nothing of the verifier but its key set format.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use gateway_core::name::TenantName;
use serde_json::{Value, json};

use crate::identity::discovery::KeyRing;
use crate::identity::jwt::{KeySet, Trust};
use crate::registry::{EndpointKind, Issuer, IssuerKeys, Permits};

pub(in crate::identity::jwt) const NOW: u64 = 1_800_000_000;
/// Order of P-256.
pub(in crate::identity::jwt) const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static P256: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
static P384: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
static ED25519: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[42; 32]));
static GLOBEX: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[43; 32]));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::identity::jwt) enum Kind {
    Rs256,
    Ps256,
    Es256,
    Es384,
    EdDsa,
}

impl Kind {
    pub(in crate::identity::jwt) const ALL: [Self; 5] =
        [Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    pub(in crate::identity::jwt) fn alg(self) -> &'static str {
        ["RS256", "PS256", "ES256", "ES384", "EdDSA"][self as usize]
    }

    pub(in crate::identity::jwt) fn kid(self) -> &'static str {
        ["rs.1", "ps-1", "es_1", "es384", "ed"][self as usize]
    }

    pub(in crate::identity::jwt) fn header(self) -> Value {
        json!({"alg": self.alg(), "kid": self.kid(), "typ": "JWT"})
    }

    pub(in crate::identity::jwt) fn sign(self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding| {
            let mut signature = vec![0; RSA.public_modulus_len()];
            RSA.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        };
        match self {
            Self::Rs256 => rsa(&RSA_PKCS1_SHA256),
            Self::Ps256 => rsa(&RSA_PSS_SHA256),
            Self::Es256 => P256.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Es384 => P384.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::EdDsa => ED25519.sign(message).to_bytes().to_vec(),
        }
    }

    /// The public key, with its algorithm where the kind of key leaves a choice.
    pub(in crate::identity::jwt) fn jwk(self) -> Value {
        let ec = |curve, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
        };
        let mut jwk = match self {
            Self::Rs256 | Self::Ps256 => {
                let (n, e) = rsa_numbers(RSA.public_key().as_ref());
                json!({"kty": "RSA", "n": encode(n), "e": encode(e), "alg": self.alg()})
            }
            Self::Es256 => ec("P-256", P256.public_key().as_ref()),
            Self::Es384 => ec("P-384", P384.public_key().as_ref()),
            Self::EdDsa => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(ED25519.verifying_key().as_bytes())}),
        };
        jwk["kid"] = json!(self.kid());
        jwk
    }
}

/// acme trusts an issuer with one key of each kind, globex one with a single key of its own under the same `kid`.
pub(in crate::identity::jwt) struct World {
    pub(in crate::identity::jwt) issuers: HashMap<String, Vec<Arc<Issuer>>>,
}

impl World {
    pub(in crate::identity::jwt) fn new() -> Self {
        let mut world = Self { issuers: HashMap::new() };
        world.trust("https://id.acme.test", &["acme"], Some("tenant"));
        let mut only = Kind::EdDsa.jwk();
        only["x"] = json!(encode(GLOBEX.verifying_key().as_bytes()));
        let only = key_set(&[only]);
        world.issuers.insert(
            "https://id.globex.test".into(),
            vec![Arc::new(issuer("https://id.globex.test", "globex", Some("tenant"), only))],
        );
        world
    }

    /// What tokens are held against: no certificate, no published keys.
    pub(in crate::identity::jwt) fn held(&self) -> Trust<'_> {
        static OFFLINE: LazyLock<KeyRing> = LazyLock::new(KeyRing::offline);
        Trust { issuers: &self.issuers, published: &OFFLINE, certificate: "", endpoint: EndpointKind::Chat }
    }

    pub(in crate::identity::jwt) fn trust(&mut self, url: &str, tenants: &[&str], claim: Option<&str>) {
        for tenant in tenants {
            let keys = key_set(&Kind::ALL.map(Kind::jwk));
            self.issuers.entry(url.into()).or_default().push(Arc::new(issuer(url, tenant, claim, keys)));
        }
    }

    pub(in crate::identity::jwt) fn claims(&self) -> Value {
        json!({"iss": "https://id.acme.test", "aud": "gateway", "sub": "alice", "tenant": "acme", "iat": NOW, "exp": NOW + 300})
    }

    /// A good token of acme's issuer with `changed` claims.
    pub(in crate::identity::jwt) fn token(&self, kind: Kind, changed: Value) -> String {
        let mut claims = self.claims();
        for (name, value) in changed.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.signed(kind, &kind.header(), &claims)
    }

    pub(in crate::identity::jwt) fn signed(&self, kind: Kind, header: &Value, claims: &Value) -> String {
        signed_text(kind, header.to_string().as_bytes(), claims.to_string().as_bytes())
    }
}

/// A token with globex's key.
pub(in crate::identity::jwt) fn signed_by_globex(header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    format!("{message}.{}", encode(&GLOBEX.sign(message.as_bytes()).to_bytes()))
}

pub(in crate::identity::jwt) fn signed_text(kind: Kind, header: &[u8], payload: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    let signature = kind.sign(message.as_bytes());
    format!("{message}.{}", encode(&signature))
}

pub(in crate::identity::jwt) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An Ed25519 signature whose R is the neutral point: valid for plain verification, not for strict.
pub(in crate::identity::jwt) fn sign_without_nonce(message: &[u8]) -> Vec<u8> {
    let mut r = [0; 32];
    r[0] = 1;
    let hashed = [&r[..], ED25519.verifying_key().as_bytes(), message].concat();
    let hash = digest::digest(&digest::SHA512, &hashed);
    let a = ED25519.to_scalar();
    let one = a * a.invert();
    let bits = hash.as_ref().iter().rev().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let k = bits.fold(one + -one, |k, bit| if bit == 1 { k + k + one } else { k + k });
    let signature = [r, (k * a).to_bytes()].concat();
    let plain = ed25519_dalek::Signature::from_slice(&signature).unwrap();
    assert!(ED25519.verify(message, &plain).is_ok() && ED25519.verify_strict(message, &plain).is_err());
    signature
}

/// The same token with one bit of its signature changed.
pub(in crate::identity::jwt) fn forge(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    signature[10] ^= 4;
    format!("{signed}.{}", encode(&signature))
}

/// Modulus and exponent of a PKCS #1 `RSAPublicKey`.
pub(in crate::identity::jwt) fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, at) = match der[1] {
            0x82 => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
            0x81 => (usize::from(der[2]), 3),
            short => (usize::from(short), 2),
        };
        der[at..].split_at(length)
    }
    let (sequence, _) = element(der);
    let (n, rest) = element(sequence);
    let (e, _) = element(rest);
    (n.strip_prefix(&[0]).unwrap_or(n), e)
}

/// `a - b`, big-endian, of one length.
pub(in crate::identity::jwt) fn subtract(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut out: Vec<u8> = a
        .iter()
        .zip(b)
        .rev()
        .map(|(a, b)| {
            let value = i16::from(*a) - i16::from(*b) - borrow;
            borrow = i16::from(value < 0);
            value.rem_euclid(256) as u8
        })
        .collect();
    out.reverse();
    out
}

fn key_set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn issuer(url: &str, tenant: &str, claim: Option<&str>, keys: KeySet) -> Issuer {
    Issuer {
        url: url.into(),
        tenant: TenantName::parse(tenant).unwrap(),
        audiences: BTreeSet::from(["gateway".into(), "gateway-eu".into()]),
        tenant_claim: claim.map(str::to_owned),
        max_lifetime: Duration::from_secs(3600),
        keys: IssuerKeys::File(Arc::new(keys)),
        permits: Permits::default(),
        scopes: None,
    }
}
