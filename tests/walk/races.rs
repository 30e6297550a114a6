//! A budget for ten, many at once on two workers, and the service or Envoy killed in the middle: never more than ten reach
//! the model, and nothing is free again that an admitted request used. `BULKHEAD_SEED` repeats a run's kills.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use authz_service::admin::client::Client;
use bulkhead_tests::client::{self, H2, Part, Shot, volley};
use bulkhead_tests::configuration::patient;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::policies::{MODEL, resource};
use bulkhead_tests::process::Signal;
use bulkhead_tests::{eventually, full};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const CLIENTS: usize = 100;
const FIT: u64 = 10;
const WORKERS: u32 = 2;
const LIMIT: &str = "tokens-per-day";
/// What one request costs that is answered.
const TRUE_COST: u64 = 50;

/// Where a tenant's tokens are, in the state file: settled, and reserved or lent.
const KEPT: &str = "SELECT ifnull(sum(kept), 0) FROM (
    SELECT settled AS kept FROM windows WHERE key LIKE '[\"' || :tenant || '\",%'
    UNION ALL SELECT reservations.reserved_tokens FROM reservations JOIN audit USING (grant_id)
        WHERE state = 'open' AND audit.tenant = :tenant
    UNION ALL SELECT ifnull(closed_tokens, lent_tokens) - ended_tokens FROM leases
        WHERE expired = 0 AND tenant = :tenant AND ifnull(closed_requests > ended_requests, 1))";

/// One tenant's race: who runs, and what was seen.
struct Race {
    tenant: String,
    each: u64,
    budget: u64,
    refused: Arc<AtomicUsize>,
    answered: u64,
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Service,
    Envoy,
}

fn body() -> Value {
    let mut body = chat_body("[hold] [prompt=30] [tokens=20]");
    body["max_tokens"] = json!(100);
    body
}

