//! Profile `inline` over a running service without its listeners: the head, the handle, the last hop, and what voids a
//! grant. Profile `portable` goes through a real Envoy (`tests/walk`).

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, OkHttpResponse, attribute_context};
use gateway_core::admission::Terms;
use gateway_core::gate::{Grant, Key};
use gateway_core::name::TenantName;
use prost::Message as _;

use super::*;
use crate::admin::operations::Administration;
use crate::admin::{NewKeyBody, Operations as _, Operator};
use crate::cli::ServeOptions;
use crate::vault::Secret;

const SET: &str = "\
apiVersion: bulkhead.dev/v1alpha1
kind: Plan
metadata: {name: small}
spec:
  limits: [{name: day, counts: tokens, scope: tenant, amount: 100k, window: day}]
  caps: {outputTokens: 4k, promptTokens: 32Ki}
---
apiVersion: bulkhead.dev/v1alpha1
kind: ModelCost
metadata: {name: llama}
spec:
  gpuClass: l4
  gpuWeightPermille: 1000
  gpuMsPer1kTokens: {input: 120, output: 9000}
  microUsdPer1mTokens: {input: 50k, output: 200k}
  minBytesPerToken: 1
  meanBytesPerToken: 4
  source: a test
  date: 2026-01-31
---
apiVersion: bulkhead.dev/v1alpha1
kind: Provider
metadata: {name: pool}
spec: {dialect: openai, cluster: pool-1, region: eu, models: [{name: llama}], credential: x-api-key}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Tenant
metadata: {name: acme}
spec: {plan: small, models: [llama], regions: [eu], namespaces: [acme]}
";
const BY: Operator = Operator { uid: 1000, pid: Some(7) };
const PATH: &str = "/v1/chat/completions";

struct House {
    check: Check,
    admin: Administration<Service>,
    key_id: String,
    key: String,
    directory: tempfile::TempDir,
}

impl House {
    /// With a key of acme's, and acme's own key of the provider.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let policies = directory.path().join("policies");
        fs::create_dir(&policies).unwrap();
        fs::write(policies.join("set.yaml"), SET).unwrap();
        let kek_file = directory.path().join("kek");
        fs::write(&kek_file, [7; 32]).unwrap();
        fs::set_permissions(&kek_file, fs::Permissions::from_mode(0o600)).unwrap();
        let socket = |name: &str| format!("unix:{}", directory.path().join(name).display());
        let service = Service::start(
            &ServeOptions {
                policies,
                state: directory.path().join("state.db"),
                kek_file,
                proxies: socket("proxies").parse().unwrap(),
                proxies_tls: None,
                listed: Vec::new(),
                admin: socket("admin").parse().unwrap(),
                http: "127.0.0.1:0".parse().unwrap(),
                mesh: None,
                issuer: "https://bulkhead.internal".into(),
                failed_logins_per_minute: NonZeroU32::MAX,
            },
            crate::serve::wall_clock(),
        )
        .unwrap();
        let admin = Administration::new(Arc::clone(&service));
        let body = NewKeyBody { tenant: "acme".into(), ..NewKeyBody::default() };
        let created = admin.create_key(BY, body.try_into().unwrap()).await.unwrap();
        let house =
            Self { check: Check(service), admin, key_id: created.id, key: created.key.expose().to_owned(), directory };
        house.put_provider_key().await;
        house
    }

    async fn put_provider_key(&self) {
        let tenant = TenantName::parse("acme").unwrap();
        self.admin.put_provider_key(BY, tenant, "pool".into(), Secret::new(b"sk-own".to_vec())).await.unwrap();
    }

    fn service(&self) -> &Service {
        &self.check.0
    }

    async fn ask(&self, room: &'static str, headers: &[(&str, &str)]) -> CheckResponse {
        let value = |(key, value): &(&str, &str)| HeaderValue {
            key: (*key).to_owned(),
            raw_value: (*value).into(),
            ..HeaderValue::default()
        };
        let http = HttpRequest {
            method: "POST".into(),
            host: "ai.example".into(),
            path: PATH.into(),
            header_map: Some(HeaderMap { headers: headers.iter().map(value).collect() }),
            ..HttpRequest::default()
        };
        let request = attribute_context::Request { http: Some(http), ..attribute_context::Request::default() };
        let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
        let mut request = Request::new(CheckRequest { attributes: Some(attributes) });
        request.metadata_mut().insert(wire::PROXY, "edge-1".parse().unwrap());
        request.metadata_mut().insert(wire::ROOM, room.parse().unwrap());
        self.check.check(request).await.unwrap().into_inner()
    }

    async fn head(&self) -> CheckResponse {
        let credential = format!("Bearer {}", self.key);
        let headers = [
            ("authorization", credential.as_str()),
            ("content-type", "application/json"),
            ("cookie", "a=b"),
            ("x-request-id", "r-1"),
        ];
        self.ask(wire::ROOM_INLINE, &headers).await
    }

    async fn granted(&self) -> Grant {
        grant(&self.head().await)
    }
}

fn word_of<'a>(response: &'a CheckResponse, key: &str) -> Option<&'a str> {
    match response.dynamic_metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(word) => Some(word),
        _ => None,
    }
}

