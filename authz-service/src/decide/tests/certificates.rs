//! A certificate alone, and beside a bearer credential: whoever is let in, every claim of the request names one tenant.

use rcgen::KeyPair;

use super::*;
use crate::identity::certificate::Serial;
use crate::identity::certificate::tests::{self as made, leaf};

const BODY: &str = r#"{"model":"llama","messages":[{"role":"user","content":"hi"}]}"#;

/// The tenant and principal that are let in, or the code.
fn fate(decision: Decision) -> Result<(String, String, &'static str), &'static str> {
    match decision {
        Decision::Allow(allow) => {
            Ok((allow.grant.tenant, allow.facts.principal, allow.facts.credential.map_or("", CredentialKind::as_str)))
        }
        Decision::Deny(deny) => Err(deny.denial.code.row().code),
    }
}

fn with(world: &World, credential: Option<&str>, certificate: &str) -> Ask {
    let ask = Ask::chat(credential.unwrap_or(&world.credentials[0]), BODY);
    let headers = ask.headers.iter().filter(|(name, _)| credential.is_some() || *name != "x-api-key");
    Ask { headers: headers.cloned().collect(), certificate: certificate.into(), ..ask }
}

#[test]
fn every_claim_names_one_tenant_or_nobody_is_let_in() {
    let mut world = World::new();
    let certified = made::World::new();
    world.registry.trust_domains = certified.domains.clone();
    let id = |tenant: &str| format!("spiffe://{tenant}.example/workload/train");
    let own = |tenant: &str| leaf(&[&id(tenant)]);
    let alone = own("acme").self_signed(&KeyPair::generate().unwrap()).unwrap().pem().replace('\n', "%0A");
    // Each certificate with the tenant that it proves; `Err`: it says what it does not prove; `None`: it says nothing.
    let shown = [
        ("none", String::new(), Ok(None)),
        ("acme's", certified.acme.issue(&own("acme")), Ok(Some("acme"))),
        ("globex's", certified.globex.issue(&own("globex")), Ok(Some("globex"))),
        ("globex, says acme", certified.acme.issue(&own("globex")), Err(())),
        ("of an unknown domain", certified.acme.issue(&own("initech")), Err(())),
        ("self-signed", alone.replace('+', "%2B"), Err(())),
        ("no certificate", "-----BEGIN".to_owned(), Err(())),
        ("without a name", certified.acme.issue(&leaf(&[])), Ok(None)),
    ];
    let keys =
        [("no key", None, None), ("acme's key", Some(0), Some("acme")), ("globex's key", Some(2), Some("globex"))];
    let mut let_in = 0;
    for (what, certificate, proven) in &shown {
        for (which, key, of) in keys {
            for claim in [None, Some("acme"), Some("globex"), Some("initech")] {
                for path in [None, Some("acme"), Some("globex")] {
                    let key = key.map(|at: usize| world.credentials[at].clone());
                    let mut ask = with(&world, key.as_deref(), certificate);
                    ask.headers.extend(claim.map(|tenant| ("x-tenant-id", tenant.to_owned())));
                    if let Some(tenant) = path {
                        ask.path = format!("/t/{tenant}/m/llama");
                    }
                    let named: BTreeSet<&str> =
                        [of, proven.unwrap_or_default(), claim, path].into_iter().flatten().collect();
                    let want = match (of, proven) {
                        _ if claim.is_some() && path.is_some() && claim != path => Err("tenant_conflict"),
                        (None, Ok(None)) if certificate.is_empty() => Err("missing_credential"),
                        (None, Ok(None)) | (_, Err(())) => Err("invalid_credential"),
                        _ if named.len() > 1 => Err("tenant_conflict"),
                        (Some(tenant), _) => Ok((tenant, "api_key")),
                        (None, Ok(Some(tenant))) => Ok((*tenant, "certificate")),
                    };
                    for decision in [ask.whole(&world), ask.head(&world, 1)] {
                        let got = fate(decision);
                        let short =
                            got.as_ref().map(|(tenant, _, method)| (tenant.as_str(), *method)).map_err(|code| *code);
                        assert_eq!(short, want, "{what}, {which}, claim {claim:?}, path {path:?}");
                        if let Ok((tenant, principal, "certificate")) = &got {
                            assert_eq!(principal, &id(tenant));
                        }
                        let_in += usize::from(got.is_ok());
                    }
                }
            }
        }
    }
    assert_eq!(let_in, 2 * 4 * (2 + 2 + 2 + 2));
}

#[test]
fn nothing_is_held_that_a_connection_proves() {
    let mut world = World::new();
    let certified = made::World::new();
    world.registry.trust_domains = certified.domains.clone();
    let hold_ms = |ask: &Ask| match ask.head(&world, 1) {
        Decision::Allow(allow) => allow.grant.hold_ms,
        Decision::Deny(deny) => panic!("{:?}", deny.denial),
    };
    let key = world.credentials[0].clone();
    let certificate = certified.acme.issue(&leaf(&[made::TRAIN]));
    assert_eq!(hold_ms(&with(&world, Some(&key), "")), 10_000);
    assert_eq!(hold_ms(&with(&world, Some(&key), &certificate)), 0, "beside a key");
    assert_eq!(hold_ms(&with(&world, None, &certificate)), 0, "alone");
}

#[test]
fn a_certificate_opens_what_its_terms_say_until_it_is_revoked() {
    let mut world = World::new();
    let certified = made::World::new();
    world.registry.trust_domains = certified.domains.clone();
    let ask = with(&world, None, &certified.acme.issue(&leaf(&[made::TRAIN])));
    assert!(fate(ask.whole(&world)).is_ok());
    world.revoked_certificates.insert((TenantName::parse("acme").unwrap(), Serial::parse("5a01").unwrap()));
    assert_eq!(fate(ask.whole(&world)), Err("invalid_credential"));
    world.revoked_certificates.clear();
    let state = |world: &mut World, state| {
        Arc::get_mut(world.registry.tenants.get_mut("acme").unwrap()).unwrap().state = state;
    };
    state(&mut world, TenantState::Isolated);
    assert_eq!(fate(ask.whole(&world)), Err("tenant_suspended"));
    state(&mut world, TenantState::Active);
    let mut domains = made::World::new();
    let domain = Arc::get_mut(domains.domains.get_mut("acme.example").unwrap()).unwrap();
    domain.permits.models = Some(BTreeSet::from([name("gpt")]));
    world.registry.trust_domains = domains.domains;
    let ask = with(&world, None, &domains.acme.issue(&leaf(&[made::TRAIN])));
    assert_eq!(fate(ask.whole(&world)), Err("model_not_allowed"));
}
