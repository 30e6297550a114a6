//! What a whole set compiles to, and that the store can bring it back.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_core::chat::OutputLimitField;
use gateway_core::name::{ModelName, TenantName};

use super::*;
use crate::registry::{
    Audit, CredentialHeader, Discovery, EndpointKind, IssuerKeys, KeyAges, KeyTerms, Refill, Reserve, Scope,
    TenantState, Window,
};

#[test]
fn a_whole_set_compiles() {
    let dir = Dir::whole();
    let Loaded { registry, .. } = load(dir.path()).unwrap();
    let model = |name: &str| ModelName::parse(name).unwrap();
    let acme = &registry.tenants[&TenantName::parse("acme").unwrap()];
    assert_eq!((acme.state, acme.time_zone.iana_name()), (TenantState::Active, Some("Europe/Berlin")));
    assert_eq!(acme.models, BTreeSet::from([model("gpt"), model("meta-llama/Llama-3.1-8B-Instruct")]));
    let plan = &acme.plan;
    assert_eq!((plan.output_tokens, plan.prompt_tokens, plan.body_bytes, plan.choices), (4000, 32 << 10, 4 << 20, 1));
    assert_eq!((plan.reserve, plan.longest_stream, plan.priority), (Reserve::Bound, Duration::from_secs(300), 0));
    assert_eq!((plan.grant_ttl, plan.audit), (Duration::from_secs(10), Audit::Standard));
    let refills: Vec<_> = plan.limits.iter().map(|limit| (limit.amount, limit.scope, limit.refill)).collect();
    assert_eq!(
        refills,
        [
            (7_200_000, Scope::Tenant, Refill::Window(Window::Day)),
            (100_000, Scope::Principal, Refill::Rate(Duration::from_secs(60))),
            (4, Scope::Key, Refill::InFlight),
        ]
    );
    let alias = &registry.models[&model("llama-8b")];
    assert_eq!(alias.name, model("meta-llama/Llama-3.1-8B-Instruct"));
    assert_eq!(alias.aliases, [model("llama-8b")]);
    assert_eq!(alias.cost.prices().micro_usd_per_1m_cached_input, 25_000);
    assert_eq!(registry.models[&model("gpt")].cost.prices().micro_usd_per_1m_cached_input, 2_000_000);
    let (house, upstream) = registry.target(acme, &alias.name).unwrap();
    assert_eq!((house.name.as_str(), upstream, house.credential), ("house", "llama", CredentialHeader::XApiKey));
    assert_eq!(house.output_limit, OutputLimitField::MaxTokens);
    assert_eq!(house.platform_key.as_ref().unwrap().expose(), b"sk-house-secret");
    assert_eq!(registry.target(acme, &model("gpt")).unwrap().1, "gpt");
}

#[test]
fn how_long_grants_are_held_is_the_plans_to_say() {
    let dir = Dir::whole();
    for (spec, want) in [
        ("grantTtl: 0s", (Duration::ZERO, Audit::Standard)),
        ("grantTtl: 60s", (Duration::from_secs(60), Audit::Standard)),
        ("audit: strict", (Duration::from_secs(10), Audit::Strict)),
        ("grantTtl: 1500ms\n  audit: standard", (Duration::from_millis(1500), Audit::Standard)),
    ] {
        dir.write("a/plans.yml", &PLANS.replace("longestStream: 5m", spec));
        let Loaded { registry, .. } = load(dir.path()).unwrap();
        let plan = &registry.tenants[&TenantName::parse("acme").unwrap()].plan;
        assert_eq!((plan.grant_ttl, plan.audit), want, "{spec}");
    }
}