fn ok(response: &CheckResponse) -> &OkHttpResponse {
    match response.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(ok) => ok,
        other => panic!("{other:?}"),
    }
}

fn set(response: &CheckResponse) -> Vec<(&str, &str)> {
    let headers = ok(response).headers.iter().filter_map(|one| one.header.as_ref());
    headers.map(|header| (header.key.as_str(), header.value.as_str())).collect()
}

fn grant(response: &CheckResponse) -> Grant {
    assert_eq!(word_of(response, wire::DECISION), Some(wire::DECISION_ALLOW), "{response:?}");
    wire::decode_grant(word_of(response, wire::GRANT).unwrap().as_bytes()).unwrap().1
}

fn code(response: &CheckResponse) -> &str {
    assert!(matches!(response.http_response, Some(HttpResponse::DeniedResponse(_))), "{response:?}");
    assert_eq!((word_of(response, wire::DECISION), response.status.as_ref().unwrap().code), (Some("deny-v1"), 7));
    word_of(response, wire::LOG_CODE).unwrap()
}

#[tokio::test]
async fn a_heads_answer_sets_no_credential_and_no_route() {
    let house = House::new().await;
    let response = house.head().await;
    assert_eq!(set(&response), [("x-tenant-id", "acme")]);
    assert_eq!(ok(&response).headers_to_remove, ["authorization", "cookie"]);
    let grant = grant(&response);
    assert!(Terms::try_from(grant.terms.as_ref().unwrap()).is_ok());
    assert_eq!(grant.terms.as_ref().unwrap().providers[0].key(), Key::Own);
    let handle = house.service().verify_signed(&grant.handle).unwrap();
    let want = Grant { terms: None, handle: prost::bytes::Bytes::new(), ..grant.clone() };
    assert_eq!(handle, want);
    assert!(grant.handle.len() < 400, "{}", grant.handle.len());
    let lines = house.service().store.reader().unwrap().audit_last(1).unwrap();
    let record = &lines[0].record;
    assert_eq!(
        (record.decision, record.tenant.as_str(), &record.reserved),
        (crate::store::Decision::Grant, "acme", &None)
    );
    assert_eq!(record.grant_id.map(|id| id.0.to_vec()), Some(grant.id.to_vec()));
}

#[tokio::test]
async fn the_last_hop_believes_the_handle_alone() {
    let house = House::new().await;
    let grant = house.granted().await;
    let signed = gateway_core::gate::SignedGrant::decode(grant.handle.clone()).unwrap();
    let handle = wire::encode_grant(&signed);
    let at = |handle: String| {
        let house = &house;
        async move { house.ask(wire::ROOM_LAST_HOP, &[(wire::GRANT_HEADER, &handle), (wire::ROUTE, "pool-1")]).await }
    };
    assert_eq!(set(&at(handle.clone()).await), [("x-api-key", "sk-own")]);
    let other = Grant { tenant: "globex".into(), ..house.service().verify_signed(&grant.handle).unwrap() };
    let forged = gateway_core::gate::SignedGrant { grant: other.encode_to_vec().into(), ..signed };
    let forged = at(wire::encode_grant(&forged)).await;
    assert_eq!((code(&forged), word_of(&forged, wire::LOG_TENANT)), ("not_admitted", None));
    assert_eq!(code(&at(String::new()).await), "not_admitted");
    assert_eq!(
        code(&house.ask("upstairs", &[(wire::GRANT_HEADER, &handle), (wire::ROUTE, "pool-1")]).await),
        "internal"
    );
    house.admin.revoke_key(BY, house.key_id.clone()).await.unwrap();
    assert_eq!(code(&at(handle).await), "invalid_credential");
}

#[tokio::test]
async fn whatever_narrows_voids_the_grants_before_it() {
    let house = House::new().await;
    let revocations = &house.service().revocations;
    let before = house.granted().await.epoch;
    assert_eq!(revocations.since(before).revocations, []);

    house.put_provider_key().await;
    let told = revocations.since(before);
    let steps: Vec<_> = told.revocations.iter().map(|one| (one.tenant.as_str(), one.key_id.as_str())).collect();
    assert_eq!(steps, [("acme", "")]);
    assert_eq!(house.granted().await.epoch, told.epoch);

    house.service().reload().await.unwrap();
    assert_eq!(revocations.epoch(), told.epoch, "nothing was changed");
    let changed = SET.replace("amount: 100k", "amount: 1k");
    fs::write(house.directory.path().join("policies/set.yaml"), changed).unwrap();
    house.service().reload().await.unwrap();
    let floor = revocations.since(told.epoch).floor;
    assert!(floor > told.epoch && house.granted().await.epoch == floor);

    house.admin.revoke_key(BY, house.key_id.clone()).await.unwrap();
    let told = revocations.since(floor);
    let steps: Vec<_> = told.revocations.iter().map(|one| (one.tenant.as_str(), one.key_id.as_str())).collect();
    assert_eq!(steps, [("acme", "")], "it may have acted in a chain");
    assert_eq!(code(&house.head().await), "invalid_credential");
}

