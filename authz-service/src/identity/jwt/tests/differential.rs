//! This verifier beside an independent one (jsonwebtoken on RustCrypto): whatever of many changed tokens is accepted here
//! must be accepted there, and mean the same (security.md B25). The other way round it may be stricter, and is.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

use super::signer::{Kind, World, signed_text};
use crate::identity::jwt::{LEEWAY, verify};

/// Numbers from a seed (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    fn of<'a, T>(&mut self, choice: &'a [T]) -> &'a T {
        &choice[self.below(choice.len())]
    }
}

/// The other verifier: the same keys, each under its own algorithm.
struct Other(HashMap<String, (DecodingKey, Validation)>);

impl Other {
    fn new() -> Self {
        let key = |kind: Kind| {
            let jwk: Jwk = serde_json::from_value(kind.jwk()).unwrap();
            let algorithms = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
            let mut validation = Validation::new(algorithms[kind as usize]);
            validation.leeway = LEEWAY;
            validation.validate_nbf = true;
            validation.set_audience(&["gateway", "gateway-eu"]);
            validation.set_issuer(&["https://id.acme.test"]);
            validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
            (kind.kid().to_owned(), (DecodingKey::from_jwk(&jwk).unwrap(), validation))
        };
        Self(Kind::ALL.map(key).into())
    }

    fn claims(&self, token: &str) -> Result<Value, String> {
        let kid = decode_header(token).map_err(|error| error.to_string())?.kid.ok_or("no kid")?;
        let (key, validation) = self.0.get(&kid).ok_or("unknown kid")?;
        decode(token, key, validation).map(|token| token.claims).map_err(|error| error.to_string())
    }
}

/// Instants are either side of now and of the leeway, never so near that the test's own time decides.
fn times(now: u64) -> Vec<Value> {
    let past = [0, 10, 20, 40, 60, 7_200].map(|ago| json!(now - ago));
    let coming = [10, 20, 40, 300, 3_000, 90_000].map(|away| json!(now + away));
    let odd =
        [json!(now.to_string()), json!(now as f64 + 0.5), json!(-1), json!(null), json!(1_u64 << 53), json!([now])];
    [&past[..], &coming, &odd].concat()
}

