//! The grants of heads: how long they are held, whose counters they share, and what they say of the tenant's models.

use super::*;
use gateway_core::gate::{Grant, Key};

const BODY: &str = r#"{"model":"llama","messages":[]}"#;

fn granted(world: &World, ask: &Ask) -> Allow {
    match ask.head(world, 77) {
        Decision::Allow(allow) => *allow,
        Decision::Deny(deny) => panic!("{:?}", deny.denial),
    }
}

fn grant(world: &World, ask: &Ask) -> Grant {
    granted(world, ask).grant
}

#[test]
fn a_heads_grant_has_terms_and_reserves_nothing() {
    let world = World::new();
    let ask = Ask { path: "/t/acme/m/llama".into(), ..Ask::chat(&world.credentials[1], BODY) };
    let allow = granted(&world, &ask);
    assert!(allow.reservation.is_none() && allow.credential.is_none() && allow.cluster.is_empty());
    assert_eq!(world.ledger.outstanding(), 0);
    let Grant { epoch, hold_ms, lifetime_ms, edits, reserved, model, terms, .. } = allow.grant;
    assert_eq!((epoch, hold_ms, lifetime_ms, edits, reserved, model.as_str()), (77, 10_000, 65_000, None, None, ""));
    let terms = terms.unwrap();
    assert_eq!((terms.path_model.as_str(), &terms.extra_fields[..]), ("llama", &["min_p".into(), "top_k".into()][..]));
    let models: Vec<_> = terms.models.iter().map(|one| (one.names.join(" "), one.allowed, one.provider)).collect();
    let own = |name: &str| name.to_owned();
    assert_eq!(
        models,
        [(own("gpt gpt-4"), true, 1), (own("meta/llama-8b llama small"), false, 2), (own("nowhere"), false, 0)]
    );
    let providers: Vec<_> =
        terms.providers.iter().map(|one| (one.name.as_str(), one.cluster.as_str(), one.key())).collect();
    assert_eq!(providers, [("open", "cluster-open", Key::Own), ("house", "cluster-house", Key::Platform)]);
    let globex = grant(&world, &Ask::chat(&world.credentials[2], BODY)).terms.unwrap();
    let keys: Vec<_> = globex.providers.iter().map(|one| (one.name.as_str(), one.key())).collect();
    assert_eq!(keys, [("open", Key::Platform), ("small", Key::Unspecified)]);
    assert!(globex.models.iter().all(|model| !model.names.iter().any(|name| name.contains("gpt"))));
}

#[test]
fn a_grant_is_held_no_longer_than_plan_and_credential_allow() {
    let mut world = World::new();
    let ask = Ask::chat(&world.credentials[0], BODY);
    let held = |world: &World, ask: &Ask| grant(world, ask).hold_ms;
    let late = |left: SignedDuration| Ask { now: now() + SignedDuration::from_hours(24) - left, ..ask.clone() };
    assert_eq!(held(&world, &ask), 10_000);
    assert_eq!(held(&world, &late(SignedDuration::from_secs(11))), 10_000);
    // A second of it is for the answer to arrive in: no worker holds it beyond the credential's end.
    assert_eq!(held(&world, &late(SignedDuration::from_millis(10_999))), 9_999);
    assert_eq!(held(&world, &late(SignedDuration::from_millis(999))), 0);
    assert_eq!(held(&world, &late(SignedDuration::from_nanos(1))), 0);
    world.plan("acme", |plan| plan.grant_ttl = Duration::from_secs(60));
    assert_eq!(held(&world, &ask), 60_000);
    world.plan("acme", |plan| plan.audit = Audit::Strict);
    assert_eq!(held(&world, &ask), 0);
    world.plan("acme", |plan| (plan.audit, plan.grant_ttl) = (Audit::Standard, Duration::ZERO));
    assert_eq!(held(&world, &ask), 0);
}

#[test]
fn data_endpoints_are_never_held() {
    let world = World::new();
    let ask = Ask { method: "GET", path: "/v1/models".into(), ..Ask::chat(&world.credentials[1], "") };
    let allow = granted(&world, &Ask { headers: ask.headers[..1].to_vec(), ..ask });
    assert!(allow.grant.data_endpoint && allow.grant.terms.is_none());
    assert_eq!((allow.grant.hold_ms, allow.grant.epoch, allow.grant.lifetime_ms), (0, 77, 5_000));
    assert_eq!(allow.grant.models, ["gpt"]);
}

