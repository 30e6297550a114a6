//! What a client is told of its limits: which one bound, what is left, and a `Retry-After` that is true; that one tenant's
//! end is nobody else's; and that a changed plan holds at once.

use std::time::{Duration, Instant};

use bulkhead_tests::client::Answer;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::policies::Policies;
use bulkhead_tests::process::Signal;
use serde_json::{Value, json};

const HOSTED: &str = "us-east";

/// The refusal of a limit: its code, its name in `x-bulkhead-limit`, and the wait that it names.
fn refused(answer: &Answer, code: &str, limit: &str) -> u64 {
    assert_eq!((answer.status, answer.code().as_str()), (429, code), "{}", answer.text());
    assert_eq!(answer.header("x-bulkhead-limit"), Some(limit));
    assert!(answer.text().contains(&format!("`{limit}`")), "{}", answer.text());
    assert!(answer.header("ratelimit").unwrap().contains(&format!("\"{limit}\";r=")), "{answer:?}");
    answer.header("retry-after").expect("a wait").parse().expect("seconds")
}

/// One item of a list of structured fields, as `name` → parameters.
fn item(answer: &Answer, field: &str, name: &str) -> Vec<(String, String)> {
    let list = answer.header(field).unwrap_or_else(|| panic!("no `{field}`: {answer:?}"));
    let found = list.split(", ").find_map(|item| item.strip_prefix(&format!("\"{name}\";")));
    let parameters = found.unwrap_or_else(|| panic!("no `{name}` in {list}")).split(';');
    parameters.map(|one| one.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap()).collect()
}

fn number(parameters: &[(String, String)], key: &str) -> u64 {
    let found = parameters.iter().find(|(have, _)| have == key);
    found.unwrap_or_else(|| panic!("no `{key}` in {parameters:?}")).1.parse().unwrap()
}

async fn settled(gateway: &Gateway, answer: &Answer) -> Value {
    gateway.service().settled(answer.header("x-request-id").unwrap()).await
}

#[tokio::test]
async fn an_answer_says_what_is_left() {
    let gateway = Gateway::builder().start().await;
    let answer = gateway.chat("globex", &chat_body("[prompt=50000] [tokens=50]")).await;
    assert_eq!(answer.status, 200);
    let policy = |name| item(&answer, "ratelimit-policy", name);
    let left = |name| item(&answer, "ratelimit", name);
    assert_eq!((number(&policy("tokens-per-minute"), "q"), number(&policy("tokens-per-minute"), "w")), (200_000, 60));
    assert_eq!((number(&policy("spend-per-day"), "q"), number(&policy("spend-per-day"), "w")), (50_000_000, 86_400));
    assert!(number(&left("spend-per-day"), "r") < 50_000_000 && number(&left("spend-per-day"), "t") <= 86_400);
    assert_eq!(policy("in-flight"), [("q".into(), "64".into()), ("qu".into(), "\"concurrent-requests\"".into())]);
    assert!(left("in-flight").len() == 1 && (58..64).contains(&number(&left("in-flight"), "r")), "{answer:?}");
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("200000"));
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), Some("200000"), "rates are paid afterwards");
    assert_eq!(answer.header("x-ratelimit-reset-tokens"), Some("0s"));
    for name in ["limit", "remaining", "reset"] {
        let name = format!("x-ratelimit-{name}-requests");
        assert_eq!(answer.header(&name), None, "neither the provider's own nor those in flight");
    }
    settled(&gateway, &answer).await;
    let next = gateway.chat("globex", &chat_body("next")).await;
    let remaining: u64 = next.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert!((149_000..200_000).contains(&remaining), "50,050 less, 3,333 come back each second: {remaining}");
}

