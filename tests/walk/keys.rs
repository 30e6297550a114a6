//! API keys through the real chain: rotated by their holder, ended to the second, kept to their places; security.md C08 to
//! C11. Revocation at every worker is in `stale.rs`.

mod guessing;
mod killed;

use std::time::Duration;

use bulkhead_tests::books::refusal;
use bulkhead_tests::client::{Answer, Shot, volley};
use bulkhead_tests::configuration::{Profile, patient, replaced};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::process::Signal;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const ROTATE: &str = "/bulkhead/v1/keys/rotate";

async fn gateway() -> Gateway {
    Gateway::builder().concurrency(2).envoy(|text| patient(&text, "5s")).start().await
}

async fn made(gateway: &Gateway, more: &[&str]) -> Value {
    let arguments = [&["key", "create", "--tenant", "acme", "--output", "json"], more].concat();
    serde_json::from_str(&gateway.service().command(&arguments).await).expect("JSON")
}

fn word<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {value}"))
}

fn instant(value: &Value, field: &str) -> Timestamp {
    word(value, field).parse().expect("an instant")
}

async fn chat(gateway: &Gateway, key: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    gateway.post(CHAT, &[("authorization", &bearer)], chat_body("[prompt=1] [tokens=1]").to_string()).await
}

async fn rotate(gateway: &Gateway, key: &str, body: &str) -> Answer {
    gateway.post(ROTATE, &[("authorization", &format!("Bearer {key}"))], body.to_owned()).await
}

