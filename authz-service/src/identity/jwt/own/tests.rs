//! Exchanged tokens, without a network: whose they are, what they permit, which keys they are by, what no exchange gives.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::decide::tests::{NOW, World};
use crate::identity::discovery::KeyRing;
use crate::identity::exchange::{Actor, Asked, Ground, Refusal, TokenType, exchange};
use crate::identity::jwt::tests::signer::{self, Kind};
use crate::identity::jwt::{Proof, Trust, prove};
use crate::identity::{CredentialKind, Identity, Standing};
use crate::registry::{EndpointKind, Issuer, IssuerKeys, Scopes};
use crate::vault::TokenKey;

const URL: &str = "https://bulkhead.internal";
static OFFLINE: LazyLock<KeyRing> = LazyLock::new(KeyRing::offline);

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn unix(at: Timestamp) -> u64 {
    at.as_second().try_into().unwrap()
}

fn key(id: &str, signs_from: u64) -> SigningKey {
    SigningKey::new(id, TokenKey::generate().unwrap(), signs_from, None).unwrap()
}

fn tenant(name: &str) -> TenantName {
    TenantName::parse(name).unwrap()
}

/// The world of decisions with the issuers of tokens' tests: keys of acme (all; only `gpt`) and globex (all).
struct House {
    world: World,
    signer: signer::World,
    own: Own,
    at: Timestamp,
    certificate: String,
}

impl House {
    fn new() -> Self {
        let signer = signer::World::new();
        let mut world = World::new();
        world.registry.issuers.clone_from(&signer.issuers);
        let own = Own::new(URL.into(), SigningKeys::default().with(key("s1", 0)));
        Self { world, signer, own, at: now(), certificate: String::new() }
    }

    /// The id of the tenant's key with these models, or all.
    fn key(&self, of: &str, model: Option<&str>) -> String {
        let keys = self.world.registry.keys.values();
        let narrow = |key: &&Arc<crate::registry::KeyTerms>| {
            key.permits.models.as_ref().and_then(|models| models.first()).map(|model| model.as_str()) == model
        };
        keys.filter(|key| key.tenant == tenant(of)).find(narrow).unwrap().id.clone()
    }

    fn subject(&self, changed: Value) -> String {
        let now = unix(self.at);
        let mut claims = json!({"iat": now, "exp": now + 300});
        changed.as_object().unwrap().iter().for_each(|(name, value)| claims[name] = value.clone());
        self.signer.token(Kind::Es256, claims)
    }

    fn issuer(&mut self, change: impl FnOnce(&mut Issuer)) {
        let issuer = &mut self.world.registry.issuers.get_mut("https://id.acme.test").unwrap()[0];
        let IssuerKeys::File(keys) = &issuer.keys else { return };
        let keys = IssuerKeys::File(Arc::clone(keys));
        let mut changed = Issuer {
            url: issuer.url.clone(),
            tenant: issuer.tenant.clone(),
            audiences: issuer.audiences.clone(),
            tenant_claim: issuer.tenant_claim.clone(),
            max_lifetime: issuer.max_lifetime,
            keys,
            permits: issuer.permits.clone(),
            scopes: None,
        };
        change(&mut changed);
        *issuer = Arc::new(changed);
    }