/// Asks until it is refused by the limit or answered, as a client does that is told to try again.
async fn client(number: usize, bearer: String, addr: watch::Receiver<SocketAddr>, refused: Arc<AtomicUsize>) -> u16 {
    let text = body().to_string();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    loop {
        let at = *addr.borrow();
        let answer = if number.is_multiple_of(2) {
            let request = Request::post(CHAT).header("host", "ai.example");
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            client::request(at, request.body(Full::from(text.clone())).unwrap()).await
        } else {
            match H2::connect(at).await {
                Ok(mut connection) => {
                    connection.request("POST", CHAT, &headers, vec![Part::Last(text.clone().into())]).await
                }
                Err(error) => Err(error),
            }
        };
        match answer {
            Ok(answer) if answer.status == 200 && answer.complete => return 200,
            Ok(answer) if answer.status == 429 => {
                assert_eq!(answer.header("x-bulkhead-limit"), Some(LIMIT), "{}", answer.text());
                refused.fetch_add(1, Ordering::SeqCst);
                return 429;
            }
            Ok(answer) => assert_eq!((answer.status, answer.code().as_str()), (503, "service_unavailable")),
            Err(_) => {} // Envoy is dead
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What reached the model of a tenant's, ever.
fn admitted(gateway: &Gateway, tenant: &str) -> u64 {
    let mine = |seen: &bulkhead_tests::upstream::Seen| seen.header("x-bulkhead-tenant").as_deref() == Some(tenant);
    gateway.upstream.record().iter().filter(|seen| mine(seen)).count() as u64
}

/// What is left of a tenant's budget; nothing while the service is away.
async fn left(gateway: &Gateway, tenant: &str) -> Option<u64> {
    let usage = Client::new(gateway.directory().join("admin.sock")).usage().await.ok()?;
    let tenant = usage.tenants.into_iter().find(|one| one.tenant == tenant)?;
    tenant.limits.into_iter().find(|limit| limit.name == LIMIT).map(|limit| limit.left)
}

fn kept(gateway: &Gateway, tenant: &str) -> u64 {
    gateway.service().number(&KEPT.replace(":tenant", &format!("'{tenant}'"))).try_into().unwrap()
}

impl Race {
    /// Every look, whenever: no more than fit, each of them on disk, and none of what they may use is free.
    async fn look(&self, gateway: &Gateway) -> u64 {
        let admitted = admitted(gateway, &self.tenant);
        let (kept, left) = (kept(gateway, &self.tenant), left(gateway, &self.tenant).await);
        let what = format!("{admitted} admitted, {kept} kept, {left:?} left of {}", self.budget);
        assert!(admitted <= FIT, "{what}");
        let used = self.answered * TRUE_COST + (admitted - self.answered) * self.each;
        assert!((used..=self.budget).contains(&kept), "on disk: {what}");
        assert!(left.is_none_or(|left| left + used <= self.budget), "free: {what}");
        admitted
    }

    /// Waits until what is left is what is not kept; `over`: and nothing is reserved or lent any more.
    async fn balances(&self, gateway: &Gateway, over: bool) {
        let began = Instant::now();
        loop {
            self.look(gateway).await;
            let (left, kept) = (left(gateway, &self.tenant).await, kept(gateway, &self.tenant));
            let settled = "SELECT ifnull(sum(settled), 0) FROM windows WHERE key LIKE ";
            let settled = gateway.service().number(&format!("{settled}'[\"{}\",%'", self.tenant)) as u64;
            if left.is_some_and(|left| left + kept == self.budget) && (!over || settled == kept) {
                return;
            }
            let what = format!("{}: {left:?} left, {kept} kept, {settled} settled", self.tenant);
            assert!(began.elapsed() < Duration::from_secs(40), "{what} of {}", self.budget);
            if over {
                // workers that serve report: what nobody lists is given back, if ever, then
                gateway.chat_once("acme", &chat_body("[tokens=1]")).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Every worker serves and is known to the service: it waits for the reports of those that it has heard of.
async fn warm(gateway: &Gateway) {
    let shot = Shot::post(CHAT, chat_body("[tokens=1]").to_string()).header("authorization", gateway.bearer("acme"));
    volley(gateway.addr, &vec![shot; 12], 12).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
}

async fn kill(gateway: &mut Gateway, victim: Victim, addr: &watch::Sender<SocketAddr>) {
    match victim {
        Victim::Service => {
            gateway.service().process().signal(Signal::Kill);
            gateway.service().process().ended().await;
            gateway.service_mut().restart().await;
        }
        Victim::Envoy => {
            gateway.envoy.signal(Signal::Kill);
            gateway.envoy.ended().await;
            gateway.restart_envoy(WORKERS).await;
            addr.send_replace(gateway.addr);
        }
    }
}

/// One tenant's clients, and one kill once so many of them have reached the model.
async fn run(gateway: &mut Gateway, race: &mut Race, victim: Victim, random: &mut Random) {
    warm(gateway).await;
    let addr = watch::Sender::new(gateway.addr);
    let key = gateway.service().create_key(&race.tenant, &[]).await;
    let start = |number: usize| -> JoinHandle<u16> {
        let (bearer, refused) = (format!("Bearer {key}"), Arc::clone(&race.refused));
        tokio::spawn(client(number, bearer, addr.subscribe(), refused))
    };
    let clients: Vec<JoinHandle<u16>> = (0..CLIENTS).map(start).collect();
    let (after, pause, began) = (random.below(FIT), random.below(30), Instant::now());
    while admitted(gateway, &race.tenant) < after && began.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(pause)).await;
    let before = admitted(gateway, &race.tenant);
    kill(gateway, victim, &addr).await;
    let began = Instant::now();
    while race.refused.load(Ordering::SeqCst) + gateway.upstream.held() < CLIENTS {
        race.look(gateway).await;
        let (refused, held) = (race.refused.load(Ordering::SeqCst), gateway.upstream.held());
        assert!(began.elapsed() < Duration::from_secs(40), "{}: {refused} refused, {held} held", race.tenant);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let all = race.look(gateway).await;
    eprintln!("{}: {victim:?} killed with {before} at the model; {all} admitted in the end", race.tenant);
    race.answered = gateway.upstream.held() as u64;
    gateway.upstream.release();
    let mut passed = 0;
    for client in clients {
        passed += u64::from(client.await.unwrap() == 200);
    }
    assert_eq!(passed, race.answered);
    // on disk before the next kill: what a dead Envoy has not reported is spent as it was reserved
    let settled = format!("SELECT count(*) FROM audit WHERE tenant = '{}' AND outcome = 'answered'", race.tenant);
    eventually("every settlement", async || (gateway.service().number(&settled) as u64 == race.answered).then_some(()))
        .await;
    race.balances(gateway, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_in_the_middle_of_a_race_for_a_budget() {
    let races = if full() { 100 } else { 5 };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let seed = std::env::var("BULKHEAD_SEED").map_or_else(|_| now(), |seed| seed.parse().expect("a number"));
    eprintln!("seed {seed}");
    let mut random = Random(seed);

    // the worst case: a token for each byte, sixteen for the chat template, and all that may come out
    let each = body().to_string().len() as u64 + 16 + 100;
    let budget = FIT * each + each / 2;
    let names: Vec<String> = (0..races).map(|number| format!("race-{number}")).collect();
    let tenants = names.clone();
    let gateway = Gateway::builder().concurrency(WORKERS).envoy(|text| patient(&text, "5s")).policies(move |set| {
        let limits = json!([{"name": LIMIT, "counts": "tokens", "scope": "tenant", "amount": budget, "window": "day"}]);
        let mut plan = set.spec("Plan", "premium").clone();
        (plan["limits"], plan["longestStream"]) = (limits, json!("15s"));
        set.add(resource("Plan", "race", &plan));
        for name in tenants {
            let spec = json!({"plan": "race", "models": [MODEL], "regions": ["eu-central"], "namespaces": [name]});
            set.add(resource("Tenant", &name, &spec));
        }
    });
    let mut gateway = gateway.start().await;
    let mut over = Vec::new();
    for (number, tenant) in names.into_iter().enumerate() {
        let refused = Arc::default();
        let mut race = Race { tenant, each, budget, refused, answered: 0 };
        // the last kills of a run are Envoy's: a service that starts takes every reservation for one under way
        let victim = if matches!(number % 5, 0 | 2) { Victim::Service } else { Victim::Envoy };
        run(&mut gateway, &mut race, victim, &mut random).await;
        over.push(race);
    }
    // once everything has expired, what was sent and never answered is spent
    for race in &over {
        race.balances(&gateway, true).await;
    }
    let twice = "SELECT count(*) FROM (SELECT 1 FROM audit \
        WHERE request_id <> '' AND decision = 'allow' GROUP BY request_id HAVING count(*) > 1)";
    assert_eq!(gateway.service().number(twice), 0, "one request, one line");
    let admitted: u64 = over.iter().map(|race| admitted(&gateway, &race.tenant)).sum();
    assert!(admitted > FIT, "{admitted} admitted in {races} races");
    assert!(gateway.is_whole().await);
}