async fn rotated(gateway: &Gateway, key: &str, body: &str) -> Value {
    let answer = rotate(gateway, key, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn listed(gateway: &Gateway) -> Vec<Value> {
    let text = gateway.service().command(&["key", "list", "--tenant", "acme", "--output", "json"]).await;
    serde_json::from_str(&text).expect("a list")
}

async fn row(gateway: &Gateway, id: &str) -> Value {
    let rows = listed(gateway).await;
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id} in {rows:?}")).clone()
}

/// Asks until the key is refused: no answer that came before its end refuses, no request that left after it is admitted.
async fn ends_at(gateway: &Gateway, key: &str, end: Timestamp) {
    let (mut admitted, mut last) = (0, Timestamp::now());
    for _ in 0..5_000 {
        let sent = Timestamp::now();
        let answer = chat(gateway, key).await;
        if answer.status == 401 {
            refusal(&answer, 401, "invalid_credential", "a key that has ended");
            assert!(Timestamp::now() >= end, "refused {:?} too early", end.duration_since(Timestamp::now()));
            assert!(last < end, "admitted {:?} after its end", last.duration_since(end));
            assert!(admitted > 0, "it was never admitted");
            return;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        (admitted, last) = (admitted + 1, sent);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the key never ended");
}

#[tokio::test]
async fn a_job_exchanges_its_key_and_both_are_good_until_the_overlap_ends() {
    let mut gateway = gateway().await;
    let old = made(&gateway, &["--model", "llama-3.1-8b", "--ttl", "48h"]).await;
    assert_eq!(chat(&gateway, word(&old, "key")).await.status, 200, "held by a worker from here on, in `inline`");
    let answer = rotate(&gateway, word(&old, "key"), r#"{"overlap":"6s"}"#).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{}", answer.text());
    let new = answer.json();
    assert_eq!(new["parent"], old["id"]);
    let (until, expires) = (instant(&new, "overlap_until"), instant(&new, "expires_at"));
    assert!(until <= Timestamp::now() + SignedDuration::from_secs(6) && until.subsec_nanosecond() == 0);
    assert!(expires.duration_since(instant(&old, "expiresAt")).as_secs().unsigned_abs() < 60, "as long as the old one");
    assert_eq!(chat(&gateway, word(&new, "key")).await.status, 200);
    let other = json!({"model": "llama-3.1-70b", "messages": [{"role": "user", "content": "x"}]}).to_string();
    let bearer = format!("Bearer {}", word(&new, "key"));
    let wider = gateway.post(CHAT, &[("authorization", &bearer)], other).await;
    refusal(&wider, 403, "model_not_allowed", "the new key may what the old one might");

    ends_at(&gateway, word(&old, "key"), until).await;
    assert_eq!(chat(&gateway, word(&new, "key")).await.status, 200);
    let again = rotate(&gateway, word(&old, "key"), "{}").await;
    refusal(&again, 401, "invalid_credential", "an old key");

    let (parent, child) = (row(&gateway, word(&old, "id")).await, row(&gateway, word(&new, "id")).await);
    assert_eq!((&parent["child"], &parent["state"]), (&new["id"], &json!("expired")), "{parent}");
    assert_eq!((&child["parent"], &child["state"], &child["child"]), (&old["id"], &json!("active"), &Value::Null));
    let line = gateway.service().audit().await.into_iter().find(|line| line["code"] == "key.rotate").expect("a line");
    assert_eq!((&line["keyId"], &line["tenant"], &line["decision"]), (&old["id"], &json!("acme"), &json!("admin")));
    assert_eq!(word(&line, "principal"), format!("key:{}", word(&old, "id")));
    assert_eq!(line["requestId"].as_str(), answer.header("x-request-id"));
    assert!(word(&line, "detail").contains(word(&new, "id")), "{line}");

    // A restart forgets none of it.
    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    eventually("an answer", async || (chat(&gateway, word(&new, "key")).await.status == 200).then_some(())).await;
    assert_eq!(chat(&gateway, word(&old, "key")).await.status, 401);
    let third = rotated(&gateway, word(&new, "key"), "").await;
    assert_eq!(third["parent"], new["id"]);
    let secret = |key: &Value| word(key, "key").rsplit('_').next().expect("a secret").to_owned();
    for secret in [secret(&old), secret(&new), secret(&third)] {
        assert!(!gateway.service().process().log().contains(&secret), "a key in the log");
        let everything = format!("{:?} {:?}", gateway.service().audit().await, gateway.access_log());
        assert!(!everything.contains(&secret), "a key in audit or access log");
    }
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn racing_rotations_make_one_key() {
    let gateway = gateway().await;
    let old = made(&gateway, &[]).await;
    let bearer = format!("Bearer {}", word(&old, "key"));
    let shots: Vec<Shot> = (0..16).map(|_| Shot::post(ROTATE, "{}").header("authorization", bearer.as_str())).collect();
    let answers = volley(gateway.addr, &shots, 16).await;
    let (made, refused): (Vec<Answer>, Vec<Answer>) =
        answers.into_iter().map(|answer| answer.expect("an answer")).partition(|answer| answer.status == 200);
    assert_eq!(made.len(), 1, "{refused:?}");
    for answer in refused {
        refusal(&answer, 409, "key_rotated", "who came second");
    }
    let children = listed(&gateway).await.into_iter().filter(|row| row["parent"] == old["id"]).count();
    assert_eq!(children, 1);
    let files = std::fs::read_dir(gateway.service().policies().join("api-keys")).unwrap().count();
    assert_eq!(files, gateway.keys.len() + 2, "no file is left over");
    let new = made[0].json();
    assert_eq!(chat(&gateway, word(&new, "key")).await.status, 200);
    assert_eq!(chat(&gateway, word(&old, "key")).await.status, 200, "ten minutes of overlap");
}

#[tokio::test]
async fn only_a_key_that_may_is_rotated_and_the_body_says_what_it_means() {
    let gateway = gateway().await;
    let key = made(&gateway, &[]).await;
    let chats = made(&gateway, &["--endpoint", "chat"]).await;
    let both = made(&gateway, &["--endpoint", "chat", "--endpoint", "rotate"]).await;
    let token = gateway.jwt("acme");
    let asked =
        async |bearer: &str, body: &str| gateway.post(ROTATE, &[("authorization", bearer)], body.to_owned()).await;
    refusal(&asked(&token, "{}").await, 403, "endpoint_not_allowed", "a token");
    refusal(&rotate(&gateway, word(&chats, "key"), "{}").await, 403, "endpoint_not_allowed", "not among its endpoints");
    refusal(&gateway.post(ROTATE, &[], "{}").await, 401, "missing_credential", "nobody");
    let get = gateway.get(ROTATE, &[("authorization", &format!("Bearer {}", word(&key, "key")))]).await;
    refusal(&get, 405, "method_not_allowed", "GET");
    for (body, code) in [
        (r#"{"overlap":"25h"}"#, "invalid_body"),
        (r#"{"overlap":"-1s"}"#, "invalid_body"),
        (r#"{"overlap":"soon"}"#, "invalid_body"),
        (r#"{"overlap":5}"#, "invalid_body"),
        (r#"{"key":"x"}"#, "invalid_body"),
        (r#"[]"#, "invalid_body"),
        (r#"{"overlap":"1s","overlap":"1h"}"#, "invalid_body"),
        ("{", "invalid_json"),
        ("{} x", "invalid_json"),
    ] {
        refusal(&rotate(&gateway, word(&key, "key"), body).await, 400, code, body);
    }
    let large = format!(r#"{{"overlap":"{}"}}"#, " ".repeat(70_000));
    refusal(&rotate(&gateway, word(&key, "key"), &large).await, 413, "body_too_large", "70 kB");
    assert_eq!(row(&gateway, word(&key, "id")).await["child"], Value::Null, "nothing was made");
    rotated(&gateway, word(&key, "key"), "{}").await;
    let next = rotated(&gateway, word(&both, "key"), r#"{"overlap":"0s"}"#).await;
    assert_eq!(row(&gateway, word(&next, "id")).await["endpoints"], json!(["chat", "rotate"]));
    eventually("no overlap", async || (chat(&gateway, word(&both, "key")).await.status == 401).then_some(())).await;
    refusal(&rotate(&gateway, word(&both, "key"), "{}").await, 401, "invalid_credential", "an old key");
    let (id, new) = (word(&next, "id"), word(&next, "key"));
    gateway.service().command(&["key", "revoke", id]).await;
    refusal(&rotate(&gateway, new, "{}").await, 401, "invalid_credential", "a revoked key");
    let acme =
        gateway.post(ROTATE, &[("authorization", &gateway.bearer("globex")), ("x-tenant-id", "acme")], "{}").await;
    refusal(&acme, 403, "tenant_conflict", "another tenant's name");
}

#[tokio::test]
async fn a_rotation_brings_no_new_budget() {
    let gateway = gateway().await;
    let old = made(&gateway, &[]).await;
    let limit = "  limits: [{name: own, counts: requests, amount: 3, window: month}]\n";
    let text = std::fs::read_to_string(word(&old, "file")).unwrap() + limit;
    std::fs::write(word(&old, "file"), text).unwrap();
    gateway.service().command(&["reload"]).await;
    assert_eq!(chat(&gateway, word(&old, "key")).await.status, 200);
    let new = rotated(&gateway, word(&old, "key"), "{}").await;
    let mut admitted = 1;
    for _ in 0..8 {
        for key in [word(&new, "key"), word(&old, "key")] {
            let answer = chat(&gateway, key).await;
            if answer.status == 200 {
                admitted += 1;
            } else {
                refusal(&answer, 429, "insufficient_quota", "the budget of the chain");
            }
        }
    }
    assert!((2..=3).contains(&admitted), "{admitted} of three, by the two of them");
}

#[tokio::test]
async fn a_key_ends_to_the_second() {
    let gateway = gateway().await;
    let key = made(&gateway, &[]).await;
    let end = Timestamp::from_second(Timestamp::now().as_second() + 5).unwrap();
    let text = std::fs::read_to_string(word(&key, "file")).unwrap().replace(word(&key, "expiresAt"), &end.to_string());
    std::fs::write(word(&key, "file"), text).unwrap();
    gateway.service().command(&["reload"]).await;
    ends_at(&gateway, word(&key, "key"), end).await;
    assert_eq!(row(&gateway, word(&key, "id")).await["state"], "expired");
}

#[tokio::test]
async fn a_key_is_good_at_its_places_alone() {
    let behind = |text: String| replaced(&patient(&text, "5s"), "xff_num_trusted_hops: 0 ", "xff_num_trusted_hops: 1 ");
    let gateway = Gateway::builder().concurrency(2).envoy(behind).start().await;
    let placed = made(&gateway, &["--source", "203.0.113.0/28", "--source", "2001:db8:1::/48"]).await;
    let free = made(&gateway, &[]).await;
    let from = async |key: &str, path: &str, source: &str| {
        let bearer = format!("Bearer {key}");
        let body = if path == CHAT { chat_body("[prompt=1] [tokens=1]").to_string() } else { "{}".to_owned() };
        gateway.post(path, &[("authorization", &bearer), ("x-forwarded-for", source)], body).await
    };
    // Inside and outside in turn: in `inline` no worker takes the one's grant for the other.
    for (source, inside) in [
        ("203.0.113.1", true),
        ("203.0.113.16", false),
        ("203.0.113.15", true),
        ("203.0.113.15, 198.51.100.1", false),
        ("198.51.100.1, 203.0.113.15", true),
        ("2001:db8:1:ffff::1", true),
        ("2001:db8:2::1", false),
        ("::1", false),
    ] {
        for _ in 0..3 {
            let answer = from(word(&placed, "key"), CHAT, source).await;
            if inside {
                assert_eq!(answer.status, 200, "{source}: {}", answer.text());
            } else {
                refusal(&answer, 401, "invalid_credential", source);
            }
        }
        assert_eq!(from(word(&free, "key"), CHAT, source).await.status, 200, "{source}");
    }
    refusal(&from(word(&placed, "key"), ROTATE, "198.51.100.1").await, 401, "invalid_credential", "outside");
    let new = from(word(&placed, "key"), ROTATE, "203.0.113.1").await.json();
    refusal(&from(word(&new, "key"), CHAT, "198.51.100.1").await, 401, "invalid_credential", "its child, outside");
    assert_eq!(from(word(&new, "key"), CHAT, "203.0.113.1").await.status, 200, "its child, inside");
    let details = gateway.service().whole_audit().await;
    assert!(details.iter().any(|line| line["detail"] == "api key: used from elsewhere"), "the log says why");
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn a_proxy_that_says_no_place_opens_none() {
    let silent = |text: String| {
        patient(&text, "5s")
            .lines()
            .filter(|line| !line.contains("x-bulkhead-source"))
            .fold(String::new(), |text, line| text + line + "\n")
    };
    let gateway = Gateway::builder().envoy(silent).start().await;
    let everywhere = made(&gateway, &["--source", "0.0.0.0/0", "--source", "::/0"]).await;
    let free = made(&gateway, &[]).await;
    refusal(&chat(&gateway, word(&everywhere, "key")).await, 401, "invalid_credential", "nobody knows where");
    assert_eq!(chat(&gateway, word(&free, "key")).await.status, 200);
}

#[tokio::test]
async fn the_list_says_when_a_key_was_used_and_all_of_a_tenant_are_revoked_at_once() {
    let mut gateway = gateway().await;
    let (used, unused) = (made(&gateway, &[]).await, made(&gateway, &[]).await);
    let before = Timestamp::now();
    assert_eq!(chat(&gateway, word(&used, "key")).await.status, 200);
    let at = instant(&row(&gateway, word(&used, "id")).await, "lastUsed");
    let within = |at: Timestamp| at >= before - SignedDuration::from_millis(1) && at <= Timestamp::now();
    assert!(within(at), "{at}");
    assert_eq!(row(&gateway, word(&unused, "id")).await["lastUsed"], Value::Null);
    if gateway.profile == Profile::Inline {
        // what a worker admits by itself is known once it has reported it
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let again = Timestamp::now();
        assert_eq!(chat(&gateway, word(&used, "key")).await.status, 200);
        eventually("a later use", async || {
            (instant(&row(&gateway, word(&used, "id")).await, "lastUsed") >= again - SignedDuration::from_secs(1))
                .then_some(())
        })
        .await;
    }
    let last = instant(&row(&gateway, word(&used, "id")).await, "lastUsed");
    gateway.service().process().signal(Signal::Term);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    assert!(instant(&row(&gateway, word(&used, "id")).await, "lastUsed") >= last, "it is in the state file");

    let said = gateway.service().command(&["key", "revoke", "--all", "--tenant", "acme"]).await;
    assert!(said.ends_with("all 3 keys of acme are revoked\n"), "{said}");
    let mine = gateway.keys["acme"].clone();
    for key in [word(&used, "key"), word(&unused, "key"), &mine] {
        eventually("the end of a key", async || (chat(&gateway, key).await.status == 401).then_some(())).await;
    }
    assert!(listed(&gateway).await.iter().all(|row| row["state"] == "revoked"));
    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    assert!(listed(&gateway).await.iter().all(|row| row["state"] == "revoked"), "it is in the state file");
    eventually("another tenant's key", async || {
        (gateway.chat("globex", &chat_body("[tokens=1]")).await.status == 200).then_some(())
    })
    .await;
    let token = gateway.post(CHAT, &[("authorization", &gateway.jwt("acme"))], chat_body("x").to_string()).await;
    assert_eq!(token.status, 200, "tokens are no keys");
    assert_eq!(gateway.service().cli(&["key", "revoke"], "").await.code, Some(2));
    assert_eq!(gateway.service().cli(&["key", "revoke", "--all"], "").await.code, Some(2));
    assert_eq!(gateway.service().cli(&["key", "revoke", "k1", "--all", "--tenant", "acme"], "").await.code, Some(2));
}
