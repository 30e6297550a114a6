//! The isolation matrix through Envoy: every credential, from every source, with every claim, at every route, for every
//! model. What is let through is for the credential's own tenant, in the answer, upstream, in the log and in whose key it
//! left with; what claims another tenant is not. The same in process, larger: `authz-service/src/decide/tests/isolation.rs`.

use std::collections::BTreeMap;

use bulkhead_tests::books::{Books, is_refusal, text};
use bulkhead_tests::client::{Answer, Shot, volley};
use bulkhead_tests::configuration::{patient, replaced};
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::{Alg, Issuer};
use bulkhead_tests::policies::{TENANTS, issuer};
use serde_json::{Value, json};

const MODELS: [&str; 5] = ["llama", "llama-3.1-8b", "llama-3.1-70b", "gpt-4o-mini", "nobodys"];
/// From the last three a rule of acme's restricts or one of globex's refuses.
const SOURCES: [&str; 6] = ["203.0.113.7", "2001:db8::7", "no address", "198.51.100.250", "198.51.100.7", "192.0.2.7"];
const LANES: usize = 12;

struct Case {
    credential: usize,
    claims: Vec<&'static str>,
    shot: Shot,
    what: String,
}

/// Credentials, and whom each proves.
async fn credentials(gateway: &Gateway) -> Vec<(String, Option<&'static str>)> {
    let mut all = Vec::new();
    for tenant in TENANTS {
        all.push((issuer(tenant).token(Alg::Es256), Some(tenant)));
        all.push((gateway.service().create_key(tenant, &[]).await, Some(tenant)));
        all.push((gateway.service().create_key(tenant, &["--role", "auditor"]).await, Some(tenant)));
    }
    // acme's claims by globex's key, globex's name by acme's, and an issuer that nobody trusts
    let acme = issuer("acme");
    all.push((issuer("globex").token_with(Alg::Es256, &acme.claims()), None));
    let mut posing = acme.claims();
    posing["tenant"] = json!("globex");
    all.push((acme.token_with(Alg::Es256, &posing), None));
    all.push((Issuer::new("https://id.nobody.example", "acme").token(Alg::Es256), None));
    all
}

