//! The API over a real socket, with an `Operations` that only remembers.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::*;
use crate::admin::client::CallError;
use crate::admin::double::{row, start};

async fn raw(path: &PathBuf, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap().unwrap();
    answer
}

fn request(line: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn refusal(error: CallError) -> (u16, String) {
    match error {
        CallError::Refused { status, message, .. } => (status, message),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_key_is_made_for_a_known_tenant_and_the_kernel_says_by_whom() {
    let running = start();
    let body = NewKeyBody { tenant: "acme".into(), ttl: Some("48h".into()), ..NewKeyBody::default() };
    let created = running.client.create_key(&body).await.unwrap();
    assert_eq!((created.id.as_str(), created.key.expose()), ("k1", "bh_sesame"));
    let said = running.operations.said();
    assert!(said[0].starts_with("create 172800 for acme by "), "{said:?}");
}

#[tokio::test]
async fn an_unknown_tenant_comes_with_the_nearest_one() {
    let running = start();
    let body = NewKeyBody { tenant: "acm".into(), ..NewKeyBody::default() };
    let error = running.client.create_key(&body).await.unwrap_err();
    assert_eq!(refusal(error), (404, "unknown tenant `acm`, did you mean `acme`?".into()));
    let error = running.client.list_keys(Some("acm")).await.unwrap_err();
    assert_eq!(refusal(error).0, 404);
    let error = running.client.list_keys(Some("Acme!")).await.unwrap_err();
    assert_eq!(refusal(error).0, 400);
    assert!(running.operations.said().is_empty());
}

#[tokio::test]
async fn keys_are_revoked_by_their_exact_id() {
    let running = start();
    assert_eq!(running.client.revoke_key("k1").await.unwrap(), row("k1"));
    let error = running.client.revoke_key("k/../1").await.unwrap_err();
    assert_eq!(refusal(error).0, 404);
    assert_eq!(running.operations.said(), ["revoke k1", "revoke k/../1"]);
}

#[tokio::test]
async fn a_provider_key_arrives_as_it_was_sent_and_only_if_a_header_can_hold_it() {
    let running = start();
    let put =
        async |secret: &[u8]| running.client.put_provider_key("acme", "openai", &Secret::new(secret.to_vec())).await;
    put(b"sk-live-1").await.unwrap();
    assert_eq!(running.operations.said(), ["put acme/openai sk-live-1"]);
    for (bad, status) in [(&b""[..], 400), (b"sk live", 400), (b"sk\n", 400), (b"sk\xff", 400), (&[b'x'; 8193], 413)] {
        assert_eq!(refusal(put(bad).await.unwrap_err()).0, status, "{bad:?}");
    }
    put(&[b'x'; 8192]).await.unwrap();
    let answer = raw(&running.path, &request("PUT /v1/vault/acme/openai", "application/json", "sk")).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("octet-stream"), "{answer}");
    assert_eq!(running.operations.said().len(), 2);
}

#[tokio::test]
async fn audit_records_pass_as_they_were_written_within_a_bound() {
    let running = start();
    let page = running.client.audit(Some(5), 10).await.unwrap();
    assert_eq!((page.records[0].get(), page.next), (r#"{"z":1,"a":2}"#, 7));
    assert_eq!(running.operations.said(), ["audit Some(5) 10"]);
    for limit in [0, 1001] {
        assert_eq!(refusal(running.client.audit(None, limit).await.unwrap_err()).0, 400);
    }
}

#[tokio::test]
async fn usage_is_in_integers() {
    let running = start();
    assert_eq!(running.client.usage().await.unwrap().tenants[0].micro_usd, 1_234);
}

#[tokio::test]
async fn a_refused_set_says_each_problem_and_what_stays() {
    let running = start();
    let error = running.client.reload().await.unwrap_err();
    let text = error.to_string();
    assert_eq!(refusal(error).0, 422);
    assert!(text.contains("version `0123456789abcdef` stays in force\n  tenants.yaml:3: unknown field"), "{text}");
}

#[tokio::test]
async fn what_is_not_ours_is_refused_in_our_shape() {
    let running = start();
    let json = "application/json";
    let cases = [
        (request("GET /v2/keys", json, ""), 404),
        (request("DELETE /v1/usage", json, ""), 405),
        (request("POST /v1/keys", json, "{"), 400),
        (request("POST /v1/keys", json, r#"{"tenant":"acme","ttll":"1h"}"#), 400),
        (request("POST /v1/keys", "text/plain", r#"{"tenant":"acme"}"#), 400),
        (request("GET /v1/audit?limit=many", json, ""), 400),
        (request("GET /v1/audit?lmit=1", json, ""), 400),
        (request("GET /v1/keys?tenant=acme&x=1", json, ""), 400),
    ];
    for (request, status) in cases {
        let answer = raw(&running.path, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request} → {answer}");
        assert!(answer.contains(r#"{"error":{"code":""#), "{answer}");
    }
    assert!(running.operations.said().is_empty());
}
