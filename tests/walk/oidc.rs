//! Tokens of an issuer that publishes its keys: the certified `oidc-provider`, rotating under load, hung, back again; and
//! tokens that are bound to a client certificate. What a bad provider says: beside the code (`identity/discovery/tests.rs`).

pub(crate) mod bound;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_tests::books::refusal;
use bulkhead_tests::client::{Answer, Shot, volley};
use bulkhead_tests::configuration::patient;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::Alg;
use bulkhead_tests::oidc::Provider;
use bulkhead_tests::policies::{issuer, resource};
use bulkhead_tests::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A gateway whose acme trusts the provider beside its own issuer.
async fn gateway(provider: &Provider, discovery: Value, scopes: Option<Value>) -> Gateway {
    let mut trusted = provider.trusted(&discovery);
    if let Some(scopes) = scopes {
        trusted["scopes"] = scopes;
    }
    Gateway::builder()
        .policies(|set| {
            set.spec("Tenant", "acme")["issuers"].as_array_mut().expect("issuers").push(trusted);
            set.add(resource("Role", "may-chat", &json!({"endpoints": ["chat"], "models": ["llama-3.1-8b"]})));
            set.add(resource("Role", "may-list", &json!({"endpoints": ["models"]})));
        })
        .envoy(|text| patient(&text, "5s"))
        .start()
        .await
}

async fn provider() -> (TempDir, Provider) {
    let directory = tempfile::tempdir().expect("a directory");
    let provider = Provider::start(directory.path()).await;
    (directory, provider)
}

fn shot(token: &str) -> Shot {
    Shot::post(CHAT, chat_body("[prompt=1] [tokens=1]").to_string()).header("authorization", format!("Bearer {token}"))
}

async fn ask(gateway: &Gateway, token: &str) -> Answer {
    volley(gateway.addr, &[shot(token)], 1).await.remove(0).expect("an answer")
}

