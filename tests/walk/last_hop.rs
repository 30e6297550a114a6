//! The last hop of `inline.yaml`: whose provider key a request leaves with. The platform's is put in by the provider's
//! cluster, for one word of the module alone; every other request is the service's, and an answer that is not its own word
//! opens nothing. Filters of Envoy's own stand for the module and say whatever a test wants (`configuration/stand_in.rs`).

use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::stand_in::{LAST_HOP, MARK, ROUTE, with_stand_ins};
use bulkhead_tests::configuration::{Profile, fails_open, repository};
use bulkhead_tests::eventually;
use bulkhead_tests::fake_service::{Word, allow};
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::policies::{GPU_POOL_KEY, HOSTED_KEY, write_secret};
use bulkhead_tests::upstream::Seen;
use gateway_core::headers::CREDENTIAL_CARRIERS;
use gateway_core::wire;

const OWN: &str = "Bearer sk-of-the-tenant";
const CLIENTS: &str = "credential-of-the-client-5b1f";
/// What is nearly the word that skips the last hop.
const WORDS: [&str; 7] = ["own", "Platform", "platform2", "xplatform", "platform-v1", "done-v1", "held-v1:7"];

/// The last hop's word, with a key of the tenant's.
fn done() -> Word {
    keyed(&[(wire::LAST_HOP_DONE, wire::LAST_HOP_DONE_WORD)])
}

fn keyed(metadata: &[(&str, &str)]) -> Word {
    Word::Exactly(Box::new(allow(metadata, &[("authorization", OWN)])))
}

async fn gateway(fail_open: bool) -> Gateway {
    let edit = move |text: String| {
        let text = with_stand_ins(&text);
        if fail_open { fails_open(&text) } else { text }
    };
    let builder = Gateway::builder().profile(Profile::Inline).fake_service(Word::Exactly(Box::default()));
    builder.envoy(edit).start().await
}

/// A request that room 3 lets through, with the module's word to the last hop.
async fn ask(gateway: &Gateway, word: Option<&str>, cluster: &str) -> Answer {
    let mut headers = vec![("authorization", "Bearer of-the-client"), (MARK, "held-v1:7"), (ROUTE, cluster)];
    headers.extend(word.map(|word| (LAST_HOP, word)));
    gateway.post(CHAT, &headers, chat_body("hello [tokens=1]").to_string()).await
}

fn is(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
}

/// What reached the upstreams since the last time.
fn seen(gateway: &Gateway) -> Vec<Seen> {
    let seen = gateway.upstream.record().into_iter().chain(gateway.upstream_2.record()).collect();
    gateway.upstream.clear();
    gateway.upstream_2.clear();
    seen
}

/// The credentials of the one request that came, and nothing of ours beside them.
fn carried(gateway: &Gateway, what: &str) -> Option<String> {
    let seen = seen(gateway);
    assert_eq!(seen.len(), 1, "{what}");
    for name in [wire::ROUTE, wire::GRANT_HEADER] {
        assert_eq!(seen[0].header(name), None, "{what}: {name}");
    }
    seen[0].header("authorization")
}

