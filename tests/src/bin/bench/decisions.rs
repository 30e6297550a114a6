//! What one decision about roles and rules costs: in process, over resources as operators write them, with 1, 100 and 1,000
//! tenants of ten rules each.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use authz_service::authorization::{Circumstances, Found, Login, Rules, Verdict};
use authz_service::registry::EndpointKind;
use authz_service::resource;
use bulkhead_tests::policies::{MODEL, Policies};
use gateway_core::name::ModelName;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// Decisions of each round.
const ROUND: u32 = 20_000;
const ROUNDS: usize = 7;

/// Prints a line for each number of tenants.
pub(crate) fn print() -> anyhow::Result<()> {
    println!(
        "| tenants | their rules | policies each | µs a decision, without models | µs a decision, with the model |"
    );
    println!("|---:|---|---:|---:|---:|");
    for (tenants, alike) in [(1, true), (100, true), (1_000, true), (100, false), (1_000, false)] {
        let directory = tempfile::tempdir()?;
        policies(tenants, alike).write(directory.path())?;
        let problems = |problems: Vec<resource::Problem>| anyhow::anyhow!("{problems:?}");
        let registry = resource::load(directory.path()).map_err(problems)?.registry;
        let rules: Vec<Arc<Rules>> = registry.rules.values().cloned().collect();
        ensure!(rules.len() == tenants, "each tenant has rules");
        let model = ModelName::parse(MODEL).context("a model")?;
        let of_endpoint = median(&rules, None)?;
        let of_model = median(&rules, Some(&model))?;
        let whose = if alike { "alike" } else { "each its own" };
        println!("| {tenants} | {whose} | 10 | {:.1} | {:.1} |", micros(of_endpoint), micros(of_model));
    }
    Ok(())
}

fn micros(of_round: Duration) -> f64 {
    of_round.as_secs_f64() * 1e6 / f64::from(ROUND)
}

/// The median round.
fn median(rules: &[Arc<Rules>], model: Option<&ModelName>) -> anyhow::Result<Duration> {
    let mut rounds = (0..ROUNDS).map(|_| round(rules, model)).collect::<anyhow::Result<Vec<_>>>()?;
    rounds.sort_unstable();
    rounds.get(ROUNDS / 2).copied().context("a round")
}

/// As a request is decided: its circumstances once, then the endpoint, then its model where rules tell models apart.
fn round(rules: &[Arc<Rules>], model: Option<&ModelName>) -> anyhow::Result<Duration> {
    let now: Timestamp = "2026-11-22T12:00:00Z".parse()?;
    let login =
        Login { class: Some("gold".to_owned()), methods: vec!["pwd".to_owned()], at: Some(now.as_second() - 60) };
    let roles = BTreeSet::from([Arc::from("developer")]);
    let source: IpAddr = "203.0.113.7".parse()?;
    let began = Instant::now();
    for rules in rules.iter().cycle().take(usize::try_from(ROUND)?) {
        let zone = &TimeZone::UTC;
        let found = Found { source: Some(source), now, zone, login: &login, over: &[], known_since: Some(0) };
        let questions = rules.questions(&roles, Circumstances::new(&found));
        ensure!(matches!(questions.endpoint(EndpointKind::Chat), Verdict::Allow(_)), "allowed");
        if let Some(model) = model {
            ensure!(matches!(questions.model(EndpointKind::Chat, model), Verdict::Allow(_)), "allowed");
        }
    }
    Ok(began.elapsed())
}

/// The standard set with so many tenants in place of its own, each with ten rules that hold for nobody here: the same for all
/// of them, or with numbers of its own in all that a rule may differ in.
fn policies(tenants: usize, alike: bool) -> Policies {
    let mut set = Policies::standard();
    let acme = set.spec("Tenant", "acme").clone();
    for name in bulkhead_tests::policies::TENANTS {
        set.remove("Tenant", name);
    }
    for number in 0..tenants {
        let name = format!("tenant-{number}");
        let mut spec = acme.clone();
        spec["namespaces"] = json!([name]);
        let tenant = bulkhead_tests::policies::resource("Tenant", &name, &spec);
        let of = if alike { 0 } else { number };
        let rules = json!({
            "apiVersion": "bulkhead.dev/v1alpha1", "kind": "TenantPolicy",
            "metadata": {"name": format!("{name}-rules"), "namespace": name},
            "spec": {"tenant": name, "rules": (0..10).map(|rule| self::rule(rule, of)).collect::<Vec<_>>()},
        });
        // One file would be larger than a file may be.
        set.file(&format!("{name}.yaml"), &format!("{tenant}\n---\n{rules}\n"));
    }
    set
}

fn rule(number: usize, of: usize) -> Value {
    let name = format!("rule-{number}");
    match number % 5 {
        0 => {
            let own = format!("192.{}.{}.0/24", of / 256, of % 256);
            json!({"name": name, "when": {"sourceIn": [own, "2001:db8::/32"]}, "then": "deny"})
        }
        1 => {
            let hours = format!("07:{:02}-20:{:02}", of % 60, of / 60 % 60);
            json!({"name": name, "when": {"hoursOutside": hours}, "then": "restrict", "restrictTo": [MODEL]})
        }
        2 => {
            let step_up = json!({"acr": ["gold"], "maxAge": format!("{}s", 900 + of)});
            json!({"name": name, "roles": ["developer"], "then": "stepUp", "stepUp": step_up})
        }
        3 => json!({"name": name, "models": ["llama-3.1-70b"], "when": {"days": ["saturday"]}, "then": "deny"}),
        _ => {
            let amount = (5_000_000 + of).to_string();
            let spend = json!({"counts": "microUsd", "amount": amount, "window": "hour", "of": "principal"});
            let when = json!({"spendOver": spend, "networkNewFor": format!("{}s", 3_600 + of)});
            json!({"name": name, "then": "deny", "when": when})
        }
    }
}
