//! B17 to B19: what a key set may hold.

use serde_json::{Value, json};

use super::*;
use crate::identity::jwt::tests::signer::{Kind, encode};

fn parse(keys: &[Value]) -> Result<KeySet, JwksError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn problem(keys: &[Value]) -> (String, KeyProblem) {
    match parse(keys).unwrap_err() {
        JwksError::Key { name, problem } => (name, problem),
        error => panic!("{error}"),
    }
}

fn changed(kind: Kind, changes: Value) -> Value {
    let mut jwk = kind.jwk();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(jwk.as_object_mut().unwrap().remove(name)),
            value => jwk[name] = value.clone(),
        }
    }
    jwk
}

fn algs(set: &KeySet) -> Vec<crate::identity::jwt::algorithm::Alg> {
    set.0.iter().map(|key| key.key.alg()).collect()
}

#[test]
fn keys_are_pinned_and_strangers_passed_over() {
    use crate::identity::jwt::algorithm::Alg;
    let set = parse(&[
        changed(Kind::Rs256, json!({"alg": null, "use": "sig", "key_ops": ["verify"], "x5c": ["MIIB"]})),
        Kind::Ps256.jwk(),
        changed(Kind::Es256, json!({"alg": "ES256"})),
        Kind::Es384.jwk(),
        changed(Kind::EdDsa, json!({"alg": "Ed25519"})),
        changed(Kind::EdDsa, json!({"alg": "EdDSA", "kid": "ed-2"})),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "pq"}),
        changed(Kind::Rs256, json!({"use": "enc"})),
        changed(Kind::Rs256, json!({"alg": "RS512", "kid": "512"})),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
    ])
    .unwrap();
    assert_eq!(algs(&set), [Alg::Rs256, Alg::Ps256, Alg::Es256, Alg::Es384, Alg::EdDsa, Alg::EdDsa]);
    assert!(set.find(Some("pq")).is_none() && set.find(Some("512")).is_none() && set.find(None).is_none());
    assert!(set.find(Some("ed-2")).is_some() && set.find(Some("ED-2")).is_none());
    assert!(format!("{set:?}").starts_with(r#"{"rs.1": Rs256, "ps-1": Ps256"#));
    assert!(parse(&[changed(Kind::EdDsa, json!({"kid": null}))]).unwrap().find(None).is_some());
}

#[test]
fn one_bad_key_refuses_the_set_by_its_name() {
    let even = [&[0xff; 255][..], &[0xfe]].concat();
    let x = Kind::Es256.jwk()["x"].clone();
    for (bad, want) in [
        (json!({"kty": "oct", "k": "AAAA", "kid": "bad"}), KeyProblem::Symmetric),
        (json!({"kty": "oct", "k": "AAAA", "kid": "bad", "use": "enc"}), KeyProblem::Symmetric),
        (changed(Kind::Rs256, json!({"kid": "bad", "d": "AA"})), KeyProblem::Private),
        (changed(Kind::Rs256, json!({"kid": "bad", "p": "AA", "use": "enc"})), KeyProblem::Private),
        (changed(Kind::EdDsa, json!({"kid": "bad", "d": "AA"})), KeyProblem::Private),
        (json!({"kty": "AKP", "kid": "bad", "priv": "AA"}), KeyProblem::Private),
        (changed(Kind::EdDsa, json!({"kid": "bad", "key_ops": ["sign"]})), KeyProblem::KeyOps),
        (changed(Kind::EdDsa, json!({"kid": "bad", "key_ops": "verify"})), KeyProblem::KeyOps),
        (changed(Kind::Es256, json!({"kid": "bad", "alg": "ES384"})), KeyProblem::Algorithm),
        (changed(Kind::Es256, json!({"kid": "bad", "alg": "HS256"})), KeyProblem::Algorithm),
        (changed(Kind::Rs256, json!({"kid": "bad", "alg": "HS256"})), KeyProblem::Algorithm),
        (changed(Kind::Rs256, json!({"kid": "bad", "alg": "ES256"})), KeyProblem::Algorithm),
        (changed(Kind::EdDsa, json!({"kid": "bad", "alg": "ES256"})), KeyProblem::Algorithm),
        (changed(Kind::Es256, json!({"kid": "bad", "crv": "P-384"})), KeyProblem::Member("x")),
        (changed(Kind::Es256, json!({ "kid": "bad", "y": x })), KeyProblem::Point),
        (changed(Kind::Es256, json!({"kid": "bad", "x": encode(&[0; 32]), "y": encode(&[0; 32])})), KeyProblem::Point),
        (changed(Kind::Es256, json!({"kid": "bad", "x": null})), KeyProblem::Member("x")),
        (changed(Kind::Es256, json!({"kid": "bad", "x": "A==="})), KeyProblem::Member("x")),
        (changed(Kind::Rs256, json!({"kid": "bad", "n": encode(&[0xff; 128])})), KeyProblem::RsaSize),
        (
            changed(Kind::Rs256, json!({"kid": "bad", "n": encode(&[&[0x7f][..], &[0xff; 255]].concat())})),
            KeyProblem::RsaSize,
        ),
        (changed(Kind::Rs256, json!({"kid": "bad", "n": encode(&[0xff; 1025])})), KeyProblem::RsaSize),
        (changed(Kind::Rs256, json!({"kid": "bad", "n": encode(&even)})), KeyProblem::Rsa),
        (changed(Kind::Rs256, json!({"kid": "bad", "n": ""})), KeyProblem::RsaSize),
        (changed(Kind::Rs256, json!({"kid": "bad", "e": "AQ"})), KeyProblem::RsaExponent),
        (changed(Kind::Rs256, json!({"kid": "bad", "e": "Ag"})), KeyProblem::RsaExponent),
        (changed(Kind::Rs256, json!({"kid": "bad", "e": ""})), KeyProblem::RsaExponent),
        (changed(Kind::Rs256, json!({"kid": "bad", "e": "AQAAAAE"})), KeyProblem::RsaExponent),
        (changed(Kind::Rs256, json!({"kid": "bad", "e": "AAEAAQ"})), KeyProblem::Member("e")),
        (changed(Kind::Rs256, json!({"kid": "bad", "n": encode(&fingerprinted())})), KeyProblem::Roca),
        (changed(Kind::EdDsa, json!({"kid": "bad", "use": 1})), KeyProblem::Member("use")),
        (changed(Kind::EdDsa, json!({"kid": "bad", "kty": null})), KeyProblem::Member("kty")),
    ] {
        assert_eq!(problem(&[Kind::Es384.jwk(), bad.clone()]), ("bad".into(), want), "{bad}");
    }
    assert_eq!(problem(&[Kind::EdDsa.jwk(), Kind::EdDsa.jwk()]), ("ed".into(), KeyProblem::Duplicate));
    assert_eq!(
        problem(&[Kind::EdDsa.jwk(), changed(Kind::Es256, json!({"kid": null}))]),
        ("#1".into(), KeyProblem::NoKid)
    );
    assert_eq!(problem(&[changed(Kind::EdDsa, json!({"kid": "a b\n"}))]), ("a b\\n".into(), KeyProblem::Kid));
    assert_eq!(problem(&[changed(Kind::EdDsa, json!({"kid": 1}))]), ("#0".into(), KeyProblem::Member("kid")));
}

#[test]
fn small_order_points_are_no_keys() {
    // The eight points of small order, then further spellings of some of them that decoders take.
    for hex in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let point: Vec<u8> =
            (0..32).map(|n| u8::from_str_radix(hex.get(2 * n..2 * n + 2).unwrap(), 16).unwrap()).collect();
        let key = changed(Kind::EdDsa, json!({"kid": "bad", "x": encode(&point)}));
        assert_eq!(problem(&[key]), ("bad".into(), KeyProblem::Point), "{hex}");
    }
}

