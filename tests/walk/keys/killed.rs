//! The service is killed in the middle of a rotation, at generated moments: a key has one child or none, whoever holds a key
//! still holds one that is good, and the list, the audit log and the state file agree. `BULKHEAD_SEED` repeats a run's kills.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_tests::books::refusal;
use bulkhead_tests::client::{Answer, Shot, volley};
use bulkhead_tests::configuration::patient;
use bulkhead_tests::gateway::Gateway;
use bulkhead_tests::process::Signal;
use bulkhead_tests::{eventually, full};
use serde_json::{Value, json};

use super::{ROTATE, chat, listed, made, rotate, word};

/// Holders that race with the same key: one of them may win.
const RACERS: usize = 3;

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// What was there when the service came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// The rotation had not begun, or left a resource that opens nothing.
    Unrotated,
    /// It was durable, and its answer was lost.
    Unanswered,
    /// It was answered.
    Answered,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_a_rotation_leaves_one_child_or_none() {
    let kills = if full() { 200 } else { 8 };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let seed = std::env::var("BULKHEAD_SEED").map_or_else(|_| now(), |seed| seed.parse().expect("a number"));
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    let mut gateway = Gateway::builder().concurrency(2).envoy(|text| patient(&text, "5s")).start().await;
    let mut found: BTreeMap<Found, u32> = BTreeMap::new();
    let mut took = Duration::ZERO;
    for kill in 0..kills {
        let key = made(&gateway, &[]).await;
        // how long one takes that nobody disturbs: the moments of the kills are spread over it and a little more
        if kill % 10 == 0 {
            let began = Instant::now();
            let other = made(&gateway, &[]).await;
            let began_rotation = Instant::now();
            assert_eq!(rotate(&gateway, word(&other, "key"), "{}").await.status, 200);
            took = began_rotation.elapsed().min(began.elapsed());
        }
        let moment = Duration::from_micros(random.below(took.as_micros() as u64 * 3 / 2));
        *found.entry(killed(&mut gateway, &key, moment).await).or_default() += 1;
    }
    eprintln!("keys: {kills} kills within {took:?}: {found:?}");
    let codes = |rows: &[Value]| rows.iter().filter(|line| line["code"] == "key.rotate").count();
    let children = listed(&gateway).await.iter().filter(|row| row["parent"].is_string()).count();
    assert_eq!(codes(&gateway.service().whole_audit().await), children, "one line for each child");
    gateway.service().command(&["reload"]).await;
    assert!(gateway.is_whole().await);
}

/// Kills the service that long after a key's rotations were asked for, starts it again, and looks at everything.
async fn killed(gateway: &mut Gateway, key: &Value, moment: Duration) -> Found {
    let (id, text) = (word(key, "id"), word(key, "key"));
    let shot = Shot::post(ROTATE, "{}").header("authorization", format!("Bearer {text}"));
    let (addr, shots) = (gateway.addr, vec![shot; RACERS]);
    let asking = tokio::spawn(async move { volley(addr, &shots, RACERS).await });
    tokio::time::sleep(moment).await;
    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    let answers: Vec<Answer> = asking.await.unwrap().into_iter().flatten().collect();
    gateway.service_mut().restart().await;

    let won: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert!(won.len() <= 1, "{moment:?}: rotated twice");
    for lost in answers.iter().filter(|answer| answer.status != 200) {
        assert!(matches!(lost.status, 409 | 503), "{moment:?}: {} {}", lost.status, lost.text());
    }
    eventually("a chat by the parent", async || (chat(gateway, text).await.status == 200).then_some(())).await;

    let rows = listed(gateway).await;
    let parent = rows.iter().find(|row| row["id"] == id).expect("the key itself");
    assert_eq!(parent["state"], "active", "{moment:?}: {parent}");
    let children: Vec<&Value> = rows.iter().filter(|row| row["parent"] == id).collect();
    assert!(children.len() <= 1, "{moment:?}: {children:?}");
    assert_eq!(children.first().map_or(Value::Null, |child| child["id"].clone()), parent["child"], "{moment:?}");
    let lines = gateway.service().whole_audit().await;
    let lines: Vec<&Value> = lines.iter().filter(|line| line["code"] == "key.rotate" && line["keyId"] == id).collect();
    assert_eq!(lines.len(), children.len(), "{moment:?}: {lines:?}");

    let Some(child) = children.first() else {
        assert!(won.is_empty(), "{moment:?}: a child that was handed out is gone");
        let again = rotate(gateway, text, "{}").await;
        assert_eq!(again.status, 200, "{moment:?}: it can still be rotated: {}", again.text());
        assert_eq!(chat(gateway, word(&again.json(), "key")).await.status, 200, "{moment:?}");
        return Found::Unrotated;
    };
    let (named, of_key) = (word(child, "id"), format!("key {}", word(child, "id")));
    assert_eq!(child["state"], "active", "{moment:?}: {child}");
    assert!(word(lines[0], "detail").starts_with(&of_key), "{moment:?}: {lines:?}");
    refusal(&rotate(gateway, text, "{}").await, 409, "key_rotated", "a key that was rotated");
    match won.first() {
        None => Found::Unanswered,
        Some(answer) => {
            let new = answer.json();
            assert_eq!(word(&new, "id"), named, "{moment:?}");
            assert_eq!(chat(gateway, word(&new, "key")).await.status, 200, "{moment:?}: the child");
            let next = rotate(gateway, word(&new, "key"), "{}").await;
            assert_eq!((next.status, &next.json()["parent"]), (200, &json!(named)), "{moment:?}");
            Found::Answered
        }
    }
}
