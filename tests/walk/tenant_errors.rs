//! A tenant's own words for refusals: its own callers read them, in our shape, and nobody else does.

use bulkhead_tests::books::refusal;
use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::{Profile, patient};
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use serde_json::json;

fn message(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn a_tenants_own_callers_read_its_own_words_and_no_stranger_does() {
    for profile in Profile::ALL {
        let own = |tenant: &str, code: &str, word: &str| {
            json!({
                "apiVersion": "bulkhead.dev/v1alpha1", "kind": "TenantPolicy",
                "metadata": {"name": format!("{tenant}-words"), "namespace": tenant},
                "spec": {
                    "tenant": tenant, "errorDetails": if tenant == "acme" { "shown" } else { "hidden" },
                    "rules": [{"name": "closed", "roles": ["auditor"], "then": "deny"}],
                    "errors": [
                        {"code": code, "message": word, "contact": format!("https://help.{tenant}.example/ai")},
                        {"code": "invalid_credential", "message": "Nobody reads this."},
                        {"code": "tenant_conflict", "message": "This key is for us alone."},
                    ],
                },
            })
        };
        let builder = Gateway::builder().profile(profile).envoy(|text| patient(&text, "5s"));
        let builder = builder.policies(|set| {
            for tenant in ["acme", "globex"] {
                set.spec("Tenant", tenant)["role"] = json!("auditor");
                set.add(own(tenant, "policy_denied", &format!("{tenant}'s data office decides — ask there.")));
            }
        });
        let gateway = builder.start().await;
        let (name, body) = (profile.name(), chat_body("hello [tokens=1]").to_string());
        let ask = async |bearer: &str, claim: Option<&str>| {
            let mut headers = vec![("authorization", bearer)];
            headers.extend(claim.map(|claim| ("x-tenant-id", claim)));
            gateway.post(CHAT, &headers, body.clone()).await
        };
        for (tenant, want) in [
            (
                "acme",
                "acme's data office decides — ask there. Rule `acme-words/closed` says so. \
                 Contact: https://help.acme.example/ai",
            ),
            ("globex", "globex's data office decides — ask there. Contact: https://help.globex.example/ai"),
        ] {
            // The built-in auditor may list models: the rule stands in front of that.
            let bearer = gateway.bearer(tenant);
            let answer = gateway.get("/v1/models", &[("authorization", &bearer)]).await;
            refusal(&answer, 403, "policy_denied", name);
            assert_eq!(message(&answer), want, "{name}");
            assert_eq!(answer.json()["error"]["type"], "permission_error");
            let answer = ask(&bearer, None).await;
            assert!(matches!(answer.code().as_str(), "policy_denied" | "endpoint_not_allowed"), "{}", answer.text());
        }
        // nobody is told whose words there are, by any claim
        for claim in [None, Some("acme"), Some("globex")] {
            let answer = ask("Bearer bh_nobody", claim).await;
            refusal(&answer, 401, "invalid_credential", name);
            assert_eq!(message(&answer), "The credential is not valid.", "{name}");
        }
        // a holder of globex's credential who claims acme reads globex's words, or in `inline` a repeat of the table's
        let answer = ask(&gateway.bearer("globex"), Some("acme")).await;
        refusal(&answer, 403, "tenant_conflict", name);
        assert!(!answer.text().contains("acme"), "{}", answer.text());
        assert!(gateway.is_whole().await);
    }
}

/// Bodies, models, limits and answers: in `inline` the module says these, in `portable` it is the service but for answers.
#[tokio::test]
async fn they_are_its_own_whoever_refuses() {
    for profile in Profile::ALL {
        let own = |tenant: &str| {
            let codes =
                ["model_not_found", "invalid_json", "insufficient_quota", "upstream_encoded", "endpoint_not_allowed"];
            let errors: Vec<_> = codes
                .iter()
                .map(|code| json!({"code": code, "message": format!("{tenant} on {code}."), "contact": "mailto:a@b.example"}))
                .collect();
            json!({
                "apiVersion": "bulkhead.dev/v1alpha1", "kind": "TenantPolicy",
                "metadata": {"name": format!("{tenant}-words"), "namespace": tenant},
                "spec": {"tenant": tenant, "errorDetails": if tenant == "acme" { "shown" } else { "hidden" }, "errors": errors},
            })
        };
        let builder = Gateway::builder().profile(profile).envoy(|text| patient(&text, "5s"));
        let gateway = builder
            .policies(|set| {
                for plan in ["premium", "standard"] {
                    set.spec("Plan", plan)["limits"] = json!([
                        {"name": "a-few", "counts": "requests", "scope": "tenant", "amount": 2, "window": "day"},
                    ]);
                }
                set.add(own("acme"));
                set.add(own("globex"));
            })
            .start()
            .await;
        let body = |text: &str| chat_body(text).to_string();
        let unknown = body("hello").replace("llama-3.1-8b", "no-such-model");
        for tenant in ["acme", "globex", "initech"] {
            let bearer = gateway.bearer(tenant);
            let headers = [("authorization", bearer.as_str())];
            let ask = async |path: &str, body: String, status: u16, code: &str| {
                let answer = gateway.post(path, &headers, body).await;
                let what = format!("{} {tenant} {code}", profile.name());
                refusal(&answer, status, code, &what);
                let said = message(&answer);
                let table = !said.starts_with(&format!("{tenant} on {code}."));
                assert_eq!(table, tenant == "initech", "{what}: {said}");
                assert_eq!(said.ends_with(" Contact: mailto:a@b.example"), !table, "{what}: {said}");
                let bare = format!("{tenant} on {code}. Contact: mailto:a@b.example");
                assert_eq!(
                    said == bare,
                    tenant == "globex" || (tenant == "acme" && code == "model_not_found"),
                    "{what}: {said}"
                );
            };
            ask(CHAT, "{".into(), 400, "invalid_json").await;
            ask(CHAT, unknown.clone(), 404, "model_not_found").await;
            ask(CHAT, body("[gzip] [tokens=1]"), 502, "upstream_encoded").await;
            ask("/bulkhead/v1/jobs", r#"{"job":"night","max":"1h"}"#.into(), 403, "endpoint_not_allowed").await;
            assert_eq!(gateway.post(CHAT, &headers, body("[tokens=1]")).await.status, 200);
            if tenant != "initech" {
                ask(CHAT, body("one too many"), 429, "insufficient_quota").await;
            }
        }
        assert!(gateway.is_whole().await);
    }
}