#[test]
fn the_document_is_bounded_and_strict() {
    let many = |count| (0..count).map(|n| changed(Kind::EdDsa, json!({"kid": format!("k{n}")}))).collect::<Vec<_>>();
    assert!(parse(&many(64)).is_ok());
    assert!(matches!(parse(&many(65)), Err(JwksError::TooMany(65))));
    assert!(matches!(KeySet::parse(&vec![b' '; 64 * 1024 + 1]), Err(JwksError::TooLarge(65_537))));
    for (text, want) in [
        (&br#"{"keys":[]}"#[..], "the key set has no key that verifies signatures"),
        (br#"{}"#, "the key set has no list of keys"),
        (br#"{"keys":{}}"#, "the key set has no list of keys"),
        (br#"{"keys":[1]}"#, "the key set has no list of keys"),
        (b"<html>", "the key set is not valid JSON: expected value at line 1 column 1"),
        (b"\x1f\x8b\x08", "the key set is not valid JSON: not UTF-8"),
    ] {
        assert_eq!(KeySet::parse(text).unwrap_err().to_string(), want);
    }
    let twice = format!(r#"{{"keys":[{}],"keys":[]}}"#, Kind::EdDsa.jwk());
    assert!(matches!(KeySet::parse(twice.as_bytes()), Err(JwksError::Json(_))));
    assert!(matches!(parse(&[changed(Kind::EdDsa, json!({"use": "enc"}))]), Err(JwksError::Empty)));
}

/// 65537^128: 2049 bits, and a power of 65537 modulo every prime, as moduli of the broken generator are.
fn fingerprinted() -> Vec<u8> {
    let mut number = vec![1_u8];
    for _ in 0..128 {
        let shifted = [&number[..], &[0, 0]].concat();
        let mut carry = 0_u16;
        let mut sum = shifted.clone();
        for at in 0..sum.len() {
            let low = number.len().checked_sub(at + 1).map_or(0, |index| number[index]);
            let place = sum.len() - 1 - at;
            let value = u16::from(shifted[place]) + u16::from(low) + carry;
            sum[place] = value as u8;
            carry = value >> 8;
        }
        assert_eq!(carry, 0);
        number = sum;
    }
    let first = number.iter().position(|byte| *byte != 0).unwrap();
    number.split_off(first)
}
