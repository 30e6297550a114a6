//! B01 to B05 and B11 to B14: headers, sizes, structure.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::refused;
use super::signatures::with_signature;
use super::signer::{Kind, NOW, World, encode, signed_text};
use crate::identity::jwt::{MAX_TOKEN_BYTES, verify};
use gateway_core::denial::Code;

const STRANGER: Code = Code::InvalidCredential;

/// A genuine signature of `kind` under a header with `changed` fields; `null` removes one.
fn with_header(world: &World, kind: Kind, changed: &Value) -> String {
    let mut header = kind.header();
    for (name, value) in changed.as_object().unwrap() {
        header[name] = value.clone();
    }
    world.signed(kind, &header, &world.claims())
}

#[test]
fn algorithms_are_the_keys_and_no_other() {
    // B01, B03
    let world = World::new();
    for alg in [
        "none", "None", "NONE", "nOnE", "none ", "", "null", "RS512", "RS1", "RS384", "PS512", "ES512", "ES256K",
        "HS256", "es256", "eddsa", "Ed448", "ECDH-ES",
    ] {
        for kind in Kind::ALL {
            let token = with_header(&world, kind, &json!({ "alg": alg }));
            assert_eq!(refused(&world, &token), (STRANGER, "jwt: algorithm that is not accepted"), "{alg}");
        }
    }
    for alg in [json!(["ES256"]), json!(null), json!(256), json!({}), json!(true)] {
        assert_eq!(refused(&world, &with_header(&world, Kind::Es256, &json!({ "alg": alg }))).0, STRANGER);
    }
    let unnamed = world.signed(Kind::Es256, &json!({"kid": Kind::Es256.kid()}), &world.claims());
    assert_eq!(refused(&world, &unnamed).0, STRANGER);
    for claimed in Kind::ALL {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != claimed) {
            let token = with_header(&world, kind, &json!({ "alg": claimed.alg() }));
            assert_eq!(refused(&world, &token), (STRANGER, "jwt: another algorithm than the key's"));
            let token = with_header(&world, kind, &json!({ "kid": claimed.kid() }));
            assert_eq!(refused(&world, &token), (STRANGER, "jwt: another algorithm than the key's"));
            let token = with_header(&world, kind, &json!({"alg": claimed.alg(), "kid": claimed.kid()}));
            assert_eq!(refused(&world, &token), (STRANGER, "jwt: signature"));
        }
    }
    let token = world.token(Kind::Es256, json!({}));
    assert_eq!(refused(&world, &with_signature(&token, b"")), (STRANGER, "jwt: signature"));
}

#[test]
fn no_public_key_is_a_shared_secret() {
    // B02
    let world = World::new();
    for kind in Kind::ALL {
        let jwk = kind.jwk();
        let texts = [jwk.to_string(), jwk["n"].to_string(), jwk["x"].to_string(), String::new(), "\0".repeat(32)];
        for secret in texts {
            for alg in ["HS256", kind.alg()] {
                let message = format!(
                    "{}.{}",
                    encode(json!({"alg": alg, "kid": kind.kid()}).to_string().as_bytes()),
                    encode(world.claims().to_string().as_bytes())
                );
                let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
                refused(&world, &format!("{message}.{}", encode(mac.as_ref())));
            }
        }
    }
}

#[test]
fn no_header_brings_a_key_or_an_extension() {
    // B04, B13: each with a correct signature
    let world = World::new();
    let jwk = Kind::EdDsa.jwk();
    for changed in [
        json!({ "jwk": jwk }),
        json!({"x5c": ["MIIB"]}),
        json!({"jku": "https://evil.test/keys"}),
        json!({"jku": "file:///etc/passwd"}),
        json!({"x5u": "https://evil.test/cert"}),
        json!({"jku": null}),
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"crit": "exp"}),
        json!({"b64": false}),
        json!({"b64": true}),
        json!({"b64": false, "crit": ["b64"]}),
        json!({"zip": "DEF"}),
        json!({"cty": "JWT"}),
        json!({"cty": "json"}),
        json!({"enc": "A256GCM"}),
        json!({"typ": "dpop+jwt"}),
        json!({"typ": "logout+jwt"}),
        json!({"typ": "secevent+jwt"}),
        json!({"typ": ""}),
        json!({"typ": null}),
        json!({"typ": ["JWT"]}),
    ] {
        assert_eq!(refused(&world, &with_header(&world, Kind::EdDsa, &changed)).0, STRANGER, "{changed}");
    }
    let harmless = json!({"x5t": "lDpwLQbzRZmu4fjajvn3KWAx1pk", "nonce": "n"});
    assert!(verify(&with_header(&world, Kind::EdDsa, &harmless), &world.held(), NOW).is_ok());
}

