//! What the front refuses by itself, what it leaves to the service, and what a held grant answers for.

use gateway_core::gate::{Grant, SignedGrant, SyncResponse};
use prost::Message as _;

use super::*;
use crate::gateway::Held;

mod hunt;

type Headers = Vec<(&'static str, Vec<u8>)>;

/// One worker and the clock's time.
struct Worker {
    rules: Rules,
    held: HeldGrants<()>,
    revocations: Revocations,
    now_ms: u64,
}

/// A request that owns its words.
#[derive(Clone, Debug, PartialEq)]
struct Words {
    method: String,
    authority: String,
    path: String,
    headers: Headers,
}

impl Words {
    fn post(path: &str, headers: &[(&'static str, &[u8])]) -> Self {
        let mut all: Headers = vec![("content-type", b"application/json".to_vec())];
        all.extend(headers.iter().map(|(name, value)| (*name, value.to_vec())));
        Self { method: "POST".into(), authority: "api.example".into(), path: path.into(), headers: all }
    }
}

impl Worker {
    fn new() -> Self {
        let templates = ["/v1/chat/completions", "/api/v1/tenants/{tenant}/models/{model}/predict"];
        let rules = Rules {
            claim_header: "x-tenant-id".into(),
            path_templates: templates.iter().map(|text| PathTemplate::parse(text).unwrap()).collect(),
            tenant_claims: vec!["tenant".into()],
        };
        let mut worker =
            Self { rules, held: HeldGrants::default(), revocations: Revocations::default(), now_ms: 1_000 };
        worker.revocations.sent(1, 1_000);
        worker.revocations.told(&SyncResponse { sequence: 1, epoch: 5, ..SyncResponse::default() });
        worker
    }

    fn arrive(&mut self, words: &Words) -> FrontStep<()> {
        self.arrive_on(words, false)
    }

    fn arrive_on(&mut self, words: &Words, certified: bool) -> FrontStep<()> {
        let headers: Vec<(&str, &[u8])> = words.headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        let head = Head { method: &words.method, authority: &words.authority, path: &words.path, headers: &headers };
        Front::arrive(&self.rules, &head, certified, &mut self.held, &mut self.revocations, self.now_ms)
    }

    fn refused(&mut self, words: &Words) -> Denial {
        match self.arrive(words) {
            FrontStep::Refuse(denial) => denial,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn asked(&mut self, words: &Words) -> RequestKey {
        match self.arrive(words) {
            FrontStep::Ask(key) => key,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    /// The service grants it, and the grant is held.
    fn hold(&mut self, words: &Words, tenant: &str) -> Rc<HeldGrant<()>> {
        let key = self.asked(words);
        let held = granted(words, tenant, self.now_ms);
        self.held.insert(key, Rc::clone(&held), self.now_ms);
        held
    }
}

fn granted(words: &Words, tenant: &str, received_ms: u64) -> Rc<HeldGrant<()>> {
    let grant = Grant {
        id: vec![7; 16].into(),
        tenant: tenant.into(),
        method: words.method.clone(),
        authority: words.authority.clone(),
        path: words.path.clone(),
        lifetime_ms: 65_000,
        hold_ms: 10_000,
        epoch: 5,
        ..Grant::default()
    };
    let signed = SignedGrant { grant: grant.encode_to_vec().into(), mac: vec![1; 32].into() };
    let held = Held { signed: signed.encode_to_vec().into(), grant, received_ms };
    Rc::new(HeldGrant::new(held, |_| Ok(())).unwrap())
}

/// `{"tenant":…}` behind a header and before a signature.
fn jwt(tenant: &str) -> Vec<u8> {
    let payload = match tenant {
        "acme" => "eyJ0ZW5hbnQiOiJhY21lIn0",
        "globex" => "eyJ0ZW5hbnQiOiJnbG9iZXgifQ",
        _ => "e30",
    };
    format!("Bearer e30.{payload}.c2ln").into_bytes()
}

const CHAT: &str = "/v1/chat/completions";
const ACME: &str = "/api/v1/tenants/acme/models/m/predict";

#[test]
fn the_syntax_is_the_services() {
    let mut worker = Worker::new();
    let cases: [(Words, Code); 7] = [
        (Words { method: "PUT".into(), ..Words::post(CHAT, &[]) }, Code::MethodNotAllowed),
        (Words::post("/v1//chat", &[]), Code::BadRequest),
        (Words::post(CHAT, &[("x-tenant-id", b"acme"), ("x-tenant-id", b"acme")]), Code::DuplicateHeader),
        (Words::post(CHAT, &[("x-tenant-id", b"Acme")]), Code::MalformedHeader),
        (Words::post(CHAT, &[("authorization", b"Bearer a"), ("x-api-key", b"a")]), Code::AmbiguousCredentials),
        (Words::post(CHAT, &[("content-encoding", b"gzip")]), Code::UnsupportedEncoding),
        (Words::post(CHAT, &[("x-envoy-auth-partial-body", b"true")]), Code::BodyTooLarge),
    ];
    for (words, code) in cases {
        assert_eq!(worker.refused(&words).code, code, "{words:?}");
    }
}

#[test]
fn a_request_that_names_two_tenants_is_refused_without_a_call() {
    let mut worker = Worker::new();
    let header = worker.refused(&Words::post(ACME, &[("x-tenant-id", b"globex"), ("x-api-key", b"k")]));
    assert_eq!((header.code, header.param.as_deref()), (Code::TenantConflict, Some("claim header")));
    let token = worker.refused(&Words::post(ACME, &[("authorization", &jwt("globex"))]));
    assert_eq!((token.code, token.param.as_deref()), (Code::TenantConflict, Some("path")));
    assert_eq!(token.detail.as_deref(), Some("The path names another tenant than the credential."));
    let token = worker.refused(&Words::post(CHAT, &[("x-tenant-id", b"acme"), ("authorization", &jwt("globex"))]));
    assert_eq!((token.code, token.param.as_deref()), (Code::TenantConflict, Some("claim header")));
}

#[test]
fn what_does_not_contradict_itself_is_the_services_to_decide() {
    let mut worker = Worker::new();
    let asked = [
        Words::post(CHAT, &[]),
        Words::post(CHAT, &[("authorization", &jwt("globex"))]),
        Words::post(ACME, &[("x-tenant-id", b"acme"), ("authorization", &jwt("acme"))]),
        Words::post(ACME, &[("authorization", &jwt("nobody's"))]),
        Words::post(ACME, &[("authorization", b"Bearer e30.%%%.c2ln")].map(|(name, _)| (name, &b"Bearer e30.~.s"[..]))),
        Words::post(ACME, &[("authorization", b"Bearer bh_k1_secret")]),
        Words::post(ACME, &[("x-api-key", b"e30.eyJ0ZW5hbnQiOiJnbG9iZXgifQ.c2ln")]),
        Words::post("/tenants/globex/elsewhere", &[("x-tenant-id", b"acme"), ("x-api-key", b"k")]),
        Words::post("/api/v1/tenants/No_Name/models/m/predict", &[("x-api-key", b"k")]),
    ];
    for words in asked {
        worker.asked(&words);
    }
}

#[test]
fn a_held_grant_answers_for_a_request_alike() {
    let mut worker = Worker::new();
    let words = Words::post(ACME, &[("x-tenant-id", b"acme"), ("authorization", &jwt("acme"))]);
    let held = worker.hold(&words, "acme");
    let FrontStep::Held(found) = worker.arrive(&words) else { panic!("not held") };
    assert!(Rc::ptr_eq(&found, &held));
    let mut others = words.clone();
    others.headers.push(("x-request-id", b"another".to_vec()));
    others.headers.reverse();
    assert!(matches!(worker.arrive(&others), FrontStep::Held(_)), "what no decision reads is no part of the key");
    others.headers.push(("content-encoding", b"gzip".to_vec()));
    assert_eq!(worker.refused(&others).code, Code::UnsupportedEncoding, "syntax is checked each time");
    worker.now_ms = 3_001;
    worker.asked(&words);
}

/// The service reads the certificate of a connection, and no key holds it.
#[test]
fn who_shows_a_certificate_or_no_credential_is_always_asked_for() {
    let mut worker = Worker::new();
    let words = Words::post(ACME, &[("authorization", &jwt("acme"))]);
    worker.hold(&words, "acme");
    assert!(matches!(worker.arrive_on(&words, true), FrontStep::Ask(_)));
    assert!(matches!(worker.arrive_on(&words, false), FrontStep::Held(_)));
    for bare in [Words::post(ACME, &[]), Words::post(ACME, &[("x-tenant-id", b"acme")])] {
        worker.hold(&bare, "acme");
        for certified in [false, true] {
            assert!(matches!(worker.arrive_on(&bare, certified), FrontStep::Ask(_)), "{bare:?}");
        }
    }
}

/// Kept under a key that is not its own, it is no grant.
#[test]
fn a_grant_under_anothers_key_is_not_used() {
    let mut worker = Worker::new();
    let words = Words::post(ACME, &[("authorization", &jwt("acme"))]);
    let wrong = [
        granted(&Words { path: CHAT.into(), ..words.clone() }, "acme", 1_000),
        granted(&Words { authority: "b".into(), ..words.clone() }, "acme", 1_000),
        granted(&Words { method: "GET".into(), ..words.clone() }, "acme", 1_000),
        granted(&words, "globex", 1_000),
    ];
    for held in wrong {
        let key = worker.asked(&words);
        worker.held.insert(key, held, 1_000);
        worker.asked(&words);
    }
}

#[test]
fn nothing_of_a_step_prints_a_credential() {
    let mut worker = Worker::new();
    let words = Words::post(CHAT, &[("x-api-key", b"canary")]);
    assert!(!format!("{:?}", worker.arrive(&words)).contains("canary"));
    worker.hold(&words, "acme");
    assert!(!format!("{:?}", worker.arrive(&words)).contains("canary"));
}
