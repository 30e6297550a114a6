//! Resources that change under load, without a signal: no request fails, a broken set changes nothing and is reported.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkhead_tests::client::{Shot, volley};
use bulkhead_tests::configuration::patient;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::policies::{Policies, resource};
use serde_json::json;

/// Sends volleys until told to stop; how many requests were sent, and those that were not answered with 200.
async fn load(gateway: &Gateway, stop: &AtomicBool) -> (usize, Vec<String>) {
    let body = chat_body("[tokens=1]").to_string();
    let shots: Vec<Shot> = (0..24)
        .map(|place| {
            let bearer = gateway.bearer(if place % 3 == 0 { "globex" } else { "acme" });
            Shot { http2: place % 2 == 1, ..Shot::post(CHAT, body.clone()).header("authorization", bearer) }
        })
        .collect();
    let (mut sent, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        for answer in volley(gateway.addr, &shots, 4).await {
            sent += 1;
            if answer.as_ref().is_none_or(|answer| answer.status != 200) {
                failed.push(format!("{answer:?}"));
            }
        }
    }
    (sent, failed)
}

/// The standard set with another limit, and so many more tenants.
fn changed(amount: u64, tenants: u64) -> Policies {
    let mut set = Policies::standard();
    set.limit("premium", "in-flight")["amount"] = json!(amount);
    for number in 0..tenants {
        set.add(newcomer(&format!("newcomer-{number}")));
    }
    set
}

fn newcomer(name: &str) -> serde_json::Value {
    let spec = json!({"plan": "trial", "models": ["gpt-4o-mini"], "regions": ["us-east"], "timeZone": "UTC"});
    resource("Tenant", name, &spec)
}

/// Writes `resources.yaml` in place, or by an editor's rename.
fn write(set: &Policies, directory: &Path, rename: bool) {
    let elsewhere = tempfile::tempdir_in(directory.parent().unwrap()).unwrap();
    set.write(elsewhere.path()).unwrap();
    let (new, old) = (elsewhere.path().join("resources.yaml"), directory.join("resources.yaml"));
    match rename {
        true => std::fs::rename(new, old).unwrap(),
        false => std::fs::write(old, std::fs::read(new).unwrap()).unwrap(),
    }
}

async fn in_force(gateway: &Gateway, what: &str, line: &str) {
    eventually(what, async || {
        let metrics = gateway.service().http("/metrics").await.ok()?;
        metrics.lines().any(|shown| shown == line).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_changes_under_load_fail_no_request() {
    let gateway = Gateway::builder().envoy(|text| patient(&text, "5s")).start().await;
    let (directory, stop) = (gateway.service().policies(), AtomicBool::new(false));
    let changes = async {
        for number in 1..=10 {
            write(&changed(4096 + number, number), &directory, number % 2 == 0);
            in_force(&gateway, "the tenants", &format!("bulkhead_resources{{kind=\"Tenant\"}} {}", 3 + number)).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let ((sent, failed), ()) = tokio::join!(load(&gateway, &stop), changes);
    assert!(sent >= 200, "{sent}");
    assert!(failed.is_empty(), "{} of {sent}: {failed:?}", failed.len());
    let audit = gateway.balanced("acme").await;
    assert_eq!(gateway.service().left("acme", "in-flight").await, 4106);
    let versions: std::collections::BTreeSet<_> = audit.iter().map(|line| line["policyVersion"].to_string()).collect();
    assert!(versions.len() > 10, "each set decided: {versions:?}");
}

#[tokio::test]
async fn a_broken_set_changes_nothing_is_told_once_and_mended_it_is_taken() {
    let gateway = Gateway::builder().envoy(|text| patient(&text, "5s")).start().await;
    let service = gateway.service();
    let (bad, told) = (service.policies().join("zz.yaml"), "the policies are refused");
    let mistake = "apiVersion: bulkhead.dev/v1alpha1\nkind: Plann\nmetadata: {name: x}\nspec: {}\n";
    let times = || service.process().log().matches(told).count();

    write(&changed(1, 1), &service.policies(), true);
    std::fs::write(&bad, mistake).unwrap();
    in_force(&gateway, "the refusal", "bulkhead_last_reload_ok 0").await;
    let log = service.process().log();
    assert!(log.contains("zz.yaml:2:") && log.contains("`Plan`"), "{log}");
    assert_eq!((times(), service.left("acme", "in-flight").await), (1, 4096), "not even its good half");
    assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200);

    // the same mistake, written again
    std::fs::write(&bad, mistake).unwrap();
    in_force(&gateway, "the second reading", "bulkhead_reloads_total{result=\"failed\"} 2").await;
    assert_eq!(times(), 1);
    std::fs::write(&bad, "kind: [\n").unwrap();
    eventually("another mistake", async || (times() == 2).then_some(())).await;

    std::fs::remove_file(&bad).unwrap();
    in_force(&gateway, "the mended set", "bulkhead_last_reload_ok 1").await;
    assert_eq!(service.left("acme", "in-flight").await, 1);
}

#[tokio::test]
async fn a_config_map_is_followed_when_kubernetes_swaps_it() {
    let gateway = Gateway::builder().start().await;
    let directory = gateway.service().policies();
    let at = |name: &str| directory.join(name);
    let publish = |version: &str, tenants: &[&str]| {
        std::fs::create_dir(at(version)).unwrap();
        let documents: Vec<String> = tenants.iter().map(|name| format!("{}\n", newcomer(name))).collect();
        std::fs::write(at(version).join("tenants.yaml"), documents.join("---\n")).unwrap();
        symlink(version, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    publish("..2026_11_22_1", &["umbra"]);
    symlink("..data/tenants.yaml", at("tenants.yaml")).unwrap();
    in_force(&gateway, "the first version", "bulkhead_resources{kind=\"Tenant\"} 4").await;
    publish("..2026_11_22_2", &["umbra", "vega"]);
    std::fs::remove_dir_all(at("..2026_11_22_1")).unwrap();
    in_force(&gateway, "the second version", "bulkhead_resources{kind=\"Tenant\"} 5").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let metrics = gateway.service().http("/metrics").await.unwrap();
    assert!(metrics.contains("bulkhead_last_reload_ok 1\n"));
    assert!(!gateway.service().process().log().contains("the policies are refused"));
}
