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