fn cases(credentials: &[(String, Option<&'static str>)]) -> Vec<Case> {
    let mut all = Vec::new();
    let headers = [None].into_iter().chain(TENANTS.map(Some)).collect::<Vec<_>>();
    for (credential, (text, _)) in credentials.iter().enumerate() {
        for header in &headers {
            for path in [None, Some("list")].into_iter().chain(TENANTS.map(Some)) {
                for source in SOURCES {
                    for model in if path == Some("list") { &MODELS[..1] } else { &MODELS[..] } {
                        let mut body = chat_body("[prompt=1] [tokens=1]");
                        body["model"] = json!(model);
                        let mut shot = match path {
                            None => Shot::post(CHAT, body.to_string()),
                            Some("list") => Shot { method: "GET".into(), ..Shot::post("/v1/models", "") },
                            Some(tenant) => {
                                Shot::post(format!("/api/v1/tenants/{tenant}/models/{model}/predict"), body.to_string())
                            }
                        };
                        shot = shot.header("authorization", format!("Bearer {text}")).header("x-forwarded-for", source);
                        if let Some(tenant) = header {
                            shot = shot.header("x-tenant-id", tenant);
                        }
                        let claims = [*header, path.filter(|path| *path != "list")].into_iter().flatten().collect();
                        let what = format!("credential {credential}, {header:?}, {path:?}, {source}, {model}");
                        all.push(Case { credential, claims, shot, what });
                    }
                }
            }
        }
    }
    all
}

fn policy(tenant: &str, rule: &Value) -> Value {
    json!({
        "apiVersion": "bulkhead.dev/v1alpha1", "kind": "TenantPolicy",
        "metadata": {"name": format!("{tenant}-places"), "namespace": tenant},
        "spec": {"tenant": tenant, "rules": [rule]},
    })
}

#[tokio::test]
async fn no_case_of_the_matrix_crosses_tenants() {
    let behind = |text: String| replaced(&patient(&text, "5s"), "xff_num_trusted_hops: 0 ", "xff_num_trusted_hops: 1 ");
    let builder = Gateway::builder().failed_logins_per_minute(1_000_000).envoy(behind);
    let gateway = builder
        .policies(|set| {
            for tenant in TENANTS {
                set.spec("Tenant", tenant)["plan"] = json!("premium"); // room for thousands
            }
            set.add(policy("acme", &json!({
                "name": "place", "when": {"sourceIn": ["198.51.100.0/24"]}, "then": "restrict", "restrictTo": ["llama"],
            })));
            set.add(policy(
                "globex",
                &json!({"name": "place", "when": {"sourceIn": ["192.0.2.0/24"]}, "then": "deny"}),
            ));
        })
        .start()
        .await;
    for tenant in TENANTS {
        for provider in ["gpu-pool", "hosted"] {
            let put = ["vault", "put", "--tenant", tenant, "--provider", provider];
            assert_eq!(gateway.service().cli(&put, &own_key(tenant)).await.code, Some(0));
        }
    }
    let credentials = credentials(&gateway).await;
    let cases = cases(&credentials);
    assert!(cases.len() >= 5_000, "{}", cases.len());
    let shots: Vec<Shot> = cases.iter().map(|case| case.shot.clone()).collect();
    let answers = volley(gateway.addr, &shots, LANES).await;
    let answers: Vec<Answer> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    let ids: Vec<String> = answers.iter().map(|one| one.header("x-request-id").unwrap_or_default().into()).collect();
    let books = Books::closed(&gateway, &ids).await;
    let mut through: BTreeMap<&str, u32> = BTreeMap::new();
    for (case, (answer, id)) in cases.iter().zip(answers.iter().zip(&ids)) {
        let holder = credentials[case.credential].1;
        if answer.status == 200 {
            let tenant = holder.unwrap_or_else(|| panic!("nobody got through: {}", case.what));
            passed(case, answer, tenant, id, &books);
            *through.entry(tenant).or_default() += 1;
        } else {
            let what = &case.what;
            assert!(matches!(answer.status, 400..=404), "{what}: {} {}", answer.status, answer.text());
            assert!(books.seen(id).is_empty(), "{what}: it reached the upstream");
            let line = books.line(id);
            let named = text(line, "tenant");
            assert!(is_refusal(line) && (named.is_empty() || Some(named) == holder), "{what}: {line}");
            let others = TENANTS.iter().filter(|tenant| Some(**tenant) != holder);
            others.for_each(|other| assert!(!answer.text().contains(other), "{what}: {}", answer.text()));
        }
    }
    assert_eq!(through.keys().copied().collect::<Vec<_>>(), TENANTS, "each tenant gets through somewhere");
    assert!(through.values().all(|count| *count > 20), "{through:?}");
    assert!(gateway.is_whole().await);
    eprintln!("isolation: {} cases, through {through:?}, profile {}", cases.len(), gateway.profile.name());
}

fn passed(case: &Case, answer: &Answer, tenant: &str, id: &str, books: &Books) {
    let what = &case.what;
    assert!(case.claims.iter().all(|claim| *claim == tenant), "{what}: another tenant was claimed");
    let line = books.line(id);
    assert_eq!((text(line, "decision"), text(line, "tenant")), ("allow", tenant), "{what}: {line}");
    let allowed: &[&str] = match tenant {
        "acme" => &["llama-3.1-8b", "llama-3.1-70b"],
        "globex" => &["llama-3.1-8b"],
        _ => &["llama-3.1-8b", "gpt-4o-mini"],
    };
    if case.shot.method == "GET" {
        let list = answer.json();
        let shown = list["data"].as_array().unwrap_or_else(|| panic!("{what}: {list}"));
        assert!(shown.iter().all(|one| allowed.contains(&one["id"].as_str().unwrap_or_default())), "{what}: {list}");
        return;
    }
    assert!(allowed.contains(&text(line, "model")), "{what}: {line}");
    let [seen] = books.seen(id) else { panic!("{what}: upstream saw it {} times", books.seen(id).len()) };
    for name in ["x-tenant-id", "x-bulkhead-tenant", "x-gateway-inference-fairness-id"] {
        assert_eq!(seen.header(name).as_deref(), Some(tenant), "{what}: {name}");
    }
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {}", own_key(tenant))), "{what}");
}

/// A tenant's own key of the provider: whose key is used is whose request it is.
fn own_key(tenant: &str) -> String {
    format!("sk-own-{tenant}-5c1e")
}