#[tokio::test]
async fn the_platforms_keys_each_at_its_own_provider() {
    let gateway = gateway(false).await;
    for (cluster, key) in [("model-upstream", GPU_POOL_KEY), ("model-upstream-2", HOSTED_KEY)] {
        is(&ask(&gateway, Some("platform"), cluster).await, 200, "", cluster);
        assert_eq!(carried(&gateway, cluster), Some(format!("Bearer {key}")));
    }
    assert!(gateway.fake().asked().is_empty(), "no call");
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn without_the_modules_word_the_service_is_asked_and_puts_in_the_tenants_own() {
    let gateway = gateway(false).await;
    gateway.fake().say_last_hop(done());
    for cluster in ["model-upstream", "model-upstream-2"] {
        for word in [None].into_iter().chain(WORDS.map(Some)) {
            let what = format!("{word:?} to {cluster}");
            is(&ask(&gateway, word, cluster).await, 200, "", &what);
            assert_eq!(carried(&gateway, &what).as_deref(), Some(OWN), "{what}: the platform's key is not put in");
        }
    }
    let asked = gateway.fake().asked_in(wire::ROOM_LAST_HOP);
    assert_eq!((asked.len(), gateway.fake().asked().len()), (2 * (WORDS.len() + 1), asked.len()));
    let http = asked[0].attributes.clone().and_then(|all| all.request?.http).expect("a request");
    assert!(http.raw_body.is_empty() && http.body.is_empty(), "headers only");
    let headers = http.header_map.expect("raw headers").headers;
    let raw = |name: &str| headers.iter().find(|one| one.key == name).map(|one| one.raw_value.clone());
    assert_eq!(raw(wire::GRANT_HEADER).as_deref(), Some(&b"handle"[..]), "the grant is the service's to read");
    assert_eq!(raw(wire::ROUTE).as_deref(), Some(&b"model-upstream"[..]));
}

/// Whatever the module did about it: nothing here stands for that part of it.
#[tokio::test]
async fn the_clients_credential_goes_no_further_than_the_module() {
    let gateway = gateway(false).await;
    gateway.fake().say_last_hop(done());
    for name in CREDENTIAL_CARRIERS.into_iter().chain(["api-key", "proxy-authorization", "cookie"]) {
        for (word, key) in [("platform", format!("Bearer {GPU_POOL_KEY}")), ("own", OWN.to_owned())] {
            let headers = [(name, CLIENTS), (MARK, "held-v1:7"), (LAST_HOP, word), (ROUTE, "model-upstream")];
            let answer = gateway.post(CHAT, &headers, chat_body("hello [tokens=1]").to_string()).await;
            is(&answer, 200, "", name);
            let seen = seen(&gateway);
            assert_eq!((seen.len(), seen[0].header("authorization")), (1, Some(key)), "{name}, {word}");
            assert!(!seen[0].shown().to_string().contains(CLIENTS), "{name}, {word}: {}", seen[0].shown());
        }
    }
    let asked = gateway.fake().asked_in(wire::ROOM_LAST_HOP);
    let headers = |asked: &envoy_types::pb::envoy::service::auth::v3::CheckRequest| {
        let http = asked.attributes.clone().and_then(|all| all.request?.http).expect("a request");
        http.header_map.expect("raw headers").headers
    };
    assert_eq!(asked.len(), 6);
    assert!(
        asked.iter().flat_map(headers).all(|one| one.raw_value != CLIENTS.as_bytes()),
        "nor does the last hop see it"
    );
}

#[tokio::test]
async fn an_empty_an_odd_or_a_dead_last_hop_lets_nothing_through() {
    for fail_open in [false, true] {
        let gateway = gateway(fail_open).await;
        let dead = if fail_open { (403, "not_admitted") } else { (503, "service_unavailable") };
        let closed = (403, "not_admitted");
        for (word, (status, code)) in [
            (Word::Exactly(Box::default()), closed),
            (keyed(&[]), closed),
            (keyed(&[(wire::LAST_HOP_DONE, "done")]), closed),
            (keyed(&[(wire::LAST_HOP_DONE, wire::LAST_HOP_PLATFORM)]), closed),
            (keyed(&[(wire::DECISION, wire::DECISION_ALLOW)]), closed),
            (keyed(&[("wasm.bh_last_hop", wire::LAST_HOP_PLATFORM)]), closed),
            (Word::Fails(tonic::Code::Unavailable), dead),
            (Word::Fails(tonic::Code::Unimplemented), dead),
            (Word::Hang, dead),
        ] {
            gateway.fake().say_last_hop(word.clone());
            let what = format!("fails open: {fail_open}; {word:?}");
            is(&ask(&gateway, None, "model-upstream").await, status, code, &what);
            assert!(seen(&gateway).is_empty(), "{what}");
        }
        gateway.fake().say_last_hop(done());
        is(&ask(&gateway, None, "model-upstream").await, 200, "", "the word itself");
        assert!(gateway.is_whole().await);
    }
}

#[tokio::test]
async fn a_platforms_key_is_rotated_by_a_move_and_without_one_nothing_leaves() {
    let gateway = gateway(false).await;
    let secrets = gateway.secrets();
    let platform = async || ask(&gateway, Some("platform"), "model-upstream").await;
    write_secret(&secrets, "gpu-pool", "Bearer sk-the-next").unwrap();
    eventually("the next key", async || {
        is(&platform().await, 200, "", "while it is rotated");
        (carried(&gateway, "rotated")? == "Bearer sk-the-next").then_some(())
    })
    .await;

    // a broken file changes nothing
    std::fs::write(secrets.join("broken"), "resources: [{").unwrap();
    std::fs::rename(secrets.join("broken"), secrets.join("gpu-pool.yaml")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    is(&platform().await, 200, "", "after a broken file");
    assert_eq!(carried(&gateway, "broken").as_deref(), Some("Bearer sk-the-next"));

    write_secret(&secrets, "gpu-pool", "").unwrap();
    let refused = eventually("the loss of the key", async || {
        let answer = platform().await;
        let left = seen(&gateway);
        if answer.status == 200 {
            assert_eq!(left[0].header("authorization").as_deref(), Some("Bearer sk-the-next"));
            return None;
        }
        assert!(left.is_empty(), "{left:?}");
        Some(answer)
    })
    .await;
    is(&refused, 503, "upstream_unavailable", "no key");
    is(&ask(&gateway, Some("platform"), "model-upstream-2").await, 200, "", "the other provider's is there");
    assert_eq!(carried(&gateway, "hosted"), Some(format!("Bearer {HOSTED_KEY}")));
    gateway.fake().say_last_hop(done());
    is(&ask(&gateway, None, "model-upstream").await, 200, "", "a tenant's own key needs none of the platform's");
    assert_eq!(carried(&gateway, "own").as_deref(), Some(OWN));
    assert!(gateway.is_whole().await);
}

#[tokio::test]
async fn with_the_files_as_they_are_shipped_nothing_leaves() {
    let shipped = repository().join("envoy/standalone/secrets").display().to_string();
    let edit = move |text: String| {
        let (_, path) = text.split_once("path_config_source: {path: ").expect("a secret");
        let (secrets, _) = path.split_once("/gpu-pool.yaml").expect("the first one");
        with_stand_ins(&text.replace(secrets, &shipped))
    };
    let builder = Gateway::builder().profile(Profile::Inline).fake_service(Word::Exactly(Box::default()));
    let gateway = builder.envoy(edit).start().await;
    for cluster in ["model-upstream", "model-upstream-2"] {
        is(&ask(&gateway, Some("platform"), cluster).await, 503, "upstream_unavailable", cluster);
    }
    assert!(seen(&gateway).is_empty());
}