#[tokio::test]
async fn a_key_that_is_added_voids_nothing_and_one_that_changes_voids_its_own() {
    let house = House::new().await;
    let revocations = &house.service().revocations;
    let epoch = revocations.epoch();
    let made = async |tenant: &str| {
        let body = NewKeyBody { tenant: tenant.into(), ..NewKeyBody::default() };
        house.admin.create_key(BY, body.try_into().unwrap()).await.unwrap()
    };
    let (one, other) = (made("acme").await, made("acme").await);
    assert_eq!(revocations.epoch(), epoch, "two keys more");

    let text = fs::read_to_string(&one.file).unwrap();
    fs::write(&one.file, format!("{text}  models: [llama]\n")).unwrap();
    house.service().reload().await.unwrap();
    fs::remove_file(&other.file).unwrap();
    house.service().reload().await.unwrap();
    let told = revocations.since(epoch);
    let steps: Vec<_> = told.revocations.iter().map(|one| (one.tenant.as_str(), one.key_id.as_str())).collect();
    assert_eq!(steps, [("acme", one.id.as_str()), ("acme", other.id.as_str())]);
    assert!(told.floor <= epoch);

    // The tenant's policy is every key's.
    let set = SET.replace("namespaces: [acme]}", "namespaces: [acme], keys: {maxAge: 24h}}");
    fs::write(house.directory.path().join("policies/set.yaml"), set).unwrap();
    house.service().reload().await.unwrap();
    assert!(revocations.since(told.epoch).floor > told.epoch);
}

#[tokio::test]
async fn many_keys_that_change_at_once_are_voided_by_their_tenant() {
    let house = House::new().await;
    let revocations = &house.service().revocations;
    let epoch = revocations.epoch();
    let file = house.directory.path().join(format!("policies/api-keys/{}.yaml", house.key_id));
    let text = fs::read_to_string(&file).unwrap();
    let keys: Vec<String> = (0..65).map(|n| text.replace(&house.key_id, &format!("many{n}"))).collect();
    let many = house.directory.path().join("policies/many.yaml");
    fs::write(&many, keys.join("---\n")).unwrap();
    house.service().reload().await.unwrap();
    assert_eq!(revocations.epoch(), epoch);
    fs::remove_file(&many).unwrap();
    house.service().reload().await.unwrap();
    let told = revocations.since(epoch);
    let steps: Vec<_> = told.revocations.iter().map(|one| (one.tenant.as_str(), one.key_id.as_str())).collect();
    assert_eq!((steps, told.floor <= epoch), (vec![("acme", "")], true));
}

#[tokio::test]
async fn a_rotation_voids_what_is_held_by_the_key_that_ends_and_counts_as_one_caller() {
    let house = House::new().await;
    let before = house.granted().await;
    let asked = crate::admin::operations::RotateKey {
        key_id: house.key_id.clone(),
        tenant: TenantName::parse("acme").unwrap(),
        overlap: Duration::from_secs(3),
        request_id: String::new(),
    };
    let now = jiff::Timestamp::now();
    let new = crate::admin::operations::rotate_key(Arc::clone(&house.check.0), asked, now).await.unwrap();
    let told = house.service().revocations.since(before.epoch);
    let steps: Vec<_> = told.revocations.iter().map(|one| (one.tenant.as_str(), one.key_id.as_str())).collect();
    assert_eq!((steps, told.floor <= before.epoch), (vec![("acme", house.key_id.as_str())], true));
    let old = house.granted().await;
    assert!(old.epoch == told.epoch && old.hold_ms <= 2_000, "{}", old.hold_ms);
    let house = House { key: new.key.expose().to_owned(), ..house };
    let next = house.granted().await;
    assert_eq!((&next.principal, &next.scope_set, next.hold_ms), (&old.principal, &old.scope_set, 10_000));
    assert_eq!((next.key_id.as_str(), old.key_id.as_str()), (new.id.as_str(), house.key_id.as_str()));
}

#[tokio::test]
async fn the_last_use_of_a_key_is_written_now_and_then_and_comes_back() {
    let house = House::new().await;
    let used = async || house.admin.list_keys(None).await.unwrap()[0].last_used;
    assert_eq!(used().await, None);
    let before = jiff::Timestamp::now();
    house.granted().await;
    let at = used().await.unwrap();
    assert!(at.as_millisecond() >= before.as_millisecond() && at <= jiff::Timestamp::now());
    let commits = house.service().store.written().commits;
    for _ in 0..3 {
        house.service().keep_last_used().await;
    }
    assert_eq!(house.service().store.written().commits, commits + 1, "once, not at every look");
    let file = house.directory.path().join("state.db");
    let kept: i64 = rusqlite::Connection::open(file)
        .unwrap()
        .query_row("SELECT used_ms FROM keys WHERE id = ?1", [&house.key_id], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, at.as_millisecond());
    let wrong = House { key: format!("{}x", house.key), ..house };
    assert_eq!(code(&wrong.head().await), "invalid_credential");
    let row = wrong.admin.list_keys(None).await.unwrap().remove(0);
    assert_eq!(row.last_used, Some(at), "who proves nobody uses nothing");
}
