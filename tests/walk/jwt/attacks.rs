//! Tokens whose header, key or structure lies (B01 to B06, B10 to B14).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bulkhead_tests::mint::{Alg, Issuer};
use bulkhead_tests::policies::issuer;
use serde_json::{Value, json};

use super::Forged;

pub fn all() -> Vec<Forged> {
    let acme = issuer("acme");
    let kinds = [algorithms, shared_secrets, headers, key_ids, texts, shapes];
    kinds.iter().flat_map(|kind| kind(&acme)).collect()
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "es256-1", "typ": "JWT"})
}

/// With one member of the header changed, truly signed.
fn with(acme: &Issuer, what: &str, name: &str, value: Value) -> Forged {
    let mut header = header();
    header[name] = value;
    Forged::new(what, acme.sign(Alg::Es256, &header, &acme.claims()))
}

/// B01, B03: no algorithm, and another one than the key's.
fn algorithms(acme: &Issuer) -> Vec<Forged> {
    let none = ["none", "None", "NONE", "nOnE", "", "null", "none "].map(Value::from);
    let odd = [json!(["ES256"]), Value::Null, json!(0), json!("es256"), json!("ES256 "), json!({"alg": "ES256"})];
    let other = ["ES384", "ES512", "ES256K", "RS256", "RS512", "RS1", "PS256", "EdDSA", "HS256"].map(Value::from);
    let all = none.into_iter().chain(odd).chain(other);
    let mut forged: Vec<Forged> = all.map(|alg| with(acme, &format!("alg {alg}"), "alg", alg.clone())).collect();
    for (kid, alg) in
        [("rs256-1", Alg::Ps256), ("ps256-1", Alg::Rs256), ("es384-1", Alg::Es256), ("eddsa-1", Alg::Ed25519)]
    {
        let header = json!({"alg": alg.name(), "kid": kid});
        forged.push(Forged::new(format!("{} for {kid}", alg.name()), acme.sign(alg, &header, &acme.claims())));
    }
    let without = json!({"kid": "es256-1"});
    forged.push(Forged::new("no alg", acme.sign(Alg::Es256, &without, &acme.claims())));
    for header in [json!({"alg": "none"}), json!({"alg": "none", "kid": "es256-1"}), header()] {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let unsigned = format!("{}.{}", part(&header), part(&acme.claims()));
        forged.push(Forged::new(format!("no signature with {header}"), format!("{unsigned}.")));
        forged.push(Forged::new(format!("two parts with {header}"), unsigned));
    }
    forged
}

/// B02: an HMAC by whatever is public.
fn shared_secrets(acme: &Issuer) -> Vec<Forged> {
    let jwks = acme.jwks();
    let field = |key: usize, name: &str| jwks["keys"][key][name].as_str().expect("a field").to_owned();
    let raw = |text: String| URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let point = [vec![4], raw(field(2, "x")), raw(field(2, "y"))].concat();
    let secrets = [
        ("modulus", raw(field(0, "n"))),
        ("modulus as text", field(0, "n").into_bytes()),
        ("point", point.clone()),
        (
            "point in PEM",
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(point)).into(),
        ),
        ("JWK", jwks["keys"][2].to_string().into_bytes()),
        ("Ed25519 key", raw(field(4, "x"))),
        ("nothing", Vec::new()),
        ("zeros", vec![0; 32]),
        ("a weak secret", b"secret".to_vec()),
    ];
    let mut forged = Vec::new();
    for (name, secret) in &secrets {
        for (alg, kid) in [
            ("HS256", "rs256-1"),
            ("HS256", "es256-1"),
            ("RS256", "rs256-1"),
            ("ES256", "es256-1"),
            ("EdDSA", "eddsa-1"),
        ] {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", part(&json!({"alg": alg, "kid": kid})), part(&acme.claims()));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()));
            forged.push(Forged::new(format!("an HMAC by the {name} as {alg} of {kid}"), token));
        }
    }
    forged
}

/// B04, B13: headers that bring a key, point at one, or change what is signed.
fn headers(acme: &Issuer) -> Vec<Forged> {
    let own = acme.jwks()["keys"][2].clone();
    let mut forged = vec![
        with(acme, "jwk", "jwk", own),
        with(acme, "x5c", "x5c", json!(["MIIB"])),
        with(acme, "crit of an unknown", "crit", json!(["exp"])),
        with(acme, "empty crit", "crit", json!([])),
        with(acme, "crit as text", "crit", json!("exp")),
        with(acme, "b64 false", "b64", json!(false)),
        with(acme, "b64 true", "b64", json!(true)),
        with(acme, "zip", "zip", json!("DEF")),
        with(acme, "cty", "cty", json!("JWT")),
        with(acme, "enc", "enc", json!("A128GCM")),
        with(acme, "another kind of token", "typ", json!("dpop+jwt")),
        with(acme, "a kind that is none", "typ", json!(7)),
    ];
    for url in [
        "https://id.acme.example/jwks",
        "http://127.0.0.1:9901/",
        "file:///etc/passwd",
        "//169.254.169.254/",
        "data:,{}",
    ] {
        forged.push(with(acme, &format!("jku {url}"), "jku", url.into()));
        forged.push(with(acme, &format!("x5u {url}"), "x5u", url.into()));
    }
    forged
}

