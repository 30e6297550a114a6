//! Issuers that answer as they should, and in every way that they should not (security.md B19, B20, B21).

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use gateway_core::name::TenantName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::registry::{Issuer, Permits};

const METADATA: &str = "/.well-known/openid-configuration";

type Answers = Arc<Mutex<HashMap<String, Answer>>>;

#[derive(Clone)]
enum Answer {
    Bytes(Vec<u8>),
    Silence,
    /// A byte each 100 ms.
    Drip(Vec<u8>),
}

/// An identity provider on a port of its own.
struct Idp {
    url: String,
    answers: Answers,
    asked: Arc<AtomicUsize>,
}

impl Idp {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answers, asked) = (Answers::default(), Arc::new(AtomicUsize::new(0)));
        let (of_task, count) = (Arc::clone(&answers), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let answers = Arc::clone(&of_task);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
                    let answer = answers.lock().unwrap().get(&path).cloned();
                    match answer.unwrap_or_else(|| Answer::Bytes(response("404 Not Found", "", b""))) {
                        Answer::Bytes(bytes) => drop(stream.write_all(&bytes).await),
                        Answer::Silence => std::future::pending().await,
                        Answer::Drip(bytes) => {
                            for byte in bytes {
                                tokio::time::sleep(Duration::from_millis(100)).await;
                                let _ = stream.write_all(&[byte]).await;
                            }
                        }
                    }
                });
            }
        });
        let idp = Self { url, answers, asked };
        idp.say(METADATA, json!({"issuer": idp.url, "jwks_uri": format!("{}/keys", idp.url)}));
        idp.publish(&["one"]);
        idp
    }

    fn say(&self, path: &str, document: Value) {
        self.answer(path, Answer::Bytes(response("200 OK", "", document.to_string().as_bytes())));
    }

    fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn publish(&self, kids: &[&str]) {
        self.say("/keys", key_set(kids));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn named(&self, kid: &str) -> NamedKey {
        NamedKey { issuer: self.url.clone(), kid: Some(kid.to_owned()) }
    }
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn key_set(kids: &[&str]) -> Value {
    let key = |kid: &&str| {
        let mut seed = [7; 32];
        kid.bytes().zip(&mut seed).for_each(|(byte, of_seed)| *of_seed = byte);
        let public = SigningKey::from_bytes(&seed).verifying_key();
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": URL_SAFE_NO_PAD.encode(public.as_bytes())})
    };
    json!({"keys": kids.iter().map(key).collect::<Vec<_>>()})
}

fn local() -> Discovery {
    Discovery {
        private_addresses: vec!["127.0.0.1/32".parse().unwrap()],
        refresh: Duration::from_secs(3600),
        ..Discovery::default()
    }
}

fn registry(issuers: &[(&str, &Discovery)]) -> Registry {
    let issuer = |(url, discovery): &(&str, &Discovery)| {
        let issuer = Issuer {
            url: (*url).to_owned(),
            tenant: TenantName::parse("acme").unwrap(),
            audiences: BTreeSet::new(),
            tenant_claim: None,
            max_lifetime: Duration::from_secs(60),
            keys: IssuerKeys::Published((*discovery).clone()),
            permits: Permits::default(),
            scopes: None,
        };
        ((*url).to_owned(), vec![Arc::new(issuer)])
    };
    Registry { issuers: issuers.iter().map(issuer).collect(), ..Registry::default() }
}

/// A ring that has asked these issuers once.
async fn ring(issuers: &[(&str, &Discovery)]) -> KeyRing {
    let ring = KeyRing::new(Arc::new(|_, _| ())).unwrap();
    ring.adopt(&registry(issuers));
    ring.first_round(Duration::from_secs(20)).await;
    ring
}

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap()
}

fn has(ring: &KeyRing, idp: &Idp, kid: &str) -> bool {
    ring.keys(&idp.url, now()).is_some_and(|keys| keys.find(Some(kid)).is_some())
}

#[tokio::test]
async fn published_keys_are_read_and_only_their_issuer_has_them() {
    let (one, other) = (Idp::start().await, Idp::start().await);
    other.publish(&["two"]);
    let settings = local();
    let ring = ring(&[(&one.url, &settings), (&other.url, &settings)]).await;
    assert!(has(&ring, &one, "one") && has(&ring, &other, "two"));
    assert!(!has(&ring, &one, "two") && !has(&ring, &other, "one"));
    assert!(ring.keys("https://nobody.example", now()).is_none());
    assert_eq!((one.asked(), other.asked()), (2, 2), "metadata and keys, once each");
}