#[tokio::test]
async fn requests_in_flight_are_counted_for_each_tenant_alone() {
    let gateway = Gateway::builder().start().await;
    let gateway = std::sync::Arc::new(gateway);
    let mut held = Vec::new();
    eventually("two in flight", async || {
        if gateway.upstream_2.held() < 2 {
            let gateway = std::sync::Arc::clone(&gateway);
            held.push(tokio::spawn(async move { gateway.chat("initech", &chat_body("[hold] [tokens=1]")).await }));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        (gateway.upstream_2.held() == 2).then_some(())
    })
    .await;
    let third = gateway.chat("initech", &chat_body("third")).await;
    assert_eq!(refused(&third, "concurrency_limit_exceeded", "in-flight"), 1);
    for tenant in ["acme", "globex"] {
        assert_eq!(gateway.chat(tenant, &chat_body("[tokens=1]")).await.status, 200, "{tenant}");
    }
    gateway.upstream_2.release();
    let mut passed = 0;
    for client in held {
        passed += usize::from(client.await.unwrap().status == 200);
    }
    assert_eq!((passed, gateway.upstream_2.record().len()), (2, 2));
    eventually("both are over", async || (gateway.service().left("initech", "in-flight").await == 2).then_some(()))
        .await;
    let answer = gateway.chat("initech", &chat_body("[tokens=1]")).await;
    assert_eq!((answer.status, answer.header("x-bulkhead-region")), (200, Some(HOSTED)));
}

#[tokio::test]
async fn who_waits_as_long_as_was_said_is_admitted() {
    let limits = json!([
        {"name": "tokens-per-second", "counts": "tokens", "scope": "tenant", "amount": 100, "rate": "1s"},
        {"name": "requests-per-second", "counts": "requests", "scope": "key", "amount": 3, "rate": "2s"},
    ]);
    let gateway = Gateway::builder().policies(|set| set.spec("Plan", "standard")["limits"] = limits).start().await;
    // 230 tokens on 100 a second: 1.3 seconds of debt, and one token more
    let dear = gateway.chat("globex", &chat_body("[prompt=200] [tokens=30]")).await;
    assert_eq!(dear.header("x-ratelimit-limit-requests"), Some("3"), "{dear:?}");
    settled(&gateway, &dear).await;
    let since = Instant::now();
    let answer = gateway.chat("globex", &chat_body("[tokens=1]")).await;
    let wait = refused(&answer, "rate_limit_exceeded", "tokens-per-second");
    assert!((1..=3).contains(&wait), "{wait}");
    assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200);
    tokio::time::sleep(Duration::from_secs(wait).saturating_sub(since.elapsed())).await;
    let admitted = gateway.chat("globex", &chat_body("[prompt=1] [tokens=1]")).await;
    assert_eq!(admitted.status, 200, "{}", admitted.text());

    // requests, of one key: another key of the tenant still has its own
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut burst = Vec::new();
    for _ in 0..5 {
        burst.push(gateway.chat("globex", &chat_body("[prompt=1] [tokens=1]")).await);
    }
    let passed = burst.iter().filter(|answer| answer.status == 200).count();
    assert!((3..=4).contains(&passed), "{passed} of five passed three in two seconds");
    let last = burst.iter().rev().find(|answer| answer.status == 429).expect("one was refused");
    let wait = refused(last, "rate_limit_exceeded", "requests-per-second");
    let other = gateway.service().create_key("globex", &[]).await;
    let headers = [("authorization", &*format!("Bearer {other}"))];
    assert_eq!(gateway.post(CHAT, &headers, chat_body("[prompt=1] [tokens=1]").to_string()).await.status, 200);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(gateway.chat("globex", &chat_body("[prompt=1] [tokens=1]")).await.status, 200);
}

