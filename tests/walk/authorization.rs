//! Roles and rules through a real Envoy, in both profiles: a clinic that demands a hardware key, a fintech that demands a
//! biometric, a restriction to cheaper models, and whom a built-in role keeps out.

use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::{Profile, patient};
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::{Alg, now};
use bulkhead_tests::policies::{Policies, issuer};
use serde_json::{Value, json};

/// A policy of one rule, `rule`.
fn policy(tenant: &str, rule: &Value) -> Value {
    let mut rule = rule.clone();
    rule["name"] = json!("rule");
    json!({
        "apiVersion": "bulkhead.dev/v1alpha1", "kind": "TenantPolicy",
        "metadata": {"name": format!("{tenant}-policy"), "namespace": tenant},
        "spec": {"tenant": tenant, "rules": [rule]},
    })
}

async fn gateway(profile: Profile, change: impl FnOnce(&mut Policies)) -> Gateway {
    let builder = Gateway::builder().profile(profile).policies(change);
    builder.envoy(|text| patient(&text, "5s")).start().await
}

async fn ask(gateway: &Gateway, tenant: &str, model: &str, login: &Value) -> Answer {
    let issuer = issuer(tenant);
    let mut claims = issuer.claims();
    for (name, value) in login.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    let bearer = format!("Bearer {}", issuer.token_with(Alg::Es256, &claims));
    let mut body = chat_body("hello [tokens=1]");
    body["model"] = json!(model);
    gateway.post(CHAT, &[("authorization", &bearer)], body.to_string()).await
}

fn is(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
}

#[tokio::test]
async fn a_clinic_demands_a_hardware_key_and_a_fintech_a_biometric() {
    for profile in Profile::ALL {
        let clinic = json!({"then": "stepUp", "stepUp": {"amr": ["hwk"], "maxAge": "15m"}});
        let fintech = json!({"then": "stepUp", "stepUp": {"acr": ["gold"], "amr": ["face", "fpt"]}});
        let gateway = gateway(profile, |set| {
            set.add(policy("acme", &clinic));
            set.add(policy("globex", &fintech));
        })
        .await;
        let model = "llama-3.1-8b";
        let now = now();
        for (tenant, login, passes) in [
            ("acme", json!({}), false),
            ("acme", json!({"amr": ["pwd", "otp"], "auth_time": now}), false),
            ("acme", json!({"amr": ["hwk"]}), false),
            ("acme", json!({"amr": ["hwk"], "auth_time": now - 1_000}), false),
            ("acme", json!({"amr": ["pwd", "hwk"], "auth_time": now - 60}), true),
            ("globex", json!({"amr": ["hwk"], "acr": "gold"}), false),
            ("globex", json!({"amr": ["face"], "acr": "silver"}), false),
            ("globex", json!({"amr": ["fpt"], "acr": "gold"}), true),
            ("initech", json!({}), true),
        ] {
            let answer = ask(&gateway, tenant, model, &login).await;
            let what = format!("{} {tenant} {login}", profile.name());
            if passes {
                is(&answer, 200, "", &what);
                continue;
            }
            is(&answer, 401, "insufficient_user_authentication", &what);
            let challenge = answer.header("www-authenticate").expect("a challenge").to_owned();
            let error = "Bearer error=\"insufficient_user_authentication\"";
            let wanted = if tenant == "acme" { "max_age=\"900\"" } else { "acr_values=\"gold\"" };
            assert!(challenge.starts_with(error) && challenge.contains(wanted), "{what}: {challenge}");
        }
        let audit = gateway.service().audit().await;
        let denied = audit.iter().filter(|row| row["code"] == "insufficient_user_authentication");
        let details: Vec<_> = denied.map(|row| row["detail"].as_str().unwrap_or_default().to_owned()).collect();
        assert_eq!(details.len(), 6, "{audit:#?}");
        assert!(details.iter().all(|detail| detail.ends_with("-policy/rule` asks for it.")), "{details:?}");
        assert!(gateway.is_whole().await);
    }
}

#[tokio::test]
async fn an_unknown_place_leaves_the_cheaper_models() {
    for profile in Profile::ALL {
        let elsewhere = json!({
            "when": {"sourceOutside": ["192.0.2.0/24"]}, "then": "restrict", "restrictTo": ["llama-3.1-8b"],
        });
        let home = json!({
            "when": {"sourceOutside": ["127.0.0.0/8"]}, "then": "restrict", "restrictTo": ["gpt-4o-mini"],
        });
        let gateway = gateway(profile, |set| {
            set.add(policy("acme", &elsewhere));
            set.add(policy("initech", &home));
        })
        .await;
        let name = profile.name();
        is(&ask(&gateway, "acme", "llama-3.1-8b", &json!({})).await, 200, "", name);
        is(&ask(&gateway, "acme", "llama-3.1-70b", &json!({})).await, 403, "model_not_allowed", name);
        is(&ask(&gateway, "initech", "llama-3.1-8b", &json!({})).await, 200, "", name);
        is(&ask(&gateway, "acme", "llama-3.1-70b", &json!({})).await, 403, "model_not_allowed", name);
        if profile == Profile::Portable {
            let list = gateway.get("/v1/models", &[("authorization", &gateway.bearer("acme"))]).await.json();
            let shown: Vec<_> = list["data"].as_array().expect("a list").iter().map(|one| one["id"].clone()).collect();
            assert_eq!(shown, ["llama-3.1-8b"], "{name}");
        }
        assert!(gateway.is_whole().await);
    }
}

#[tokio::test]
async fn an_auditor_sees_models_and_uses_none() {
    for profile in Profile::ALL {
        let gateway = gateway(profile, |set| set.spec("Tenant", "acme")["role"] = json!("auditor")).await;
        let name = profile.name();
        is(&ask(&gateway, "acme", "llama-3.1-8b", &json!({})).await, 403, "endpoint_not_allowed", name);
        if profile == Profile::Portable {
            let list = gateway.get("/v1/models", &[("authorization", &gateway.bearer("acme"))]).await;
            assert_eq!(list.status, 200, "{name}");
        }
        is(&ask(&gateway, "globex", "llama-3.1-8b", &json!({})).await, 200, "", name);
        assert!(gateway.is_whole().await);
    }
}
