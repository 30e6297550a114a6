//! An exchange of a token that is bound to a certificate (RFC 8705 §3): through Envoy with TLS.

use std::path::Path;

use bulkhead_tests::configuration::patient;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::Alg;
use bulkhead_tests::pipeline::{TOKEN, claims, form};
use bulkhead_tests::policies::issuer;
use serde_json::{Value, json};

use crate::oidc::bound::{certificate, over_tls};

/// A POST over TLS with this certificate or none.
pub(crate) async fn post(
    gateway: &Gateway,
    files: &Path,
    certificate: Option<&str>,
    to: (&str, &str),
    body: &str,
) -> (u16, Value) {
    let (path, bearer) = to;
    let kind = if path == TOKEN { "application/x-www-form-urlencoded" } else { "application/json" };
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sk", "-w", "\n%{http_code}", "-H", &format!("content-type: {kind}"), "-d", body]);
    command.args(["-H", &format!("authorization: Bearer {bearer}")]);
    if let Some(name) = certificate {
        let file = |end: &str| files.join(format!("{name}.{end}")).display().to_string();
        command.args(["--cert", &file("crt"), "--key", &file("key")]);
    }
    let output = command.arg(format!("https://{}{path}", gateway.addr)).output().await.expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{output:?}"));
    (status.parse().expect("a status"), serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn a_bound_token_stays_bound() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, _) = (certificate(directory.path(), "one"), certificate(directory.path(), "other"));
    certificate(directory.path(), "server");
    let files = directory.path().display().to_string();
    let gateway = Gateway::builder().envoy(move |text| over_tls(&patient(&text, "5s"), &files)).start().await;
    let mut bound = issuer("acme").claims();
    bound["cnf"] = json!({"x5t#S256": one});
    let subject = issuer("acme").token_with(Alg::Es256, &bound);
    let key = gateway.keys["acme"].as_str();
    for other in [None, Some("other")] {
        let answer = post(&gateway, directory.path(), other, (TOKEN, key), &form(&subject, "")).await;
        assert_eq!((answer.0, &answer.1["error"]), (400, &json!("invalid_request")), "{other:?}");
    }
    let (status, body) = post(&gateway, directory.path(), Some("one"), (TOKEN, key), &form(&subject, "")).await;
    assert_eq!(status, 200, "{body}");
    let token = body["access_token"].as_str().expect("a token");
    assert_eq!(claims(token)["cnf"], json!({"x5t#S256": one}));
    let chat = chat_body("hi [tokens=1]").to_string();
    for (certificate, status) in [(Some("one"), 200), (Some("other"), 401), (None, 401)] {
        let answer = post(&gateway, directory.path(), certificate, (CHAT, token), &chat).await;
        assert_eq!(answer.0, status, "{certificate:?}: {}", answer.1);
    }
    let again = post(&gateway, directory.path(), None, (TOKEN, key), &form(token, "")).await;
    assert_eq!(again.1["error"], "invalid_request", "nor a subject's elsewhere");
}