/// The same token with one bit of its signature changed.
fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("a token");
    let mut signature = URL_SAFE_NO_PAD.decode(signature).expect("a signature");
    signature[7] ^= 1;
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn keys_rotate_under_load_and_no_good_token_is_refused() {
    let (_directory, provider) = provider().await;
    let provider = Arc::new(provider);
    let settings = json!({"refresh": "1s", "unknownKeyInterval": "1s"});
    let gateway = gateway(&provider, settings, None).await;
    let (stop, good, bad) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (provider, stop, good, bad) =
            (Arc::clone(&provider), Arc::clone(&stop), Arc::clone(&good), Arc::clone(&bad));
        let addr = gateway.addr;
        load.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let token = provider.token("chat").await;
                for answer in volley(addr, &[shot(&token), shot(&token)], 2).await {
                    let answer = answer.expect("an answer");
                    assert_eq!(answer.status, 200, "a good token was refused: {}", answer.text());
                    good.fetch_add(1, Ordering::SeqCst);
                }
                for answer in volley(addr, &[shot(&forged(&token))], 1).await {
                    refusal(&answer.expect("an answer"), 401, "invalid_credential", "a forged token");
                    bad.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    let second = Duration::from_millis(1_300);
    for round in 0..8 {
        provider.publish().await;
        if round % 2 == 0 {
            tokio::time::sleep(second).await; // as a provider should: published before it signs
        }
        provider.sign().await;
        tokio::time::sleep(second).await;
        provider.remove().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = load.join_next().await {
        ended.expect("no good token refused, no bad one taken");
    }
    let (good, bad) = (good.load(Ordering::SeqCst), bad.load(Ordering::SeqCst));
    assert!(good >= 50 && bad >= 20, "{good} and {bad} are no load");
    eprintln!("oidc: 8 rotations, {good} good tokens taken, {bad} forged ones refused");
}

#[tokio::test]
async fn a_removed_key_opens_nothing_within_the_refresh() {
    let (_directory, provider) = provider().await;
    let gateway = gateway(&provider, json!({"refresh": "1s", "unknownKeyInterval": "1s"}), None).await;
    let old = provider.token("chat").await;
    assert_eq!(ask(&gateway, &old).await.status, 200);
    provider.publish().await;
    provider.sign().await;
    assert_eq!(ask(&gateway, &old).await.status, 200, "not removed yet");
    provider.remove().await;
    let removed = Instant::now();
    eventually("the end of a removed key", async || (ask(&gateway, &old).await.status == 401).then_some(())).await;
    let took = removed.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?} with a refresh of a second");
    refusal(&ask(&gateway, &old).await, 401, "invalid_credential", "a removed key");
    assert_eq!(ask(&gateway, &provider.token("chat").await).await.status, 200);
}

#[tokio::test]
async fn a_provider_that_hangs_is_trusted_until_its_keys_are_stale() {
    let (_directory, provider) = provider().await;
    let settings = json!({"refresh": "1s", "unknownKeyInterval": "1s", "maxStale": "3s"});
    let gateway = gateway(&provider, settings, None).await;
    let token = provider.token("chat").await;
    assert_eq!(ask(&gateway, &token).await.status, 200);
    provider.process.signal(Signal::Stop);
    assert_eq!(ask(&gateway, &token).await.status, 200, "the last good keys stay");
    let hung = Instant::now();
    let stale =
        eventually("stale keys", async || Some(ask(&gateway, &token).await).filter(|answer| answer.status != 200))
            .await;
    refusal(&stale, 401, "idp_unavailable", "stale keys");
    assert!(hung.elapsed() >= Duration::from_secs(1), "{:?}", hung.elapsed());
    let others = gateway.jwt("acme");
    let other = gateway.post(CHAT, &[("authorization", &others)], chat_body("hi").to_string()).await;
    assert_eq!(other.status, 200, "other issuers are not concerned: {}", other.text());
    eventually("the metric of failed readings", async || {
        let metrics = gateway.service().http("/metrics").await.ok()?;
        metrics.contains("bulkhead_issuer_readings_total{result=\"failed\"}").then_some(())
    })
    .await;
    provider.process.signal(Signal::Cont);
    eventually("its return", async || (ask(&gateway, &token).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_restart_and_a_reload_refuse_no_good_token() {
    let (_directory, provider) = provider().await;
    let mut gateway = gateway(&provider, json!({}), None).await;
    let token = provider.token("chat").await;
    gateway.service().process().signal(Signal::Term);
    gateway.service().process().ended().await;
    provider.process.signal(Signal::Stop);
    let slow = Duration::from_millis(1_500);
    let started = Instant::now();
    let restarted = async {
        gateway.service_mut().restart().await;
        started.elapsed()
    };
    let answers_late = async {
        tokio::time::sleep(slow).await;
        provider.process.signal(Signal::Cont);
    };
    let (took, ()) = tokio::join!(restarted, answers_late);
    assert!(took >= slow, "it was ready after {took:?}, before its issuers answered");
    let answer = ask(&gateway, &token).await;
    assert_eq!(answer.status, 200, "the first request after a restart: {}", answer.text());
    let file = gateway.service().policies().join("resources.yaml");
    let text = std::fs::read_to_string(&file).expect("the resources");
    std::fs::write(&file, text.replace("\"discovery\": {", "\"discovery\": {\"refresh\": \"30s\",")).expect("written");
    gateway.service().command(&["reload"]).await;
    assert_eq!(ask(&gateway, &token).await.status, 200, "at once after a reload with other settings");
    provider.process.signal(Signal::Stop);
    let text = std::fs::read_to_string(&file).expect("the resources");
    std::fs::write(&file, text.replace("\"refresh\": \"30s\",", "\"refresh\": \"40s\",")).expect("written");
    gateway.service().command(&["reload"]).await;
    assert_eq!(ask(&gateway, &token).await.status, 200, "also while the provider hangs");
    provider.process.signal(Signal::Cont);
}

#[tokio::test]
async fn scopes_are_roles_and_no_scope_is_none() {
    let (_directory, provider) = provider().await;
    let scopes = json!([{"scope": "chat", "role": "may-chat"}, {"scope": "models", "role": "may-list"}]);
    let gateway = gateway(&provider, json!({}), Some(scopes)).await;
    for (scope, chats, lists) in [("chat", 200, 403), ("models", 403, 200), ("chat models", 200, 200), ("", 403, 403)] {
        let bearer = format!("Bearer {}", provider.token(scope).await);
        let large = json!({"model": "llama-3.1-70b", "messages": [{"role": "user", "content": "hi"}]});
        let chat = gateway.post(CHAT, &[("authorization", &bearer)], chat_body("hi").to_string()).await;
        let larger = gateway.post(CHAT, &[("authorization", &bearer)], large.to_string()).await;
        let list = gateway.get("/v1/models", &[("authorization", &bearer)]).await;
        assert_eq!((chat.status, list.status, larger.status), (chats, lists, 403), "`{scope}`: {}", chat.text());
    }
}

#[tokio::test]
async fn no_attack_opens_it_and_nothing_is_fetched_for_one() {
    let (_directory, provider) = provider().await;
    let (_other_directory, other) = self::provider().await;
    let gateway = gateway(&provider, json!({}), None).await;
    let trap = TcpListener::bind("127.0.0.1:0").await.expect("a trap");
    let trap_url = format!("http://{}/keys", trap.local_addr().expect("its address"));
    let good = provider.token("chat").await;
    let published = provider.jwks().await["keys"][0].clone();
    let header = json!({"alg": "ES256", "kid": published["kid"], "typ": "at+jwt"});
    let payload = good.split('.').nth(1).expect("a payload");
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON");
    let mint = issuer("acme");
    let with = |change: Value| {
        let mut header = header.clone();
        change.as_object().expect("members").iter().for_each(|(name, value)| header[name] = value.clone());
        mint.sign(Alg::Es256, &header, &claims)
    };
    let hs = |secret: &[u8]| {
        let header = json!({"alg": "HS256", "kid": published["kid"], "typ": "JWT"});
        let signed = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header.to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let point =
        |member: &str| URL_SAFE_NO_PAD.decode(published[member].as_str().expect("a coordinate")).expect("base64url");
    let own = mint.jwks()["keys"][2].clone();
    let none = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "kid": published["kid"]}).to_string());
    let tokens = [
        ("one bit", forged(&good)),
        ("none", format!("{none}.{payload}.")),
        ("HS256 with the key set's text", hs(published.to_string().as_bytes())),
        ("HS256 with the point", hs(&[&[4], &point("x")[..], &point("y")].concat())),
        ("HS256 with x", hs(published["x"].as_str().expect("x").as_bytes())),
        ("another key", with(json!({}))),
        ("embedded jwk", with(json!({"jwk": own}))),
        ("jku", with(json!({"jku": trap_url, "kid": own["kid"]}))),
        ("x5u", with(json!({"x5u": trap_url}))),
        ("x5c", with(json!({"x5c": ["AAAA"]}))),
        ("kid of another issuer", with(json!({"kid": own["kid"]}))),
        ("kid that is a URL", with(json!({"kid": trap_url}))),
        ("unknown kid", with(json!({"kid": "unknown"}))),
        ("no kid", mint.sign(Alg::Es256, &json!({"alg": "ES256"}), &claims)),
        ("the provider's key under another issuer's name", other.token("chat").await),
        ("alg of another key type", mint.sign(Alg::Rs256, &json!({"alg": "RS256", "kid": published["kid"]}), &claims)),
    ];
    let shots: Vec<Shot> = tokens.iter().map(|(_, token)| shot(token)).collect();
    for ((what, _), answer) in tokens.iter().zip(volley(gateway.addr, &shots, 4).await) {
        refusal(&answer.expect("an answer"), 401, "invalid_credential", what);
    }
    assert!(
        tokio::time::timeout(Duration::from_millis(300), trap.accept()).await.is_err(),
        "a token had something fetched"
    );
    assert_eq!(ask(&gateway, &good).await.status, 200);
}
