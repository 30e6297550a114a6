//! Roles and rules through a real Envoy, in both profiles: a clinic that demands a hardware key, a fintech that demands a
//! biometric, a restriction to cheaper models, and whom a built-in role keeps out.

use bulkhead_tests::books::refusal;
use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::{Profile, patient, replaced};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::{Alg, now};
use bulkhead_tests::policies::{Policies, issuer};
use bulkhead_tests::process::Signal;
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
            let (methods, asks) =
                if tenant == "acme" { ("hwk", "max_age=\"900\"") } else { ("face or fpt", "acr_values=\"gold\"") };
            let want = format!(
                "Bearer error=\"insufficient_user_authentication\", \
                 error_description=\"A stronger or more recent login by {methods} is required\", {asks}"
            );
            assert_eq!(challenge, want, "{what}");
            // nothing else changes: the shape of every refusal, and no word of a limit
            refusal(&answer, 401, "insufficient_user_authentication", &what);
            let more: Vec<_> = answer.headers.iter().filter(|(name, _)| name.starts_with("x-ratelimit")).collect();
            assert!(more.is_empty() && answer.header("retry-after").is_none(), "{what}: {:?}", answer.headers);
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
async fn a_step_up_about_one_model_challenges_whoever_asks_for_it_alone() {
    let dear = json!({
        "models": ["llama-3.1-70b"], "when": {"hoursOutside": "00:00-00:01"}, "then": "stepUp",
        "stepUp": {"amr": ["hwk"]},
    });
    let held = json!({"models": ["llama-3.1-70b"], "then": "stepUp", "stepUp": {"acr": ["gold"], "maxAge": "15m"}});
    for (profile, rule, asks) in [
        (Profile::Portable, &dear, " by hwk is required\""),
        (Profile::Inline, &dear, " by hwk is required\""),
        (Profile::Portable, &held, " is required\", acr_values=\"gold\", max_age=\"900\""),
        (Profile::Inline, &held, " is required\", acr_values=\"gold\", max_age=\"900\""),
    ] {
        let gateway = gateway(profile, |set| set.add(policy("acme", rule))).await;
        let what = format!("{} {rule}", profile.name());
        let strong = json!({"amr": ["hwk"], "acr": "gold", "auth_time": now()});
        // twice: the second is decided by what a worker holds of the first
        for round in 0..2 {
            is(&ask(&gateway, "acme", "llama-3.1-8b", &json!({})).await, 200, "", &what);
            let answer = ask(&gateway, "acme", "llama-3.1-70b", &json!({})).await;
            is(&answer, 401, "insufficient_user_authentication", &what);
            refusal(&answer, 401, "insufficient_user_authentication", &what);
            let want = format!(
                "Bearer error=\"insufficient_user_authentication\", \
                 error_description=\"A stronger or more recent login{asks}"
            );
            assert_eq!(answer.header("www-authenticate"), Some(want.as_str()), "{what}");
            is(&ask(&gateway, "acme", "llama-3.1-70b", &strong).await, 200, "", &what);
            let denied = eventually("the refusal's line", async || {
                let lines = gateway.service().audit().await;
                let denied: Vec<_> =
                    lines.into_iter().filter(|row| row["code"] == "insufficient_user_authentication").collect();
                (denied.len() > round).then_some(denied)
            })
            .await;
            let last = denied.last().expect("a line");
            let detail = last["detail"].as_str().unwrap_or_default();
            assert!(detail.starts_with("Rule `acme-policy/rule` asks for it."), "{what}: {last}");
            assert_eq!(detail.contains("It applies to: "), rule == &dear, "{what}: {last}");
            assert_eq!((&last["model"], &last["status"]), (&json!("llama-3.1-70b"), &json!(401)), "{what}: {last}");
            assert!(!answer.text().contains("It applies to"), "{what}: {}", answer.text());
        }
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

/// A gateway behind one load balancer whose word on the client's address is trusted.
async fn behind_a_balancer(profile: Profile, change: impl FnOnce(&mut Policies)) -> Gateway {
    let trusting =
        |text: String| replaced(&patient(&text, "5s"), "xff_num_trusted_hops: 0 ", "xff_num_trusted_hops: 1 ");
    Gateway::builder().profile(profile).policies(change).envoy(trusting).start().await
}

/// One request of acme's from an address, with a login.
async fn from(gateway: &Gateway, address: &str, login: &Value) -> Answer {
    let mut claims = issuer("acme").claims();
    for (name, value) in login.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    let bearer = format!("Bearer {}", issuer("acme").token_with(Alg::Es256, &claims));
    let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", address)];
    gateway.post(CHAT, &headers, chat_body("hello [tokens=1]").to_string()).await
}

#[tokio::test]
async fn a_network_is_new_until_a_strong_login_came_from_it_and_stays_known_over_a_restart() {
    for profile in Profile::ALL {
        let new = json!({
            "when": {"networkNewFor": "1s"}, "then": "stepUp", "stepUp": {"amr": ["hwk"]},
        });
        let mut gateway = behind_a_balancer(profile, |set| set.add(policy("acme", &new))).await;
        let (name, weak, strong) = (profile.name(), json!({"amr": ["pwd"]}), json!({"amr": ["hwk"]}));
        for _ in 0..2 {
            let refused = from(&gateway, "203.0.113.7", &weak).await;
            is(&refused, 401, "insufficient_user_authentication", name);
            let message = refused.json()["error"]["message"].as_str().expect("a message").to_owned();
            assert!(message.contains("`acme-policy/rule`") && !message.contains("network"), "{name}: {message}");
        }
        is(&from(&gateway, "203.0.113.7", &strong).await, 200, "", name);
        eventually("the network is known", async || {
            (from(&gateway, "203.0.113.99", &weak).await.status == 200).then_some(())
        })
        .await;
        is(&from(&gateway, "203.0.114.7", &weak).await, 401, "insufficient_user_authentication", name);
        is(&from(&gateway, "2001:db8:1:2::7", &weak).await, 401, "insufficient_user_authentication", name);
        let lines = gateway.service().audit().await;
        let refused = lines.iter().filter(|row| row["code"] == "insufficient_user_authentication");
        let details: Vec<_> = refused.map(|row| row["detail"].as_str().unwrap_or_default().to_owned()).collect();
        let want = "Rule `acme-policy/rule` asks for it. It applies to: network new for 1 s.";
        assert!(details.len() >= 4 && details.iter().all(|detail| detail == want), "{name}: {details:?}");

        gateway.service().process().signal(Signal::Term);
        gateway.service().process().ended().await;
        gateway.service_mut().restart().await;
        eventually("what was known still is", async || {
            (from(&gateway, "203.0.113.7", &weak).await.status == 200).then_some(())
        })
        .await;
        is(&from(&gateway, "198.51.100.7", &weak).await, 401, "insufficient_user_authentication", name);
    }
}

#[tokio::test]
async fn who_spends_fast_is_stopped_and_nobody_else() {
    for profile in Profile::ALL {
        let fast = json!({
            "when": {"spendOver": {"counts": "requests", "amount": 2, "window": "day", "of": "principal"}}, "then": "deny",
        });
        let gateway = gateway(profile, |set| set.add(policy("acme", &fast))).await;
        let name = profile.name();
        let mut through = 0;
        for _ in 0..40 {
            let answer = ask(&gateway, "acme", "llama-3.1-8b", &json!({})).await;
            if answer.status == 200 {
                through += 1;
                continue;
            }
            is(&answer, 403, "policy_denied", name);
            break;
        }
        // In `inline` requests are counted as they are lent, a few ahead; nothing is held, so each is asked about.
        assert!((1..=3).contains(&through), "{name}: {through} got through");
        is(&ask(&gateway, "acme", "llama-3.1-8b", &json!({"sub": "somebody-else"})).await, 200, "", name);
        is(&ask(&gateway, "globex", "llama-3.1-8b", &json!({})).await, 200, "", name);
        let lines = gateway.service().audit().await;
        let line = lines.iter().find(|row| row["code"] == "policy_denied").expect("a line");
        let want = "Rule `acme-policy/rule` says so. It applies to: the principal's spend of this day over 2 requests.";
        assert_eq!(line["detail"], want, "{name}");
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

#[tokio::test]
async fn a_plan_says_which_credentials_its_tenants_use() {
    let gateway = Gateway::builder().policies(|set| set.spec("Plan", "premium")["methods"] = json!(["keys"]));
    let gateway = gateway.envoy(|text| patient(&text, "5s")).start().await;
    let ask = async |bearer: String| {
        gateway.post(CHAT, &[("authorization", &bearer)], chat_body("hello [tokens=1]").to_string()).await
    };
    assert_eq!(ask(gateway.bearer("acme")).await.status, 200);
    refusal(&ask(gateway.jwt("acme")).await, 403, "credential_not_allowed", "a token under a plan of keys");
}
