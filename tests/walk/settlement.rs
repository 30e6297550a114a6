//! What a request is charged, by how it ended: each answer of `tests/fixtures/answers`, hang-ups, errors, breaks, and
//! requests that were never sent.

use std::path::PathBuf;

use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::portable_only;
use bulkhead_tests::gateway::{Gateway, chat_body};
use bulkhead_tests::process::Signal;
use bulkhead_tests::{eventually, full};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

/// What the price book of the standard set says of `llama-3.1-8b`: rounded up once.
fn cost(input: u64, output: u64) -> Value {
    let (tokens, (input, output)) = (input + output, (u128::from(input), u128::from(output)));
    let gpu_ms = (input * 40 + output * 900 + 5_000).div_ceil(1_000);
    let micro_usd = ((input + output) * 180_000 + 1_000_000).div_ceil(1_000_000);
    json!({"tokens": tokens, "gpuMs": gpu_ms as u64, "microUsd": micro_usd as u64, "requests": 1})
}

const NOTHING: &str = r#"{"tokens":0,"gpuMs":0,"microUsd":0,"requests":0}"#;

/// `tokens` of the estimate for one message of ASCII: 4 around it, 3 around all, a quarter of its bytes.
fn estimated_input(text: &str) -> u64 {
    7 + (text.len() as u64).div_ceil(4)
}

/// A gateway whose acme has no limit that a provider's absurd usage could exhaust.
async fn gateway() -> Gateway {
    let in_flight =
        json!([{"name": "in-flight", "counts": "requests", "scope": "tenant", "amount": 64, "inFlight": true}]);
    Gateway::builder().policies(|set| set.spec("Plan", "premium")["limits"] = in_flight).start().await
}

fn id(answer: &Answer) -> &str {
    answer.header("x-request-id").expect("a request id")
}

async fn settled(gateway: &Gateway, answer: &Answer) -> Value {
    gateway.service().settled(id(answer)).await
}

#[tokio::test]
async fn every_answer_is_charged_what_it_said() {
    let gateway = gateway().await;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/answers");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.with_added_extension("totals.json").exists());
    files.sort();
    assert!(files.len() > 40, "{}", files.len());
    let gateway = &gateway;
    let answers = files.into_iter().map(|path| async move {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let stream = name.ends_with(".sse");
        let body = std::fs::read(&path).unwrap();
        let kind = if stream { "text/event-stream" } else { "application/json" };
        gateway.upstream.keep_answer(&name, kind, body.clone());
        let totals: Value =
            serde_json::from_slice(&std::fs::read(path.with_added_extension("totals.json")).unwrap()).unwrap();
        for split in if full() { 1..=12 } else { 3..=5 } {
            one_answer(gateway, &name, &body, &totals, split).await;
        }
    });
    stream::iter(answers).buffer_unordered(6).collect::<Vec<()>>().await;
    assert!(gateway.is_whole().await);
}

async fn one_answer(gateway: &Gateway, name: &str, body: &[u8], totals: &Value, split: usize) {
    let stream = name.ends_with(".sse");
    // every fifth in one piece; the client of every other stream has asked for the usage itself
    let text =
        if split.is_multiple_of(5) { format!("[answer={name}]") } else { format!("[answer={name}] [split={split}]") };
    let asked_usage = split.is_multiple_of(2);
    let mut request = chat_body(&text);
    request["max_tokens"] = json!(1000);
    if stream {
        request["stream"] = json!(true);
        if asked_usage {
            request["stream_options"] = json!({"include_usage": true});
        }
    }
    let sent = request.to_string();
    let answer = gateway.chat("acme", &request).await;
    assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    let untouched = !stream || asked_usage || totals["usage_chunks"] == 0;
    assert_eq!(answer.body == body, untouched, "{name}: a byte is changed where nothing is hidden, and only there");
    let line = settled(gateway, &answer).await;

    let said = |field: &str| totals["usage"][field].as_u64().unwrap_or_default();
    let seen = totals["output_seen"].as_u64().unwrap();
    let expected = match totals["usage"].is_null() {
        false => cost(said("input"), said("output")),
        true if seen > 0 => cost(estimated_input(&text), seen),
        // nothing was seen: the whole reservation
        true => cost(sent.len() as u64 + 16, 1000),
    };
    assert_eq!((&line["charged"], &line["outcome"]), (&expected, &json!("answered")), "{name} in pieces of {split}");
    assert_eq!(line["estimated"], totals["usage"].is_null(), "{name}");
    if !totals["usage"].is_null() {
        for (field, spelled) in [("cached_input", "cachedInput"), ("reasoning", "reasoning")] {
            assert_eq!(line["usage"][spelled], said(field), "{name}");
        }
    }
}