#[test]
fn credentials_are_narrowed() {
    let dir = Dir::whole();
    let Loaded { registry, .. } = load(dir.path()).unwrap();
    let key = &registry.keys["k1k1k1k1k1k1"];
    assert_eq!(key.permits.models, Some(BTreeSet::from([ModelName::parse("gpt").unwrap()])));
    assert_eq!(key.permits.endpoints, Some(BTreeSet::from([EndpointKind::Chat, EndpointKind::Models])));
    assert_eq!((key.limits[0].scope, key.limits[0].amount), (Scope::Key, 5_000_000));
    assert_eq!(key.expires_at.to_string(), "2026-02-02T12:00:00Z");
    let issuer = &registry.issuers["https://id.acme.example"][0];
    assert_eq!((issuer.max_lifetime, issuer.permits.models.as_ref()), (Duration::from_secs(3600), None));
    dir.edit("tenants.yaml", "role: everything", "role: readers");
    dir.edit("api-keys/k1.yaml", "  role: readers\n  models: [gpt, llama-8b]\n", "");
    let Loaded { registry, .. } = load(dir.path()).unwrap();
    let readers = Some(BTreeSet::from([ModelName::parse("gpt").unwrap()]));
    assert_eq!(registry.keys["k1k1k1k1k1k1"].permits.models, readers, "the tenant's default role");
    assert_eq!(registry.issuers["https://id.acme.example"][0].permits.models, readers, "the tenant's default role");
}

#[test]
fn paths_lead_to_endpoints() {
    let dir = Dir::whole();
    let Loaded { registry, .. } = load(dir.path()).unwrap();
    let kind = |path: &'static str| {
        registry.endpoint(path).map(|(endpoint, claims)| (endpoint.kind, claims.tenant, claims.model))
    };
    assert_eq!(kind("/v1/models"), Some((EndpointKind::Models, None, None)));
    assert_eq!(kind("/v1/chat/completions"), Some((EndpointKind::Chat, None, None)));
    let predict = "/api/v1/tenants/acme/models/gpt/predict";
    assert_eq!(kind(predict), Some((EndpointKind::Chat, Some("acme"), Some("gpt"))));
    assert_eq!(kind("/v1/embeddings"), None);
}

#[test]
fn what_was_kept_gives_the_same_registry_without_the_files() {
    let dir = Dir::whole();
    let Loaded { registry, sources } = load(dir.path()).unwrap();
    let bytes = sources.to_bytes().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(!text.contains("sk-house-secret") && text.contains("Ed25519"));
    for file in ["tenants.yaml", "models.yaml", "providers.yaml", "a/plans.yml", "keys/acme.json", "api-keys/k1.yaml"] {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    dir.write("house.key", "sk-rotated");
    let again = from_sources(&Sources::from_bytes(&bytes).unwrap(), dir.path()).unwrap();
    assert_eq!(again.registry.version, registry.version);
    assert_eq!(again.sources, sources);
    assert_eq!(again.registry.providers[0].platform_key.as_ref().unwrap().expose(), b"sk-rotated");
    assert!(again.registry.issuers.contains_key("https://id.acme.example"));
    fs::remove_file(dir.path().join("house.key")).unwrap();
    let problems = lines(from_sources(&sources, dir.path()));
    assert!(
        problems.len() == 1 && problems[0].starts_with("providers.yaml:9:19: `credentialFile`: `house.key` "),
        "{problems:?}"
    );
    assert!(Sources::from_bytes(b"{\"resources\":1}").is_err());
}

#[test]
fn the_version_names_the_bytes() {
    let dir = Dir::whole();
    let version = || load(dir.path()).unwrap().registry.version;
    let first = version();
    assert_eq!((first.len(), first.bytes().all(|b| b.is_ascii_hexdigit())), (16, true));
    assert_eq!(version(), first);
    dir.write("house.key", "sk-rotated");
    assert_eq!(version(), first, "credentials are no part of it");
    dir.write("keys/acme.json", &format!("{JWKS} "));
    let second = version();
    dir.edit("tenants.yaml", "plan: small", "plan:  small");
    assert!(first != second && version() != second);
}

#[test]
fn hidden_files_are_passed_over_and_links_stay_inside() {
    let dir = Dir::whole();
    dir.write(".hidden.yaml", "nonsense: 1");
    dir.write("..data/tenants.yaml", TENANTS);
    fs::remove_file(dir.path().join("tenants.yaml")).unwrap();
    std::os::unix::fs::symlink("..data/tenants.yaml", dir.path().join("tenants.yaml")).unwrap();
    std::os::unix::fs::symlink(".", dir.path().join("loop")).unwrap();
    std::os::unix::fs::symlink("models.yaml", dir.path().join("again.yaml")).unwrap();
    dir.write("notes.txt", "nonsense: 1");
    assert_eq!(dir.problems(), Vec::<String>::new());
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("plans.yaml"), PLANS).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("more")).unwrap();
    std::os::unix::fs::symlink("nowhere.yaml", dir.path().join("dangling.yaml")).unwrap();
    assert_eq!(dir.problems(), ["dangling.yaml: does not exist", "more: leads out of the directory"]);
}

