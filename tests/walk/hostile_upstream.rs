//! An upstream that answers with anything at all: Envoy and its module live, the client gets an answer or none, and the
//! request is charged.

use bulkhead_tests::configuration::patient;
use bulkhead_tests::gateway::{Gateway, chat_body};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const DOCUMENT: &[u8] = br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;

/// A head with the given lines, and [`DOCUMENT`] behind it.
fn answer(lines: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}\r\n\r\n", DOCUMENT.len());
    [b"HTTP/1.1 200 OK\r\n", lines, length.as_bytes(), DOCUMENT].concat()
}

fn stream(body: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n", body].concat()
}

/// Answers the n-th connection with the n-th text, whatever it asks, and closes it.
async fn serve(listener: TcpListener, answers: Vec<Vec<u8>>) {
    for answer in answers {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !whole(&request) && socket.read_buf(&mut request).await.expect("a request") > 0 {}
        let _ = socket.write_all(&answer).await;
        let _ = socket.shutdown().await;
    }
}

/// Whether a request with a counted body is all there.
fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(usize::MAX)
}

#[tokio::test]
async fn no_answer_of_an_upstream_breaks_anything() {
    let json: &[u8] = b"content-type: application/json\r\n";
    let with = |line: &[u8]| answer(&[json, line].concat());
    let many = |count: usize, line: &str| with(line.repeat(count).as_bytes());
    // what is answered, and what the client gets: a status, or 0 for any refusal at all
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("as it should be", with(b""), 200),
        ("a value that is no text", with(b"x-note: \xff\xfe\x80\r\n"), 200),
        ("a type that is no text", answer(b"content-type: \xff\xfe\r\n"), 200),
        ("an encoding that is no text", with(b"content-encoding: \xff\r\n"), 502),
        ("a tag that is no text", with(b"x-bulkhead-tenant: acm\xe9\r\n"), 502),
        ("two tags", with(b"x-bulkhead-tenant: acme\r\nx-bulkhead-tenant: globex\r\n"), 502),
        ("two right tags", with(b"x-bulkhead-tenant: acme\r\nx-bulkhead-tenant: acme\r\n"), 502),
        ("an empty tag", with(b"x-bulkhead-tenant:\r\n"), 502),
        ("another route", with(b"x-bulkhead-route: model-upstream-2\r\nx-envoy-overloaded: true\r\n"), 200),
        ("two types", answer(b"content-type: application/json\r\ncontent-type: text/event-stream\r\n"), 200),
        ("eighty cookies", many(80, "set-cookie: a=b\r\n"), 200),
        ("two thousand headers", many(2000, "x-a: b\r\n"), 0),
        ("a header of 100 KiB", with(format!("x-a: {}\r\n", "b".repeat(100 << 10)).as_bytes()), 0),
        ("two lengths", with(b"content-length: 5\r\n"), 0),
        ("length and chunks", with(b"transfer-encoding: chunked\r\n"), 0),
        (
            "an upgrade",
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhello".to_vec(),
            0,
        ),
        ("no status", b"HTTP/1.1 abc\r\n\r\n".to_vec(), 0),
        ("a status of its own", b"HTTP/1.1 799 Odd\r\ncontent-length: 0\r\n\r\n".to_vec(), 799),
        ("interim answers", [b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(5), with(b"")].concat(), 200),
        ("nothing", Vec::new(), 0),
        ("half a head", b"HTTP/1.1 200 OK\r\ncontent-ty".to_vec(), 0),
        ("no HTTP", b"\x16\x03\x01\x02\x00hello there\r\n\r\n".to_vec(), 0),
        ("204", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), 204),
        ("a redirect", b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n".to_vec(), 302),
        ("events without an end", stream(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1"), 200),
        ("an endless event", stream(&[b"data: ", &b"x".repeat(2 << 20)[..]].concat()), 200),
        ("nothing but line ends", stream(&b"\r\n\r\r\n\n".repeat(50_000)), 200),
        ("bytes", stream(&(0..=255).cycle().take(200_000).collect::<Vec<u8>>()), 200),
        ("deep", stream(&[b"data: ", &b"[{\"a\":".repeat(100_000)[..], b"\n\n"].concat()), 200),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let gateway = Gateway::builder()
        .envoy(move |text| {
            let (before, cluster) = text.split_once("cluster_name: model-upstream\n").expect("the cluster");
            let (place, after) = cluster.split_once("port_value: ").expect("its port");
            let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            patient(&format!("{before}cluster_name: model-upstream\n{place}port_value: {port}{rest}"), "10s")
        })
        .start()
        .await;
    let answers = cases.iter().map(|(_, answer, _)| answer.clone()).collect();
    let serving = tokio::spawn(serve(listener, answers));
    for (number, (what, _, status)) in cases.iter().enumerate() {
        let mut body = chat_body("x");
        body["stream"] = json!(number % 2 == 1);
        let got = gateway.chat("acme", &body).await;
        if *status == 0 {
            assert!(got.status >= 500, "{what}: {} {}", got.status, got.text());
            assert!(!got.code().is_empty(), "{what}: not in our shape: {}", got.text());
        } else {
            assert_eq!(got.status, *status, "{what}: {}", got.text());
        }
        assert!(gateway.is_whole().await, "{what} broke Envoy or its module");
        assert!(!got.headers.iter().any(|(name, _)| name == "set-cookie" || name.starts_with("x-envoy-")), "{what}");
        assert!(
            got.headers.iter().all(|(name, value)| !name.starts_with("x-bulkhead-") || value != "model-upstream-2")
        );
    }
    serving.await.expect("one connection for each request");
    let audit = gateway.balanced("acme").await;
    let charged: Vec<_> = audit.iter().filter(|line| line["reserved"].is_object()).collect();
    assert_eq!(charged.len(), cases.len());
    for (line, (what, ..)) in charged.iter().zip(&cases) {
        assert!(line["charged"]["requests"].as_u64() > Some(0), "{what} was free: {line}");
    }
}
