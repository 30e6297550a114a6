//! A job whose first credential was bound to a client certificate (RFC 8705 §3): through Envoy with TLS, where each client
//! shows its own.

use bulkhead_tests::gateway::{CHAT, chat_body};
use bulkhead_tests::mint::Alg;
use bulkhead_tests::policies::issuer;
use bulkhead_tests::process::Signal;
use serde_json::{Value, json};

use super::{JOBS, RENEW, builder};
use crate::exchange::bound::post;
use crate::oidc::bound::{certificate, over_tls};

fn made((status, body): (u16, Value)) -> String {
    assert!(matches!(status, 200 | 201), "{status} {body}");
    body["credential"].as_str().expect("a credential").to_owned()
}

#[tokio::test]
async fn a_bound_job_opens_nothing_on_another_connection() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = directory.path();
    let (one, _) = (certificate(files, "one"), certificate(files, "other"));
    certificate(files, "server");
    let shown = files.display().to_string();
    let mut gateway = builder().envoy(move |text| over_tls(&text, &shown)).start().await;
    let mut claims = issuer("acme").claims();
    let free = issuer("acme").token_with(Alg::Es256, &claims);
    claims["cnf"] = json!({"x5t#S256": one});
    let bound = issuer("acme").token_with(Alg::Es256, &claims);
    let asked = json!({"job": "nightly", "max": "26h"}).to_string();
    let chat = chat_body("hi [tokens=1]").to_string();
    for elsewhere in [None, Some("other")] {
        let answer = post(&gateway, files, elsewhere, (JOBS, &bound), &asked).await;
        assert_eq!((answer.0, &answer.1["error"]["code"]), (401, &json!("invalid_credential")), "{elsewhere:?}");
    }
    let first = made(post(&gateway, files, Some("one"), (JOBS, &bound), &asked).await);
    let mut sent = 0;
    // In turns: in `inline` no worker takes the grant of one connection for another.
    let mut stays = async |gateway: &_, credential: &str, what: &str| {
        for round in 0..2 {
            for (shown, status) in [(Some("one"), 200), (Some("other"), 401), (None, 401)] {
                let answer = post(gateway, files, shown, (CHAT, credential), &chat).await;
                assert_eq!(answer.0, status, "{what}, {shown:?}, {round}: {}", answer.1);
            }
            sent += 1;
        }
    };
    stays(&gateway, &first, "the first").await;
    for elsewhere in [None, Some("other")] {
        let answer = post(&gateway, files, elsewhere, (RENEW, &first), "{}").await;
        assert_eq!((answer.0, &answer.1["error"]["code"]), (401, &json!("invalid_credential")), "{elsewhere:?}");
    }
    let second = made(post(&gateway, files, Some("one"), (RENEW, &first), "{}").await);
    stays(&gateway, &second, "renewed").await;
    stays(&gateway, &first, "the former").await;

    gateway.service().process().signal(Signal::Term);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    bulkhead_tests::eventually("a chat after the restart", async || {
        let answer = post(&gateway, files, Some("one"), (CHAT, &second), &chat).await;
        (answer.0 == 200).then_some(())
    })
    .await;
    stays(&gateway, &second, "after a restart").await;
    assert_eq!(gateway.upstream.record().len(), sent + 1, "and nothing else was sent");

    // a certificate beside a token that is not bound binds nothing
    let job = made(post(&gateway, files, Some("one"), (JOBS, &free), &asked).await);
    for shown in [Some("one"), Some("other"), None] {
        assert_eq!(post(&gateway, files, shown, (CHAT, &job), &chat).await.0, 200, "{shown:?}");
    }
}