/// B05, B06: key ids that are none, or another's.
fn key_ids(acme: &Issuer) -> Vec<Forged> {
    let odd = [
        "../../../../dev/null",
        "/dev/null",
        "https://evil.example/key",
        "es256-1' OR '1'='1",
        "$(id)",
        "es256-1\0",
        "es256-1\n",
        "",
        " ",
        " es256-1",
        "ES256-1",
        "*",
        "__proto__",
        "es256-1\u{202e}",
        "es256%2d1",
        "acme/es256-1",
        "globex:es256-1",
    ];
    let long = json!("k".repeat(4096));
    let others = [long, json!(1), json!({"kid": "es256-1"}), Value::Null, json!(["es256-1"]), json!(true)];
    let all = odd.map(Value::from).into_iter().chain(others);
    let shown = |kid: &Value| kid.to_string().chars().take(40).collect::<String>();
    let mut forged: Vec<Forged> =
        all.map(|kid| with(acme, &format!("kid {}", shown(&kid)), "kid", kid.clone())).collect();
    let without = json!({"alg": "ES256", "typ": "JWT"});
    forged.push(Forged::new("no kid among several keys", acme.sign(Alg::Es256, &without, &acme.claims())));
    let globex = issuer("globex");
    forged.push(Forged::new("acme's claims by globex' key", globex.sign(Alg::Es256, &header(), &acme.claims())));
    forged.push(Forged::new("globex' claims by acme's key", acme.sign(Alg::Es256, &header(), &globex.claims())));
    forged
}

/// B10, B11: header and payload that are no strict JSON object.
fn texts(acme: &Issuer) -> Vec<Forged> {
    let claims = acme.claims().to_string();
    let payload =
        |what: &str, text: Vec<u8>| Forged::new(what, acme.sign_bytes(Alg::Es256, header().to_string(), text));
    let head = |what: &str, text: String| Forged::new(what, acme.sign_bytes(Alg::Es256, text, &claims));
    let twice = |member: &str| claims.replacen('{', &format!("{{{member},"), 1).into_bytes();
    let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    vec![
        payload("an array", format!("[{claims}]").into()),
        payload("null", b"null".to_vec()),
        payload("nothing", Vec::new()),
        payload("prose", b"acme".to_vec()),
        payload(
            "not UTF-8",
            claims.replace("acme.example", "acm\u{1}").bytes().map(|b| if b == 1 { 0xff } else { b }).collect(),
        ),
        payload("half a surrogate pair", twice(r#""name":"\ud800""#)),
        payload("a byte order mark", format!("\u{feff}{claims}").into()),
        payload("two objects", format!("{claims}{{}}").into()),
        payload("a comment", format!("{claims}//").into()),
        payload("depth 600", deep(600).into()),
        payload("tenant twice", twice(r#""tenant":"acme""#)),
        payload("tenant twice by an escape", twice(r#""t\u0065nant":"globex""#)),
        payload("exp twice", twice(r#""exp":9999999999"#)),
        payload("iss twice", twice(r#""iss":"https://id.globex.example""#)),
        payload("aud twice", twice(r#""aud":"bulkhead""#)),
        head("alg twice", r#"{"alg":"none","alg":"ES256","kid":"es256-1"}"#.into()),
        head("alg twice by an escape", r#"{"alg":"ES256","\u0061lg":"none","kid":"es256-1"}"#.into()),
        head("kid twice", r#"{"alg":"ES256","kid":"x","kid":"es256-1"}"#.into()),
        head("a header that is an array", r#"["ES256"]"#.into()),
        head("a header of depth 600", format!(r#"{{"alg":"ES256","kid":"es256-1","a":{}}}"#, deep(600))),
        head("a header and more", format!("{}{{}}", header())),
    ]
}

/// B12, B14: another structure, another alphabet, another signature.
fn shapes(acme: &Issuer) -> Vec<Forged> {
    let good = acme.token(Alg::Es256);
    let parts: Vec<&str> = good.split('.').collect();
    let [head, payload, signature] = parts[..] else { panic!("three parts") };
    let other = acme.token(Alg::Es256);
    let swapped = other.split('.').nth(1).expect("a payload");
    let standard = |part: &str| STANDARD.encode(URL_SAFE_NO_PAD.decode(part).expect("base64url"));
    let raw = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let signed = |bytes: &[u8]| format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode(bytes));
    let order = [&[0; 32][..], &raw[32..]].concat();
    let mut many = acme.claims();
    for number in 0..700 {
        many[format!("c{number}")] = number.into();
    }
    vec![
        Forged::new("one part", head),
        Forged::new("four parts", format!("{good}.{signature}")),
        Forged::new("five parts", format!("{good}.{signature}.{signature}")),
        Forged::new("dots", ".."),
        Forged::new("a dot before", format!(".{good}")),
        Forged::new("a dot behind", format!("{good}.")),
        Forged::new("two words", format!("{head} {payload}.{signature}")),
        Forged::new("padding", format!("{good}==")),
        Forged::new("padded parts", format!("{head}=.{payload}.{signature}")),
        Forged::new("standard base64", format!("{}.{}.{}", standard(head), standard(payload), standard(signature))),
        Forged::new("a spelled dot", good.replace('.', "%2E")),
        Forged::new("half a signature", &good[..good.len() - 40]),
        Forged::new("a zero signature", signed(&[0; 64])),
        Forged::new("r of zero", signed(&order)),
        Forged::new("63 bytes", signed(&raw[..63])),
        Forged::new("65 bytes", signed(&[&raw[..], &[0]].concat())),
        Forged::new("swapped halves", signed(&[&raw[32..], &raw[..32]].concat())),
        Forged::new("another token's payload", format!("{head}.{swapped}.{signature}")),
        Forged::new(
            "JSON serialization",
            format!(r#"{{"payload":"{payload}","protected":"{head}","signature":"{signature}"}}"#).replace(',', ";"),
        ),
        Forged::new("9 KiB", acme.token_with(Alg::Es256, &long(acme))),
        Forged::new("700 claims", acme.token_with(Alg::Es256, &many)),
    ]
}

fn long(acme: &Issuer) -> Value {
    let mut claims = acme.claims();
    claims["padding"] = "x".repeat(7 * 1024).into();
    claims
}
