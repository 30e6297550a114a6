//! Decisions under rules: challenges, refusals, what the list of models shows, how long a grant is held.

use super::*;
use crate::authorization::{
    BUILT_IN, Condition, Login, Outcome, RolePolicy, Rule, Rules, SharedPolicies, built_in_endpoints,
};
use crate::identity::Party;
use crate::identity::job::{Shown, Start};
use crate::registry::{Jobs, Method};

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
fn an_answer_is_cut_when_its_credential_ends_where_the_policy_says_so() {
    let mut world = World::new();
    let day = 86_400_000;
    for (cut, want) in [(false, 0), (true, day)] {
        if cut {
            world.registry.cut.insert(TenantName::parse("acme").unwrap());
        }
        for decision in
            [Ask::chat(&world.credentials[0], BODY)].iter().flat_map(|ask| [ask.whole(&world), ask.head(&world, 1)])
        {
            let Decision::Allow(allow) = decision else { panic!("refused") };
            assert_eq!(allow.grant.cut_after_ms, want);
        }
        let Decision::Allow(other) = Ask::chat(&world.credentials[2], BODY).whole(&world) else { panic!("refused") };
        assert_eq!(other.grant.cut_after_ms, 0, "another tenant's");
    }
    let late = Ask { now: now() + SignedDuration::from_millis(86_399_999), ..Ask::chat(&world.credentials[0], BODY) };
    let Decision::Allow(late) = late.whole(&world) else { panic!("refused") };
    assert_eq!(late.grant.cut_after_ms, 1);
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

#[test]
fn a_job_has_the_login_of_the_one_who_started_it_and_no_renewal_makes_it_younger() {
    let hour = Duration::from_secs(3600);
    let terms = Jobs { longest: 72 * hour, renew_every: 72 * hour };
    let step_up = |acr: &[&str], amr: &[&str], max_age| {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        vec![rule("p/strong", Outcome::StepUp { acr: words(acr), amr: words(amr), max_age })]
    };
    let login = Login { class: Some("gold".into()), methods: vec!["hwk".into()], at: Some(now().as_second() - 600) };
    // what is decided of a job's request so many minutes after its start, whole and by its head
    let asked = |rules: Vec<Rule>, login: &Login, minutes: i64| {
        let mut world = with(rules);
        let tenant = TenantName::parse("acme").unwrap();
        let party = Party { name: format!("key:{}", world.credentials[0].split('_').nth(1).unwrap()), origin: None };
        let start = Start {
            tenant: &tenant,
            name: "nightly",
            max: terms.longest,
            party: &party,
            certificate: None,
            login: login.clone(),
        };
        let (record, _) = JobRecord::start(&start, &terms, now(), &mut system_random).unwrap();
        let at = now() + SignedDuration::from_mins(minutes);
        let (record, text) = record.renew(Shown::Current, &terms, at, &mut system_random).unwrap();
        world.jobs.insert(record.id.clone(), Arc::new(record));
        let ask = Ask { now: at, ..Ask::chat(text.expose(), BODY) };
        let head = ask.head(&world, 1);
        match (ask.whole(&world), &head) {
            (Decision::Allow(_), Decision::Allow(_)) => {}
            (Decision::Deny(whole), Decision::Deny(head)) => {
                assert_eq!((whole.denial.code, &whole.headers), (head.denial.code, &head.headers));
            }
            _ => panic!("decided in two ways"),
        }
        head
    };
    let refused = |decision: Decision| denied(decision).denial.code;
    let let_through = |decision: Decision| matches!(decision, Decision::Allow(_));
    for hours in [0, 26, 71] {
        assert!(let_through(asked(step_up(&["gold"], &["hwk"], None), &login, hours * 60)), "{hours}");
    }
    for (acr, amr) in [(&["platinum"], &["hwk"]), (&["gold"], &["face"])] {
        assert_eq!(refused(asked(step_up(acr, amr, None), &login, 1)), Code::StepUpRequired, "{acr:?} {amr:?}");
    }
    // two hours after the login, which was ten minutes before the start, renewed or not
    let aged = |minutes| asked(step_up(&[], &[], Some(2 * hour)), &login, minutes);
    for (minutes, hold_ms) in [(1, 10_000), (109, 10_000), (110, 0)] {
        let Decision::Allow(allow) = aged(minutes) else { panic!("refused after {minutes}") };
        assert_eq!(allow.grant.hold_ms, hold_ms, "{minutes}");
    }
    let deny = denied(aged(111));
    assert_eq!(deny.denial.code, Code::StepUpRequired);
    assert!(deny.headers[0].value.ends_with("max_age=\"7200\""), "{:?}", deny.headers);
    for rules in [step_up(&["gold"], &[], None), step_up(&[], &["hwk"], None), step_up(&[], &[], Some(100 * hour))] {
        assert_eq!(refused(asked(rules, &Login::default(), 1)), Code::StepUpRequired, "of a key nothing is known");
    }
}
