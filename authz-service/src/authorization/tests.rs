//! Rules over a small tenant that is made by hand.

mod differential;

use std::time::Instant;

use gateway_core::price::{ModelCost, Prices};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::registry::Permits;

pub(super) const MODELS: [(&str, &str); 4] = [("big", "h100"), ("mid", "l4"), ("small", "l4"), ("other/own", "hosted")];

pub(super) fn model(name: &str, class: &str) -> Model {
    let prices = Prices {
        gpu_ms_per_1k_input: 1,
        gpu_ms_per_1k_output: 1,
        gpu_ms_fixed: 0,
        gpu_weight_permille: 1000,
        micro_usd_per_1m_input: 1,
        micro_usd_per_1m_cached_input: 1,
        micro_usd_per_1m_output: 1,
        micro_usd_fixed: 0,
        min_bytes_per_token: 1,
        mean_bytes_per_token: 4,
        media_tokens: None,
    };
    let (name, aliases, cost) = (named(name), Vec::new(), ModelCost::new(prices).unwrap());
    Model { name, aliases, cost, gpu_class: class.into(), since: 0 }
}

pub(super) fn models() -> Vec<Model> {
    MODELS.iter().map(|(name, class)| model(name, class)).collect()
}

pub(super) fn named(name: &str) -> ModelName {
    ModelName::parse(name).unwrap()
}

pub(super) fn role(name: &str, models: Option<&[&str]>, endpoints: Option<&[EndpointKind]>) -> RolePolicy {
    let wanted = Permits {
        models: models.map(|models| models.iter().map(|name| named(name)).collect()),
        endpoints: endpoints.map(|kinds| kinds.iter().copied().collect()),
        ..Permits::default()
    };
    RolePolicy::compile(name, &wanted, self::models().iter()).unwrap()
}

pub(super) fn roles(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

pub(super) fn rule(name: &str, then: Outcome) -> Rule {
    Rule { name: name.into(), roles: None, endpoints: None, models: None, gpu_classes: None, when: Vec::new(), then }
}

fn compiled(rules: Vec<Rule>) -> Rules {
    let roles = [role(MEMBER, None, None), role("developer", None, None), role("reader", Some(&["mid"]), None)];
    let roles: Vec<&RolePolicy> = roles.iter().collect();
    Rules::compile(
        &TenantName::parse("acme").unwrap(),
        models()[..3].iter(),
        &roles,
        rules,
        &mut SharedPolicies::default(),
    )
    .unwrap()
}

fn at(source: Option<&str>, now: &str, login: &Login) -> Circumstances {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let source = source.map(|source| source.parse().unwrap());
    Circumstances::new(&Found { source, now: now.parse().unwrap(), zone: &zone, login, over: &[], known_since: None })
}

/// A Sunday; 13:00 in Berlin.
const NOON: &str = "2026-11-22T12:00:00Z";

fn chat<'a>(rules: &'a Rules, role: &str, model: &str, circumstances: &Circumstances) -> Verdict<'a> {
    rules.questions(&roles(&[role]), circumstances.clone()).model(EndpointKind::Chat, &named(model))
}

fn hardware_key() -> Outcome {
    Outcome::StepUp { acr: [].into(), amr: ["hwk".into()].into(), max_age: Some(Duration::from_secs(900)) }
}