#[tokio::test]
async fn an_exhausted_budget_is_that_tenants_alone_and_a_new_plan_holds_at_once() {
    let mut policies = Policies::standard();
    policies.limit("trial", "spend-per-day")["amount"] = json!(60);
    let set = policies.clone();
    let gateway = Gateway::builder().policies(|standard| *standard = set).start().await;
    // each costs 36 millionths at most and 14 in fact: two fit, a third does not
    let mut body = chat_body("[prompt=10] [tokens=60]");
    body["max_tokens"] = json!(60);
    for _ in 0..2 {
        // a check that was too late may hold a part of the budget for some seconds
        let answer = eventually("an allow", async || {
            Some(gateway.chat_once("initech", &body).await).filter(|answer| answer.status == 200)
        });
        assert_eq!(settled(&gateway, &answer.await).await["charged"]["microUsd"], 14);
    }
    eventually("nothing in flight", async || (gateway.service().left("initech", "in-flight").await == 2).then_some(()))
        .await;
    let last = gateway.chat("initech", &body).await;
    let wait = refused(&last, "insufficient_quota", "spend-per-day");
    assert!((2..=86_400).contains(&wait), "until midnight: {wait}");
    assert_eq!(last.json()["error"]["type"], "insufficient_quota", "{}", last.text());
    for tenant in ["acme", "globex"] {
        assert_eq!(gateway.chat(tenant, &chat_body("[tokens=1]")).await.status, 200, "{tenant}");
    }
    let reserved =
        "SELECT count(*) FROM audit WHERE tenant = 'initech' AND decision = 'deny' AND reserved_tokens IS NULL";
    eventually("the refusal's line", async || (gateway.service().number(reserved) >= 1).then_some(())).await;

    // more money under another name: what was spent stays spent
    let spent = gateway.service().usage("initech").await["microUsd"].as_u64().unwrap();
    *policies.limit("trial", "spend-per-day") =
        json!({"name": "more-per-day", "counts": "microUsd", "scope": "tenant", "amount": 1000, "window": "day"});
    policies.limit("trial", "in-flight")["amount"] = json!(5);
    policies.write(&gateway.service().policies()).unwrap();
    gateway.service().process().signal(Signal::Hup);
    eventually("the new plan", async || {
        let usage = gateway.service().usage("initech").await;
        usage["limits"].as_array()?.iter().any(|limit| limit["name"] == "more-per-day").then_some(())
    })
    .await;
    eventually("what was spent", async || {
        (gateway.service().left("initech", "more-per-day").await == 1000 - spent).then_some(())
    })
    .await;
    let answer = gateway.chat("initech", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(number(&item(&answer, "ratelimit-policy", "in-flight"), "q"), 5);
}

#[tokio::test]
async fn a_key_has_limits_of_its_own() {
    let gateway = Gateway::builder().start().await;
    let made = gateway.service().command(&["key", "create", "--tenant", "acme", "--output", "json"]).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    let file = std::path::PathBuf::from(made["file"].as_str().unwrap());
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("  limits:\n  - {name: key-tokens, counts: tokens, amount: 1, window: day}\n");
    std::fs::write(&file, text).unwrap();
    gateway.service().command(&["reload"]).await;

    let bearer = format!("Bearer {}", made["key"].as_str().unwrap());
    let answer = gateway.post(CHAT, &[("authorization", &bearer)], chat_body("[tokens=1]").to_string()).await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "insufficient_quota"), "{}", answer.text());
    assert_eq!(answer.header("x-bulkhead-limit"), Some("key-tokens"));
    assert_eq!(answer.header("retry-after"), None, "no wait makes it fit");
    assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200, "the tenant's other key");
}

#[tokio::test]
async fn what_no_plan_allows_costs_nothing() {
    let gateway = Gateway::builder().policies(|set| {
        set.spec("Plan", "trial")["caps"] =
            json!({"outputTokens": 64, "promptTokens": 50, "bodyBytes": 2000, "choices": 1});
    });
    let gateway = gateway.start().await;
    let left = gateway.service().left("initech", "spend-per-day").await;
    let prompt = gateway.chat("initech", &chat_body(&"word ".repeat(60))).await;
    assert_eq!((prompt.status, prompt.code().as_str()), (413, "prompt_too_large"), "{}", prompt.text());
    let body = gateway.chat("initech", &chat_body(&"word ".repeat(500))).await;
    assert_eq!((body.status, body.code().as_str()), (413, "body_too_large"), "{}", body.text());
    assert_eq!(gateway.chat("acme", &chat_body(&"word ".repeat(500))).await.status, 200, "another plan");
    assert_eq!(gateway.service().left("initech", "spend-per-day").await, left);
    assert!(gateway.upstream_2.record().is_empty());
    for answer in [&prompt, &body] {
        let lines = eventually("its line", async || {
            let lines = gateway.service().lines(answer.header("x-request-id").unwrap()).await;
            (!lines.is_empty()).then_some(lines)
        })
        .await;
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["code"], &lines[0]["reserved"]), (&json!(answer.code()), &Value::Null));
    }
}
