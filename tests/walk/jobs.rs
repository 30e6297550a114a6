//! Long jobs through the real chain: a credential of their own, renewed without a gap for 26 hours by a clock that the test
//! holds, and ended within two seconds of a revocation.

mod bound;
mod login;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::patient;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{Builder, CHAT, Gateway, chat_body};
use bulkhead_tests::mint::Alg;
use bulkhead_tests::pipeline::{TOKEN, form};
use bulkhead_tests::policies::issuer;
use bulkhead_tests::process::Signal;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const JOBS: &str = "/bulkhead/v1/jobs";
const RENEW: &str = "/bulkhead/v1/jobs/renew";

/// acme's plan has jobs; what workers hold, they hold for a second.
fn builder() -> Builder {
    Gateway::builder().envoy(|text| patient(&text, "5s")).policies(|set| {
        let plan = set.spec("Plan", "premium");
        plan["jobs"] = json!({"longest": "72h", "renewEvery": "1h"});
        plan["grantTtl"] = json!("1s");
    })
}

async fn post(gateway: &Gateway, path: &str, credential: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {credential}");
    gateway.post(path, &[("authorization", &bearer)], body.to_string()).await
}

/// The credential and the id of an answer that must be good.
fn credential(answer: &Answer) -> (String, String) {
    assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let (body, text) = (answer.json(), |value: &Value| value.as_str().expect("a text").to_owned());
    (text(&body["credential"]), text(&body["id"]))
}

async fn start(gateway: &Gateway, by: &str, max: &str) -> (String, String) {
    credential(&post(gateway, JOBS, by, &json!({"job": "nightly", "max": max})).await)
}

/// Status of a chat by this credential.
async fn chat(gateway: &Gateway, by: &str) -> u16 {
    post(gateway, CHAT, by, &chat_body("hi [tokens=1]")).await.status
}

/// A clock that the test moves.
#[derive(Clone)]
struct Moved(Arc<AtomicI64>);

impl Moved {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn on(&self, minutes: i64) {
        self.0.fetch_add(minutes * 60, Ordering::SeqCst);
    }
}

/// A token of acme's issuer that is good for an hour.
fn token_of_an_hour(at: Timestamp) -> String {
    let mut claims = issuer("acme").claims();
    (claims["iat"], claims["exp"]) = (at.as_second().into(), (at.as_second() + 3600).into());
    issuer("acme").token_with(Alg::Es256, &claims)
}

#[tokio::test]
async fn a_job_of_26_hours_runs_on_tokens_of_an_hour() {
    let clock = Moved(Arc::default());
    let told = clock.clone();
    let gateway = builder().without_keys().clock(Arc::new(move || told.now())).start().await;
    let began = clock.now();
    let token = token_of_an_hour(began);
    let (mut credential_now, id) = start(&gateway, &token, "26h").await;
    let mut chats = 0;
    for half_hours in 1..52 {
        clock.on(30);
        assert_eq!(chat(&gateway, &credential_now).await, 200, "after {half_hours} half hours");
        let renewed = post(&gateway, RENEW, &credential_now, &json!({})).await;
        let (next, same) = credential(&renewed);
        assert_eq!((renewed.status, &same), (200, &id), "after {half_hours} half hours");
        assert_eq!(chat(&gateway, &credential_now).await, 200, "the former one, while it is renewed");
        chats += 2;
        credential_now = next;
    }
    assert_eq!(chat(&gateway, &token).await, 401, "the token that started it is over long since");
    assert_eq!(gateway.upstream.record().len(), chats);
    let line =
        gateway.service().whole_audit().await.into_iter().rfind(|line| line["credential"] == "job").expect("a line");
    assert_eq!(
        (&line["principal"], &line["actors"]),
        (&json!("user@acme.example"), &json!([format!("job:nightly/{id}")]))
    );
    clock.on(31);
    assert_eq!(chat(&gateway, &credential_now).await, 401, "26 hours are over");
    assert_eq!(post(&gateway, RENEW, &credential_now, &json!({})).await.status, 401);
    assert!(gateway.is_whole().await);
    let ran = clock.now().duration_since(began);
    eprintln!("jobs: {chats} chats and 51 renewals in {} h of the service's clock", ran.as_hours());

    // and another one ends when it is revoked, under load
    let (running, id) = start(&gateway, &token_of_an_hour(clock.now()), "26h").await;
    for _ in 0..5 {
        assert_eq!(chat(&gateway, &running).await, 200);
    }
    gateway.service().command(&["job", "revoke", &id]).await;
    let revoked = Instant::now();
    let mut last = Duration::ZERO;
    while revoked.elapsed() < Duration::from_secs(4) {
        let sent = revoked.elapsed();
        if chat(&gateway, &running).await == 200 {
            last = sent;
        }
    }
    eprintln!("jobs: the last chat that was accepted was sent {last:?} after the revocation");
    assert!(last <= Duration::from_secs(2), "accepted {last:?} after the revocation");
    assert_eq!(post(&gateway, RENEW, &running, &json!({})).await.status, 401);
}

