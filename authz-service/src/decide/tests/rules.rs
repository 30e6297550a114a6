//! Decisions under rules: challenges, refusals, what the list of models shows, how long a grant is held.

use super::*;
use crate::authorization::{BUILT_IN, Condition, Outcome, RolePolicy, Rule, Rules, SharedPolicies, built_in_endpoints};
use crate::registry::Method;

const BODY: &str = r#"{"model":"llama","messages":[{"role":"user","content":"hi"}]}"#;

pub(super) fn rule(name: &str, then: Outcome) -> Rule {
    Rule { name: name.into(), roles: None, endpoints: None, models: None, gpu_classes: None, when: Vec::new(), then }
}

/// Writes rules for a tenant of the world.
pub(super) fn rules_for(world: &mut World, tenant: &str, rules: Vec<Rule>) {
    let tenant = Arc::clone(&world.registry.tenants[tenant]);
    let models: Vec<_> = tenant.models.iter().map(|name| Arc::clone(&world.registry.models[name])).collect();
    let roles = BUILT_IN.map(|name| {
        let wanted = Permits { endpoints: Some(built_in_endpoints(name)), ..Permits::default() };
        RolePolicy::compile(name, &wanted, models.iter().map(AsRef::as_ref)).unwrap()
    });
    let roles: Vec<_> = roles.iter().collect();
    let mut shared = SharedPolicies::default();
    let compiled = Rules::compile(&tenant.name, models.iter().map(AsRef::as_ref), &roles, rules, &mut shared).unwrap();
    world.registry.rules.insert(tenant.name.clone(), Arc::new(compiled));
}

pub(super) fn with(rules: Vec<Rule>) -> World {
    let mut world = World::new();
    rules_for(&mut world, "acme", rules);
    world
}

pub(super) fn denied(decision: Decision) -> Deny {
    match decision {
        Decision::Deny(deny) => *deny,
        Decision::Allow(_) => panic!("let through"),
    }
}

pub(super) fn held(world: &World, ask: &Ask) -> u32 {
    match ask.head(world, 1) {
        Decision::Allow(allow) => allow.grant.hold_ms,
        Decision::Deny(deny) => panic!("{:?}", deny.denial),
    }
}

#[test]
fn a_step_up_is_a_challenge_before_the_body_is_looked_at() {
    let then = Outcome::StepUp {
        acr: ["gold".into(), "platinum".into()].into(),
        amr: ["face".into(), "fpt".into()].into(),
        max_age: Some(Duration::from_secs(900)),
    };
    let world = with(vec![rule("fintech/biometric", then)]);
    let ask = Ask::chat(&world.credentials[0], "no json");
    for decision in [ask.whole(&world), ask.head(&world, 1)] {
        let deny = denied(decision);
        assert_eq!((deny.denial.code, deny.denial.code.row().status), (Code::StepUpRequired, 401));
        assert_eq!(deny.denial.detail.as_deref(), Some("Rule `fintech/biometric` asks for it."));
        let challenge = "Bearer error=\"insufficient_user_authentication\", \
            error_description=\"A stronger or more recent login by face or fpt is required\", \
            acr_values=\"gold platinum\", max_age=\"900\"";
        assert_eq!(deny.headers, [Field::new("www-authenticate", challenge)]);
    }
    // another tenant's rules are not its own
    let globex = Ask::chat(&world.credentials[2], BODY);
    assert!(matches!(globex.whole(&world), Decision::Allow(_)));
}