#[test]
fn a_key_id_is_a_name_and_nothing_else() {
    // B05
    let world = World::new();
    for kid in [
        json!("../../../../dev/null"),
        json!("/etc/passwd"),
        json!("https://evil.test/k"),
        json!("x' OR '1'='1"),
        json!("$(id)"),
        json!("ed\0"),
        json!("ed\n"),
        json!(""),
        json!(" "),
        json!(" ed"),
        json!("Ed"),
        json!("ED"),
        json!("*"),
        json!("__proto__"),
        json!("e".repeat(4096)),
        json!("\u{202e}de"),
        json!("%65d"),
        json!("globex:ed"),
        json!("ed2"),
        json!(1),
        json!({"ed": 1}),
        json!(null),
        json!(["ed"]),
        json!("e".repeat(65)),
    ] {
        assert_eq!(refused(&world, &with_header(&world, Kind::EdDsa, &json!({ "kid": kid }))).0, STRANGER, "{kid}");
    }
}

#[test]
fn header_and_payload_are_strict_objects() {
    // B11
    let world = World::new();
    let (header, claims) = (Kind::EdDsa.header().to_string(), world.claims().to_string());
    let deep = format!("{}1{}", r#"{"a":"#.repeat(600), "}".repeat(600));
    let nested = |text: &str| format!("{},\"deep\":{deep}}}", text.strip_suffix('}').unwrap());
    let sign = |header: &[u8], payload: &[u8]| signed_text(Kind::EdDsa, header, payload);
    let odd = |text: &str| -> Vec<Vec<u8>> {
        vec![
            b"[]".to_vec(),
            b"null".to_vec(),
            b"".to_vec(),
            b"text".to_vec(),
            b"\"text\"".to_vec(),
            b"{\"a\":\"\xff\"}".to_vec(),
            format!(r#"{},"a":"\ud800"}}"#, text.strip_suffix('}').unwrap()).into(),
            format!("\u{feff}{text}").into(),
            format!("{text}{{}}").into(),
            format!("{text}//c").into(),
            format!("/**/{text}").into(),
            format!("[{text}]").into(),
            nested(text).into(),
        ]
    };
    for payload in odd(&claims) {
        assert_eq!(refused(&world, &sign(header.as_bytes(), &payload)).0, STRANGER);
    }
    for bytes in odd(&header) {
        assert_eq!(refused(&world, &sign(&bytes, claims.as_bytes())).0, STRANGER);
    }
}

#[test]
fn sizes_are_checked_first() {
    // B12
    let world = World::new();
    for size in [9 * 1024, 64 * 1024] {
        assert_eq!(
            refused(&world, &world.token(Kind::EdDsa, json!({ "pad": "x".repeat(size) }))),
            (STRANGER, "jwt: too large")
        );
    }
    let mut claims = world.claims();
    for n in 0..700 {
        claims[format!("c{n}")] = json!(0);
    }
    refused(&world, &world.signed(Kind::EdDsa, &Kind::EdDsa.header(), &claims));
    assert_eq!(refused(&world, &"a".repeat(MAX_TOKEN_BYTES + 1)), (STRANGER, "jwt: too large"));
    assert_eq!(refused(&world, &"a".repeat(MAX_TOKEN_BYTES)), (STRANGER, "jwt: malformed"));
    let most = world.token(Kind::EdDsa, json!({ "pad": "x".repeat(5700) }));
    assert!(most.len() > 7800 && verify(&most, &world.held(), NOW).is_ok());
}

#[test]
fn a_token_has_three_parts_of_base64url() {
    // B14
    let world = World::new();
    let token = world.token(Kind::Es256, json!({}));
    let other = world.token(Kind::Es256, json!({"sub": "mallory"}));
    let parts: Vec<&str> = token.split('.').collect();
    let (h, p, s) = (parts[0], parts[1], parts[2]);
    let mut trailing = s.to_owned();
    let last = trailing.pop().unwrap();
    trailing.push(if last == 'A' { 'B' } else { char::from(last as u8 + 1) });
    let standard = |text: &str| text.replace('-', "+").replace('_', "/");
    let mut bad = vec![
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        h.into(),
        format!("{h}.{p}"),
        format!("{h}.{p}."),
        format!("{token}."),
        format!("{token}.x"),
        format!("{token}.x.y"),
        format!(".{p}.{s}"),
        format!("{h}..{s}"),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{token}="),
        format!("{token}=="),
        format!("{h}=.{p}.{s}"),
        format!("{h} .{p}.{s}"),
        format!("{h}.{p}.{trailing}"),
        format!("{h}.{p}.{}", s.get(..85).unwrap()),
        format!("{h}.{p}.{}", s.get(..40).unwrap()),
        format!("{h}.{p}.{}", "A".repeat(86)),
        format!("{h}.{p}.{s}AAAA"),
        format!("{h}.{}.{s}", other.split('.').nth(1).unwrap()),
        format!("{h}%2E{p}%2E{s}"),
        format!("{h}。{p}。{s}"),
        format!("{h}.{p}.{s}\0"),
        format!("\0{token}"),
        json!({"protected": h, "payload": p, "signature": s}).to_string(),
        json!({"payload": p, "signatures": [{"protected": h, "signature": s}]}).to_string(),
        token.to_lowercase(),
        format!("Bearer {token}"),
        format!("\"{token}\""),
    ];
    // Where the signature has characters that standard base64 spells otherwise.
    let swapped = (0..).map(|_| world.token(Kind::Es256, json!({}))).find(|token| standard(token) != *token).unwrap();
    bad.push(standard(&swapped));
    for text in bad {
        assert_eq!(refused(&world, &text).0, STRANGER, "{text}");
    }
}