#[test]
fn claims_that_contradict_each_other_are_refused_before_the_credential() {
    let world = World::new();
    let mut ask = Ask { path: "/t/acme/m/llama".into(), ..Ask::chat("bh_nobody", BODY) };
    ask.headers.push(("x-tenant-id", "globex".into()));
    for decision in [ask.whole(&world), ask.head(&world, 1)] {
        let Decision::Deny(deny) = decision else { panic!("let through") };
        assert_eq!((deny.denial.code, deny.facts.tenant), (Code::TenantConflict, None));
    }
}

#[test]
fn two_names_of_another_tenants_model_say_nothing_of_it() {
    let world = World::new();
    for (path, body) in [("phi", "phi-4"), ("phi", "no-such-model"), ("no-such-model", "other")] {
        let body = format!(r#"{{"model":"{body}","messages":[{{"role":"user","content":"hi"}}]}}"#);
        let ask = Ask { path: format!("/t/acme/m/{path}"), ..Ask::chat(&world.credentials[0], &body) };
        let Decision::Deny(deny) = ask.whole(&world) else { panic!("let through") };
        assert_eq!(deny.denial, Denial::new(Code::ModelConflict).param("model"), "{path}");
    }
}

/// Two callers share a scope set exactly where all that they count in is one and the same.
#[test]
fn callers_share_a_scope_set_where_they_share_every_counter() {
    let plans: [&[Scope]; 8] = [
        &[],
        &[Scope::Tenant],
        &[Scope::Model],
        &[Scope::Principal],
        &[Scope::Key],
        &[Scope::Tenant, Scope::Principal],
        &[Scope::Principal, Scope::Key],
        &[Scope::Tenant, Scope::Key, Scope::Model],
    ];
    let tricky = ["ana", "ben", "ana;key=k1", ";principal=ana"].map(|principal| caller(principal, None, false));
    let keys = [caller("key:k1", Some("k1"), false), caller("key:k1", Some("k2"), false)];
    let limited = [caller("key:k3", Some("k3"), true), caller("key:k4", Some("k4"), true)];
    let callers: Vec<Identity> = tricky.into_iter().chain(keys).chain(limited).collect();
    for scopes in plans {
        let mut acme = tenant("acme", &["gpt"], &["eu"], Reserve::Bound);
        Arc::get_mut(&mut acme.plan).unwrap().limits = scopes.iter().map(|scope| daily(*scope)).collect();
        for one in &callers {
            for other in &callers {
                let same = counters(&acme, one) == counters(&acme, other);
                let set = |caller| answer::scope_set(&acme, caller, &[]);
                assert_eq!(set(one) == set(other), same, "{scopes:?} {} {}", set(one), set(other));
            }
        }
    }
}

fn caller(principal: &str, key_id: Option<&str>, limited: bool) -> Identity {
    Identity {
        tenant: TenantName::parse("acme").unwrap(),
        principal: principal.into(),
        key_id: key_id.map(str::to_owned),
        // k2 took over from k1
        chain: key_id.map(|id| id.replace("k2", "k1")),
        permits: Permits::default(),
        bound: false,
        certificate_bound: false,
        limits: if limited { vec![daily(Scope::Key)] } else { Vec::new() },
        expires_at: now(),
        ends_at: now(),
        login: crate::authorization::Login::default(),
        kind: CredentialKind::ApiKey,
        origin: None,
        actors: Vec::new(),
        job: None,
    }
}

/// The names of the counters that a request of the caller's is held by.
fn counters(tenant: &Tenant, caller: &Identity) -> BTreeSet<String> {
    let subject = Subject {
        tenant: &tenant.name,
        time_zone: &tenant.time_zone,
        principal: &caller.principal,
        key_id: caller.chain.as_deref(),
        model: &name("gpt"),
        limits: &tenant.plan.limits,
        key_limits: &caller.limits,
        watched: &[],
        longest_stream: tenant.plan.longest_stream,
    };
    let cost = gate::Cost { tokens: 1, requests: 1, ..gate::Cost::default() };
    let terms = crate::ledger::test_terms(cost);
    let made = Ledger::default().reserve(Now { unix_ms: 0 }, GrantId([1; 16]), &subject, cost, terms, "edge-1");
    made.unwrap().reservation.holds.iter().map(|hold| hold.key.to_text()).collect()
}