#[tokio::test]
async fn hanging_up_just_before_the_usage_is_charged_what_was_seen() {
    let gateway = gateway().await;
    for (choices, tokens) in [(1_usize, 120), (2, 50)] {
        let ask = |stall: &str| {
            let text = format!("Tell me a story about ships and the walls inside of them. [tokens={tokens}] {stall}");
            let mut body = chat_body(&text);
            (body["stream"], body["n"], body["max_tokens"]) = (json!(true), json!(choices), json!(4000));
            body
        };
        let whole = gateway.chat("acme", &ask("[drip=0ms]")).await;
        let truth = settled(&gateway, &whole).await;
        assert_eq!(truth["estimated"], false);

        let chunks = choices * (tokens + 2);
        let mut cut = gateway.chat_stream("acme", &ask(&format!("[stall={chunks}]"))).await;
        let request_id = cut.headers.iter().find(|(name, _)| name == "x-request-id").unwrap().1.clone();
        let mut read = String::new();
        while read.matches("\"finish_reason\":\"stop\"").count() < choices {
            read.push_str(&String::from_utf8_lossy(&cut.next().await.expect("the stream stalls, it does not end")));
        }
        assert!(!read.contains("\"usage\":{"));
        drop(cut);
        let line = gateway.service().settled(&request_id).await;
        assert_eq!((&line["outcome"], &line["estimated"]), (&json!("hung_up"), &json!(true)), "{line:#}");
        for (counted, reserved_times) in [("tokens", 10), ("microUsd", 10), ("gpuMs", 10)] {
            let of = |line: &Value, what: &str| line[what][counted].as_u64().unwrap();
            let (charged, truth) = (of(&line, "charged"), of(&truth, "charged"));
            assert!(of(&line, "reserved") >= reserved_times * truth, "{counted}: {line:#}");
            assert!(charged * 100 >= truth * 95 && charged <= truth * 2, "{counted}: {charged} for {truth}");
        }
    }
}

