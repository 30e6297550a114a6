//! Tokens bound to a client certificate (RFC 8705 §3): through Envoy with TLS, where each client shows its own.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_tests::configuration::{patient, replaced};
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::Alg;
use bulkhead_tests::policies::issuer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A self-signed certificate in files of this name; the SHA-256 of its DER form as tokens spell it.
pub(crate) fn certificate(directory: &Path, name: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec![format!("{name}.example")]).expect("a certificate");
    std::fs::write(directory.join(format!("{name}.crt")), made.cert.pem()).expect("its file");
    std::fs::write(directory.join(format!("{name}.key")), made.signing_key.serialize_pem()).expect("its key's file");
    URL_SAFE_NO_PAD.encode(Sha256::digest(made.cert.der()))
}

/// The configuration with TLS towards clients, by `server.crt` and `server.key` of this directory: it asks them for a
/// certificate and takes any.
pub(crate) fn over_tls(text: &str, files: &str) -> String {
    let tls = format!(
        "    - transport_socket:\n        name: tls\n        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n          common_tls_context:\n            tls_certificates: [{{certificate_chain: {{filename: {files}/server.crt}}, private_key: {{filename: {files}/server.key}}}}]\n            validation_context: {{trust_chain_verification: ACCEPT_UNTRUSTED, trusted_ca: {{filename: {files}/server.crt}}}}\n      filters:\n"
    );
    replaced(text, "    - filters:\n", &tls)
}

/// Status and `error.code` of a chat, over TLS, with this certificate or none.
async fn ask(gateway: &Gateway, directory: &Path, certificate: Option<&str>, token: &str) -> (u16, String) {
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sk", "-w", "\n%{http_code}", "-H", "content-type: application/json"]);
    command.args(["-H", &format!("authorization: Bearer {token}"), "-d", &chat_body("hi [tokens=1]").to_string()]);
    if let Some(name) = certificate {
        let file = |end: &str| directory.join(format!("{name}.{end}")).display().to_string();
        command.args(["--cert", &file("crt"), "--key", &file("key")]);
    }
    let output = command.arg(format!("https://{}{CHAT}", gateway.addr)).output().await.expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{output:?}"));
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    (status.parse().expect("a status"), body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_bound_token_opens_nothing_on_another_connection() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, other) = (certificate(directory.path(), "one"), certificate(directory.path(), "other"));
    certificate(directory.path(), "server");
    let files = directory.path().display().to_string();
    let gateway = Gateway::builder().envoy(move |text| over_tls(&patient(&text, "5s"), &files)).start().await;
    let acme = issuer("acme");
    let token = |confirmation: Option<Value>| {
        let mut claims = acme.claims();
        if let Some(confirmation) = confirmation {
            claims["cnf"] = confirmation;
        }
        acme.token_with(Alg::Es256, &claims)
    };
    let bound = token(Some(json!({"x5t#S256": one})));
    let refused = (401, "invalid_credential".to_owned());
    let taken = (200, String::new());
    for (what, certificate, token, expected) in [
        ("the certificate that it names", Some("one"), bound.clone(), &taken),
        ("another one", Some("other"), bound.clone(), &refused),
        ("none", None, bound, &refused),
        ("the other one's own token", Some("other"), token(Some(json!({"x5t#S256": other}))), &taken),
        ("not bound, with a certificate", Some("one"), token(None), &taken),
        ("not bound, without", None, token(None), &taken),
        ("bound to a key that nobody shows", Some("one"), token(Some(json!({"jkt": one}))), &refused),
        ("bound twice", Some("one"), token(Some(json!({"x5t#S256": one, "jkt": one}))), &refused),
        ("bound to nothing", Some("one"), token(Some(json!({}))), &refused),
        ("bound to a list", Some("one"), token(Some(json!({"x5t#S256": [one]}))), &refused),
        ("bound to no text", Some("one"), token(Some(json!(null))), &refused),
    ] {
        assert_eq!(&ask(&gateway, directory.path(), certificate, &token).await, expected, "{what}");
    }
}