fn claims(numbers: &mut Numbers, now: u64) -> String {
    let mut claims = json!({
        "iss": "https://id.acme.test", "aud": "gateway", "sub": "alice", "tenant": "acme", "iat": now, "exp": now + 300,
    });
    for _ in 0..numbers.below(3) {
        let name = *numbers.of(&["iss", "aud", "sub", "tenant", "iat", "exp", "nbf", "jti", "cnf", "scope", "x"]);
        let value = match name {
            "iat" | "exp" | "nbf" => numbers.of(&times(now)).clone(),
            "aud" => numbers
                .of(&[
                    json!("gateway-eu"),
                    json!(["gateway", "b"]),
                    json!(["b"]),
                    json!([]),
                    json!("gateway "),
                    json!(["gateway", 7]),
                    json!({"gateway": 1}),
                    json!("Gateway"),
                    json!(null),
                ])
                .clone(),
            "iss" => numbers
                .of(&[
                    json!("https://id.acme.test/"),
                    json!("https://id.globex.test"),
                    json!(["https://id.acme.test"]),
                    json!(7),
                ])
                .clone(),
            "sub" => numbers
                .of(&[json!("bob"), json!(""), json!(7), json!(["alice"]), json!("a\u{0}"), json!("key:1")])
                .clone(),
            _ => numbers.of(&[json!("acme"), json!("globex"), json!(7), json!({}), json!(null), json!("t-1")]).clone(),
        };
        if numbers.below(5) == 0 {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
    }
    let text = claims.to_string();
    match numbers.below(20) {
        0 => text.replacen('{', r#"{"sub":"eve","#, 1),
        1 => text.replacen('{', r#"{"\u0073ub":"eve","#, 1),
        2 => text + " ",
        3 => text + "{}",
        4 => text.replace("exp", "EXP"),
        _ => text,
    }
}

fn header(numbers: &mut Numbers, kind: Kind) -> String {
    let mut header = kind.header();
    if numbers.below(3) == 0 {
        let other = *numbers.of(&Kind::ALL);
        match numbers.below(8) {
            0 => header["alg"] = json!(other.alg()),
            1 => header["kid"] = json!(other.kid()),
            2 => header["alg"] = json!(*numbers.of(&["none", "HS256", "RS512", "ES512", "es256", ""])),
            3 => header[*numbers.of(&["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"])] = json!("x"),
            4 => header["typ"] = json!(*numbers.of(&["at+jwt", "jwt", "dpop+jwt", ""])),
            5 => drop(header.as_object_mut().unwrap().remove(*numbers.of(&["alg", "kid", "typ"]))),
            6 => header["kid"] = numbers.of(&[json!(7), json!(null), json!("../ed"), json!("ED")]).clone(),
            _ => header["x"] = json!("y"),
        }
    }
    header.to_string()
}

/// A change to the text of a token, signature included.
fn mangled(numbers: &mut Numbers, token: String) -> String {
    let mut bytes = token.into_bytes();
    let at = numbers.below(bytes.len());
    match numbers.below(9) {
        0 => bytes[at] = *numbers.of(b"ABCXYZabcxyz0189-_.+/="),
        1 => bytes.insert(at, *numbers.of(b"A0-_.=\n ")),
        2 => drop(bytes.remove(at)),
        3 => bytes.truncate(at),
        4 => bytes.push(b'='),
        5 => {
            // the last letter has bits that nothing needs
            let last = bytes.len() - 1;
            bytes[last] = *numbers.of(b"ABCDEFGHQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
        }
        6 => {
            let text = String::from_utf8(bytes).unwrap();
            let (signed, signature) = text.rsplit_once('.').unwrap();
            let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let at = numbers.below(signature.len());
            signature[at] ^= 1 << numbers.below(8);
            return format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        }
        _ => {}
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_is_accepted_here_is_accepted_there() {
    let count = if std::env::var_os("BULKHEAD_FULL").is_some() { 1_000_000 } else { 50_000 };
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let seed = clock();
    let (world, other, mut numbers) = (World::new(), Other::new(), Numbers(seed));
    // signing is slow and the same bytes are signed again: each kind signs a part of them, the others are changed copies
    let (mut accepted, mut by_kind, mut signed) = (0_u64, [0_u64; 5], Vec::new());
    for number in 0..count {
        let now = clock(); // the other one has no clock but the system's
        let token = if number % 4 == 0 || signed.is_empty() {
            let kind = *numbers.of(&[
                Kind::EdDsa,
                Kind::Es256,
                Kind::EdDsa,
                Kind::Es256,
                Kind::Es384,
                Kind::Rs256,
                Kind::Ps256,
            ]);
            let (header, claims) = (header(&mut numbers, kind), claims(&mut numbers, now));
            let token = signed_text(kind, header.as_bytes(), claims.as_bytes());
            if signed.len() < 512 {
                signed.push(token.clone());
            } else {
                let place = numbers.below(512);
                signed[place] = token.clone();
            }
            token
        } else {
            let token = numbers.of(&signed).clone();
            mangled(&mut numbers, token)
        };
        let Ok(here) = verify(&token, &world.held(), now) else { continue };
        let there = other.claims(&token).unwrap_or_else(|error| panic!("seed {seed}: {error}: {token}"));
        let same = there["tenant"] == here.tenant.as_str()
            && there["sub"] == here.principal.as_str()
            && there["exp"] == here.expires_at
            && there["iss"] == here.issuer.url.as_str()
            && there.get("jti").and_then(Value::as_str) == here.token_id.as_deref();
        assert!(same, "seed {seed}: {there} is not {here:?}");
        accepted += 1;
        let kid = decode_header(&token).unwrap().kid.unwrap();
        by_kind[Kind::ALL.iter().position(|kind| kind.kid() == kid).unwrap()] += 1;
    }
    eprintln!("differential: {count} tokens, {accepted} accepted by both, by algorithm {by_kind:?}");
    assert!(accepted > count / 20 && by_kind.iter().all(|accepted| *accepted > 100), "{accepted}: {by_kind:?}");
}
