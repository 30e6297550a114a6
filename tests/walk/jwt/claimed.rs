//! Tokens that are truly signed and claim what they may not (B06 to B09), and those that only just may.

use bulkhead_tests::mint::{Alg, Issuer, now};
use bulkhead_tests::policies::issuer;
use serde_json::{Value, json};

use super::Forged;

/// With claims replaced; `null` here takes one out.
fn with(issuer: &Issuer, changes: &[(&str, Value)]) -> String {
    let mut claims = issuer.claims();
    for (name, value) in changes {
        if value.is_null() {
            claims.as_object_mut().expect("claims").remove(*name);
        } else {
            claims[*name] = value.clone();
        }
    }
    issuer.token_with(Alg::Es256, &claims)
}

/// A claim whose JSON is written as it stands.
fn raw(issuer: &Issuer, name: &str, json: &str) -> String {
    let mut claims = issuer.claims();
    claims[name] = json!("@@");
    let text = claims.to_string().replace("\"@@\"", json);
    issuer.sign_bytes(Alg::Es256, json!({"alg": "ES256", "kid": "es256-1"}).to_string(), text)
}

/// Within the leeway of thirty seconds, and audiences in an array.
pub fn accepted() -> Vec<(&'static str, String)> {
    let (acme, now) = (issuer("acme"), now());
    vec![
        ("expired twenty seconds ago", with(&acme, &[("exp", json!(now - 20)), ("iat", json!(now - 100))])),
        ("valid in twenty seconds", with(&acme, &[("nbf", json!(now + 20))])),
        ("issued in twenty seconds", with(&acme, &[("iat", json!(now + 20))])),
        ("one of several audiences", with(&acme, &[("aud", json!(["other", "bulkhead"]))])),
        ("no iat", with(&acme, &[("iat", Value::Null)])),
        ("claims that nobody knows", with(&acme, &[("x", json!({"tenant": "globex"})), ("tid", json!("globex"))])),
    ]
}

pub fn all() -> Vec<Forged> {
    let acme = issuer("acme");
    let mut forged = times(&acme);
    forged.extend(names(&acme));
    forged.extend(tenants(&acme));
    forged
}

/// B08.
fn times(acme: &Issuer) -> Vec<Forged> {
    let now = now();
    let mut forged: Vec<Forged> = [
        ("expired 31 seconds ago", vec![("exp", json!(now - 31)), ("iat", json!(now - 100))]),
        ("valid in a minute", vec![("nbf", json!(now + 60))]),
        ("issued in a minute", vec![("iat", json!(now + 60))]),
        ("lives ten years", vec![("exp", json!(now + 315_360_000))]),
        ("expires before it is valid", vec![("exp", json!(now + 10)), ("nbf", json!(now + 20))]),
        ("no expiry", vec![("exp", Value::Null)]),
    ]
    .into_iter()
    .map(|(what, changes)| Forged::new(what, with(acme, &changes)))
    .collect();
    let float = format!("{}.5", now + 100);
    let text = format!("\"{}\"", now + 100);
    for value in [
        float.as_str(),
        &text,
        "1e308",
        "1e400",
        "NaN",
        "-1",
        "0",
        "true",
        "null",
        "[]",
        "{}",
        "9007199254740993",
        "18446744073709551616",
    ] {
        forged.push(Forged::new(format!("exp {value}"), raw(acme, "exp", value)));
    }
    for value in ["1.5", "\"0\"", "null", "-1", "true", "9007199254740993"] {
        forged.push(Forged::new(format!("nbf {value}"), raw(acme, "nbf", value)));
        forged.push(Forged::new(format!("iat {value}"), raw(acme, "iat", value)));
    }
    forged
}

/// B09.
fn names(acme: &Issuer) -> Vec<Forged> {
    let mut forged = Vec::new();
    let long = format!("\"{}\"", "s".repeat(2000));
    let rows: [(&str, &[&str]); 3] = [
        (
            "aud",
            &[
                r#""other""#,
                r#""""#,
                "[]",
                r#""bulk""#,
                r#""bulkhead2""#,
                r#""Bulkhead""#,
                r#""bulkhead/""#,
                r#"{"a":"bulkhead"}"#,
                r#"[["bulkhead"]]"#,
                r#"["bulkhead",7]"#,
                "null",
                "7",
                "true",
            ],
        ),
        (
            "iss",
            &[
                r#""https://id.acme.example/""#,
                r#""https://ID.acme.example""#,
                r#"["https://id.acme.example"]"#,
                r#""https://id.acme""#,
                r#""https://id.acme.example.evil""#,
                r#""https://x@id.acme.example""#,
                r#""http://id.acme.example""#,
                r#""""#,
                "null",
                "{}",
            ],
        ),
        (
            "sub",
            &[
                r#""""#,
                "7",
                "null",
                r#"["a"]"#,
                r#""a\r\nx-tenant-id: globex""#,
                r#""a\u0000""#,
                r#""a b""#,
                r#""key:bh_x""#,
                &long,
            ],
        ),
    ];
    for (claim, values) in rows {
        for value in values {
            let shown: String = value.chars().take(40).collect();
            forged.push(Forged::new(format!("{claim} {shown}"), raw(acme, claim, value)));
        }
        forged.push(Forged::new(format!("no {claim}"), with(acme, &[(claim, Value::Null)])));
    }
    forged.push(Forged::new("bound to a certificate", with(acme, &[("cnf", json!({"x5t#S256": "x"}))])));
    forged
}

/// B06, B07: a genuine token that names another tenant than its issuer speaks for, or none.
fn tenants(acme: &Issuer) -> Vec<Forged> {
    let values = [
        r#""globex""#,
        r#""nobody""#,
        r#""ACME""#,
        r#""acme ""#,
        r#"" acme""#,
        "\"\u{430}cme\"",
        "\"ac\u{200b}me\"",
        "\"ac\u{ad}me\"",
        r#""acme\u0000""#,
        r#""acme,globex""#,
        r#"["acme"]"#,
        r#"{"acme":1}"#,
        "7",
        "null",
        "true",
        r#""""#,
        "\"\u{ff41}cme\"",
    ];
    let conflict = |what: String, token| Forged { what, token, code: "tenant_conflict" };
    let mut forged: Vec<Forged> =
        values.iter().map(|value| conflict(format!("tenant {value}"), raw(acme, "tenant", value))).collect();
    forged.push(conflict("no tenant".into(), with(acme, &[("tenant", Value::Null)])));
    forged
        .push(conflict("globex' issuer speaks for acme".into(), with(&issuer("globex"), &[("tenant", json!("acme"))])));
    forged
}