#[tokio::test]
async fn what_starts_no_job_and_renews_none() {
    let gateway = builder().start().await;
    let own = gateway.keys["acme"].as_str();
    for (what, by, body, want) in [
        (
            "a plan without jobs",
            gateway.keys["globex"].as_str(),
            json!({"job": "x", "max": "1h"}),
            (403, "endpoint_not_allowed"),
        ),
        ("longer than the plan says", own, json!({"job": "x", "max": "73h"}), (400, "invalid_body")),
        ("no time", own, json!({"job": "x", "max": "0h"}), (400, "invalid_body")),
        ("no duration", own, json!({"job": "x", "max": "soon"}), (400, "invalid_body")),
        ("no name", own, json!({"job": "", "max": "1h"}), (400, "invalid_body")),
        ("an odd name", own, json!({"job": "a b", "max": "1h"}), (400, "invalid_body")),
        ("an unknown field", own, json!({"job": "x", "max": "1h", "tenant": "globex"}), (400, "invalid_body")),
        ("nothing", own, json!({}), (400, "invalid_body")),
    ] {
        let answer = post(&gateway, JOBS, by, &body).await;
        assert_eq!((answer.status, answer.code().as_str()), want, "{what}: {}", answer.text());
    }
    let (job, _) = start(&gateway, own, "2h").await;
    let nested = post(&gateway, JOBS, &job, &json!({"job": "x", "max": "72h"})).await;
    assert_eq!((nested.status, nested.code().as_str()), (403, "endpoint_not_allowed"), "a job starts no job");
    let headers = [("authorization", &*format!("Bearer {job}")), ("content-type", "application/x-www-form-urlencoded")];
    let exchange = gateway.request("POST", TOKEN, &headers, form(&issuer("acme").token(Alg::Es256), "")).await;
    assert_eq!(exchange.json()["error"], "unauthorized_client", "and acts for nobody");
    let not_a_job = post(&gateway, RENEW, own, &json!({})).await;
    assert_eq!((not_a_job.status, not_a_job.code().as_str()), (403, "endpoint_not_allowed"));
    let mut forged = job.clone().into_bytes();
    forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
    assert_eq!(chat(&gateway, &String::from_utf8(forged).expect("text")).await, 401);
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn a_job_survives_a_restart_and_ends_with_the_key_that_started_it() {
    let mut gateway = builder().start().await;
    let key = gateway.keys["acme"].clone();
    let (first, id) = start(&gateway, &key, "26h").await;
    let (second, _) = credential(&post(&gateway, RENEW, &first, &json!({})).await);
    let listed = gateway.service().command(&["job", "list", "--tenant", "acme", "--output", "json"]).await;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(
        (&listed[0]["id"], &listed[0]["state"], &listed[0]["job"]),
        (&json!(id), &json!("active"), &json!("nightly"))
    );
    let kept = std::fs::read(gateway.service().state()).expect("the state file");
    let secret = &second.as_bytes()[20..50];
    assert!(!kept.windows(secret.len()).any(|bytes| bytes == secret), "the state file holds a credential");

    gateway.service().process().signal(Signal::Term);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    for credential in [&first, &second] {
        eventually("a chat by a credential of before", async || {
            (chat(&gateway, credential).await == 200).then_some(())
        })
        .await;
    }
    let by_header = gateway.post(CHAT, &[("x-api-key", &second)], chat_body("hi [tokens=1]").to_string()).await;
    assert_eq!(by_header.status, 200);

    let key_id = key.split('_').nth(1).expect("an id");
    gateway.service().command(&["key", "revoke", key_id]).await;
    let revoked = Instant::now();
    eventually("the job's end", async || (chat(&gateway, &second).await == 401).then_some(())).await;
    assert!(revoked.elapsed() < Duration::from_secs(2), "{:?}", revoked.elapsed());
    assert_eq!(post(&gateway, RENEW, &second, &json!({})).await.status, 401);
    let codes: Vec<Value> =
        gateway.service().whole_audit().await.into_iter().map(|line| line["code"].clone()).collect();
    assert!(["job.start", "job.renew"].iter().all(|code| codes.contains(&json!(code))), "{codes:?}");
}