#[test]
fn a_restriction_leaves_the_cheaper_models() {
    let world = with(vec![rule("night/cheap", Outcome::Restrict { to: [name("gpt")].into() })]);
    let ask = Ask::chat(&world.credentials[0], BODY);
    let deny = denied(ask.whole(&world));
    assert_eq!(
        (deny.denial.code, deny.denial.detail.as_deref()),
        (Code::ModelNotAllowed, Some("Rule `night/cheap` says so."))
    );
    assert_eq!(deny.facts.model, Some(name("meta/llama-8b")));
    let cheap = Ask::chat(&world.credentials[0], r#"{"model":"gpt-4","messages":[{"role":"user","content":"hi"}]}"#);
    let Decision::Allow(allow) = cheap.whole(&world) else { panic!("refused") };
    assert_eq!((allow.grant.model.as_str(), allow.facts.policy.as_str()), ("gpt", "role/member"));
    let Decision::Allow(head) = ask.head(&world, 1) else { panic!("refused") };
    let models: Vec<_> =
        head.grant.terms.unwrap().models.iter().map(|one| (one.names[0].clone(), one.allowed)).collect();
    assert_eq!(models, [("gpt".to_owned(), true), ("meta/llama-8b".to_owned(), false), ("nowhere".to_owned(), false)]);
    let list = Ask { method: "GET", path: "/v1/models".into(), headers: ask.headers[..1].to_vec(), ..ask };
    let Decision::Allow(list) = list.whole(&world) else { panic!("refused") };
    assert_eq!(list.grant.models, ["gpt"]);
}

#[test]
fn a_denial_by_policy_names_its_rule() {
    let mut world = with(vec![rule("p/closed", Outcome::Deny)]);
    let deny = denied(Ask::chat(&world.credentials[0], BODY).whole(&world));
    assert_eq!(
        (deny.denial.code, deny.denial.detail.as_deref()),
        (Code::PolicyDenied, Some("Rule `p/closed` says so."))
    );
    // A role without an endpoint stays without it, whatever rules say.
    let auditor = Permits { roles: ["auditor".into()].into(), ..Permits::default() };
    world.mint("acme", auditor, Vec::new());
    rules_for(&mut world, "acme", vec![rule("p/nothing", Outcome::Restrict { to: [name("gpt")].into() })]);
    let deny = denied(Ask::chat(world.credentials.last().unwrap(), BODY).whole(&world));
    assert_eq!(deny.denial.code, Code::EndpointNotAllowed);
}

#[test]
fn what_requests_alike_do_not_share_is_not_held() {
    let inside = |condition| Rule { when: vec![condition], ..rule("p/r", Outcome::Deny) };
    let source = Some("10.0.0.1".parse().unwrap());
    for (condition, want) in [
        (Condition::HoursIn { from: 0, to: 1 }, 0),
        (Condition::Days([1].into()), 0),
        (Condition::SourceIn(vec!["192.0.2.0/24".parse().unwrap()]), 0),
    ] {
        let world = with(vec![inside(condition)]);
        assert_eq!(held(&world, &Ask { source, ..Ask::chat(&world.credentials[0], BODY) }), want);
        assert_eq!(held(&world, &Ask { source, ..Ask::chat(&world.credentials[2], BODY) }), 10_000);
    }
    // Which model is asked for is decided per model, in the grant's terms: they may be held.
    let world = with(vec![rule("p/cheap", Outcome::Restrict { to: [name("gpt")].into() })]);
    assert_eq!(held(&world, &Ask::chat(&world.credentials[0], BODY)), 10_000);
}

#[test]
fn a_plan_says_how_its_tenants_log_in() {
    let mut world = World::new();
    let ask = Ask::chat(&world.credentials[0], BODY);
    let mut sells = |methods: &[Method]| {
        let tenant = Arc::get_mut(world.registry.tenants.get_mut("acme").unwrap()).unwrap();
        Arc::get_mut(&mut tenant.plan).unwrap().methods = methods.iter().copied().collect();
        [ask.whole(&world), ask.head(&world, 1)].map(|decision| match decision {
            Decision::Deny(deny) => Some((deny.denial.code, deny.facts.tenant.is_some())),
            Decision::Allow(_) => None,
        })
    };
    assert_eq!(sells(&[Method::Keys]), [None, None]);
    let refused = Some((Code::CredentialNotAllowed, true));
    assert_eq!(sells(&[Method::Tokens, Method::Certificates, Method::StepUp]), [refused, refused]);
}
