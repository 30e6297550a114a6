//! Security.md group B, as far as it needs no network: tokens made by an independent signer, one table per row.

mod attacks;
mod changes;
mod claims;
mod differential;
mod holder;
mod signatures;
pub(in crate::identity::jwt) mod signer;

use serde_json::json;

use self::signer::{Kind, NOW, World, forge, signed_by_globex};
use super::*;
use crate::identity::{CredentialKind, Identity};
use gateway_core::denial::Code;

/// The code and reason of a refusal.
fn refused(world: &World, token: &str) -> (Code, &'static str) {
    match verify(token, &world.held(), NOW) {
        Ok(identity) => panic!("accepted as {identity:?}: {token}"),
        Err(error) => {
            assert_eq!(error.to_string(), "the credential is not valid");
            (error.code(), error.reason())
        }
    }
}

#[test]
fn every_algorithm_is_accepted_under_its_own_key() {
    let world = World::new();
    for kind in Kind::ALL {
        let identity = verify(&world.token(kind, json!({"jti": "t-1"})), &world.held(), NOW).unwrap();
        assert_eq!(identity.tenant.as_str(), "acme");
        assert_eq!(identity.principal, "alice");
        assert_eq!(identity.token_id.as_deref(), Some("t-1"));
        assert_eq!(identity.expires_at, NOW + 300);
        assert_eq!(identity.issuer.url, "https://id.acme.test");
        let caller = Identity::from(identity);
        assert_eq!((caller.principal.as_str(), caller.key_id, caller.kind), ("alice", None, CredentialKind::Jwt));
    }
    let header = json!({"alg": "Ed25519", "kid": Kind::EdDsa.kid(), "typ": "at+jwt"});
    assert!(verify(&world.signed(Kind::EdDsa, &header, &world.claims()), &world.held(), NOW).is_ok());
}

#[test]
fn without_a_kid_only_a_single_key_is_meant() {
    let world = World::new();
    let header = json!({"alg": "EdDSA"});
    let token = world.signed(Kind::EdDsa, &header, &world.claims());
    assert_eq!(refused(&world, &token), (Code::InvalidCredential, "jwt: unknown key"));
    let mut claims = world.claims();
    claims["iss"] = json!("https://id.globex.test");
    claims["tenant"] = json!("globex");
    let token = signed_by_globex(&header, &claims);
    assert_eq!(verify(&token, &world.held(), NOW).unwrap().tenant.as_str(), "globex");
}

#[test]
fn a_genuine_token_that_names_another_tenant_is_a_conflict() {
    // B06, B07
    let world = World::new();
    for tenant in [
        json!("globex"),
        json!("Acme"),
        json!(" acme"),
        json!("acme "),
        json!("аcme"),
        json!("ac\u{200b}me"),
        json!("ac\u{ad}me"),
        json!("acme\0"),
        json!("acme,globex"),
        json!("ａcme"),
        json!(["acme"]),
        json!({"acme": 1}),
        json!(1),
        json!(null),
        json!(true),
        json!(""),
    ] {
        let token = world.token(Kind::Es256, json!({ "tenant": tenant }));
        assert_eq!(refused(&world, &token).0, Code::TenantConflict, "{tenant}");
    }
    let mut claims = world.claims();
    claims.as_object_mut().unwrap().remove("tenant");
    assert_eq!(refused(&world, &world.signed(Kind::Es256, &Kind::Es256.header(), &claims)).0, Code::TenantConflict);
}

#[test]
fn one_kid_at_two_issuers_is_two_keys() {
    // B06
    let world = World::new();
    let (acme, header) = (world.claims(), Kind::EdDsa.header());
    let mut globex = world.claims();
    globex["iss"] = json!("https://id.globex.test");
    globex["tenant"] = json!("globex");
    let mut poses = globex.clone();
    poses["tenant"] = json!("acme");
    let forged = (Code::InvalidCredential, "jwt: signature");
    assert_eq!(refused(&world, &signed_by_globex(&header, &acme)), forged);
    assert_eq!(refused(&world, &world.signed(Kind::EdDsa, &header, &globex)), forged);
    assert_eq!(refused(&world, &world.signed(Kind::EdDsa, &header, &poses)), forged);
    assert_eq!(refused(&world, &signed_by_globex(&header, &poses)).0, Code::TenantConflict);
    assert_eq!(verify(&signed_by_globex(&header, &globex), &world.held(), NOW).unwrap().tenant.as_str(), "globex");
}

#[test]
fn an_issuer_without_a_tenant_claim_speaks_for_its_tenant_alone() {
    let mut world = World::new();
    world.trust("https://solo.test", &["initech"], None);
    let mut claims = world.claims();
    claims["iss"] = json!("https://solo.test");
    let token = world.signed(Kind::Es256, &Kind::Es256.header(), &claims);
    assert_eq!(verify(&token, &world.held(), NOW).unwrap().tenant.as_str(), "initech");
}

#[test]
fn a_shared_issuer_picks_by_its_tenant_claim() {
    let mut world = World::new();
    world.trust("https://shared.test", &["acme", "globex"], Some("org"));
    let token = |org: serde_json::Value| {
        let mut claims = world.claims();
        claims["iss"] = json!("https://shared.test");
        claims["org"] = org;
        world.signed(Kind::Es256, &Kind::Es256.header(), &claims)
    };
    for tenant in ["acme", "globex"] {
        let identity = verify(&token(json!(tenant)), &world.held(), NOW).unwrap();
        assert_eq!((identity.tenant.as_str(), identity.issuer.tenant.as_str()), (tenant, tenant));
    }
    assert_eq!(refused(&world, &token(json!("initech"))).0, Code::TenantConflict);
    assert_eq!(refused(&world, &forge(&token(json!("initech")))), (Code::InvalidCredential, "jwt: signature"));
}

#[test]
fn a_shared_issuer_that_leaves_a_choice_is_refused() {
    let mut world = World::new();
    world.trust("https://one.test", &["acme", "globex"], None);
    world.trust("https://two.test", &["acme"], Some("org"));
    world.trust("https://two.test", &["globex"], Some("group"));
    for issuer in ["https://one.test", "https://two.test"] {
        let mut claims = world.claims();
        claims["iss"] = json!(issuer);
        claims["org"] = json!("acme");
        claims["group"] = json!("globex");
        let token = world.signed(Kind::Es256, &Kind::Es256.header(), &claims);
        assert_eq!(refused(&world, &token), (Code::InvalidCredential, "jwt: several tenants could be meant"));
    }
}
