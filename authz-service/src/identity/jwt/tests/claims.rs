//! B08 to B10: what claims must be.

use serde_json::{Value, json};

use super::refused;
use super::signer::{Kind, NOW, World, signed_text};
use crate::identity::jwt::claims::Claims;
use crate::identity::jwt::verify;
use gateway_core::denial::Code;

fn accepts(world: &World, changed: Value) -> bool {
    verify(&world.token(Kind::EdDsa, changed), &world.held(), NOW).is_ok()
}

/// A token whose claim `name` is spelled exactly `raw`.
fn spelled(world: &World, name: &str, raw: &str) -> String {
    let mut claims = world.claims();
    claims[name] = json!("@");
    let text = claims.to_string().replace("\"@\"", raw);
    signed_text(Kind::EdDsa, Kind::EdDsa.header().to_string().as_bytes(), text.as_bytes())
}

#[test]
fn times_hold_to_the_second() {
    let world = World::new();
    for (changed, want) in [
        (json!({"iat": NOW - 100, "exp": NOW - 29}), true),
        (json!({"iat": NOW - 100, "exp": NOW - 30}), false),
        (json!({"iat": NOW - 100, "exp": NOW - 31}), false),
        (json!({"nbf": NOW + 29}), true),
        (json!({"nbf": NOW + 31}), false),
        (json!({"iat": NOW + 29}), true),
        (json!({"iat": NOW + 31}), false),
        (json!({"nbf": NOW + 20, "exp": NOW + 10}), false),
        (json!({"iat": NOW + 20, "exp": NOW + 10}), false),
        (json!({"exp": NOW + 3600}), true),
        (json!({"exp": NOW + 3601}), false),
        (json!({"iat": NOW - 3000, "exp": NOW + 600}), true),
        (json!({"iat": NOW - 3001, "exp": NOW + 600}), false),
        (json!({"exp": NOW + 315_360_000}), false),
    ] {
        assert_eq!(accepts(&world, changed.clone()), want, "{changed}");
    }
    let mut undated = world.claims();
    undated.as_object_mut().unwrap().remove("iat");
    for (exp, want) in [(NOW + 3600, true), (NOW + 3601, false)] {
        undated["exp"] = json!(exp);
        let token = world.signed(Kind::EdDsa, &Kind::EdDsa.header(), &undated);
        assert_eq!(verify(&token, &world.held(), NOW).is_ok(), want, "{exp}");
    }
}

#[test]
fn times_are_whole_numbers() {
    let world = World::new();
    let written = (NOW + 10).to_string();
    let odd = [
        format!("\"{written}\""),
        format!("{written}.0"),
        format!("{written}e0"),
        "1e308".into(),
        "1e400".into(),
        "NaN".into(),
        "-1".into(),
        "-0".into(),
        "true".into(),
        "null".into(),
        format!("[{written}]"),
        "{}".into(),
        "9007199254740993".into(),
        "18446744073709551616".into(),
        format!("0{written}"),
        format!("+{written}"),
    ];
    for name in ["exp", "nbf", "iat"] {
        for raw in &odd {
            refused(&world, &spelled(&world, name, raw));
        }
    }
    assert!(verify(&spelled(&world, "exp", &written), &world.held(), NOW).is_ok());
    refused(&world, &spelled(&world, "exp", "0"));
}

#[test]
fn times_end_where_readers_lose_exactness() {
    let mut world = World::new();
    world.trust("https://forever.test", &["acme"], None);
    let mut issuer =
        std::sync::Arc::into_inner(world.issuers.remove("https://forever.test").unwrap().remove(0)).unwrap();
    issuer.max_lifetime = std::time::Duration::MAX;
    for (exp, want) in [((1_u64 << 53) - 1, true), (1 << 53, false)] {
        let mut claims = world.claims();
        claims["exp"] = json!(exp);
        let claims = Claims::parse(claims.to_string().as_bytes()).unwrap();
        assert_eq!(claims.accept(&issuer, "", NOW).is_ok(), want, "{exp}");
    }
}

#[test]
fn each_claim_that_is_required_is_required() {
    let world = World::new();
    for name in ["iss", "aud", "sub", "exp"] {
        let mut claims = world.claims();
        claims.as_object_mut().unwrap().remove(name);
        let (code, _) = refused(&world, &world.signed(Kind::EdDsa, &Kind::EdDsa.header(), &claims));
        assert_eq!(code, Code::InvalidCredential, "{name}");
    }
}

#[test]
fn audience_issuer_subject_and_token_id_are_exact() {
    let world = World::new();
    for good in [json!("gateway"), json!("gateway-eu"), json!(["other", "gateway"])] {
        assert!(accepts(&world, json!({ "aud": good })), "{good}");
    }
    for good in [json!("a"), json!("auth0|5f"), json!("x".repeat(255))] {
        assert!(accepts(&world, json!({ "sub": good, "jti": good })), "{good}");
    }
    let bad: &[(&str, &[Value])] = &[
        (
            "aud",
            &[
                json!("other"),
                json!(""),
                json!([]),
                json!("gatewa"),
                json!("gateway2"),
                json!("Gateway"),
                json!("gateway/"),
                json!({"gateway": 1}),
                json!([["gateway"]]),
                json!(null),
                json!(["gateway", 1]),
                json!(["gateway", null]),
                json!(true),
            ],
        ),
        (
            "iss",
            &[
                json!("https://evil.test"),
                json!("https://id.acme.test/"),
                json!("https://ID.acme.test"),
                json!("https://id.acme"),
                json!(["https://id.acme.test"]),
                json!("https://x@id.acme.test"),
                json!(""),
                json!(null),
                json!(1),
            ],
        ),
        (
            "sub",
            &[
                json!(""),
                json!(7),
                json!("x".repeat(256)),
                json!("x".repeat(2000)),
                json!("a\r\nb"),
                json!("a\0"),
                json!("a b"),
                json!("ålice"),
                json!(null),
                json!(["alice"]),
                json!("key:abcdefghijkl"),
                json!("a\u{7f}"),
            ],
        ),
        ("jti", &[json!(""), json!(1), json!("x".repeat(256)), json!("a\nb"), json!(null)]),
        ("cnf", &[json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}), json!(null)]),
    ];
    for (name, values) in bad {
        for value in *values {
            let token = world.token(Kind::EdDsa, json!({ *name: value }));
            assert_eq!(refused(&world, &token).0, Code::InvalidCredential, "{name}: {value}");
        }
    }
}

#[test]
fn nothing_is_said_twice() {
    // B10
    let world = World::new();
    let header = Kind::EdDsa.header().to_string();
    let claims = world.claims().to_string();
    let with = |text: &str, more: &str| format!("{{{more},{}", text.strip_prefix('{').unwrap());
    for more in [
        format!("\"exp\":{}", NOW + 300),
        "\"sub\":\"alice\"".into(),
        r#""t\u0065nant":"acme""#.into(),
        r#""\u0069ss":"https://id.acme.test""#.into(),
        r#""extra":{"a":1,"a":1}"#.into(),
        r#""x":1,"x":1"#.into(),
    ] {
        let token = signed_text(Kind::EdDsa, header.as_bytes(), with(&claims, &more).as_bytes());
        assert_eq!(refused(&world, &token).1, "jwt: payload is not strict JSON", "{more}");
    }
    for more in [r#""alg":"EdDSA""#, r#""kid":"ed""#, r#""\u006bid":"ed""#, r#""exp":1,"exp":1"#] {
        refused(&world, &signed_text(Kind::EdDsa, with(&header, more).as_bytes(), claims.as_bytes()));
    }
}
