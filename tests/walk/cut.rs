//! Answers that outlive the credential that asked for them: cut where the tenant's policy says so, finished elsewhere.

use bulkhead_tests::books::refusal;
use bulkhead_tests::client::{Answer, Part};
use bulkhead_tests::configuration::{Profile, patient};
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::{Alg, now};
use bulkhead_tests::policies::issuer;
use futures_util::future::join_all;
use serde_json::{Value, json};

/// Words of the long answers, one each tenth of a second.
const WORDS: u64 = 70;
/// How long a token is taken after its `exp`, in seconds.
const LEEWAY: u64 = 30;

fn bearer(tenant: &str, seconds: u64) -> String {
    let issuer = issuer(tenant);
    let mut claims = issuer.claims();
    (claims["iat"], claims["exp"]) = (json!(now() - 60), json!(now() + seconds - LEEWAY));
    format!("Bearer {}", issuer.token_with(Alg::Es256, &claims))
}

fn long() -> String {
    let mut body = chat_body(&format!("[tokens={WORDS}] [drip=100ms]"));
    body["stream"] = json!(true);
    body.to_string()
}

async fn h2(gateway: &Gateway, bearer: &str) -> Answer {
    let headers = [("authorization", bearer), ("content-type", "application/json")];
    gateway.h2().await.request("POST", CHAT, &headers, vec![Part::Last(long().into())]).await.expect("an answer")
}

async fn settled(gateway: &Gateway, answer: &Answer) -> Value {
    gateway.service().settled(answer.header("x-request-id").expect("a request id")).await
}

#[tokio::test]
async fn an_answer_ends_with_its_credential_where_the_policy_cuts() {
    for profile in Profile::ALL {
        let policy = |tenant: &str, at_end: &str| {
            json!({
                "apiVersion": "bulkhead.dev/v1alpha1", "kind": "TenantPolicy",
                "metadata": {"name": format!("{tenant}-end"), "namespace": tenant},
                "spec": {
                    "tenant": tenant, "atCredentialEnd": at_end,
                    "errors": [{"code": "invalid_credential", "message": format!("{tenant}: log in again.")}],
                },
            })
        };
        let builder = Gateway::builder().profile(profile).envoy(|text| patient(&text, "5s"));
        let gateway = builder
            .policies(|set| {
                set.add(policy("acme", "cut"));
                set.add(policy("globex", "finish"));
            })
            .start()
            .await;
        let what = profile.name();
        // in `inline` a worker holds a grant of each from here on
        let (short, whole) = (bearer("acme", 4), bearer("acme", 90));
        let others = bearer("globex", 4);
        for bearer in [&short, &whole, &others] {
            let first = gateway.post(CHAT, &[("authorization", bearer)], chat_body("[tokens=1]").to_string()).await;
            assert_eq!(first.status, 200, "{what}: {}", first.text());
        }
        let post = async |bearer: &str, body: String| gateway.post(CHAT, &[("authorization", bearer)], body).await;
        // more than the host takes in one callback
        let crowd = join_all((0..40).map(|_| post(&short, long())));
        let (crowd, cut, cut_h2, waiting, finished, globex) = tokio::join!(
            crowd,
            post(&short, long()),
            h2(&gateway, &short),
            post(&short, chat_body("[hold=8s] [tokens=1]").to_string()),
            post(&whole, long()),
            post(&others, long()),
        );
        for answer in [&finished, &globex] {
            assert_eq!((answer.status, answer.complete), (200, true), "{what}");
            let line = settled(&gateway, answer).await;
            assert_eq!(
                (&line["outcome"], &line["usage"]["output"]),
                (&json!("answered"), &json!(WORDS)),
                "{what}: {line}"
            );
        }
        for answer in [&cut, &cut_h2] {
            assert_eq!((answer.status, answer.complete), (200, false), "{what}");
            let line = settled(&gateway, answer).await;
            assert_eq!(
                (&line["outcome"], &line["details"], &line["estimated"]),
                (&json!("hung_up"), &json!("credential_ended"), &json!(true)),
                "{what}: {line}"
            );
            let seen = line["usage"]["output"].as_u64().expect("tokens");
            assert!((1..WORDS).contains(&seen), "{what}: {line}");
            assert_eq!(line["charged"]["requests"], 1, "{what}: {line}");
        }
        // who still waits for the first word is told
        refusal(&waiting, 401, "invalid_credential", what);
        let text = waiting.text();
        assert!(text.contains("acme: log in again. It expired while the answer was awaited."), "{what}: {text}");
        assert_eq!(
            waiting.header("www-authenticate"),
            Some("Bearer error=\"invalid_token\", error_description=\"The credential has expired\""),
            "{what}"
        );
        let line = settled(&gateway, &waiting).await;
        assert_eq!(
            (&line["outcome"], &line["details"]),
            (&json!("hung_up"), &json!("credential_ended")),
            "{what}: {line}"
        );
        assert_eq!(line["charged"], line["reserved"], "{what}: the model may have done all of it");
        assert!(crowd.iter().all(|answer| (answer.status, answer.complete) == (200, false)), "{what}");
        // none of them is still under way upstream, and nothing is left in flight
        let late = post(&short, chat_body("late").to_string()).await;
        refusal(&late, 401, "invalid_credential", what);
        assert!(gateway.is_whole().await);
        assert!(gateway.balanced("acme").await.len() >= 45, "{what}");
    }
}
