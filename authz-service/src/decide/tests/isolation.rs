//! The isolation matrix: every credential, at every route, with every claim, from every source, for every model. What is
//! let through is the credential's own tenant's, and of its models only; what claims another tenant is not.

use super::rules::rules_for;
use super::*;
use crate::authorization::{Condition, Outcome, Rule};

const TENANTS: [&str; 8] = ["acme", "globex", "t-2", "t-3", "t-4", "t-5", "t-6", "t-7"];
const MODELS: [&str; 12] =
    ["llama", "small", "meta/llama-8b", "gpt", "gpt-4", "phi", "phi-4", "nowhere", "LLAMA", "none", "t-2", "own-model"];
const SOURCES: [Option<&str>; 6] =
    [None, Some("10.0.0.1"), Some("10.9.9.9"), Some("192.0.2.1"), Some("2001:db8::1"), Some("::ffff:10.0.0.1")];

#[test]
fn no_case_of_the_matrix_crosses_tenants() {
    let mut world = World::new();
    for (number, name) in TENANTS.iter().enumerate().skip(2) {
        let models: &[&str] = if number % 2 == 0 { &["meta/llama-8b", "phi"] } else { &["gpt", "nowhere"] };
        let tenant = tenant(name, models, &["eu", "us"], Reserve::Bound);
        world.registry.tenants.insert(tenant.name.clone(), Arc::new(tenant));
        world.mint(name, Permits::default(), Vec::new());
        world.mint(name, Permits { roles: ["developer".into()].into(), ..Permits::default() }, Vec::new());
    }
    for (number, tenant) in TENANTS.iter().enumerate() {
        let when = vec![Condition::SourceIn(vec!["192.0.2.0/24".parse().unwrap()])];
        let then = if number % 3 == 0 { Outcome::Deny } else { Outcome::Restrict { to: [name("gpt")].into() } };
        let rule = Rule {
            name: format!("{tenant}/elsewhere"),
            roles: None,
            endpoints: None,
            models: None,
            gpu_classes: None,
            when,
            then,
        };
        if number % 4 != 3 {
            rules_for(&mut world, tenant, vec![rule]);
        }
    }
    let mut holders: Vec<(String, Option<TenantName>)> =
        world.credentials.iter().map(|text| (text.clone(), None)).collect();
    for (text, tenant) in &mut holders {
        *tenant = world.keys.get(text.split('_').nth(1).unwrap_or_default()).map(|record| record.tenant.clone());
        assert!(tenant.is_some(), "an id stands after the prefix");
    }
    holders.push((world.credentials[0].replace("bh_", "bh_x"), None));
    holders.push(("bh_nobody".into(), None));
    let (mut cases, mut through) = (0_u32, BTreeSet::new());
    for (credential, holder) in &holders {
        for claim in [None].into_iter().chain(TENANTS.map(Some)) {
            for route in ["chat", "models"].into_iter().chain(TENANTS) {
                for source in SOURCES {
                    for model in MODELS {
                        cases += 1;
                        let ask = ask(credential, claim, route, source, model, cases);
                        let claims = [claim, Some(route).filter(|route| TENANTS.contains(route))];
                        let tenant = check(&world, &ask, holder.as_ref(), claims);
                        through.extend(tenant.map(|tenant| (tenant, route.len() == 4)));
                    }
                }
            }
        }
    }
    assert!(cases >= 100_000, "{cases} cases");
    let tenants: BTreeSet<_> = through.iter().map(|(tenant, _)| tenant.clone()).collect();
    assert_eq!(tenants.len(), TENANTS.len(), "each tenant gets through somewhere: {through:?}");
}

fn ask(credential: &str, claim: Option<&str>, route: &str, source: Option<&str>, model: &str, number: u32) -> Ask {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    let mut ask = Ask { number, source: source.map(|text| text.parse().unwrap()), ..Ask::chat(credential, &body) };
    match route {
        "chat" => {}
        "models" => {
            (ask.method, ask.path) = ("GET", "/v1/models".into());
            (ask.headers, ask.body) = (ask.headers[..1].to_vec(), Vec::new());
        }
        tenant => ask.path = format!("/t/{tenant}/m/{model}"),
    }
    ask.headers.extend(claim.map(|claim| ("x-tenant-id", claim.to_owned())));
    ask
}

/// The tenant that a request was let through for.
fn check(world: &World, ask: &Ask, holder: Option<&TenantName>, claims: [Option<&str>; 2]) -> Option<String> {
    let allow = match ask.whole(world) {
        Decision::Deny(deny) => {
            assert!(deny.facts.tenant.is_none() || deny.facts.tenant.as_ref() == holder, "{ask:?}");
            return None;
        }
        Decision::Allow(allow) => allow,
    };
    let holder = holder.unwrap_or_else(|| panic!("nobody got through: {ask:?}"));
    let own = &world.registry.tenants[holder].models;
    assert_eq!((allow.grant.tenant.as_str(), allow.facts.tenant.as_ref()), (holder.as_str(), Some(holder)), "{ask:?}");
    assert!(claims.iter().flatten().all(|claim| *claim == holder.as_str()), "{ask:?}");
    assert!(allow.facts.model.as_ref().is_none_or(|model| own.contains(model)), "{ask:?}");
    assert!(allow.grant.models.iter().all(|model| own.contains(model.as_str())), "{ask:?}");
    if let Some(reservation) = &allow.reservation {
        assert!(world.ledger.undo(Now { unix_ms: 0 }, reservation.id));
    }
    Some(allow.grant.tenant.clone())
}
