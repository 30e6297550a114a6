//! Whoever fails to log in too often is stopped before anything is looked up; nobody else is, and the log counts it.

use std::collections::BTreeSet;

use bulkhead_tests::books::{refusal, text};
use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::{Profile, patient, replaced};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::process::Signal;
use serde_json::Value;

const FAILURES: u32 = 5;

/// A gateway behind one trusted load balancer, or none.
async fn gateway(hops: u32) -> Gateway {
    let behind = move |text: String| {
        replaced(&patient(&text, "5s"), "xff_num_trusted_hops: 0 ", &format!("xff_num_trusted_hops: {hops} "))
    };
    Gateway::builder().failed_logins_per_minute(FAILURES).envoy(behind).start().await
}

async fn ask(gateway: &Gateway, from: &str, bearer: &str) -> Answer {
    let body = chat_body("[prompt=1] [tokens=1]").to_string();
    gateway.post(CHAT, &[("authorization", bearer), ("x-forwarded-for", from)], body).await
}

/// A key of the right form that nobody has.
fn guess(gateway: &Gateway) -> String {
    let key = gateway.bearer("acme");
    let (head, tail) = key.split_at(key.len() - 12);
    format!("{head}{}", tail.chars().rev().collect::<String>())
}

/// Guesses until stopped; how often it was looked at.
async fn until_stopped(gateway: &Gateway, from: &str, wrong: &str) -> u32 {
    for looked_at in 0..100 {
        let answer = ask(gateway, from, wrong).await;
        if answer.status == 429 {
            refusal(&answer, 429, "rate_limit_exceeded", from);
            let wait: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("seconds");
            assert!((1..=12).contains(&wait), "{wait}");
            return looked_at;
        }
        refusal(&answer, 401, "invalid_credential", from);
    }
    panic!("a guesser was never stopped");
}

/// The lines about refused sources.
async fn told(gateway: &Gateway) -> Vec<Value> {
    let lines = gateway.service().whole_audit().await.into_iter();
    lines.filter(|line| text(line, "code") == "rate_limit_exceeded").collect()
}

fn counted(lines: &[Value]) -> u32 {
    let count = |line: &Value| {
        let detail = text(line, "detail");
        let (_, rest) = detail.split_once(": ").unwrap_or_else(|| panic!("{detail}"));
        rest.split(' ').next().and_then(|count| count.parse::<u32>().ok()).unwrap_or_else(|| panic!("{detail}"))
    };
    lines.iter().map(count).sum()
}

#[tokio::test]
async fn a_guesser_is_stopped_and_nobody_else() {
    let mut gateway = gateway(1).await;
    let (right, wrong) = (gateway.bearer("acme"), guess(&gateway));
    assert_eq!(until_stopped(&gateway, "203.0.113.7", &wrong).await, FAILURES);
    let mut refused = 1;
    for _ in 0..30 {
        let answer = ask(&gateway, "203.0.113.7", &wrong).await;
        refused += u32::from(answer.status == 429);
    }
    assert!(refused >= 28, "one comes back each 12 seconds, {refused} of 31 were stopped");
    let stopped = ask(&gateway, "203.0.113.7", &right).await;
    assert_eq!(stopped.status, 429, "nothing is looked up: {}", stopped.text());
    refused += 1;

    assert_eq!(ask(&gateway, "203.0.113.8", &right).await.status, 200, "another source");
    for number in 0..4 * FAILURES {
        assert_eq!(ask(&gateway, "203.0.113.9", &right).await.status, 200, "{number}: a source that only succeeds");
    }
    assert_eq!(until_stopped(&gateway, "2001:db8:1:2::1", &wrong).await, FAILURES);
    // in `inline` the service is not asked about what is held, so no source is told apart for it: guesses are never held
    let held = gateway.profile == Profile::Inline;
    if held {
        assert_eq!(ask(&gateway, "203.0.113.8", &right).await.status, 200, "held from here on");
        assert_eq!(ask(&gateway, "203.0.113.7", &right).await.status, 200, "what is held goes on");
    }
    let unheld = if held { &wrong } else { &right };
    assert_eq!(ask(&gateway, "2001:db8:1:2:ffff::2", unheld).await.status, 429, "its /64");
    assert_eq!(ask(&gateway, "2001:db8:1:3::1", &right).await.status, 200, "another /64");
    refused += 2;

    let lines = eventually("all that was refused in the log", async || {
        let lines = told(&gateway).await;
        (counted(&lines) >= refused).then_some(lines)
    })
    .await;
    assert_eq!(counted(&lines), refused, "{lines:#?}");
    let second = |line: &Value| (text(line, "time")[..19].to_owned(), text(line, "detail").to_owned());
    let seconds: BTreeSet<_> =
        lines.iter().map(|line| (second(line).0, second(line).1.split(':').next().map(String::from))).collect();
    assert!(lines.len() <= seconds.len() + 1, "one line a second and source: {lines:#?}");
    assert!(lines.iter().all(|line| line["status"] == 429 && line["requestId"] == ""), "{lines:#?}");
    let details: Vec<&str> = lines.iter().map(|line| text(line, "detail")).collect();
    assert!(details.iter().any(|detail| detail.starts_with("source 203.0.113.7: ")), "{details:?}");
    assert!(details.iter().any(|detail| detail.starts_with("source 2001:db8:1:2::/64: 2 ")), "{details:?}");

    gateway.service().process().signal(Signal::Term);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    assert_eq!(until_stopped(&gateway, "203.0.113.7", &wrong).await, FAILURES, "a restart forgets");
}

#[tokio::test]
async fn what_a_client_says_of_itself_changes_nothing() {
    let gateway = gateway(0).await;
    let wrong = guess(&gateway);
    let mut looked_at = 0;
    for number in 0..3 * FAILURES {
        looked_at += u32::from(ask(&gateway, &format!("203.0.113.{number}"), &wrong).await.status == 401);
    }
    assert!((FAILURES..=FAILURES + 1).contains(&looked_at), "{looked_at}");
}

#[tokio::test]
async fn what_is_refused_at_the_end_is_told_at_the_end() {
    let mut gateway = gateway(1).await;
    let wrong = guess(&gateway);
    until_stopped(&gateway, "203.0.113.7", &wrong).await;
    gateway.service().process().signal(Signal::Term);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    assert_eq!(counted(&told(&gateway).await), 1);
}
