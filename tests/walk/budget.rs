//! A budget admits exactly what fits it, however many ask at once; what is reserved is the worst case, and what a request
//! may cost at most is what the upstream is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkhead_tests::client::{Answer, Part};
use bulkhead_tests::configuration::Profile;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use serde_json::{Value, json};

const CLIENTS: usize = 1_000;
const CONNECTIONS: usize = 20;
const FIT: u64 = 10;

fn limits(tokens: u64) -> Value {
    json!([
        {"name": "tokens-per-day", "counts": "tokens", "scope": "tenant", "amount": tokens, "window": "day"},
        {"name": "in-flight", "counts": "requests", "scope": "tenant", "amount": 4096, "inFlight": true},
    ])
}

/// The worst case in tokens: a token for each byte, sixteen for the chat template, and all that may come out.
fn worst_case(body: &Value, output: u64) -> u64 {
    body.to_string().len() as u64 + 16 + output
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_on_a_budget_for_ten() {
    let mut body = chat_body("[hold] [prompt=30] [tokens=20]");
    body["max_tokens"] = json!(100);
    let each = worst_case(&body, 100);
    let budget = FIT * each + each / 2;
    let set = limits(budget);
    let gateway =
        Gateway::builder().concurrency(2).policies(|policies| policies.spec("Plan", "premium")["limits"] = set);
    let gateway = Arc::new(gateway.start().await);

    let (refused, late) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = gateway.h2().await;
        for _ in 0..CLIENTS / CONNECTIONS {
            let (mut connection, bearer, text) = (connection.clone(), gateway.bearer("acme"), body.to_string());
            let (refused, late) = (Arc::clone(&refused), Arc::clone(&late));
            clients.push(tokio::spawn(async move {
                let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
                loop {
                    let parts = vec![Part::Last(text.clone().into())];
                    let answer: Answer = connection.request("POST", CHAT, &headers, parts).await.expect("an answer");
                    if answer.status != 503 {
                        refused.fetch_add(usize::from(answer.status == 429), Ordering::SeqCst);
                        return answer;
                    }
                    assert_eq!(answer.code(), "service_unavailable");
                    late.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }));
        }
    }
    let began = std::time::Instant::now();
    while refused.load(Ordering::SeqCst) + gateway.upstream.held() < CLIENTS {
        assert!(
            gateway.upstream.record().len() as u64 <= FIT,
            "more than {FIT} reached the upstream\n{}",
            gateway.service().process().tail()
        );
        assert!(began.elapsed() < Duration::from_secs(120), "{refused:?} refused, {} held", gateway.upstream.held());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eprintln!("{CLIENTS} clients in {:?}, {late:?} checks were too late", began.elapsed());

    // A reservation whose check was too late is given back within two reports; whoever asks then takes its place.
    let mut more = Vec::new();
    while (gateway.upstream.held() as u64) < FIT {
        assert!(began.elapsed() < Duration::from_secs(150), "{} held", gateway.upstream.held());
        let (gateway, body) = (Arc::clone(&gateway), body.clone());
        more.push(tokio::spawn(async move { gateway.chat("acme", &body).await }));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let one_more = gateway.chat("acme", &body).await;
    assert_eq!((one_more.status, one_more.code().as_str()), (429, "insufficient_quota"));
    assert_eq!(one_more.header("x-bulkhead-limit"), Some("tokens-per-day"));
    let allows = || gateway.service().number("SELECT count(*) FROM audit WHERE decision = 'allow'");
    // in `inline` a request's line comes with its settlement
    let lines = if gateway.profile == Profile::Portable { FIT as i64 } else { 0 };
    assert_eq!(allows(), lines, "{}", gateway.service().process().tail());

    gateway.upstream.release();
    let mut statuses = Vec::new();
    for client in clients.into_iter().chain(more) {
        statuses.push(client.await.unwrap().status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count() as u64, FIT);
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429 | 503)));
    assert_eq!(gateway.upstream.record().len() as u64, FIT, "nothing was sent that was not admitted");
    eventually("every settlement", async || {
        let settled = gateway.service().number("SELECT count(*) FROM audit WHERE outcome = 'answered'");
        (settled == FIT as i64 && gateway.service().left("acme", "in-flight").await == 4096).then_some(())
    })
    .await;
    let charged = gateway.service().number("SELECT sum(charged_tokens) FROM audit") as u64;
    assert_eq!((charged, allows()), (FIT * 50, FIT as i64));
    eventually("what is lent given back", async || {
        (charged + gateway.service().left("acme", "tokens-per-day").await == budget).then_some(())
    })
    .await;
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn the_worst_case_is_reserved_and_the_upstream_is_held_to_it() {
    let gateway = Gateway::builder().start().await;
    // plan `standard`: 1,024 tokens of output, four choices
    let cases = [
        (json!({}), 1_024, 1),
        (json!({"max_tokens": 1_000_000}), 1_024, 1),
        (json!({"max_completion_tokens": 77}), 77, 1),
        (json!({"max_tokens": 50, "n": 4}), 50, 4),
        (json!({"max_tokens": 90, "max_completion_tokens": 60, "n": 2}), 60, 2),
    ];
    for (fields, bound, choices) in cases {
        let mut body = chat_body("[tokens=2000] [prompt=9]");
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        gateway.upstream.clear();
        let answer = gateway.chat("globex", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = gateway.upstream.record()[0].json();
        let limit = [&sent["max_tokens"], &sent["max_completion_tokens"]].map(Value::as_u64);
        assert!(matches!(limit, [Some(only), None] | [None, Some(only)] if only == bound), "{fields}: {sent}");
        assert_eq!(sent["n"].as_u64().unwrap_or(1), choices);
        let line = gateway.service().settled(answer.header("x-request-id").unwrap()).await;
        assert_eq!(line["reserved"]["tokens"], worst_case(&body, bound * choices), "{fields}");
        assert_eq!(line["charged"]["tokens"], 9 + bound * choices, "{fields}");
    }
    let mut body = chat_body("too many");
    body["n"] = json!(5);
    let answer = gateway.chat("globex", &body).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_body"), "{}", answer.text());
    assert_eq!(answer.json()["error"]["param"], "n");
}

#[tokio::test]
async fn an_estimate_may_be_passed_and_what_passes_it_is_debt() {
    let text = "[tokens=100] [prompt=200]";
    // 7 tokens around one message, a quarter of its bytes, a quarter of the output's limit
    let estimate = 7 + text.len().div_ceil(4) as u64 + 25;
    let set = limits(250);
    let gateway = Gateway::builder().policies(|policies| {
        policies.spec("Plan", "premium")["limits"] = set;
        policies.spec("Plan", "premium")["reserve"] = json!("estimate");
    });
    let gateway = gateway.start().await;
    let mut body = chat_body(text);
    body["max_tokens"] = json!(100);
    let answer = gateway.chat("acme", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = gateway.service().settled(answer.header("x-request-id").unwrap()).await;
    assert_eq!((&line["reserved"]["tokens"], &line["charged"]["tokens"]), (&json!(estimate), &json!(300)));
    assert_eq!(gateway.service().left("acme", "tokens-per-day").await, 0);

    let next = gateway.chat("acme", &body).await;
    assert_eq!((next.status, next.code().as_str()), (429, "insufficient_quota"));
    let wait: u64 = next.header("retry-after").expect("a wait").parse().unwrap();
    assert!(wait > 1, "spent is spent until the window turns: {wait}");
}
