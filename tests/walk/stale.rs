//! How long what was revoked or changed is still accepted: by nobody once one Sync has passed, however long grants are
//! held; while the service is away for two seconds, by nobody either. With a Gate that tells nothing, the same look sees
//! accepts that are stale.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use authz_service::admin::client::Client;
use bulkhead_tests::client::{H2, Part, Raw, Shot};
use bulkhead_tests::configuration::{Profile, patient, patient_checks};
use bulkhead_tests::fake_service::{Word, allow, deny, inline_grant, signed};
use bulkhead_tests::full;
use bulkhead_tests::gateway::{Builder, CHAT, Gateway, chat_body};
use bulkhead_tests::policies::Policies;
use bulkhead_tests::process::Signal;
use gateway_core::gate::Revocation;
use gateway_core::wire;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Two workers take these connections, each protocol half of them.
const LANES: usize = 12;
/// A report leaves each worker about twice a second, with jitter, and a busy machine is late.
const SYNC: Duration = Duration::from_millis(1_000);
/// So old may a worker's knowledge be.
const FRESH: Duration = Duration::from_secs(2);

/// One request: when it left, and what came back; 0: nothing.
#[derive(Clone, Copy, Debug)]
struct Seen {
    sent: Instant,
    status: u16,
}

/// Clients that ask one request after the other, over both workers.
struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    lanes: Vec<JoinHandle<Vec<Seen>>>,
}

impl Load {
    fn start(addr: SocketAddr, bearer: &str, http2: bool) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let lane = |number: usize| {
            let shot = Shot::post(CHAT, chat_body("[tokens=1]").to_string()).header("authorization", bearer);
            let shot = Shot { http2: http2 && number.is_multiple_of(2), ..shot };
            tokio::spawn(lane(addr, shot, Arc::clone(&stop), Arc::clone(&count)))
        };
        let lanes = (0..LANES).map(lane).collect();
        Self { stop, count, lanes }
    }

    fn sent(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    async fn end(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for lane in self.lanes {
            all.extend(lane.await.unwrap());
        }
        all
    }
}

async fn lane(addr: SocketAddr, shot: Shot, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Vec<Seen> {
    let (mut raw, mut h2, mut all) = (None, None, Vec::new());
    let headers: Vec<(&str, &str)> =
        shot.headers.iter().map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap())).collect();
    while !stop.load(Ordering::Relaxed) {
        let sent;
        let answer = if shot.http2 {
            let mut connection = match h2.take() {
                Some(connection) => connection,
                None => H2::connect(addr).await.expect("the gateway listens"),
            };
            sent = Instant::now();
            let body = vec![Part::Last(shot.body.clone().into())];
            let answer = connection.request("POST", CHAT, &headers, body).await.ok();
            h2 = answer.is_some().then_some(connection);
            answer
        } else {
            let mut connection = match raw.take() {
                Some(connection) => connection,
                None => Raw::connect(addr).await,
            };
            sent = Instant::now();
            connection.send(&shot.bytes()).await;
            let answer = connection.answer().await;
            raw = answer.as_ref().is_some_and(|answer| answer.header("connection").is_none()).then_some(connection);
            answer
        };
        count.fetch_add(1, Ordering::Relaxed);
        all.push(Seen { sent, status: answer.map_or(0, |answer| answer.status) });
    }
    all
}

/// Of what was sent after `since`: how many, and how long after it the last one left that was accepted.
fn after(all: &[Seen], since: Instant) -> (usize, Duration) {
    let late = all.iter().filter_map(|seen| Some((seen.sent.checked_duration_since(since)?, seen.status)));
    let accepted = late.clone().filter(|(_, status)| *status == 200).map(|(age, _)| age);
    (late.count(), accepted.max().unwrap_or_default())
}

/// Of what was sent later than this after `since`: how many were accepted.
fn stale(all: &[Seen], since: Instant, allowed: Duration) -> usize {
    all.iter().filter(|seen| seen.status == 200 && seen.sent > since + allowed).count()
}

fn accepted(all: &[Seen], since: Instant) -> usize {
    all.iter().filter(|seen| seen.status == 200 && seen.sent < since).count()
}

