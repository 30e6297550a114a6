//! What operators do to a running service: a bad file, a good one, keys made and revoked, an orderly end.

use std::time::{Duration, Instant};

use bulkhead_tests::configuration::{Profile, nameless, portable_only};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::process::Signal;
use serde_json::{Value, json};

async fn with_key(gateway: &Gateway, key: &str) -> (u16, String) {
    let bearer = format!("Bearer {key}");
    let answer = gateway.post(CHAT, &[("authorization", &bearer)], chat_body("[tokens=1]").to_string()).await;
    (answer.status, answer.code())
}

#[tokio::test]
async fn a_bad_file_is_refused_whole_and_the_last_good_set_stays_over_a_restart() {
    let mut gateway = Gateway::builder().start().await;
    let version = gateway.service().audit().await.len();
    let bad = gateway.service().policies().join("zz-mistake.yaml");
    let text = "apiVersion: bulkhead.dev/v1alpha1\nkind: Plan\nmetadata: {name: tiny}\nspec:\n  limitz: []\n  caps: {outputTokens: 1, promptTokens: 1}\n";
    std::fs::write(&bad, text).unwrap();
    // and one that would lock everybody out, were it read alone
    let good = gateway.service().policies().join("resources.yaml");
    let before = std::fs::read_to_string(&good).unwrap();
    std::fs::write(&good, before.replace("\"amount\": 4096", "\"amount\": 1")).unwrap();

    let words = ["zz-mistake.yaml:5:", "unknown field `limitz`", "`limits`"];
    gateway.service().process().signal(Signal::Hup);
    eventually("the log's word", async || {
        let log = gateway.service().process().log();
        let line = log.lines().find(|line| line.contains("the policies are refused"))?;
        words.iter().all(|word| line.contains(word)).then_some(())
    })
    .await;
    let said = gateway.service().cli(&["reload"], "").await;
    assert_eq!(said.code, Some(1));
    assert!(words.iter().all(|word| said.err.contains(word)), "{}", said.err);
    let offline = gateway.service().cli(&["check", &gateway.service().policies().display().to_string()], "").await;
    assert_eq!(offline.code, Some(1));
    let told = format!("{}{}", offline.out, offline.err);
    assert!(words.iter().all(|word| told.contains(word)), "{told}");
    assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200);
    eventually("nothing of the bad set is in force", async || {
        (gateway.service().left("acme", "in-flight").await == 4096).then_some(())
    })
    .await;

    gateway.service().process().signal(Signal::Term);
    assert!(gateway.service().process().ended().await.success());
    gateway.service_mut().restart().await;
    eventually("the last good set", async || {
        (gateway.chat("acme", &chat_body("[tokens=1]")).await.status == 200).then_some(())
    })
    .await;
    assert!(gateway.service().process().log().contains("the last good set is taken"));
    eventually("nothing in flight", async || (gateway.service().left("acme", "in-flight").await == 4096).then_some(()))
        .await;
    // while the file is there no key can be made, and the answer says why
    let said = gateway.service().cli(&["key", "create", "--tenant", "acme"], "").await;
    assert_eq!((said.code, said.err.contains("zz-mistake.yaml:5:")), (Some(1), true), "{}", said.err);

    std::fs::remove_file(&bad).unwrap();
    gateway.service().command(&["reload"]).await;
    eventually("the good set", async || (gateway.service().left("acme", "in-flight").await == 1).then_some(())).await;
    assert!(gateway.service().audit().await.len() > version);
}

#[tokio::test]
async fn a_key_works_at_once_and_a_revoked_one_never_again() {
    let mut gateway = Gateway::builder().start().await;
    let made = gateway.service().command(&["key", "create", "--tenant", "acme", "--output", "json"]).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    let (key, id) = (made["key"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned());
    assert_eq!(with_key(&gateway, &key).await, (200, String::new()), "no wait, no signal");

    gateway.service().command(&["key", "revoke", &id]).await;
    if gateway.profile == Profile::Inline {
        // a worker that holds its grant learns of it with the next report
        let revoked = Instant::now();
        eventually("the end of the key", async || (with_key(&gateway, &key).await.0 == 401).then_some(())).await;
        assert!(revoked.elapsed() < Duration::from_secs(2), "{:?}", revoked.elapsed());
    }
    assert_eq!(with_key(&gateway, &key).await, (401, "invalid_credential".into()));
    assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200, "the other key");
    let other = gateway.service().create_key("acme", &[]).await;
    assert_eq!(with_key(&gateway, &other).await.0, 200);

    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    eventually("an answer", async || (with_key(&gateway, &other).await.0 == 200).then_some(())).await;
    assert_eq!(with_key(&gateway, &key).await.0, 401, "its resource is still there, and it stays revoked");
    let listed = gateway.service().command(&["key", "list", "--tenant", "acme", "--output", "json"]).await;
    let found = serde_json::from_str::<Value>(&listed).unwrap();
    let rows = found.as_array().or(found["keys"].as_array()).expect("a list").clone();
    let row = rows.iter().find(|row| row["id"] == json!(id)).expect("the key");
    assert_eq!(row["state"], "revoked");
    let audited = gateway.service().texts("SELECT code FROM audit WHERE decision = 'admin' AND code LIKE 'key.revoke'");
    assert_eq!(audited.len(), 1);
}

#[tokio::test]
async fn an_orderly_end_answers_what_is_under_way() {
    if portable_only("a first request is two calls: the Check is answered, the Lease finds a service that has ended") {
        return;
    }
    let mut gateway = Gateway::builder().start().await;
    let mut body = chat_body("[prompt=10] [tokens=30] [drip=30ms]");
    body["stream"] = json!(true);
    let mut stream = gateway.chat_stream("acme", &body).await;
    let request_id = stream.headers.iter().find(|(name, _)| name == "x-request-id").unwrap().1.clone();

    // a check that the service has not read when it is told to end
    gateway.service().process().signal(Signal::Stop);
    let text = chat_body("[tokens=1]");
    let asking = gateway.chat_once("globex", &text);
    let ending = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        gateway.service().process().signal(Signal::Term);
        gateway.service().process().signal(Signal::Cont);
    };
    let (answer, ()) = tokio::join!(asking, ending);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(gateway.service().process().ended().await.success(), "exit code 0");
    let log = gateway.service().process().log();
    assert!(log.contains("\"draining\"") && log.contains("\"stopped\""), "{log}");
    assert_eq!(gateway.chat("acme", &chat_body("late")).await.status, 503);

    // the stream goes on without the service, and is settled by the next one
    stream.until("[DONE]").await;
    gateway.service_mut().restart().await;
    let line = gateway.service().settled(&request_id).await;
    assert_eq!((&line["outcome"], &line["charged"]["tokens"]), (&json!("answered"), &json!(40)));
    let line = gateway.service().settled(answer.header("x-request-id").unwrap()).await;
    assert_eq!(line["outcome"], "answered");
}

#[tokio::test]
async fn a_proxy_that_does_not_say_who_it_is_is_granted_nothing() {
    let gateway = Gateway::builder().envoy(|text| nameless(&text)).start().await;
    let answer = gateway.chat_once("acme", &chat_body("[tokens=1]")).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert!(gateway.upstream.record().is_empty());
    assert!(gateway.service().process().log().contains("does not say who it is"));
}
