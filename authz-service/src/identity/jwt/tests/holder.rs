//! Who may hold a token (RFC 8705 §3.1), what its scopes permit, and issuers whose keys are not there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gateway_core::denial::Code;
use gateway_core::name::ModelName;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::signer::{Kind, NOW, World};
use crate::identity::jwt::{NamedKey, Trust, named_key, verify};
use crate::registry::{Discovery, EndpointKind, Issuer, IssuerKeys, Permits, Scopes};

/// A certificate as Envoy spells it, and its SHA-256 as tokens do. Nothing reads what is inside.
fn certificate(der: &[u8]) -> (String, String) {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der));
    let spelled = pem.replace(' ', "%20").replace('\n', "%0A").replace('+', "%2B").replace('=', "%3D");
    (spelled, URL_SAFE_NO_PAD.encode(Sha256::digest(der)))
}

/// The World with its first issuer changed.
fn changed(change: impl FnOnce(&mut Issuer)) -> World {
    let mut world = World::new();
    let issuers = world.issuers.get_mut("https://id.acme.test").unwrap();
    change(Arc::get_mut(&mut issuers[0]).unwrap());
    world
}

#[test]
fn a_bound_token_needs_its_certificate() {
    // B22
    let world = World::new();
    let ((one, print), (other, others)) = (certificate(b"one certificate"), certificate(b"another one"));
    let held = |certificate: &str, confirmation: Value| {
        let token = world.token(Kind::Es256, json!({"cnf": confirmation}));
        let trust = Trust { certificate, ..world.held() };
        verify(&token, &trust, NOW).map(|identity| identity.bound).map_err(|error| error.reason())
    };
    assert_eq!(held(&one, json!({"x5t#S256": print})), Ok(true));
    assert_eq!(held(&other, json!({"x5t#S256": others})), Ok(true));
    for (certificate, confirmation) in [
        (other.as_str(), json!({"x5t#S256": print})),
        ("", json!({"x5t#S256": print})),
        ("%2", json!({"x5t#S256": print})),
        (&one, json!({"x5t#S256": format!("{print}=")})),
        (&one, json!({"x5t#S256": print.to_lowercase()})),
        (&one, json!({"x5t#S256": ""})),
        (&one, json!({"x5t#S256": [print]})),
        (&one, json!({"x5t": print})),
        (&one, json!({"jkt": print})),
        (&one, json!({"x5t#S256": print, "jkt": print})),
        (&one, json!({})),
        (&one, json!(print)),
        (&one, json!(null)),
    ] {
        assert_eq!(
            held(certificate, confirmation.clone()),
            Err("jwt: bound to a key that was not shown"),
            "{confirmation}"
        );
    }
    let token = world.token(Kind::Es256, json!({}));
    assert!(!verify(&token, &Trust { certificate: &one, ..world.held() }, NOW).unwrap().bound);
}

#[test]
fn scopes_permit_what_their_roles_do_and_none_permits_nothing() {
    let model = |name: &str| ModelName::parse(name).unwrap();
    let role = |models: &[&str], endpoints: &[EndpointKind]| Permits {
        models: Some(models.iter().map(|name| model(name)).collect()),
        endpoints: Some(endpoints.iter().copied().collect()),
        roles: BTreeSet::new(),
    };
    let list = Permits {
        endpoints: Some([EndpointKind::Models].into()),
        roles: ["lister".into()].into(),
        ..Permits::default()
    };
    let permits = HashMap::from([
        ("small".to_owned(), role(&["small"], &[EndpointKind::Chat])),
        ("large".to_owned(), role(&["large"], &[EndpointKind::Chat])),
        ("list".to_owned(), list),
    ]);
    let world = changed(|issuer| issuer.scopes = Some(Scopes { claim: "scp".to_owned(), permits }));
    let permitted = |scopes: Value, endpoint| {
        let token = world.token(Kind::Es256, json!({"scp": scopes}));
        verify(&token, &Trust { endpoint, ..world.held() }, NOW).map(|identity| identity.permits)
    };
    let chat = |scopes: Value| permitted(scopes, EndpointKind::Chat).unwrap();
    let lister = |permits: Permits| Permits { roles: ["lister".into()].into(), ..permits };
    let nothing = role(&[], &[]);
    assert_eq!(chat(json!("small")), role(&["small"], &[EndpointKind::Chat]));
    assert_eq!(chat(json!("openid  small large")), role(&["small", "large"], &[EndpointKind::Chat]));
    assert_eq!(chat(json!(["large"])), role(&["large"], &[EndpointKind::Chat]));
    let small = lister(role(&["small"], &[EndpointKind::Chat]));
    assert_eq!(chat(json!("small list")), small, "a list of all opens no model, and its role counts for rules");
    assert_eq!(chat(json!("list")), lister(nothing.clone()));
    for none in [json!(""), json!("Small"), json!("small,large"), json!([]), json!("openid")] {
        assert_eq!(chat(none.clone()), nothing, "{none}");
    }
    let listed = permitted(json!("small list"), EndpointKind::Models).unwrap();
    assert_eq!((listed.models, listed.endpoints), (None, Some(BTreeSet::from([EndpointKind::Models]))));
    for bad in [json!(7), json!(null), json!({"small": true}), json!(["small", 7]), json!(true)] {
        assert_eq!(permitted(bad.clone(), EndpointKind::Chat).unwrap_err().code(), Code::InvalidCredential, "{bad}");
    }
    let token = world.token(Kind::Es256, json!({"scope": "small"}));
    assert_eq!(verify(&token, &world.held(), NOW).unwrap().permits, nothing, "another claim is none");
}

#[test]
fn an_issuer_whose_keys_are_not_there_opens_nothing() {
    let world = changed(|issuer| issuer.keys = IssuerKeys::Published(Discovery::default()));
    let error = verify(&world.token(Kind::Es256, json!({})), &world.held(), NOW).unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::IdpUnavailable, "jwt: the issuer's keys cannot be read"));
}

#[test]
fn what_is_refused_anyway_names_no_key() {
    // B01, B04: nothing is asked for such a token
    let world = World::new();
    let good = world.token(Kind::Es256, json!({}));
    let expected = NamedKey { issuer: "https://id.acme.test".into(), kid: Some(Kind::Es256.kid().into()) };
    assert_eq!(named_key(&good), Some(expected));
    for change in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"jku": "https://evil.test/keys"}),
        json!({"x5u": "https://evil.test/keys"}),
        json!({"jwk": Kind::Es256.jwk()}),
        json!({"kid": "../../keys"}),
        json!({"kid": "https://evil.test"}),
        json!({"crit": ["exp"]}),
        json!({"typ": "dpop+jwt"}),
    ] {
        let mut header = Kind::Es256.header();
        change.as_object().unwrap().iter().for_each(|(name, value)| header[name] = value.clone());
        assert_eq!(named_key(&world.signed(Kind::Es256, &header, &world.claims())), None, "{change}");
    }
    for text in ["", "a.b", "a.b.c", &"x".repeat(9000)] {
        assert_eq!(named_key(text), None);
    }
}