    fn standing(&self) -> Standing<'_> {
        Standing { registry: &self.world.registry, keys: &self.world.keys, source: None, now: self.at }
    }

    fn exchange_as(&self, of: &str, party: &Party, token: &str, scope: &str) -> Result<String, Refusal> {
        let asked = Asked {
            subject_token: token.into(),
            scope: (!scope.is_empty()).then(|| parse_scope(scope).unwrap()),
            token_type: TokenType::Access,
        };
        let ground = Ground { standing: self.standing(), published: &OFFLINE, own: &self.own };
        let tenant = tenant(of);
        let actor = Actor { tenant: &tenant, party, acts: false, certificate: &self.certificate, expires_at: u64::MAX };
        let exchanged = exchange(&asked, &actor, &ground, "t1".into())?;
        Ok(self.own.mint(&exchanged, unix(self.at)).unwrap().token)
    }

    fn exchange(&self, key: &str, token: &str, scope: &str) -> Result<String, Refusal> {
        let of = self.world.keys[key].tenant.to_string();
        self.exchange_as(&of, &Party { name: format!("key:{key}"), origin: None }, token, scope)
    }

    fn identity(&self, token: &str, endpoint: EndpointKind) -> Result<Identity, &'static str> {
        let issuers = &self.world.registry.issuers;
        let trust = Trust { issuers, published: &OFFLINE, certificate: &self.certificate, endpoint };
        match prove(token, &trust, &self.own, unix(self.at)).map_err(|error| error.reason())? {
            Proof::Own(token) => Identity::exchanged(token, &self.standing(), endpoint).map_err(|error| error.reason()),
            Proof::Issued(_) => Err("issued"),
        }
    }

    fn revoke(&mut self, key: &str) {
        self.world.keys.get_mut(key).unwrap().revoked_at = Some(self.at);
    }
}

fn models(identity: &Identity) -> Option<Vec<&str>> {
    identity.permits.models.as_ref().map(|models| models.iter().map(|model| model.as_str()).collect())
}