#[test]
fn the_strictest_rule_that_applies_is_named() {
    let restrict = Outcome::Restrict { to: [named("small")].into() };
    let mut deny = rule("z/deny", Outcome::Deny);
    deny.models = Some([named("big")].into());
    let rules = compiled(vec![rule("a/key", hardware_key()), rule("b/small", restrict), deny]);
    let now = at(None, NOON, &Login::default());
    let named_by = |verdict| match verdict {
        Verdict::Rule(rule) => rule.name.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(named_by(chat(&rules, "developer", "big", &now)), "z/deny");
    assert_eq!(named_by(chat(&rules, "developer", "mid", &now)), "b/small");
    assert_eq!(named_by(chat(&rules, "developer", "small", &now)), "a/key");
    let at_noon = Timestamp::from_second(NOON.parse::<Timestamp>().unwrap().as_second() - 900).unwrap();
    let login = Login { class: None, methods: vec!["pwd".into(), "hwk".into()], at: Some(at_noon.as_second()) };
    assert_eq!(chat(&rules, "developer", "small", &at(None, NOON, &login)), Verdict::Allow("role/developer"));
    let older = Login { at: Some(at_noon.as_second() - 1), ..login };
    assert_eq!(named_by(chat(&rules, "developer", "small", &at(None, NOON, &older))), "a/key");
}

#[test]
fn a_role_is_asked_about_its_own_tenants_models_only() {
    let rules = compiled(Vec::new());
    let now = at(None, NOON, &Login::default());
    assert_eq!(chat(&rules, "reader", "mid", &now), Verdict::Allow("role/reader"));
    for (role, model) in [("reader", "big"), ("developer", "other/own"), ("nobody", "mid")] {
        assert_eq!(chat(&rules, role, model, &now), Verdict::Nothing, "{role} {model}");
    }
}

#[test]
fn of_several_roles_each_permit_counts_and_each_rule() {
    let about = |name: &str, role: &str, then| Rule { roles: Some([role.into()].into()), ..rule(name, then) };
    let chat = |rules: &Rules, names: &[&str], model: &str| {
        let now = at(None, NOON, &Login::default());
        match rules.questions(&roles(names), now).model(EndpointKind::Chat, &named(model)) {
            Verdict::Allow(by) => by.to_owned(),
            Verdict::Rule(rule) => rule.name.clone(),
            Verdict::Nothing => String::new(),
        }
    };
    let free = compiled(Vec::new());
    for (names, model, by) in [
        (&["reader"][..], "big", ""),
        (&["developer", "reader"], "big", "role/developer"),
        (&["reader", "nobody"], "mid", ""),
        (&[], "big", "role/member"),
    ] {
        assert_eq!(chat(&free, names, model), by, "{names:?} {model}");
    }
    let bound = compiled(vec![about("p/key", "developer", hardware_key()), about("p/no", "reader", Outcome::Deny)]);
    assert_eq!(chat(&bound, &["developer"], "mid"), "p/key");
    assert_eq!(chat(&bound, &["developer", "reader"], "mid"), "p/no");
    assert_eq!(
        chat(&bound, &["reader", "developer"], "big"),
        "p/no",
        "it permits nothing here, and binds all the same"
    );
}

#[test]
fn what_nobody_knows_lets_nobody_off() {
    let inside = Condition::SourceIn(vec!["10.0.0.0/8".parse().unwrap()]);
    let outside = Condition::SourceOutside(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
    let of = |condition| compiled(vec![Rule { when: vec![condition], ..rule("p/r", Outcome::Deny) }]);
    let (inside, outside) = (of(inside), of(outside));
    let applies = |rules: &Rules, source| {
        matches!(chat(rules, "developer", "mid", &at(source, NOON, &Login::default())), Verdict::Rule(_))
    };
    for (source, within) in [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("11.0.0.1", false), ("fd00::1", false)] {
        assert_eq!((applies(&inside, Some(source)), applies(&outside, Some(source))), (within, !within), "{source}");
    }
    assert!(applies(&inside, None) && applies(&outside, None));
    assert!(!applies(&outside, Some("2001:db8::7")));
}

#[test]
fn a_rule_that_fails_is_a_refusal() {
    let night = Condition::HoursIn { from: 22 * 60, to: 6 * 60 };
    let timed = Rule { when: vec![night], models: Some([named("big")].into()), ..rule("p/night", Outcome::Deny) };
    let rules = compiled(vec![timed, Rule { roles: Some(["reader".into()].into()), ..rule("p/no", Outcome::Deny) }]);
    let blank = |role: &str| rules.questions(&roles(&[role]), Circumstances::blank());
    assert_eq!(blank("developer").model(EndpointKind::Chat, &named("big")), Verdict::Nothing);
    assert_eq!(blank("reader").model(EndpointKind::Chat, &named("big")), Verdict::Nothing, "though another applies");
    assert!(matches!(blank("reader").endpoint(EndpointKind::Chat), Verdict::Rule(_)), "it is not about endpoints");
    let known = at(None, NOON, &Login::default());
    assert_eq!(chat(&rules, "developer", "big", &known), Verdict::Allow("role/developer"));
}

#[test]
fn hours_and_days_are_the_tenants_own() {
    let night = Condition::HoursIn { from: 22 * 60, to: 6 * 60 };
    let rules = compiled(vec![Rule { when: vec![night], ..rule("p/night", Outcome::Deny) }]);
    let applies = |rules: &Rules, now| {
        matches!(chat(rules, "developer", "mid", &at(None, now, &Login::default())), Verdict::Rule(_))
    };
    for (now, night) in [
        ("2026-11-22T20:59:59Z", false),
        ("2026-11-22T21:00:00Z", true),
        ("2026-11-22T04:59:59Z", true),
        ("2026-11-22T05:00:00Z", false),
    ] {
        assert_eq!(applies(&rules, now), night, "{now}");
    }
    let sunday = compiled(vec![Rule { when: vec![Condition::Days([7].into())], ..rule("p/sunday", Outcome::Deny) }]);
    // Monday has begun in Berlin.
    assert!(applies(&sunday, "2026-11-22T22:59:59Z") && !applies(&sunday, "2026-11-22T23:00:00Z"));
}

#[test]
fn rules_tell_what_they_read() {
    let mut aged = rule("p/aged", hardware_key());
    aged.roles = Some(["developer".into()].into());
    let hours = Condition::HoursOutside { from: 0, to: 60 };
    let timed = Rule { when: vec![hours], roles: Some(["reader".into()].into()), ..rule("p/timed", Outcome::Deny) };
    let rules = compiled(vec![aged, timed]);
    let reads = |role| rules.reads(&roles(&[role])).unwrap();
    assert_eq!(reads("developer"), Reads { ages: [Duration::from_secs(900)].into(), ..Reads::default() });
    assert_eq!(reads("reader"), Reads { time: true, ..Reads::default() });
    assert_eq!(rules.reads(&roles(&[])), Some(Reads::default()));
    assert_eq!(rules.reads(&roles(&["reader", "nobody"])), None);
    let both = Reads { time: true, ..reads("developer") };
    assert_eq!(rules.reads(&roles(&["developer", "reader"])), Some(both));
}

#[test]
fn a_weak_login_makes_no_network_known() {
    let new = |name: &str, then| {
        let when = vec![Condition::NetworkNewFor(Duration::from_secs(60))];
        Rule { when, models: Some([named("big")].into()), roles: Some(["developer".into()].into()), ..rule(name, then) }
    };
    let rules = compiled(vec![new("p/key", hardware_key()), rule("p/other", Outcome::Deny)]);
    let now: Timestamp = NOON.parse().unwrap();
    let strong = Login { class: None, methods: vec!["hwk".into()], at: Some(now.as_second()) };
    let introduces = |role: &str, login: &Login| rules.introduces(&roles(&[role]), login, now);
    assert!(introduces("developer", &strong));
    assert!(!introduces("developer", &Login::default()), "for another model it would be let through");
    assert!(!introduces("reader", &strong), "no rule asks");
    let free = compiled(vec![new("p/cheap", Outcome::Restrict { to: [named("small")].into() })]);
    assert!(free.introduces(&roles(&["reader", "developer"]), &Login::default(), now));
}

#[test]
fn names_are_values_and_never_text_of_a_policy() {
    let hostile = "x\"); permit(principal, action, resource); //";
    let restrict = Rule { roles: Some([hostile.into()].into()), ..rule(hostile, Outcome::Deny) };
    let roles = [role(MEMBER, None, None), role(hostile, None, None)];
    let roles: Vec<&RolePolicy> = roles.iter().collect();
    let tenant = TenantName::parse("acme").unwrap();
    let rules =
        Rules::compile(&tenant, models().iter(), &roles, vec![restrict.clone()], &mut SharedPolicies::default())
            .unwrap();
    let now = at(None, NOON, &Login::default());
    assert_eq!(chat(&rules, hostile, "mid", &now), Verdict::Rule(&restrict));
    assert_eq!(chat(&rules, MEMBER, "mid", &now), Verdict::Allow("role/member"));
}

#[test]
fn built_in_roles_permit_what_their_table_says() {
    for name in BUILT_IN {
        let endpoints = built_in_endpoints(name);
        let role = role(name, None, Some(&endpoints.iter().copied().collect::<Vec<_>>()));
        let permits = role.permits();
        assert_eq!((permits.endpoints.as_ref(), permits.models.as_ref()), (Some(&endpoints), None), "{name}");
        assert_eq!(permits.roles, roles(&[name]));
    }
    let narrow = role("narrow", Some(&["mid", "small"]), Some(&[EndpointKind::Chat]));
    assert_eq!(narrow.permits().models, Some([named("mid"), named("small")].into()));
    assert_eq!(role("none", Some(&[]), None).permits().models, Some([].into()));
}

/// Not a bound that a loaded machine could break: a figure to read, with `--nocapture`.
#[test]
fn a_decision_at_ten_rules() {
    let networks = vec!["10.0.0.0/8".parse().unwrap()];
    let many = (0..9).map(|n| Rule {
        when: vec![Condition::SourceOutside(networks.clone()), Condition::HoursIn { from: n, to: n + 1 }],
        ..rule(&format!("p/r{n}"), hardware_key())
    });
    let rules = compiled(many.collect());
    let started = Instant::now();
    for _ in 0..2_000 {
        let now = at(Some("10.0.0.1"), NOON, &Login::default());
        assert_eq!(chat(&rules, "developer", "mid", &now), Verdict::Allow("role/developer"));
    }
    println!("{:?} for a decision with its circumstances, at 10 policies", started.elapsed() / 2_000);
}