#[tokio::test]
async fn every_end_has_its_price() {
    let mut gateway = gateway().await;
    let fixed = cost(0, 0);
    let nothing: Value = serde_json::from_str(NOTHING).unwrap();
    let one = async |gateway: &Gateway, text: &str, stream: bool| {
        let mut body = chat_body(text);
        (body["stream"], body["max_tokens"]) = (json!(stream), json!(1000));
        let answer = gateway.chat("acme", &body).await;
        let line = settled(gateway, &answer).await;
        (answer, line)
    };
    let input = |text: &str, output| cost(estimated_input(text), output);
    let cases: [(&str, bool, u16, &str, &str, Value); 11] = [
        ("[tokens=9] [no-usage]", true, 200, "", "answered", input("[tokens=9] [no-usage]", 9)),
        ("[tokens=9] [no-usage]", false, 200, "", "answered", input("[tokens=9] [no-usage]", 9)),
        ("[status=429]", false, 429, "rate_limit_exceeded", "refused", fixed.clone()),
        ("[status=400]", false, 400, "", "refused", fixed.clone()),
        ("[status=401]", false, 401, "invalid_api_key", "refused", fixed),
        ("[status=500]", false, 500, "", "failed", input("[status=500]", 0)),
        ("[status=503]", true, 503, "", "failed", input("[status=503]", 0)),
        ("[drop]", false, 503, "upstream_unavailable", "failed", input("[drop]", 0)),
        // the chunk with the role has no content: five chunks, four tokens
        ("[tokens=9] [cut=5]", true, 200, "", "failed", input("[tokens=9] [cut=5]", 4)),
        ("[gzip]", false, 502, "upstream_encoded", "failed", input("[gzip]", 0)),
        ("[tag=globex]", false, 502, "tenant_mismatch", "failed", input("[tag=globex]", 0)),
    ];
    for (text, stream, status, code, outcome, charged) in cases {
        let (answer, line) = one(&gateway, text, stream).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{text}: {}", answer.text());
        assert_eq!((&line["outcome"], &line["charged"]), (&json!(outcome), &charged), "{text}: {line:#}");
        assert_eq!(line["status"], status, "{text}");
    }
    eventually("nothing in flight", async || (gateway.service().left("acme", "in-flight").await == 64).then_some(()))
        .await;

    gateway.upstream.stop();
    let (answer, line) = one(&gateway, "nobody listens", false).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "upstream_unavailable"), "{}", answer.text());
    assert_eq!((&line["outcome"], &line["charged"]), (&json!("not_sent"), &nothing), "{line:#}");
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn a_check_that_comes_too_late_leaves_nothing_reserved_and_one_line() {
    if portable_only("a Check reserves nothing there; a Lease that comes too late is closed unused") {
        return;
    }
    let gateway = Gateway::builder().start().await;
    assert_eq!(gateway.chat("globex", &chat_body("warm")).await.status, 200);
    let before = whole(&gateway).await;

    // timed out: the service is stopped for longer than Envoy waits, and finds the calls when it goes on
    gateway.service().process().signal(Signal::Stop);
    let body = chat_body("too late");
    let late = tokio::join!(gateway.chat_once("globex", &body), gateway.chat_once("globex", &body));
    gateway.service().process().signal(Signal::Cont);
    for answer in [&late.0, &late.1] {
        assert_eq!((answer.status, answer.code().as_str()), (503, "service_unavailable"));
    }
    // reset: the client is gone before the service looks
    gateway.service().process().signal(Signal::Stop);
    let mut gone = gateway.connect().await;
    let (bearer, text) = (gateway.bearer("globex"), chat_body("gone").to_string());
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: ai.example\r\ncontent-type: application/json\r\n\
         authorization: {bearer}\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    gone.send(format!("{head}{text}").as_bytes()).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    drop(gone);
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    gateway.service().process().signal(Signal::Cont);

    eventually("a line for each", async || {
        let told = gateway.service().texts("SELECT request_id FROM audit WHERE decision = 'refused'");
        let gone = gateway.service().number("SELECT count(*) FROM audit WHERE code = 'client_gone'");
        (gone == 1 && [&late.0, &late.1].iter().all(|answer| told.iter().any(|told| told == id(answer)))).then_some(())
    })
    .await;
    assert_eq!(whole(&gateway).await, before, "nothing stays reserved");
    for answer in [&late.0, &late.1] {
        let lines = gateway.service().lines(id(answer)).await;
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert_eq!((&lines[0]["decision"], &lines[0]["status"]), (&json!("refused"), &json!(503)), "{lines:#?}");
    }
    let twice =
        "SELECT count(*) FROM (SELECT 1 FROM audit WHERE request_id <> '' GROUP BY request_id HAVING count(*) > 1)";
    assert_eq!(gateway.service().number(twice), 0, "one request, one line");
    assert_eq!(gateway.upstream.record().len(), 1);
    assert_eq!(gateway.service().number("SELECT count(*) FROM reservations WHERE state = 'open'"), 0);
}

/// What globex has left of each limit, once nothing is under way.
async fn whole(gateway: &Gateway) -> (u64, u64) {
    eventually("nothing in flight", async || {
        let service = gateway.service();
        let open = service.number("SELECT count(*) FROM reservations WHERE state = 'open'");
        (service.left("globex", "in-flight").await == 64 && open == 0).then_some(())
    })
    .await;
    (gateway.service().left("globex", "spend-per-day").await, gateway.service().left("globex", "in-flight").await)
}