#[test]
fn a_new_key_is_written_once_and_reads_back() {
    let dir = Dir::whole();
    let models = ["gpt".to_owned()];
    let created: jiff::Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    for id in ["123456789012", "1234567e1234", "0x1234567890", "nullnullnull"] {
        let key = NewKey {
            id,
            namespace: "acme-prod",
            tenant: "acme",
            role: None,
            models: Some(&models),
            endpoints: Some(&[]),
            limits: &[],
            sources: None,
            created_at: created,
            expires_at: created + LONGEST_KEY,
        };
        let path = write_new(dir.path(), id, &api_key_document(&key).unwrap()).unwrap();
        assert_eq!(path, dir.path().join(format!("api-keys/{id}.yaml")));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        let terms = load(dir.path()).unwrap().registry.keys[id].clone();
        assert_eq!(
            (terms.permits.models.as_ref().unwrap().len(), terms.permits.endpoints.as_ref().unwrap().len()),
            (1, 0)
        );
        let before = fs::read(&path).unwrap();
        assert!(matches!(write_new(dir.path(), id, "other"), Err(NewKeyError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    assert_eq!(fs::read_dir(dir.path().join("api-keys")).unwrap().count(), 5, "no drafts stay");
    for bad in ["", "../x", "a/b", ".a", "A", "-a", "a\n"] {
        assert!(matches!(write_new(dir.path(), bad, "x"), Err(NewKeyError::Id(_))), "{bad:?}");
    }
}

#[test]
fn an_issuer_that_publishes_its_keys_is_compiled_with_its_defaults() {
    let dir = Dir::whole();
    dir.edit(
        "tenants.yaml",
        "jwksFile: keys/acme.json",
        "discovery: {privateAddresses: [10.0.0.0/8]}\n      scopes: [{scope: read, role: readers}]",
    );
    let Loaded { registry, .. } = load(dir.path()).unwrap();
    let issuer = &registry.issuers["https://id.acme.example"][0];
    let IssuerKeys::Published(discovery) = &issuer.keys else { panic!("{issuer:?}") };
    let private_addresses = vec!["10.0.0.0/8".parse().unwrap()];
    assert_eq!(*discovery, Discovery { private_addresses, ..Discovery::default() });
    let scopes = issuer.scopes.as_ref().unwrap();
    assert_eq!((scopes.claim.as_str(), scopes.permits.len()), ("scope", 1));
    assert_eq!(scopes.permits["read"].models, Some(BTreeSet::from([ModelName::parse("gpt").unwrap()])));
}

#[test]
fn a_tenant_says_how_old_its_keys_and_their_chains_may_get() {
    let dir = Dir::whole();
    let hours = jiff::SignedDuration::from_hours;
    for (said, want) in [
        ("", KeyAges { key: hours(72), chain: hours(720) }),
        ("  keys: {maxAge: 24h}\n", KeyAges { key: hours(24), chain: hours(720) }),
        ("  keys: {maxAge: 3d, maxChainAge: 90d}\n", KeyAges { key: hours(72), chain: hours(2160) }),
        ("  keys: {maxChainAge: 1440m}\n", KeyAges { key: hours(72), chain: hours(24) }),
    ] {
        dir.write("tenants.yaml", &TENANTS.replace("  role: everything\n", &format!("  role: everything\n{said}")));
        let registry = load(dir.path()).unwrap().registry;
        assert_eq!(registry.tenants[&TenantName::parse("acme").unwrap()].key_ages, want, "{said}");
        assert_eq!(registry.keys["k1k1k1k1k1k1"].ages, want, "{said}");
    }
    for (said, message) in [
        ("maxAge: 23h", "tenants.yaml:10:18: `23h` is out of range: 24h to 72h"),
        ("maxAge: 73h", "tenants.yaml:10:18: `73h` is out of range: 24h to 72h"),
        ("maxChainAge: 91d", "tenants.yaml:10:23: `91d` is out of range: 24h to 2160h"),
        ("maxAgee: 24h", "tenants.yaml:10:10: unknown field `maxAgee`, did you mean `maxAge`?"),
    ] {
        let keys = format!("  role: everything\n  keys: {{{said}}}\n");
        dir.write("tenants.yaml", &TENANTS.replace("  role: everything\n", &keys));
        assert_eq!(dir.problems(), [message]);
    }
}

/// A rotation writes the same resource again: each limit, place and list comes back as it was.
#[test]
fn a_key_is_written_as_it_was_read() {
    let dir = Dir::whole();
    let limits = "limits:
    - {name: a, counts: gpuTime, amount: 2h, window: month}
    - {name: b, counts: tokens, amount: 100k, rate: 1500ms}
    - {name: c, counts: requests, amount: 4, inFlight: true}
    - {name: d, counts: microUsd, amount: 9, window: minute}
  sources: [10.1.0.0/16, '2001:db8::/32', 127.0.0.1/32]
  endpoints: [models, rotate]";
    dir.edit("api-keys/k1.yaml", "limits: [{name: key-day, counts: microUsd, amount: 5M, window: day}]", limits);
    let registry = load(dir.path()).unwrap().registry;
    let read = &registry.keys["k1k1k1k1k1k1"];
    assert_eq!(read.written.lifetime, jiff::SignedDuration::from_hours(48));
    let texts = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let models: Vec<String> = read.written.models.iter().flatten().map(ToString::to_string).collect();
    let endpoints = texts(read.written.endpoints.iter().flatten().map(|kind| kind.name()).collect());
    let sources: Vec<String> = read.sources.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(sources, ["10.1.0.0/16", "2001:db8::/32", "127.0.0.1/32"]);
    let again = NewKey {
        id: "again",
        namespace: &read.written.namespace,
        tenant: read.tenant.as_str(),
        role: read.written.role.as_deref(),
        models: Some(&models),
        endpoints: Some(&endpoints),
        limits: &read.limits,
        sources: Some(&sources),
        created_at: read.expires_at,
        expires_at: read.expires_at + read.written.lifetime,
    };
    write_new(dir.path(), "again", &api_key_document(&again).unwrap()).unwrap();
    let registry = load(dir.path()).unwrap().registry;
    let (first, second) = (&registry.keys["k1k1k1k1k1k1"], &registry.keys["again"]);
    let same = |terms: &KeyTerms| {
        let (ages, written) = (terms.ages, terms.written.clone());
        (terms.tenant.clone(), terms.permits.clone(), terms.limits.clone(), terms.sources.clone(), ages, written)
    };
    assert_eq!(same(second), same(first));
    // A list that is there and empty stays one: nothing, not everything.
    let nowhere = NewKey { id: "nowhere", models: Some(&[]), sources: Some(&[]), ..again };
    write_new(dir.path(), "nowhere", &api_key_document(&nowhere).unwrap()).unwrap();
    let registry = load(dir.path()).unwrap().registry;
    let terms = &registry.keys["nowhere"];
    assert_eq!((terms.sources.as_deref(), terms.permits.models.as_ref().map(BTreeSet::len)), (Some(&[][..]), Some(0)));
}

#[test]
fn what_is_no_key_has_a_version_of_its_own() {
    let dir = Dir::whole();
    let version = || load(dir.path()).unwrap().registry.without_keys;
    let first = version();
    dir.write("api-keys/k2.yaml", &KEY.replace("k1k1k1k1k1k1", "k2"));
    dir.write(
        "api-keys/two.yaml",
        &format!("{}---\n{}", KEY.replace("k1k1k1k1k1k1", "k3"), KEY.replace("k1k1k1k1k1k1", "k4")),
    );
    dir.edit("api-keys/k1.yaml", "models: [gpt, llama-8b]", "models: [gpt]");
    assert_eq!(version(), first);
    dir.edit("api-keys/two.yaml", "models: [gpt, llama-8b]", "models: [llama-8b]");
    assert_eq!(version(), first);
    let role = "---\napiVersion: bulkhead.dev/v1alpha1\nkind: Role\nmetadata: {name: r}\nspec: {}\n";
    dir.write("api-keys/k2.yaml", &format!("{}{role}", KEY.replace("k1k1k1k1k1k1", "k2")));
    let second = version();
    dir.write("keys/acme.json", &format!("{JWKS} "));
    assert!(first != second && version() != second);
}
