//! The service is killed, its disk is full, it is away: nothing that was answered is lost, spend is never understated, and
//! what Envoy refused meanwhile is told later.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkhead_tests::books::is_refusal;
use bulkhead_tests::client::{Answer, Part};
use bulkhead_tests::configuration::Profile;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::process::{Signal, free_port};
use gpu_accounting::outbox::QUEUE;
use serde_json::json;
use tokio::task::JoinHandle;

const BUDGET: u64 = 1_000_000_000;
/// Requests that were not admitted because the service was away; in `inline` the module may know whose they were.
const REFUSED_IDS: &str = "SELECT request_id FROM audit WHERE decision IN ('refused', 'deny')";

async fn gateway() -> Gateway {
    let limits =
        json!([{"name": "tokens-per-day", "counts": "tokens", "scope": "tenant", "amount": BUDGET, "window": "day"}]);
    Gateway::builder().concurrency(2).policies(|set| set.spec("Plan", "premium")["limits"] = limits).start().await
}

async fn kill(gateway: &Gateway) {
    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
}

fn id(answer: &Answer) -> String {
    answer.header("x-request-id").expect("a request id").to_owned()
}

/// Clients that ask one request after the other until they are told to stop.
fn load(gateway: &Gateway, clients: usize, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<Vec<Answer>>> {
    let text = chat_body("[prompt=30] [tokens=20]").to_string();
    let one = |number: usize| {
        let (bearer, text, stop, addr) = (gateway.bearer("acme"), text.clone(), Arc::clone(stop), gateway.addr);
        tokio::spawn(async move {
            let mut connection = bulkhead_tests::client::H2::connect(addr).await.expect("a connection");
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            let mut answers = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let parts = vec![Part::Last(text.clone().into())];
                answers.push(connection.request("POST", CHAT, &headers, parts).await.expect("an answer"));
                tokio::time::sleep(Duration::from_millis(5 + number as u64)).await;
            }
            answers
        })
    };
    (0..clients).map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_under_load_loses_nothing_that_was_answered() {
    let mut gateway = gateway().await;
    let mut body = chat_body("[prompt=40] [tokens=80] [drip=40ms]");
    (body["stream"], body["max_tokens"]) = (json!(true), json!(500));
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = gateway.chat_stream("acme", &body).await;
        stream.until("alfa").await;
        streams.push(stream);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let clients = load(&gateway, 8, &stop);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    kill(&gateway).await;
    let answered_before = gateway.upstream.record().len() as u64 - 3;
    // in `inline` what is held and lent carries on for up to two seconds
    let inline = Profile::under_test() == Profile::Inline;
    tokio::time::sleep(Duration::from_millis(if inline { 2_500 } else { 300 })).await;
    gateway.service_mut().restart().await;
    let left = gateway.service().left("acme", "tokens-per-day").await;
    let true_spend = answered_before * 50;
    assert!(BUDGET - left >= true_spend, "{left} left of {BUDGET}, though {true_spend} were spent");
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::SeqCst);

    let mut answers = Vec::new();
    for client in clients {
        answers.extend(client.await.unwrap());
    }
    let (admitted, refused): (Vec<Answer>, Vec<Answer>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert!(refused.iter().all(|answer| answer.code() == "service_unavailable"), "never open, and never anything else");
    assert!(admitted.len() > 20 && !refused.is_empty(), "{} {}", admitted.len(), refused.len());
    for stream in &mut streams {
        stream.until("[DONE]").await;
    }
    let ids: BTreeSet<String> =
        gateway.upstream.record().iter().filter_map(|seen| seen.header("x-request-id")).collect();
    assert_eq!(ids.len(), admitted.len() + 3, "one request upstream for each that was admitted");
    eventually("every settlement", async || {
        let settled: BTreeSet<String> =
            gateway.service().texts("SELECT request_id FROM audit WHERE outcome = 'answered'").into_iter().collect();
        (ids.is_subset(&settled)).then_some(())
    })
    .await;
    let number = |sql: &str| gateway.service().number(sql) as u64;
    let charged = number("SELECT sum(charged_tokens) FROM audit");
    assert_eq!(charged, admitted.len() as u64 * 50 + 3 * 120, "the true cost of each, the streams' too");
    // committed, and killed before the answer left: reserved until the longest stream has passed, never forgotten
    let open = number("SELECT ifnull(sum(reserved_tokens), 0) FROM reservations WHERE state = 'open'");
    eventually("a budget that is whole, what is lent given back", async || {
        (gateway.service().left("acme", "tokens-per-day").await + charged + open == BUDGET).then_some(())
    })
    .await;
    assert_eq!(number("SELECT max(seq) - count(*) FROM audit"), 0, "no line is missing");
    eventually("a line for each refusal", async || {
        let told: BTreeSet<String> = gateway.service().texts(REFUSED_IDS).into_iter().collect();
        refused.iter().all(|answer| told.contains(&id(answer))).then_some(())
    })
    .await;
    let twice = "SELECT count(*) FROM (SELECT 1 FROM audit WHERE request_id <> '' AND decision <> 'grant' \
                 GROUP BY request_id HAVING count(*) > 1)";
    assert_eq!(number(twice), 0, "one request, one line");
    let log = gateway.service().process().log();
    assert!(!log.contains("without our grant"), "grants from before the restart are still ours");
    eprintln!("{} admitted, {} refused, {} tokens open of {}", admitted.len(), refused.len(), open, charged);
}

#[tokio::test]
async fn a_second_process_on_the_same_state_is_refused() {
    let gateway = Gateway::builder().start().await;
    let at = |name: &str| gateway.directory().join(name).display().to_string();
    let http = format!("127.0.0.1:{}", free_port());
    let (state, other, socket) = (at("state.db"), at("other.db"), at("proxies.sock"));
    let (proxies, admin, taken) = (at("second.sock"), at("second-admin.sock"), format!("unix:{socket}"));
    let (proxies, admin) = (format!("unix:{proxies}"), format!("unix:{admin}"));
    let (policies, kek) = (at("policies"), at("kek"));
    for (state, proxies, words) in [
        (&state, &proxies, "is in use by another bulkhead process"),
        (&other, &taken, "is in use by a running service"),
    ] {
        let arguments = ["serve", "--policies", &policies, "--state", state, "--kek-file", &kek];
        let arguments = [&arguments[..], &["--proxies", proxies, "--admin", &admin, "--http", &http]].concat();
        let said = tokio::time::timeout(Duration::from_secs(10), gateway.service().cli(&arguments, "")).await;
        let said = said.expect("it ends by itself");
        assert_eq!(said.code, Some(1), "{}", said.err);
        assert!(said.err.contains(words), "{}", said.err);
    }
    assert_eq!(gateway.chat("acme", &chat_body("the first one serves on")).await.status, 200);
}

/// A file system of its own that can be filled; taken down again with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(directory.path()).status();
        assert!(mounted.expect("mount").success(), "this test mounts a small tmpfs: it needs root");
        Self(directory)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.file("fill")).expect("a file");
        while std::io::Write::write(&mut file, &[0; 4096]).is_ok_and(|written| written > 0) {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_not_allowed() {
    let disk = SmallDisk::mount();
    let gateway = Gateway::builder().state(&disk.file("state.db")).start().await;
    assert_eq!(gateway.chat("globex", &chat_body("[tokens=1]")).await.status, 200);
    eventually("the settlement", async || {
        let open = "SELECT (SELECT count(*) FROM reservations) + (SELECT count(*) FROM leases)";
        let settled = "SELECT count(*) FROM audit WHERE settled_ms IS NOT NULL";
        (gateway.service().number(open) == 0 && gateway.service().number(settled) == 1).then_some(())
    })
    .await;
    let left = gateway.service().left("globex", "spend-per-day").await;

    disk.fill();
    let answer = gateway.chat_once("globex", &chat_body("[tokens=1]")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "service_unavailable"), "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("1"));
    let stranger = gateway.post(CHAT, &[], chat_body("who am I").to_string()).await;
    assert_eq!((stranger.status, stranger.code().as_str()), (401, "missing_credential"));
    assert_eq!(gateway.upstream.record().len(), 1);
    assert_eq!(gateway.service().left("globex", "spend-per-day").await, left, "nothing stays reserved");
    eventually("nothing in flight", async || (gateway.service().left("globex", "in-flight").await == 64).then_some(()))
        .await;
    assert!(gateway.service().http("/readyz").await.is_err(), "not ready while the state cannot be written");
    assert!(gateway.service().http("/healthz").await.is_ok());

    std::fs::remove_file(disk.file("fill")).unwrap();
    eventually("the next allow", async || {
        (gateway.chat("globex", &chat_body("[tokens=1]")).await.status == 200).then_some(())
    })
    .await;
    assert!(gateway.service().http("/readyz").await.is_ok());
    for (refused, code) in [(&answer, "service_unavailable"), (&stranger, "missing_credential")] {
        let line = eventually("its line", async || gateway.service().lines(&id(refused)).await.pop()).await;
        assert!(is_refusal(&line) && line["code"] == code, "{line:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_envoy_refuses_alone_is_told_later_and_what_is_lost_is_counted() {
    const REFUSED: usize = QUEUE + 104;
    let mut gateway = Gateway::builder().start().await;
    kill(&gateway).await;
    let first = gateway.chat_once("acme", &chat_body("nobody decides")).await;
    assert_eq!((first.status, first.code().as_str()), (503, "service_unavailable"));
    let mut clients = Vec::new();
    for number in 0..20 {
        let (mut connection, bearer) = (gateway.h2().await, gateway.bearer("acme"));
        let share = (REFUSED - 1) / 20 + usize::from(number < (REFUSED - 1) % 20);
        clients.push(tokio::spawn(async move {
            for _ in 0..share {
                let answer = connection.request("GET", "/v1/models", &[("authorization", &bearer)], Vec::new()).await;
                assert_eq!(answer.expect("an answer").status, 503);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    gateway.service_mut().restart().await;
    let count = |sql: &str| gateway.service().number(sql);
    eventually("all that was kept", async || {
        (count("SELECT count(*) FROM audit WHERE code = 'service_unavailable'") == QUEUE as i64).then_some(())
    })
    .await;
    let of_first =
        format!("SELECT decision || ' ' || status || ' ' || detail FROM audit WHERE request_id = '{}'", id(&first));
    assert_eq!(gateway.service().texts(&of_first), ["refused 503 ext_authz_error"]);
    let lost = gateway.service().texts("SELECT detail FROM audit WHERE decision = 'refused' AND request_id = ''");
    assert_eq!(lost, ["104 refusals were lost: the worker's queue was full"]);
    assert_eq!(count("SELECT max(seq) - count(*) FROM audit"), 0);
    assert!(gateway.is_whole().await);
}
