//! Token exchange through the real chain: who acts for whom, what is refused, and how long a token is good for.

pub(crate) mod bound;

use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::patient;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::{Alg, now};
use bulkhead_tests::pipeline::{Pipeline, SERVICES, TOKEN, claims, form};
use bulkhead_tests::policies::issuer;
use serde_json::{Value, json};

const FORM: &str = "application/x-www-form-urlencoded";

async fn gateway() -> Gateway {
    Gateway::builder().envoy(|text| patient(&text, "5s")).start().await
}

/// An exchange by this credential.
async fn exchange(gateway: &Gateway, bearer: &str, form: String) -> Answer {
    let headers = [("authorization", bearer), ("content-type", FORM)];
    gateway.request("POST", TOKEN, &headers, form).await
}

/// The token of an exchange that must succeed.
async fn exchanged(gateway: &Gateway, bearer: &str, subject: &str, more: &str) -> String {
    let answer = exchange(gateway, bearer, form(subject, more)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.json()["access_token"].as_str().expect("a token").to_owned()
}

/// A chat by this token: status and code.
async fn chat(gateway: &Gateway, token: &str, model: &str) -> (u16, String) {
    let bearer = format!("Bearer {token}");
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hi [tokens=1]"}]});
    let answer = gateway.post(CHAT, &[("authorization", &bearer)], body.to_string()).await;
    (answer.status, answer.code())
}

fn ok() -> (u16, String) {
    (200, String::new())
}

fn refused() -> (u16, String) {
    (401, "invalid_credential".into())
}

/// Audit lines that say `code`.
async fn said(gateway: &Gateway, code: &str) -> Vec<Value> {
    gateway.service().whole_audit().await.into_iter().filter(|line| line["code"] == code).collect()
}

#[tokio::test]
async fn three_services_act_for_a_user_and_the_log_names_them_all() {
    let gateway = gateway().await;
    let pipeline = Pipeline::start(&gateway, "acme").await;
    let answer = pipeline.ask(&issuer("acme").token(Alg::Es256), "hello [prompt=2] [tokens=3]").await;
    assert_eq!((answer.status, answer.json()["usage"]["completion_tokens"].as_u64()), (200, Some(3)));
    let hops = pipeline.hops();
    assert_eq!(hops.iter().map(|hop| hop.service).collect::<Vec<_>>(), SERVICES);
    let keys: Vec<String> = pipeline.keys.iter().map(|id| format!("key:{id}")).collect();
    let [front, search, last] = &keys[..] else { panic!("three keys") };
    assert_eq!(hops[2].claims["act"], json!({"sub": last, "act": {"sub": search, "act": {"sub": front}}}));
    assert!(hops.iter().all(|hop| hop.claims["sub"] == "user@acme.example" && hop.claims["tenant"] == "acme"));

    let seen = gateway.upstream.record();
    assert_eq!((seen.len(), seen[0].header("x-tenant-id").as_deref()), (1, Some("acme")));
    let id = seen[0].header("x-request-id").expect("an id");
    let audit = gateway.balanced("acme").await;
    let line = audit.iter().find(|line| line["requestId"] == id && line["decision"] == "allow").expect("its line");
    assert_eq!((&line["principal"], &line["credential"]), (&json!("user@acme.example"), &json!("exchange")), "{line}");
    assert_eq!((&line["actors"], &line["keyId"]), (&json!([last, search, front]), &json!(pipeline.keys[2])), "{line}");
    let exchanges = said(&gateway, "token.exchange").await;
    let chains: Vec<&Value> = exchanges.iter().map(|line| &line["actors"]).collect();
    assert_eq!(chains, [&json!([front]), &json!([search, front]), &json!([last, search, front])]);
    let shown = gateway.service().command(&["audit", "tail"]).await;
    assert!(shown.contains(&format!("user@acme.example < {last} < {search} < {front}")), "{shown}");

    let stranger = pipeline.ask(&issuer("globex").token(Alg::Es256), "hello").await;
    assert_eq!((stranger.status, &stranger.json()["error"]), (400, &json!("invalid_request")));
    let conflicts = said(&gateway, "tenant_conflict").await;
    let line = conflicts.first().expect("the refusal's line");
    assert_eq!(
        (&line["decision"], &line["tenant"], &line["principal"]),
        (&json!("deny"), &json!("acme"), &json!(front))
    );
    assert_eq!(gateway.upstream.record().len(), 1);
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn what_no_exchange_gives() {
    let gateway = gateway().await;
    let (acme, own) = (issuer("acme"), gateway.bearer("acme"));
    let good = acme.token(Alg::Es256);
    let with = |name: &str, value: Value| {
        let mut claims = acme.claims();
        claims[name] = value;
        acme.token_with(Alg::Es256, &claims)
    };
    let jwt = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt";
    let twice = form(&good, &format!("&subject_token={good}"));
    for (what, body, error) in [
        ("another tenant's subject", form(&issuer("globex").token(Alg::Es256), ""), "invalid_request"),
        ("a subject that names another tenant", form(&with("tenant", json!("globex")), ""), "invalid_request"),
        ("an expired subject", form(&with("exp", json!(now() - 60)), ""), "invalid_request"),
        (
            "a bound subject, without its certificate",
            form(&with("cnf", json!({"x5t#S256": "x"})), ""),
            "invalid_request",
        ),
        ("a subject for another actor", form(&with("may_act", json!({"sub": "key:other"})), ""), "invalid_request"),
        ("an api key", form(&gateway.keys["acme"], ""), "invalid_request"),
        ("an actor's token", form(&good, &format!("&actor_token={good}&actor_token_type={jwt}")), "invalid_request"),
        ("a parameter twice", twice, "invalid_request"),
        ("another audience", form(&good, "&audience=https%3A%2F%2Felsewhere.example"), "invalid_target"),
        ("another tenant's model", form(&good, "&scope=chat+model%3Agpt-4o-mini"), "invalid_scope"),
        ("a scope that there is none of", form(&good, "&scope=everything"), "invalid_scope"),
        ("another grant", "grant_type=client_credentials".into(), "unsupported_grant_type"),
        ("nothing", String::new(), "invalid_request"),
    ] {
        let answer = exchange(&gateway, &own, body).await;
        let body = answer.json();
        assert_eq!((answer.status, &body["error"]), (400, &json!(error)), "{what}: {body}");
        assert!(body["error_description"].is_string() && body.get("access_token").is_none(), "{what}: {body}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    }
    let json = gateway.post(TOKEN, &[("authorization", &own)], "{}").await;
    assert_eq!((json.status, &json.json()["error"]), (400, &Value::from("invalid_request")));
    // the call's own credential is refused as everywhere
    for (bearer, status, code) in [
        (format!("Bearer {}", with("exp", json!(now() - 60))), 401, "invalid_credential"),
        (
            format!("Bearer {}", issuer("globex").sign(Alg::Es256, &json!({"alg": "none"}), &acme.claims())),
            401,
            "invalid_credential",
        ),
    ] {
        let answer = exchange(&gateway, &bearer, form(&good, "")).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
    }
    let token = exchanged(&gateway, &own, &good, "").await;
    let answer = exchange(&gateway, &format!("Bearer {token}"), form(&good, "")).await;
    assert_eq!(answer.json()["error"], "unauthorized_client", "an exchanged token is no actor's");
    let narrow = gateway.service().create_key("acme", &["--endpoint", "chat"]).await;
    let answer = exchange(&gateway, &format!("Bearer {narrow}"), form(&good, "")).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "endpoint_not_allowed"));
    let logged = gateway.service().whole_audit().await;
    assert!(!logged.iter().any(|line| line.to_string().contains(&good)), "the log holds a token");
}

#[tokio::test]
async fn a_token_permits_what_all_behind_it_may_and_ends_with_them() {
    let gateway = gateway().await;
    let small = gateway.service().create_key("acme", &["--model", "llama-3.1-8b"]).await;
    let (own, small) = (gateway.bearer("acme"), format!("Bearer {small}"));
    let subject = gateway.jwt("acme").split(' ').nth(1).expect("a token").to_owned();
    let wide = exchanged(&gateway, &own, &subject, "").await;
    assert_eq!(chat(&gateway, &wide, "llama-3.1-70b").await, ok());
    let narrow = exchanged(&gateway, &small, &wide, "").await;
    assert_eq!(chat(&gateway, &narrow, "llama-3.1-8b").await, ok());
    assert_eq!(chat(&gateway, &narrow, "llama-3.1-70b").await, (403, "model_not_allowed".into()));
    let listed = gateway.get("/v1/models", &[("authorization", &format!("Bearer {narrow}"))]).await;
    assert_eq!(listed.json()["data"].as_array().map(Vec::len), Some(1));
    let scoped = exchanged(&gateway, &own, &subject, "&scope=models").await;
    assert_eq!(chat(&gateway, &scoped, "llama-3.1-8b").await, (403, "endpoint_not_allowed".into()));
    let widened = exchange(&gateway, &own, form(&scoped, "&scope=chat+models")).await;
    assert_eq!(widened.json()["error"], "invalid_scope");

    // five may act, and no more
    let mut deep = subject.clone();
    for _ in 0..5 {
        deep = exchanged(&gateway, &own, &deep, "").await;
    }
    assert_eq!(chat(&gateway, &deep, "llama-3.1-8b").await, ok());
    let sixth = exchange(&gateway, &own, form(&deep, "")).await;
    assert_eq!((sixth.status, &sixth.json()["error"]), (400, &json!("invalid_request")));

    // what a key obtained is not the key, and rotates nothing; the key that takes over acts as the one before it
    let rotate = async |bearer: &str| {
        let headers = [("authorization", bearer), ("content-type", "application/json")];
        gateway.request("POST", "/bulkhead/v1/keys/rotate", &headers, "{}".to_owned()).await
    };
    let obtained = rotate(&format!("Bearer {wide}")).await;
    assert_eq!((obtained.status, obtained.code().as_str()), (403, "endpoint_not_allowed"));
    let next = rotate(&own).await.json()["key"].as_str().expect("a key").to_owned();
    let by_next = exchanged(&gateway, &format!("Bearer {next}"), &subject, "").await;
    assert_eq!(chat(&gateway, &by_next, "llama-3.1-8b").await, ok());

    // the first actor's key ends the whole chain, at every worker within a Sync
    let first = own.split('_').nth(1).expect("an id");
    gateway.service().command(&["key", "revoke", first]).await;
    let revoked = std::time::Instant::now();
    eventually("the chain's end", async || (chat(&gateway, &narrow, "llama-3.1-8b").await == refused()).then_some(()))
        .await;
    eprintln!("exchange: a chain ended {:?} after its first key was revoked", revoked.elapsed());
    assert_eq!(chat(&gateway, &wide, "llama-3.1-8b").await, refused());
    assert_eq!(chat(&gateway, &narrow, "llama-3.1-8b").await, refused());
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn our_own_tokens_are_ours_alone_and_keys_rotate() {
    let gateway = gateway().await;
    let (acme, own) = (issuer("acme"), gateway.bearer("acme"));
    let empty: Value =
        serde_json::from_str(&gateway.service().http("/jwks.json").await.expect("the keys")).expect("JSON");
    assert_eq!(empty, json!({"keys": []}));
    let token = exchanged(&gateway, &own, &acme.token(Alg::Es256), "").await;
    assert_eq!(chat(&gateway, &token, "llama-3.1-8b").await, ok());
    let published = async || -> Vec<Value> {
        let text = gateway.service().http("/jwks.json").await.expect("the keys");
        serde_json::from_str::<Value>(&text).expect("JSON")["keys"].as_array().expect("keys").clone()
    };
    let keys = published().await;
    let kid = keys[0]["kid"].as_str().expect("a kid").to_owned();
    assert!(keys.len() == 1 && keys[0]["alg"] == "ES256" && keys[0].get("d").is_none(), "{keys:?}");

    let mut theirs = claims(&token);
    theirs["act"] = json!({"sub": "key:other"});
    let signed = |header: Value| acme.sign(Alg::Es256, &header, &theirs);
    for (what, token) in [
        ("our name and key id, the tenant's key", signed(json!({"alg": "ES256", "kid": kid}))),
        ("our name, the tenant's own key id", signed(json!({"alg": "ES256", "kid": Alg::Es256.kid()}))),
        ("our name, no key id", signed(json!({"alg": "ES256"}))),
        ("our name, no algorithm", signed(json!({"alg": "none", "kid": kid}))),
        ("our public key as a secret", hmac(&keys[0], &kid, &theirs)),
        ("another algorithm", acme.sign(Alg::EdDsa, &json!({"alg": "EdDSA", "kid": kid}), &theirs)),
    ] {
        assert_eq!(chat(&gateway, &token, "llama-3.1-8b").await, refused(), "{what}");
        let answer = exchange(&gateway, &own, form(&token, "")).await;
        assert_eq!(answer.json()["error"], "invalid_request", "{what}");
    }

    gateway.service().command(&["signing-key", "rotate"]).await;
    let both = published().await;
    assert_eq!((both.len(), &both[0]["kid"]), (2, &json!(kid)));
    assert_eq!(chat(&gateway, &token, "llama-3.1-8b").await, ok(), "the old key's token");
    let again = exchanged(&gateway, &own, &acme.token(Alg::Es256), "").await;
    assert!(again.starts_with(token.split('.').next().expect("a header")), "the new key does not sign yet");

    gateway.service().command(&["signing-key", "rotate", "--at-once"]).await;
    eventually("the old keys' end", async || (chat(&gateway, &token, "llama-3.1-8b").await == refused()).then_some(()))
        .await;
    assert_eq!(published().await.len(), 1);
    assert_eq!(chat(&gateway, &again, "llama-3.1-8b").await, refused());
    let answer = exchange(&gateway, &own, form(&again, "")).await;
    assert_eq!(answer.json()["error"], "invalid_request", "nor a subject's");
    let newest = exchanged(&gateway, &own, &acme.token(Alg::Es256), "").await;
    assert_eq!(chat(&gateway, &newest, "llama-3.1-8b").await, ok());
    assert_eq!(said(&gateway, "signing-key.rotate").await.len(), 2);
}

#[tokio::test]
async fn tokens_and_keys_survive_a_restart() {
    let mut gateway = gateway().await;
    let token = exchanged(&gateway, &gateway.bearer("acme"), &issuer("acme").token(Alg::Es256), "").await;
    gateway.service().process().signal(bulkhead_tests::process::Signal::Term);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    eventually("a chat by the token of before", async || {
        (chat(&gateway, &token, "llama-3.1-8b").await == ok()).then_some(())
    })
    .await;
    let body = chat_body("hi [tokens=1]");
    assert_eq!(gateway.chat("acme", &body).await.status, 200);
}

/// A token with our public key as the secret of an HMAC (RFC 8725 §2.1).
fn hmac(jwk: &Value, kid: &str, claims: &Value) -> String {
    use aws_lc_rs::hmac;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let header = json!({"alg": "HS256", "kid": kid, "typ": "at+jwt"});
    let signed = [header.to_string(), claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, jwk.to_string().as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())))
}
