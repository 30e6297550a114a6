//! Bad input, named: every row is refused with its own stable code and status, in our shape, charged nothing, written
//! down once, and the module lives on. The rows are in `bodies.rs`, `heads.rs` and `paths.rs`.

mod bodies;
mod heads;
mod mended;
mod paths;

use bulkhead_tests::books::{Books, refusal, text};
use bulkhead_tests::client::{Answer, Raw, volley};
use bulkhead_tests::configuration::Profile;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{Gateway, chat_body};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

/// Who refuses, and so what is left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The service: one audit line of a decision.
    Service,
    /// Envoy within the chain: one audit line of a refusal, with the module's next report.
    Chain,
    /// Envoy before the chain: only the access log.
    Edge,
}

/// One bad request over HTTP/1.1, and what becomes of it.
#[derive(Clone, Debug)]
struct Row {
    what: String,
    bytes: Vec<u8>,
    status: u16,
    code: &'static str,
    by: By,
}

const CHAT: &str = "/v1/chat/completions";

/// A request with a good credential of acme's.
fn request(gateway: &Gateway, line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{line} HTTP/1.1\r\nauthorization: {}\r\ncontent-length: {}\r\n{headers}\r\n",
        gateway.bearer("acme"),
        body.len()
    );
    [head.as_bytes(), body].concat()
}

const HOST: &str = "host: ai.example\r\n";
const JSON: &str = "host: ai.example\r\ncontent-type: application/json\r\n";

/// Sends every row, a few at a time, and holds each answer against its row and the books.
async fn all_are_refused(gateway: &Gateway, rows: &[Row]) {
    let asked = rows.iter().map(|row| async {
        let mut connection = Raw::connect(gateway.addr).await;
        connection.send(&row.bytes).await;
        connection.answer().await.unwrap_or_else(|| panic!("{}: closed without a word", row.what))
    });
    let answers: Vec<Answer> = stream::iter(asked).buffered(8).collect().await;
    let id = |answer: &Answer| answer.header("x-request-id").unwrap_or_default().to_owned();
    let told = rows.iter().zip(&answers).filter(|(row, _)| row.by != By::Edge);
    let ids: Vec<String> = told.map(|(_, answer)| id(answer)).filter(|id| !id.is_empty()).collect();
    for (row, answer) in rows.iter().zip(&answers) {
        let Row { what, status, code, .. } = row;
        if (answer.status, answer.code().as_str()) != (*status, *code) {
            eprintln!("{what}: {} instead of {status} {code}: {}", answer.status, answer.text());
        }
    }
    let books = Books::closed(gateway, &ids).await;
    for (row, answer) in rows.iter().zip(&answers) {
        let Row { what, status, code, by, .. } = row;
        match by {
            By::Edge => at_the_edge(answer, *status, code, what, &books),
            _ => books.refused(answer, *status, code, what),
        }
        if *by != By::Edge {
            let decision = text(books.line(&id(answer)), "decision");
            match (gateway.profile, by) {
                (Profile::Portable, By::Service) => assert_eq!(decision, "deny", "{what}"),
                (Profile::Portable, _) => assert_eq!(decision, "refused", "{what}"),
                // the front, or the module under a grant: `Books::refused` has compared the code
                (Profile::Inline, _) => {}
            }
        }
    }
    assert_eq!(books.sent(), 0, "what is refused reaches no upstream");
    let logged = async || (gateway.access_log().len() >= rows.len()).then_some(());
    eventually("a line of the access log each", logged).await;
    assert_eq!(gateway.access_log().len(), rows.len());
    let usage = gateway.service().usage("acme").await;
    let spent = ["admitted", "inputTokens", "outputTokens", "gpuMs", "microUsd"].map(|field| usage[field].clone());
    assert_eq!(spent, [0, 0, 0, 0, 0].map(Value::from), "nothing is charged: {usage}");
    assert!(gateway.is_whole().await, "the module lives");

    // its settlement comes with the worker's report, and so would have all that Envoy refused before it
    let alive = gateway.chat("acme", &chat_body("still there?")).await;
    assert_eq!(alive.status, 200);
    let books = Books::closed(gateway, &[id(&alive)]).await;
    let told = rows.iter().filter(|row| row.by != By::Edge).count();
    assert_eq!(books.decided(), told + 1, "the audit log has a line for each that came into the chain, and no other");
}

/// Envoy's own refusal before any filter ran: our shape, and no more than it knows of a request.
fn at_the_edge(answer: &Answer, status: u16, code: &str, what: &str, books: &Books) {
    if answer.header("x-request-id").is_some() {
        let id = refusal(answer, status, code, what);
        assert!(books.silent(&id), "{what}: the audit log knows of it");
        return;
    }
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    assert_eq!(answer.json()["error"]["request_id"], Value::Null, "{what}");
}

#[tokio::test]
async fn bodies() {
    let gateway = Gateway::builder().start().await;
    all_are_refused(&gateway, &bodies::rows(&gateway)).await;
}

#[tokio::test]
async fn headers_methods_and_queries() {
    let gateway = Gateway::builder().start().await;
    all_are_refused(&gateway, &heads::rows(&gateway)).await;
}

#[tokio::test]
async fn paths_and_authorities() {
    let gateway = Gateway::builder().start().await;
    all_are_refused(&gateway, &paths::rows(&gateway)).await;
}

#[tokio::test]
async fn paths_over_http2() {
    let gateway = Gateway::builder().start().await;
    let (shots, expected): (Vec<_>, Vec<_>) =
        paths::over_http2(&gateway).into_iter().map(|(shot, status, code)| (shot, (status, code))).unzip();
    assert!(shots.len() > 30, "{}", shots.len());
    let answers = volley(gateway.addr, &shots, 4).await;
    let answers: Vec<Answer> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    let ids: Vec<String> = answers.iter().map(|one| one.header("x-request-id").unwrap_or_default().into()).collect();
    let books = Books::closed(&gateway, &ids).await;
    for (shot, (answer, (status, code))) in shots.iter().zip(answers.iter().zip(expected)) {
        books.refused(answer, status, code, &shot.path);
    }
    assert!(gateway.is_whole().await);
}