/// What a token says, unverified.
fn said(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn an_exchanged_token_names_its_subject_and_everybody_who_acts() {
    let house = House::new();
    let (all, gpt) = (house.key("acme", None), house.key("acme", Some("gpt")));
    let first = house.exchange(&all, &house.subject(json!({})), "").unwrap();
    let second = house.exchange(&gpt, &first, "").unwrap();
    let identity = house.identity(&second, EndpointKind::Chat).unwrap();
    assert_eq!(
        (identity.tenant.as_str(), identity.principal.as_str(), identity.kind),
        ("acme", "alice", CredentialKind::Exchange)
    );
    assert_eq!(identity.key_id.as_deref(), Some(gpt.as_str()));
    let names: Vec<&str> = identity.actors.iter().map(|actor| actor.name.as_str()).collect();
    assert_eq!(names, [format!("key:{gpt}"), format!("key:{all}")]);
    assert_eq!(models(&identity), Some(vec!["gpt"]), "what the narrowest may");
    let claims = said(&second);
    assert_eq!(claims["act"], json!({"sub": format!("key:{gpt}"), "act": {"sub": format!("key:{all}")}}));
    assert_eq!((&claims["iss"], &claims["aud"], &claims["tenant"]), (&json!(URL), &json!(URL), &json!("acme")));
    assert_eq!(claims["exp"], json!(unix(house.at) + 300), "not longer than the subject's");
    let long = house.subject(json!({"exp": unix(house.at) + 3000}));
    assert_eq!(said(&house.exchange(&all, &long, "").unwrap())["exp"], json!(unix(house.at) + 900));
}

#[test]
fn a_chain_ends_with_any_of_its_keys_and_with_its_issuer() {
    let mut house = House::new();
    let (all, gpt) = (house.key("acme", None), house.key("acme", Some("gpt")));
    let first = house.exchange(&all, &house.subject(json!({})), "").unwrap();
    let second = house.exchange(&gpt, &first, "").unwrap();
    house.revoke(&all);
    assert_eq!(house.identity(&second, EndpointKind::Chat), Err("api key: revoked"));
    assert_eq!(house.exchange(&gpt, &first, "").unwrap_err().error, "invalid_request");
    let mut house = House::new();
    let token = house.exchange(&house.key("acme", None), &house.subject(json!({})), "").unwrap();
    house.world.registry.issuers.clear();
    let gone = house.identity(&token, EndpointKind::Chat);
    assert_eq!(gone, Err("party: its issuer is not trusted any more"));
}

#[test]
fn no_scope_is_wider_than_what_all_of_them_have() {
    let mut house = House::new();
    let (all, gpt) = (house.key("acme", None), house.key("acme", Some("gpt")));
    house.issuer(|issuer| issuer.permits.endpoints = Some([EndpointKind::Chat].into()));
    let subject = house.subject(json!({}));
    for (key, scope, want) in [
        (&all, "", Ok("chat")),
        (&all, "chat", Ok("chat")),
        (&all, "chat model:gpt", Ok("chat model:gpt")),
        (&all, "model:gpt", Ok("chat model:gpt")),
        (&gpt, "chat", Ok("chat")),
        (&all, "models", Err("invalid_scope")),
        (&all, "chat models", Err("invalid_scope")),
        (&gpt, "model:meta/llama-8b", Err("invalid_scope")),
        (&all, "model:phi", Err("invalid_scope")),
        (&all, "model:none", Err("invalid_scope")),
    ] {
        let got = house.exchange(key, &subject, scope).map(|token| said(&token)["scope"].as_str().unwrap().to_owned());
        assert_eq!(got.as_deref().map_err(|refusal| refusal.error), want, "{scope}");
    }
    // a scope that was given up does not come back
    let narrow = house.exchange(&all, &subject, "chat model:gpt").unwrap();
    assert_eq!(house.exchange(&all, &narrow, "model:meta/llama-8b").unwrap_err().error, "invalid_scope");
    let again = house.exchange(&all, &narrow, "").unwrap();
    assert_eq!(models(&house.identity(&again, EndpointKind::Chat).unwrap()), Some(vec!["gpt"]));
    let elsewhere = house.identity(&again, EndpointKind::Models).unwrap();
    assert_eq!(elsewhere.permits.endpoints, Some(BTreeSet::from([EndpointKind::Chat])));
}

#[test]
fn the_subjects_scopes_are_looked_up_when_the_token_is_shown() {
    let mut house = House::new();
    let all = house.key("acme", None);
    let permits = |model: &str| Permits {
        models: Some([gateway_core::name::ModelName::parse(model).unwrap()].into()),
        ..Permits::default()
    };
    let scopes = |model: &str| Some(Scopes { claim: "scp".into(), permits: [("fast".into(), permits(model))].into() });
    house.issuer(|issuer| issuer.scopes = scopes("gpt"));
    let token = house.exchange(&all, &house.subject(json!({"scp": ["fast", "other"]})), "").unwrap();
    assert_eq!(said(&token)["origin"], json!({"iss": "https://id.acme.test", "scope": "fast"}));
    assert_eq!(models(&house.identity(&token, EndpointKind::Chat).unwrap()), Some(vec!["gpt"]));
    house.issuer(|issuer| issuer.scopes = scopes("meta/llama-8b"));
    assert_eq!(models(&house.identity(&token, EndpointKind::Chat).unwrap()), Some(vec!["meta/llama-8b"]));
    let nothing = house.exchange(&all, &house.subject(json!({})), "");
    assert_eq!(nothing.unwrap_err().error, "invalid_scope");
}

#[test]
fn what_is_no_subject_is_refused_alike() {
    let house = House::new();
    let (all, globex) = (house.key("acme", None), house.key("globex", None));
    let exp = unix(house.at) - 31;
    let good = house.exchange(&all, &house.subject(json!({})), "").unwrap();
    let own = |change: fn(&mut Value)| {
        let mut claims = said(&good);
        change(&mut claims);
        house.signer.signed(Kind::Es256, &json!({"alg": "ES256", "kid": "s1"}), &claims)
    };
    let mut public = said(&good);
    public["sub"] = json!("bob");
    let subjects = [
        ("an api key", "bh_0123456789ab_x".to_owned(), "invalid_request"),
        ("nothing of ours", "x.y.z".into(), "invalid_request"),
        ("expired", house.subject(json!({"exp": exp, "iat": exp - 9})), "invalid_request"),
        ("another audience", house.subject(json!({"aud": "elsewhere"})), "invalid_request"),
        ("another tenant named", house.subject(json!({"tenant": "globex"})), "tenant_conflict"),
        ("bound, and nobody holds it", house.subject(json!({"cnf": {"x5t#S256": "x"}})), "invalid_request"),
        ("another actor named", house.subject(json!({"may_act": {"sub": "key:other"}})), "invalid_request"),
        ("an odd actor named", house.subject(json!({"may_act": "key:other"})), "invalid_request"),
        ("our name, another's key", own(|_| {}), "invalid_request"),
    ];
    for (what, token, code) in subjects {
        let refusal = house.exchange(&all, &token, "").unwrap_err();
        assert_eq!((refusal.error, refusal.code), ("invalid_request", code), "{what}");
        assert_eq!(refusal.description, "the subject token is not accepted", "{what}");
    }
    let theirs = house.exchange(&globex, &house.subject(json!({})), "").unwrap_err();
    assert_eq!((theirs.error, theirs.code), ("invalid_request", "tenant_conflict"));
    assert_eq!(house.exchange(&globex, &good, "").unwrap_err().code, "tenant_conflict");
    let named = house.subject(json!({"may_act": {"sub": format!("key:{all}")}}));
    assert!(house.exchange(&all, &named, "").is_ok());
}

#[test]
fn a_chain_has_five_actors_at_most() {
    let house = House::new();
    let all = house.key("acme", None);
    let mut token = house.subject(json!({}));
    for _ in 0..MAX_ACTORS {
        token = house.exchange(&all, &token, "").unwrap();
    }
    assert_eq!(house.identity(&token, EndpointKind::Chat).unwrap().actors.len(), 5);
    assert_eq!(house.exchange(&all, &token, "").unwrap_err().description, "too many act for the subject already");
}

#[test]
fn who_acts_for_somebody_is_no_actor() {
    let house = House::new();
    let party = Party { name: "alice".into(), origin: None };
    let asked = Asked { subject_token: house.subject(json!({})), scope: None, token_type: TokenType::Jwt };
    let ground = Ground { standing: house.standing(), published: &OFFLINE, own: &house.own };
    let tenant = tenant("acme");
    let actor = Actor { tenant: &tenant, party: &party, acts: true, certificate: "", expires_at: u64::MAX };
    assert_eq!(exchange(&asked, &actor, &ground, "t".into()).unwrap_err().error, "unauthorized_client");
}

#[test]
fn a_token_of_a_person_acts_too_and_bounds_the_answer() {
    let house = House::new();
    let origin = Origin { issuer: "https://id.acme.test".into(), scopes: Vec::new() };
    let party = Party { name: "svc".into(), origin: Some(origin) };
    let token = house.exchange_as("acme", &party, &house.subject(json!({})), "").unwrap();
    assert_eq!(said(&token)["act"], json!({"sub": "svc", "iss": "https://id.acme.test"}));
    let identity = house.identity(&token, EndpointKind::Chat).unwrap();
    assert_eq!((identity.key_id, identity.actors), (None, vec![party]));
}

#[test]
fn only_our_own_tokens_of_this_gateway_are_ours() {
    let mut house = House::new();
    let token = house.exchange(&house.key("acme", None), &house.subject(json!({})), "").unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    for (what, token) in [
        ("no signature", format!("{signed}.")),
        ("another payload", format!("{header}.{}.{signature}", payload.replacen('a', "b", 1))),
        ("another header", format!("e30.{payload}.{signature}")),
    ] {
        assert!(house.identity(&token, EndpointKind::Chat).is_err(), "{what}");
    }
    house.own = Own::new("https://other.internal".into(), house.own.keys().clone());
    assert_eq!(house.identity(&token, EndpointKind::Chat), Err("jwt: unknown issuer"), "another gateway's");
    house.own = Own::new(URL.into(), SigningKeys::default().with(key("s1", 0)));
    assert_eq!(house.identity(&token, EndpointKind::Chat), Err("jwt: signature"), "another key of that id");
    assert_eq!(Own::default().url(), "");
}

#[test]
fn a_key_is_published_before_it_signs_and_verifies_until_its_last_token_is_over() {
    let ids = |keys: &SigningKeys, now: u64| {
        let set = keys.jwks(now);
        let ids = set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let signing = |keys: &SigningKeys, now: u64| keys.signing(now).map(|key| key.id().to_owned());
    let keys = SigningKeys::default().with(key("a", 1_000));
    assert_eq!((signing(&keys, 999), signing(&keys, 1_000)), (None, Some("a".into())));
    let keys = keys.with(key("b", 2_000));
    for (now, signs, published) in [
        (1_500, "a", &["a", "b"][..]),
        (2_000, "b", &["a", "b"]),
        (2_000 + 930, "b", &["a", "b"]),
        (2_000 + 931, "b", &["b"]),
    ] {
        assert_eq!(signing(&keys, now).as_deref(), Some(signs), "{now}");
        assert_eq!(ids(&keys, now), published, "{now}");
        assert_eq!(keys.verifying("a", now).is_some(), published.contains(&"a"), "{now}");
    }
    let keys = keys.withdrawn(1_700).with(key("c", 1_700));
    assert_eq!((ids(&keys, 1_700), signing(&keys, 1_700)), (vec!["c".into()], Some("c".into())));
    assert!(keys.verifying("a", 1_700).is_none() && keys.verifying("b", 1_700).is_none());
    assert!(!ids(&keys, 1_699).is_empty());
    // what is published is what verifiers read, and nothing private
    let text = keys.jwks(1_700).to_string();
    assert!(crate::identity::jwt::KeySet::parse(text.as_bytes()).is_ok() && !text.contains("\"d\""));
}

#[test]
fn tokens_of_before_a_rotation_are_good_until_they_expire() {
    let mut house = House::new();
    let all = house.key("acme", None);
    let token = house.exchange(&all, &house.subject(json!({})), "").unwrap();
    let next = unix(house.at) + 60;
    house.own = Own::new(URL.into(), house.own.keys().with(key("s2", next)));
    house.at += SignedDuration::from_secs(120);
    assert!(house.identity(&token, EndpointKind::Chat).is_ok());
    let newer = house.exchange(&all, &house.subject(json!({})), "").unwrap();
    assert!(house.identity(&newer, EndpointKind::Chat).is_ok());
    house.own = Own::new(URL.into(), house.own.keys().withdrawn(next).with(key("s3", next)));
    for token in [token, newer] {
        assert_eq!(house.identity(&token, EndpointKind::Chat), Err("own token: unknown key"));
    }
}

#[test]
fn a_scope_is_spelled_one_way() {
    for text in ["chat", "chat models", "models token", "chat model:gpt model:meta/llama-8b", "model:gpt"] {
        assert_eq!(spell_scope(&parse_scope(text).unwrap()).unwrap(), text);
    }
    assert_eq!(spell_scope(&Permits::default()).unwrap(), "");
    for bad in ["", " ", "chat ", "chat  models", "Chat", "model:", "model:a b", "gpt", "chat,models", "openid"] {
        assert_eq!(parse_scope(bad), Err(BadScope), "{bad}");
    }
    assert_eq!(parse_scope(&"chat ".repeat(300)), Err(BadScope));
    assert!(spell_scope(&Permits { endpoints: Some([].into()), ..Permits::default() }).is_err());
}

#[test]
fn a_request_is_read_as_rfc_8693_says() {
    let good = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", "t"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ];
    let read = |change: &[(&str, &str)]| {
        let kept = good.iter().filter(|(name, _)| !change.iter().any(|(other, _)| name == other));
        let form: Vec<(String, String)> =
            kept.chain(change).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Asked::read(&form, URL).map(|asked| asked.token_type).map_err(|refusal| refusal.error)
    };
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    for (change, want) in [
        (&[][..], Ok(TokenType::Access)),
        (&[("requested_token_type", jwt), ("audience", URL), ("resource", URL), ("x", "y")], Ok(TokenType::Jwt)),
        (&[("grant_type", "client_credentials")], Err("unsupported_grant_type")),
        (&[("grant_type", "")], Err("invalid_request")),
        (&[("subject_token", "")], Err("invalid_request")),
        (&[("subject_token", "t"), ("subject_token", "t")], Err("invalid_request")),
        (&[("subject_token_type", "urn:ietf:params:oauth:token-type:saml2")], Err("invalid_request")),
        (&[("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")], Err("invalid_request")),
        (&[("actor_token", "a"), ("actor_token_type", jwt)], Err("invalid_request")),
        (&[("audience", "https://elsewhere")], Err("invalid_target")),
        (&[("resource", URL), ("resource", "https://elsewhere")], Err("invalid_target")),
        (&[("scope", "everything")], Err("invalid_scope")),
    ] {
        assert_eq!(read(change), want, "{change:?}");
    }
}