/// Grants are held for a minute: only what tells of a change ends them.
fn gateway() -> Builder {
    Gateway::builder().concurrency(2).policies(|set| set.spec("Plan", "premium")["grantTtl"] = json!("60s"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_is_accepted_by_no_worker_after_one_sync() {
    let gateway = gateway().envoy(|text| patient(&text, "5s")).start().await;
    let client = Client::new(gateway.directory().join("admin.sock"));
    let (most, time) = if full() { (100_000, 300) } else { (10_000, 25) };
    let (began, mut late, mut oldest, mut rounds) = (Instant::now(), 0, Duration::ZERO, 0);
    while late < most && began.elapsed() < Duration::from_secs(time) {
        let made = gateway.service().command(&["key", "create", "--tenant", "acme", "--output", "json"]).await;
        let made: Value = serde_json::from_str(&made).unwrap();
        let load = Load::start(gateway.addr, &format!("Bearer {}", made["key"].as_str().unwrap()), true);
        tokio::time::sleep(Duration::from_millis(700)).await;
        client.revoke_key(made["id"].as_str().unwrap()).await.expect("it is revoked");
        let revoked = Instant::now();
        tokio::time::sleep(SYNC + Duration::from_millis(1_500)).await;
        let all = load.end().await;
        let ((count, age), before) = (after(&all, revoked), accepted(&all, revoked));
        assert!(before > 0, "it was good before");
        assert_eq!(stale(&all, revoked, SYNC), 0, "an accept {age:?} after the revocation");
        assert!(all.iter().filter(|seen| seen.sent > revoked + SYNC).all(|seen| seen.status == 401), "{rounds}");
        (late, oldest, rounds) = (late + count, oldest.max(age), rounds + 1);
    }
    eprintln!("{rounds} rounds, {late} requests after a revocation, the last accept {oldest:?} after one");
    assert!(late > 500 && rounds > 1, "{late} in {rounds}");
    assert!(gateway.is_whole().await);
}

/// The load is of a key two rotations down; its first ancestor, which has ended long ago, is revoked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_of_a_revoked_key_is_accepted_by_no_worker_after_one_sync() {
    let gateway = gateway().envoy(|text| patient(&text, "5s")).start().await;
    let client = Client::new(gateway.directory().join("admin.sock"));
    let made = gateway.service().command(&["key", "create", "--tenant", "acme", "--output", "json"]).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    let mut key = made["key"].as_str().unwrap().to_owned();
    for overlap in ["0s", "1h"] {
        let (bearer, body) = (format!("Bearer {key}"), json!({"overlap": overlap}).to_string());
        let answer = gateway.post("/bulkhead/v1/keys/rotate", &[("authorization", &bearer)], body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        key = answer.json()["key"].as_str().unwrap().to_owned();
    }
    let load = Load::start(gateway.addr, &format!("Bearer {key}"), true);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let ended = client.revoke_key(made["id"].as_str().unwrap()).await.expect("it is revoked");
    let revoked = Instant::now();
    assert_eq!(ended.len(), 3);
    tokio::time::sleep(SYNC + Duration::from_millis(1_500)).await;
    let all = load.end().await;
    let (count, age) = after(&all, revoked);
    eprintln!("{count} requests after the revocation, the last accept {age:?} after it");
    assert!(accepted(&all, revoked) > 0, "it was good before");
    assert_eq!(stale(&all, revoked, SYNC), 0, "an accept {age:?} after the revocation");
    assert!(all.iter().filter(|seen| seen.sent > revoked + SYNC).all(|seen| seen.status == 401));
    assert!(gateway.is_whole().await);
}

/// What the look above would see if no Sync told of revocations, and that it sees none once one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_word_of_revocations_there_are_stale_accepts() {
    let grant = signed(&inline_grant(|grant| (grant.hold_ms, grant.key_id) = (60_000, "k1".into())));
    let metadata = [(wire::DECISION, wire::DECISION_ALLOW), (wire::GRANT, grant.as_str())];
    let word = Word::Exactly(Box::new(allow(&metadata, &[("x-tenant-id", "acme")])));
    let gateway = Gateway::builder().profile(Profile::Inline).concurrency(2).fake_service(word);
    let gateway = gateway.envoy(|text| patient(&text, "5s")).start().await;
    gateway.fake().tell(1, 0, Vec::new());
    let load = Load::start(gateway.addr, "Bearer bk_held", false);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    gateway.fake().say(Word::Exactly(Box::new(deny(7, 401, "{}", &[]))));
    let revoked = Instant::now();
    tokio::time::sleep(SYNC + Duration::from_secs(2)).await;
    gateway.fake().tell(2, 0, vec![Revocation { epoch: 2, tenant: "acme".into(), key_id: "k1".into() }]);
    let told = Instant::now();
    tokio::time::sleep(SYNC + Duration::from_secs(1)).await;
    let all = load.end().await;
    let ((_, untold), (_, age)) = (after(&all, revoked), after(&all, told));
    eprintln!("{} stale accepts up to {untold:?}; the last {age:?} after it was told", stale(&all, revoked, SYNC));
    assert!(stale(&all, revoked, SYNC) > 0, "the look sees nothing");
    assert_eq!(stale(&all, told, SYNC), 0, "an accept {age:?} after it was told");
    assert!(accepted(&all, revoked) > 0 && gateway.is_whole().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_files_say_holds_at_every_worker_one_sync_after_it_is_taken() {
    let gateway = gateway().envoy(|text| patient(&text, "5s")).start().await;
    let directory = gateway.service().policies();
    let standard = || {
        let mut set = Policies::standard();
        set.spec("Plan", "premium")["grantTtl"] = json!("60s");
        set
    };
    for (what, status) in [("the tenant isolated", 403), ("the key's models", 403), ("the plan's budget", 429)] {
        let made = gateway.service().command(&["key", "create", "--tenant", "acme", "--output", "json"]).await;
        let made: Value = serde_json::from_str(&made).unwrap();
        let load = Load::start(gateway.addr, &format!("Bearer {}", made["key"].as_str().unwrap()), true);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let mut set = standard();
        match what {
            "the tenant isolated" => set.spec("Tenant", "acme")["state"] = json!("Isolated"),
            "the plan's budget" => set.limit("premium", "spend-per-day")["amount"] = json!(1),
            _ => {
                let file = made["file"].as_str().unwrap();
                let text = std::fs::read_to_string(file).unwrap() + "  models: [llama-3.1-70b]\n";
                std::fs::write(file, text).unwrap();
            }
        }
        let taken = || gateway.service().process().log().matches("policies loaded").count();
        let (before, written) = (taken(), Instant::now());
        set.write(&directory).unwrap();
        bulkhead_tests::eventually("it is taken", async || (taken() > before).then_some(())).await;
        let (took, told) = (written.elapsed(), Instant::now());
        tokio::time::sleep(SYNC + Duration::from_secs(1)).await;
        let all = load.end().await;
        let (count, age) = after(&all, told);
        eprintln!("{what}: taken after {took:?}, the last accept {age:?} after that, {count} requests");
        assert_eq!(stale(&all, told, SYNC), 0, "{what}: an accept {age:?} after it was taken");
        let late: Vec<u16> = all.iter().filter(|seen| seen.sent > told + SYNC).map(|seen| seen.status).collect();
        assert!(late.iter().all(|late| *late == status) && !late.is_empty(), "{what}: {late:?}");
        assert!(accepted(&all, written) > 0, "{what}: nothing was accepted before");
        standard().write(&directory).unwrap();
        bulkhead_tests::eventually("it is taken back", async || {
            (gateway.chat_once("acme", &chat_body("[tokens=1]")).await.status == 200).then_some(())
        })
        .await;
    }
    assert!(gateway.is_whole().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_service_is_away_nothing_is_admitted_for_longer_than_two_seconds() {
    let mut gateway = gateway().envoy(|text| patient_checks(&text, "0.3s")).start().await;
    let fresh = if gateway.profile == Profile::Inline { FRESH } else { Duration::ZERO };
    for way in [Signal::Stop, Signal::Kill] {
        let load = Load::start(gateway.addr, &gateway.bearer("acme"), true);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        gateway.service().process().signal(way);
        let away = Instant::now();
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        let back = Instant::now();
        match way {
            Signal::Stop => gateway.service().process().signal(Signal::Cont),
            _ => gateway.service_mut().restart().await,
        }
        let sent = load.sent();
        bulkhead_tests::eventually("it works again", async || {
            (gateway.chat_once("acme", &chat_body("[tokens=1]")).await.status == 200).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let more = load.sent() - sent;
        let all = load.end().await;
        let dark: Vec<Seen> = all.iter().filter(|seen| seen.sent > away + fresh && seen.sent < back).copied().collect();
        let during = all.iter().filter(|seen| seen.sent > away && seen.sent < away + fresh && seen.status == 200);
        eprintln!(
            "{way:?}: {} accepted while fresh, {} asked after; {more} once it was back",
            during.count(),
            dark.len()
        );
        // a call that is under way when the service comes back is answered then
        let early = dark.iter().filter(|seen| seen.sent + Duration::from_millis(500) < back);
        let unlike: Vec<u16> = early.map(|seen| seen.status).filter(|status| *status != 503).collect();
        assert!(!dark.is_empty() && unlike.is_empty(), "{way:?}: {unlike:?}");
        assert!(accepted(&all, away) > 0, "{way:?}: nothing was accepted before");
    }
    assert!(gateway.is_whole().await);
}