#[tokio::test]
async fn an_address_that_is_not_listed_is_never_connected_to() {
    let idp = Idp::start().await;
    let elsewhere = Discovery { private_addresses: vec!["10.0.0.0/8".parse().unwrap()], ..local() };
    let ring = ring(&[(&idp.url, &elsewhere)]).await;
    assert!(ring.keys(&idp.url, now()).is_none());
    assert_eq!(idp.asked(), 0);
    // nor is one that the metadata names
    idp.say(METADATA, json!({"issuer": idp.url, "jwks_uri": "http://169.254.169.254/latest/meta-data/"}));
    let ring = self::ring(&[(&idp.url, &local())]).await;
    assert!(ring.keys(&idp.url, now()).is_none());
    let by_name = idp.url.replace("127.0.0.1", "localhost");
    let ring = self::ring(&[(&by_name, &elsewhere)]).await;
    assert!(ring.keys(&by_name, now()).is_none());
    assert_eq!(idp.asked(), 1);
}

#[tokio::test]
async fn what_is_no_key_set_is_refused_whole_and_the_last_good_one_stays() {
    let idp = Idp::start().await;
    let trap = Idp::start().await;
    let settings = Discovery { unknown_key_interval: Duration::from_millis(1), ..local() };
    let ring = ring(&[(&idp.url, &settings)]).await;
    let many: Vec<String> = (0..10_000).map(|number| format!("k{number}")).collect();
    let few: Vec<&str> = many.iter().map(String::as_str).take(65).collect();
    let ok = |body: &[u8]| response("200 OK", "", body);
    let mut symmetric = key_set(&["two"]);
    symmetric["keys"][0] = json!({"kty": "oct", "kid": "two", "k": "c2VjcmV0"});
    let huge = key_set(&many.iter().map(String::as_str).collect::<Vec<_>>()).to_string();
    let two = key_set(&["two"]).to_string();
    let redirect = |status: &str| response(status, &format!("location: {}/keys\r\n", trap.url), b"");
    trap.publish(&["two"]);
    for (what, bytes) in [
        ("10,000 keys", ok(huge.as_bytes())),
        ("65 keys", ok(key_set(&few).to_string().as_bytes())),
        ("5 MB", ok(&[b"{\"keys\":[" as &[u8], &vec![b' '; 5 << 20], b"]}"].concat())),
        ("without a length", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" as &[u8], &vec![b' '; 5 << 20]].concat()),
        (
            "chunked",
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n80000\r\n" as &[u8], &vec![b' '; 1 << 19]].concat(),
        ),
        ("endless headers", [b"HTTP/1.1 200 OK\r\n" as &[u8], &b"a: b\r\n".repeat(100_000)].concat()),
        ("symmetric", ok(symmetric.to_string().as_bytes())),
        ("no keys", ok(br#"{"keys":[]}"#)),
        ("HTML", ok(b"<html><body>Sign in</body></html>")),
        ("nothing", ok(b"")),
        ("twice", ok(key_set(&["two", "two"]).to_string().as_bytes())),
        ("gzip", response("200 OK", "content-encoding: gzip\r\n", two.as_bytes())),
        ("301", redirect("301 Moved Permanently")),
        ("302", redirect("302 Found")),
        ("307", redirect("307 Temporary Redirect")),
        ("304", response("304 Not Modified", "", b"")),
        ("204", response("204 No Content", "", b"")),
        ("500", response("500 Internal Server Error", "", two.as_bytes())),
        ("203", response("203 Non-Authoritative Information", "", two.as_bytes())),
        ("no HTTP", b"two two two\r\n\r\n".to_vec()),
        ("broken off", ok(two.as_bytes())[..100].to_vec()),
        ("hung up", Vec::new()),
    ] {
        let before = idp.asked();
        idp.answer("/keys", Answer::Bytes(bytes));
        while idp.asked() < before + 2 {
            ring.wait_for(&idp.named("two"), now()).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!has(&ring, &idp, "two") && has(&ring, &idp, "one"), "{what}");
    }
    assert_eq!(trap.asked(), 0, "a redirect was followed");
    idp.publish(&["two"]);
    let started = Instant::now();
    while !has(&ring, &idp, "two") {
        assert!(started.elapsed() < Duration::from_secs(5), "the harness sees no good one");
        tokio::time::sleep(Duration::from_millis(5)).await;
        ring.wait_for(&idp.named("two"), now()).await;
    }
    assert!(!has(&ring, &idp, "one"));
}

#[tokio::test]
async fn another_issuers_metadata_opens_nothing() {
    let idp = Idp::start().await;
    for issuer in ["https://id.acme.example".to_owned(), format!("{}/", idp.url), idp.url.to_uppercase()] {
        idp.say(METADATA, json!({"issuer": issuer, "jwks_uri": format!("{}/keys", idp.url)}));
        let before = idp.asked();
        let ring = ring(&[(&idp.url, &local())]).await;
        assert!(ring.keys(&idp.url, now()).is_none(), "{issuer}");
        assert_eq!(idp.asked(), before + 1, "its keys are not even asked for");
    }
}

#[tokio::test]
async fn a_flood_of_unknown_keys_asks_once() {
    let idp = Idp::start().await;
    let ring = Arc::new(ring(&[(&idp.url, &local())]).await);
    let started = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..10_000 {
        let (ring, named) = (Arc::clone(&ring), idp.named(&format!("unknown-{number}")));
        waiting.spawn(async move { ring.wait_for(&named, now()).await });
    }
    waiting.join_all().await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(idp.asked(), 4, "two readings of two documents: the first, and one for all of them");
    assert!(!ring.wait_for(&idp.named("another"), now()).await, "nobody waits for what is not asked");
    assert!(!ring.wait_for(&idp.named("one"), now()).await, "nor for what is there");
}

#[tokio::test]
async fn everybody_who_waits_for_a_new_key_gets_it() {
    let idp = Idp::start().await;
    let settings = Discovery { unknown_key_interval: Duration::from_millis(400), ..local() };
    let ring = Arc::new(ring(&[(&idp.url, &settings)]).await);
    for round in 0..5 {
        let kid = format!("round-{round}");
        idp.publish(&[&kid, "one"]);
        let asked = idp.asked();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (ring, named) = (Arc::clone(&ring), idp.named(&kid));
            waiting.spawn(async move {
                ring.wait_for(&named, now()).await;
                ring.keys(&named.issuer, now()).is_some_and(|keys| keys.find(named.kid.as_deref()).is_some())
            });
        }
        assert!(waiting.join_all().await.into_iter().all(|there| there), "{kid}");
        assert_eq!(idp.asked(), asked + 2, "one reading for all of them");
        tokio::time::sleep(Duration::from_millis(450)).await;
    }
}

#[tokio::test]
async fn who_is_slow_is_not_waited_for() {
    let idp = Idp::start().await;
    let settings = Discovery { unknown_key_interval: Duration::from_millis(1), ..local() };
    let ring = ring(&[(&idp.url, &settings)]).await;
    for answer in [Answer::Silence, Answer::Drip(response("200 OK", "", key_set(&["two"]).to_string().as_bytes()))] {
        idp.answer("/keys", answer);
        let started = Instant::now();
        assert!(ring.wait_for(&idp.named("two"), now()).await);
        let took = started.elapsed();
        assert!(took >= PATIENCE && took < Duration::from_secs(3), "{took:?}");
        assert!(has(&ring, &idp, "one") && !has(&ring, &idp, "two"));
    }
}

#[tokio::test]
async fn keys_that_cannot_be_read_again_open_nothing_in_the_end() {
    let idp = Idp::start().await;
    let settings = Discovery { max_stale: Duration::from_secs(100), ..local() };
    let ring = ring(&[(&idp.url, &settings)]).await;
    let at = |later: u64| ring.keys(&idp.url, now() + later).is_some();
    assert!(at(98) && !at(102));
}

#[tokio::test]
async fn keys_are_read_again_and_a_removed_one_is_gone() {
    let idp = Idp::start().await;
    let settings = Discovery { refresh: Duration::from_millis(200), ..local() };
    let (told, readings) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (dropped, count) = (Arc::clone(&told), Arc::clone(&readings));
    let observe = move |issuer: &str, reading| {
        count.fetch_add(1, Ordering::SeqCst);
        if reading != Reading::Good {
            dropped.lock().unwrap().push((issuer.to_owned(), reading));
        }
    };
    let ring = KeyRing::new(Arc::new(observe)).unwrap();
    ring.adopt(&registry(&[(&idp.url, &settings)]));
    ring.first_round(Duration::from_secs(20)).await;
    idp.publish(&["one", "two"]);
    while !has(&ring, &idp, "two") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*told.lock().unwrap(), [], "another key takes nothing away");
    idp.publish(&["two"]);
    let started = Instant::now();
    while has(&ring, &idp, "one") {
        assert!(started.elapsed() < Duration::from_secs(5), "the key was removed long ago");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(has(&ring, &idp, "two"));
    let until = readings.load(Ordering::SeqCst) + 2;
    while readings.load(Ordering::SeqCst) < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*told.lock().unwrap(), [(idp.url.clone(), Reading::Dropped)], "told once");
}

#[tokio::test]
async fn a_new_set_of_resources_loses_no_key() {
    let (one, other) = (Idp::start().await, Idp::start().await);
    let settings = local();
    let ring = ring(&[(&one.url, &settings), (&other.url, &settings)]).await;
    one.answer(METADATA, Answer::Silence);
    let changed = Discovery { refresh: Duration::from_secs(60), ..local() };
    ring.adopt(&registry(&[(&one.url, &changed)]));
    assert!(has(&ring, &one, "one"), "what was read stays until it is read again");
    assert!(ring.keys(&other.url, now()).is_none(), "nobody trusts it any more");
    ring.adopt(&registry(&[]));
    assert!(ring.is_empty());
}
