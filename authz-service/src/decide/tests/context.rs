//! Rules on spend and on networks that are new: what they read, whom they meet, and what the log says.

use jiff::SignedDuration;

use super::rules::{denied, held, rule, with};
use super::*;
use crate::authorization::{Condition, Outcome, Rule, SpendBound};
use crate::registry::Watch;

fn over(counts: Counts, each_principal: bool, amount: u64) -> Rule {
    let watch = Watch { counts, each_principal, window: Window::Hour };
    Rule { when: vec![Condition::SpendOver(SpendBound { watch, amount })], ..rule("p/fast", Outcome::Deny) }
}

fn new_for_two_hours() -> Rule {
    let when = vec![Condition::NetworkNewFor(Duration::from_secs(7_200))];
    Rule { when, ..rule("p/new", Outcome::Restrict { to: [name("gpt")].into() }) }
}

fn chat(world: &World, who: usize, number: u32) -> Ask {
    let model = if who == 2 { "llama" } else { "gpt" };
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    Ask { number, ..Ask::chat(&world.credentials[who], &body) }
}

#[test]
fn spend_is_counted_for_rules_though_no_limit_asks_for_it() {
    for (each_principal, whose) in [(true, "principal's"), (false, "tenant's")] {
        let world = with(vec![over(Counts::Requests, each_principal, 2)]);
        for number in 1..=3 {
            assert!(matches!(chat(&world, 0, number).whole(&world), Decision::Allow(_)), "{number}");
        }
        let deny = denied(chat(&world, 0, 4).whole(&world));
        assert_eq!(
            (deny.denial.code, deny.denial.detail.as_deref()),
            (Code::PolicyDenied, Some("Rule `p/fast` says so."))
        );
        assert_eq!(
            deny.denial.why.as_deref(),
            Some(format!("the {whose} spend of this hour over 2 requests").as_str())
        );
        let other = chat(&world, 1, 5).whole(&world);
        assert_eq!(matches!(other, Decision::Allow(_)), each_principal, "another key of the tenant");
        assert!(matches!(chat(&world, 2, 6).whole(&world), Decision::Allow(_)), "another tenant");
        let later = Ask { now: now() + SignedDuration::from_hours(1), ..chat(&world, 0, 7) };
        assert!(matches!(later.whole(&world), Decision::Allow(_)), "the next hour");
    }
}

#[test]
fn what_is_given_back_is_not_spent() {
    let world = with(vec![over(Counts::Requests, true, 0)]);
    let Decision::Allow(allow) = chat(&world, 0, 1).whole(&world) else { panic!("refused") };
    assert_eq!(denied(chat(&world, 0, 2).whole(&world)).denial.code, Code::PolicyDenied);
    assert!(world.ledger.undo(Now { unix_ms: 0 }, allow.reservation.unwrap().id));
    assert!(matches!(chat(&world, 0, 3).whole(&world), Decision::Allow(_)));
}

#[test]
fn callers_whose_spend_is_told_apart_share_no_lease() {
    let set = |rule: Option<Rule>| {
        let world = with(rule.into_iter().collect());
        let Decision::Allow(allow) = chat(&world, 0, 1).head(&world, 1) else { panic!("refused") };
        allow.grant.scope_set.contains(";principal=")
    };
    assert!(set(Some(over(Counts::Tokens, true, 9))));
    assert!(!set(Some(over(Counts::Tokens, false, 9))) && !set(None));
}

#[test]
fn a_network_is_new_until_so_long_after_it_was_first_let_through() {
    let world = with(vec![new_for_two_hours()]);
    let at = |who: usize, source: Option<&str>, hours: i64, cheap: bool| {
        let ask = chat(&world, who, 1);
        let big = br#"{"model":"llama","messages":[{"role":"user","content":"hi"}]}"#;
        let body = if cheap { ask.body.clone() } else { big.to_vec() };
        let headers = ask.headers.into_iter().filter(|(name, _)| *name != "content-length").collect();
        let source = source.map(|text| text.parse().unwrap());
        let asked = Ask { body, headers, source, now: now() + SignedDuration::from_hours(hours), ..ask };
        let decision = asked.whole(&world);
        if let Decision::Allow(allow) = &decision {
            assert!(world.ledger.undo(Now { unix_ms: 0 }, allow.reservation.as_ref().unwrap().id));
            if let Some((tenant, source)) = allow.facts.tenant.as_ref().zip(source).filter(|_| allow.facts.introduces) {
                let _ = world.sightings.note(tenant, &allow.facts.principal, source, asked.now.as_second());
            }
        }
        decision
    };
    let (home, away) = (Some("203.0.113.7"), Some("198.51.100.1"));
    let deny = denied(at(0, home, 0, false));
    assert_eq!((deny.denial.code, deny.denial.why.as_deref()), (Code::ModelNotAllowed, Some("network new for 7200 s")));
    assert!(matches!(at(0, home, 1, true), Decision::Allow(_)), "the cheap model makes it known");
    denied(at(0, home, 2, false));
    for (source, passes) in [(home, true), (Some("203.0.113.99"), true), (away, false), (None, false)] {
        assert_eq!(matches!(at(0, source, 3, false), Decision::Allow(_)), passes, "{source:?}");
    }
    denied(at(1, home, 3, false));
    assert!(matches!(chat(&world, 2, 1).whole(&world), Decision::Allow(_)), "another tenant has no such rule");
}

#[test]
fn what_read_spend_or_networks_is_not_held() {
    for rule in [over(Counts::Tokens, true, 1_000), over(Counts::Tokens, false, 1_000), new_for_two_hours()] {
        let world = with(vec![rule]);
        assert_eq!((held(&world, &chat(&world, 0, 1)), held(&world, &chat(&world, 2, 1))), (0, 10_000));
    }
}
