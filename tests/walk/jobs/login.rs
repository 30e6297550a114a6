//! Jobs under rules that ask for a stronger or more recent login (RFC 9470): they have the login of the token that started
//! them, over renewals and restarts, and it grows old.

use std::sync::Arc;

use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::replaced;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::Alg;
use bulkhead_tests::policies::{Policies, issuer};
use bulkhead_tests::process::Signal;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{JOBS, Moved, RENEW, builder, chat, credential, post, start};

const STEP_UP: &str = "insufficient_user_authentication";

/// acme's rule: a hardware key, two hours ago at most; for chat alone, so that any login starts a job.
fn rule(set: &mut Policies) {
    set.add(json!({
        "apiVersion": "bulkhead.dev/v1alpha1", "kind": "TenantPolicy",
        "metadata": {"name": "acme-policy", "namespace": "acme"},
        "spec": {"tenant": "acme", "rules": [{
            "name": "rule", "endpoints": ["chat"], "then": "stepUp",
            "stepUp": {"acr": ["gold"], "amr": ["hwk"], "maxAge": "2h"},
        }]},
    }));
}

/// A token of acme's that says this of its login.
fn token(at: Timestamp, login: &Value) -> String {
    let mut claims = issuer("acme").claims();
    (claims["iat"], claims["exp"]) = (at.as_second().into(), (at.as_second() + 3600).into());
    for (name, value) in login.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    issuer("acme").token_with(Alg::Es256, &claims)
}

fn strong(at: Timestamp) -> Value {
    json!({"acr": "gold", "amr": ["pwd", "hwk"], "auth_time": at.as_second()})
}

async fn asked(gateway: &Gateway, by: &str) -> Answer {
    post(gateway, CHAT, by, &chat_body("hi [tokens=1]")).await
}

fn challenged(answer: &Answer, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (401, STEP_UP), "{what}: {}", answer.text());
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with(&format!("Bearer error=\"{STEP_UP}\"")), "{what}: {challenge}");
    assert!(challenge.ends_with("acr_values=\"gold\", max_age=\"7200\""), "{what}: {challenge}");
}

#[tokio::test]
async fn a_job_is_as_strong_as_the_login_that_started_it_until_that_is_too_old() {
    let clock = Moved(Arc::default());
    let told = clock.clone();
    let gateway = builder().policies(rule).without_keys().clock(Arc::new(move || told.now())).start().await;
    let began = clock.now();
    for (what, login) in [
        ("nothing", json!({})),
        ("no class", json!({"amr": ["hwk"], "auth_time": began.as_second()})),
        ("another class", json!({"acr": "silver", "amr": ["hwk"], "auth_time": began.as_second()})),
        ("no method", json!({"acr": "gold", "auth_time": began.as_second()})),
        ("another method", json!({"acr": "gold", "amr": ["face"], "auth_time": began.as_second()})),
        ("no time", json!({"acr": "gold", "amr": ["hwk"]})),
        ("too long ago", json!({"acr": "gold", "amr": ["hwk"], "auth_time": began.as_second() - 7_300})),
    ] {
        let (weak, _) = start(&gateway, &token(began, &login), "26h").await;
        challenged(&asked(&gateway, &weak).await, what);
    }
    assert!(gateway.upstream.record().is_empty());

    let (mut job, _) = start(&gateway, &token(began, &strong(began)), "26h").await;
    for half_hours in 1..4 {
        clock.on(30);
        assert_eq!(chat(&gateway, &job).await, 200, "after {half_hours} half hours");
        (job, _) = credential(&post(&gateway, RENEW, &job, &json!({})).await);
    }
    clock.on(31);
    let refused = eventually("the login's end", async || {
        let answer = asked(&gateway, &job).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    challenged(&refused, "two hours after the login");
    (job, _) = credential(&post(&gateway, RENEW, &job, &json!({})).await);
    challenged(&asked(&gateway, &job).await, "a renewal is no login");
    let again = post(&gateway, JOBS, &job, &json!({"job": "x", "max": "1h"})).await;
    assert_eq!(again.code(), "endpoint_not_allowed", "nor does it start another job");
    let (fresh, _) = start(&gateway, &token(clock.now(), &strong(clock.now())), "26h").await;
    assert_eq!(chat(&gateway, &fresh).await, 200, "a new login and a new job");
    let lines = gateway.service().whole_audit().await;
    let denied: Vec<_> = lines.iter().filter(|line| line["code"] == STEP_UP).collect();
    assert!(denied.len() >= 9 && denied.iter().all(|line| line["credential"] == "job"), "{denied:#?}");
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn a_jobs_login_is_in_the_state_file_and_a_key_has_none() {
    let mut gateway = builder().policies(rule).start().await;
    let now = Timestamp::now();
    let (job, id) = start(&gateway, &token(now, &strong(now)), "26h").await;
    let (of_key, _) = start(&gateway, &gateway.keys["acme"].clone(), "26h").await;
    challenged(&asked(&gateway, &of_key).await, "started by a key");
    assert_eq!(chat(&gateway, &job).await, 200);
    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    eventually("a chat by the job of before", async || (chat(&gateway, &job).await == 200).then_some(())).await;
    challenged(&asked(&gateway, &of_key).await, "started by a key, before");
    let (renewed, same) = credential(&post(&gateway, RENEW, &job, &json!({})).await);
    assert_eq!((chat(&gateway, &renewed).await, &same), (200, &id));
    // the same rule with a shorter bound: the login is older than that at once
    let resources = gateway.service().policies().join("resources.yaml");
    let text = std::fs::read_to_string(&resources).expect("the resources");
    std::fs::write(&resources, replaced(&text, "\"maxAge\": \"2h\"", "\"maxAge\": \"1s\"")).expect("written");
    gateway.service().command(&["reload"]).await;
    eventually("the bound in force", async || (chat(&gateway, &renewed).await == 401).then_some(())).await;
    assert!(gateway.is_whole().await);
}
