//! The Gate over a real service, its state file and its resources; only the network is missing.

use std::os::unix::fs::PermissionsExt as _;

use gateway_core::gate::{self, Ask, Closed, Cost, Grant, Leased, Lent, Outcome, Settlement, SignedGrant, Usage};
use gateway_core::name::TenantName;
use gateway_core::wire;
use prost::Message as _;
use tempfile::TempDir;

use super::*;
use crate::cli::ServeOptions;
use crate::identity::api_key::{KeyHash, KeyRecord};
use crate::store::{AuditLine, Decision};

const SET: &str = "\
apiVersion: bulkhead.dev/v1alpha1
kind: Plan
metadata: {name: small}
spec:
  limits:
    - {name: tokens-day, counts: tokens, scope: tenant, amount: 1000, window: day}
    - {name: at-once, counts: requests, scope: tenant, amount: 400, inFlight: true}
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
spec: {dialect: openai, cluster: pool, region: eu, models: [{name: llama}], credential: bearer}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Tenant
metadata: {name: acme}
spec: {plan: small, models: [llama], regions: [eu], namespaces: [acme]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Tenant
metadata: {name: globex}
spec: {plan: small, models: [llama], regions: [eu], namespaces: [globex]}
";

/// A service and the directory it lives in.
struct House {
    directory: TempDir,
    service: Arc<Service>,
}

fn start(directory: &TempDir) -> Arc<Service> {
    let at = |name: &str| directory.path().join(name);
    let options = ServeOptions {
        policies: at("policies"),
        state: at("state.db"),
        kek_file: at("kek"),
        proxies: format!("unix:{}", at("proxies.sock").display()).parse().unwrap(),
        proxies_tls: None,
        listed: Vec::new(),
        admin: format!("unix:{}", at("admin.sock").display()).parse().unwrap(),
        http: "127.0.0.1:0".parse().unwrap(),
    };
    Service::start(&options).unwrap()
}

impl House {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join("policies")).unwrap();
        let (from, to) = (jiff::Timestamp::now(), jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24));
        let key = format!("spec: {{tenant: acme, createdAt: {from:.0}, expiresAt: {to:.0}}}");
        let object = "---\napiVersion: bulkhead.dev/v1alpha1\nkind: ApiKey";
        let set = format!("{SET}{object}\nmetadata: {{name: abcdefghijkl, namespace: acme}}\n{key}\n");
        std::fs::write(directory.path().join("policies/set.yaml"), set).unwrap();
        std::fs::write(directory.path().join("kek"), [7; 32]).unwrap();
        std::fs::set_permissions(directory.path().join("kek"), std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { service: start(&directory), directory }
    }

    /// As `kill -9` and a new start: what was in memory is gone.
    fn restart(self) -> Self {
        let Self { directory, service } = self;
        drop(service);
        Self { service: start(&directory), directory }
    }

    fn signed(&self, grant: &Grant) -> SignedGrant {
        wire::decode_grant(self.service.sign(grant).as_bytes()).unwrap().0
    }

    fn handle(&self, grant: &Grant) -> bytes::Bytes {
        self.signed(grant).encode_to_vec().into()
    }

    async fn lease(&self, worker: u8, asks: Vec<Ask>) -> Vec<Lent> {
        let message = LeaseRequest { report: Some(report(worker)), asks };
        let answer = self.call(message).await.unwrap();
        answer.lents
    }

    async fn call(&self, message: LeaseRequest) -> Result<LeaseResponse, Status> {
        gate_server::Gate::lease(&Gate(Arc::clone(&self.service)), named(message)).await.map(Response::into_inner)
    }

    async fn sync(&self, message: SyncRequest) -> Result<SyncResponse, Status> {
        gate_server::Gate::sync(&Gate(Arc::clone(&self.service)), named(message)).await.map(Response::into_inner)
    }

    /// Left of the tokens of the day, and of the requests at once.
    fn left(&self) -> Vec<u64> {
        let registry = self.service.registry();
        let tenant = &registry.tenants[&TenantName::parse("acme").unwrap()];
        let states = self.service.ledger.usage(now(), &tenant.name, &tenant.time_zone, &tenant.plan.limits);
        states.iter().map(|state| state.left).collect()
    }

    fn audit(&self) -> Vec<AuditLine> {
        self.service.store.reader().unwrap().audit_last(99).unwrap()
    }
}

fn named<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(wire::PROXY, "edge-1".parse().unwrap());
    request
}

fn report(worker: u8) -> SyncRequest {
    SyncRequest { proxy: "edge-1".into(), worker: vec![worker; 16].into(), sequence: 7, ..SyncRequest::default() }
}

fn grant() -> Grant {
    Grant {
        id: vec![3; 16].into(),
        tenant: "acme".into(),
        principal: "ana".into(),
        method: "POST".into(),
        path: "/v1/chat/completions?a=b".into(),
        lifetime_ms: 65_000,
        hold_ms: 10_000,
        issued_at_ms: now().unix_ms,
        scope_set: "tenant=acme".into(),
        ..Grant::default()
    }
}

fn lease_id(n: u8) -> bytes::Bytes {
    [[n; 12].as_slice(), &[0; 4]].concat().into()
}

fn cost(tokens: u64) -> Cost {
    Cost { tokens, gpu_ms: 1, micro_usd: 1, requests: 1 }
}

fn ask(house: &House, grant: &Grant, n: u8, needs: &[u64]) -> Ask {
    Ask {
        id: lease_id(n),
        grant: house.handle(grant),
        model: "llama".into(),
        needs: needs.iter().map(|tokens| cost(*tokens)).collect(),
        extra: None,
    }
}

fn ended(house: &House, grant: &Grant, n: u8, number: u32, output: u64) -> Settlement {
    Settlement {
        grant: house.handle(grant),
        outcome: Outcome::Answered.into(),
        status: 200,
        usage: Some(Usage { input: 10, output, ..Usage::default() }),
        duration_ms: 1500,
        leased: Some(Leased {
            lease: lease_id(n),
            number,
            request_id: format!("r-{number}"),
            model: "llama".into(),
            reserved: Some(cost(300)),
            input_estimate: 10,
        }),
        ..Settlement::default()
    }
}

fn closed(n: u8, admitted: u32) -> Closed {
    Closed { lease: lease_id(n), admitted, reserved: Some(cost(300 * u64::from(admitted))) }
}

#[tokio::test]
async fn a_lease_is_lent_settled_closed_and_told_in_the_audit() {
    let house = House::new();
    let lents = house.lease(1, vec![ask(&house, &grant(), 1, &[300, 300, 500])]).await;
    let lent = &lents[0];
    assert_eq!((lent.id.clone(), lent.served), (lease_id(1), 2));
    assert_eq!(lent.amount, Some(Cost { tokens: 600, gpu_ms: 2, micro_usd: 2, requests: 2 }));
    assert!((1..=5000).contains(&lent.expires_in_ms) && lent.settle_at_once && lent.rate_tokens == 0);
    let refused = lent.refused.as_ref().unwrap();
    assert_eq!(refused.code, "insufficient_quota");
    assert!(refused.headers.iter().any(|header| header.name == "retry-after"), "{refused:?}");
    let day = &lent.limits[0];
    assert_eq!((day.name.as_str(), day.amount, day.left, day.window_seconds), ("tokens-day", 1000, 400, 86_400));
    assert_eq!((day.counts(), day.refill()), (gate::Counts::Tokens, gate::Refill::Window));
    assert_eq!(house.left(), [400, 398]);

    let settlements = vec![ended(&house, &grant(), 1, 1, 90)];
    house.sync(SyncRequest { settlements, closed: vec![closed(1, 1)], ..report(1) }).await.unwrap();
    assert_eq!(house.left(), [900, 400]);
    let lines = house.audit();
    assert_eq!(lines.len(), 1);
    let record = &lines[0].record;
    assert_eq!((record.decision, record.request_id.as_str(), record.status), (Decision::Allow, "r-1", 200));
    assert_eq!((record.tenant.as_str(), record.principal.as_str(), record.credential.as_str()), ("acme", "ana", "jwt"));
    assert_eq!((record.model.as_str(), record.provider.as_str(), record.region.as_str()), ("llama", "pool", "eu"));
    assert_eq!((record.path.as_str(), record.reserved), ("/v1/chat/completions", Some(cost(300))));
    let charged = Cost { tokens: 100, gpu_ms: 812, micro_usd: 19, requests: 1 };
    assert_eq!(lines[0].charged, Some(charged));
}

#[tokio::test]
async fn a_report_is_taken_before_its_asks() {
    let house = House::new();
    house.lease(1, vec![ask(&house, &grant(), 1, &[1000])]).await;
    assert_eq!(house.left(), [0, 399]);
    let report = SyncRequest { closed: vec![closed(1, 0)], ..report(1) };
    let answer = house.call(LeaseRequest { report: Some(report), asks: vec![ask(&house, &grant(), 2, &[1000])] }).await;
    let answer = answer.unwrap();
    assert_eq!((answer.lents[0].served, answer.report.unwrap().sequence), (1, 7));
    // A repeat takes nothing.
    assert_eq!(house.lease(1, vec![ask(&house, &grant(), 2, &[1000])]).await[0].served, 1);
    assert_eq!(house.left(), [0, 399]);
}

#[tokio::test]
async fn leases_survive_a_restart_and_still_settle() {
    let house = House::new();
    house.lease(1, vec![ask(&house, &grant(), 1, &[300, 300])]).await;
    let settlements = vec![ended(&house, &grant(), 1, 1, 90)];
    house.sync(SyncRequest { settlements: settlements.clone(), ..report(1) }).await.unwrap();
    assert_eq!(house.left(), [600, 399]);
    let house = house.restart();
    assert_eq!(house.left(), [600, 399]);
    let again = [settlements, vec![ended(&house, &grant(), 1, 2, 40)]].concat();
    house.sync(SyncRequest { settlements: again, closed: vec![closed(1, 2)], ..report(1) }).await.unwrap();
    assert_eq!(house.left(), [850, 400]);
    assert_eq!(house.audit().len(), 2);
    assert_eq!(house.restart().left(), [850, 400]);
}

#[tokio::test]
async fn nobody_settles_or_closes_what_is_not_theirs() {
    let house = House::new();
    house.lease(1, vec![ask(&house, &grant(), 1, &[300])]).await;
    let settlement = |grant: &Grant| SyncRequest { settlements: vec![ended(&house, grant, 1, 1, 0)], ..report(1) };
    let strangers = [
        // Another worker; another tenant's grant; another scope set; a number that is none; a forged grant.
        SyncRequest { worker: vec![2; 16].into(), closed: vec![closed(1, 0)], ..settlement(&grant()) },
        settlement(&Grant { tenant: "globex".into(), ..grant() }),
        settlement(&Grant { scope_set: "tenant=acme;key=k".into(), ..grant() }),
        SyncRequest { settlements: vec![ended(&house, &grant(), 1, 0, 0)], ..report(1) },
        SyncRequest {
            settlements: vec![Settlement {
                grant: SignedGrant { mac: vec![0; 32].into(), ..house.signed(&grant()) }.encode_to_vec().into(),
                ..ended(&house, &grant(), 1, 1, 0)
            }],
            ..report(1)
        },
    ];
    for report in strangers {
        house.sync(report).await.unwrap();
        assert_eq!((house.left(), house.audit().len()), (vec![700, 399], 0));
    }
}

#[tokio::test]
async fn only_a_handle_of_ours_that_still_holds_is_lent_to() {
    let house = House::new();
    let old = now().unix_ms.saturating_sub(81_000);
    let key = |id: &str| Grant { key_id: id.into(), ..grant() };
    let cases = [
        (Grant { issued_at_ms: old, ..grant() }, "not_admitted"),
        (Grant { issued_at_ms: old, lifetime_ms: u32::MAX, ..grant() }, ""),
        (Grant { issued_at_ms: now().unix_ms - 131_000, lifetime_ms: u32::MAX, ..grant() }, "not_admitted"),
        (Grant { scope_set: String::new(), ..grant() }, "not_admitted"),
        (Grant { data_endpoint: true, ..grant() }, "not_admitted"),
        (Grant { tenant: "nobody".into(), ..grant() }, "invalid_credential"),
        (key("abcdefghijkl"), "invalid_credential"),
        (key("lkjihgfedcba"), "invalid_credential"),
    ];
    for (n, (grant, code)) in (1..).zip(cases) {
        let lent = house.lease(1, vec![ask(&house, &grant, n, &[1])]).await.remove(0);
        assert_eq!(lent.refused.map(|refused| refused.code).unwrap_or_default(), code, "{n}");
        assert_eq!(lent.amount.is_some(), code.is_empty(), "{n}");
    }
    for (ask, code) in [
        (Ask { model: "gpt".into(), ..ask(&house, &grant(), 21, &[1]) }, "model_not_found"),
        (Ask { grant: vec![1, 2, 3].into(), ..ask(&house, &grant(), 22, &[1]) }, "not_admitted"),
        (Ask { id: vec![9; 16].into(), ..ask(&house, &grant(), 23, &[1]) }, "bad_request"),
        (Ask { id: vec![9; 4].into(), ..ask(&house, &grant(), 24, &[1]) }, "bad_request"),
    ] {
        let lent = house.lease(1, vec![ask]).await.remove(0);
        assert_eq!((lent.refused.unwrap().code.as_str(), lent.amount), (code, None));
    }
    assert_eq!(house.left(), [999, 399]);
}

#[tokio::test]
async fn a_key_lends_until_it_is_revoked() {
    let house = House::new();
    let record = |revoked_at| KeyRecord {
        id: "abcdefghijkl".into(),
        tenant: TenantName::parse("acme").unwrap(),
        hash: KeyHash::dummy(),
        created_at: jiff::Timestamp::now(),
        revoked_at,
    };
    let grant = Grant { key_id: "abcdefghijkl".into(), ..grant() };
    for (n, revoked_at, code) in [(1, None, ""), (2, Some(jiff::Timestamp::now()), "invalid_credential")] {
        house.service.keys.store(Arc::new([("abcdefghijkl".to_owned(), record(revoked_at))].into()));
        let lent = house.lease(1, vec![ask(&house, &grant, n, &[1])]).await.remove(0);
        assert_eq!(lent.refused.map(|refused| refused.code).unwrap_or_default(), code);
    }
    assert_eq!(house.left(), [999, 399]);
}

#[tokio::test]
async fn a_call_is_bounded_and_its_sender_named() {
    let house = House::new();
    let asks = |count: usize, needs: usize| LeaseRequest {
        report: Some(report(1)),
        asks: vec![Ask { needs: vec![cost(1); needs], ..Ask::default() }; count],
    };
    assert!(house.call(asks(64, 256)).await.is_ok());
    for message in [asks(65, 1), asks(1, 257), LeaseRequest { report: None, ..asks(1, 1) }] {
        assert_eq!(house.call(message).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    }
    let other = SyncRequest { proxy: "edge-2".into(), ..report(1) };
    for report in [other, SyncRequest { worker: vec![1; 15].into(), ..report(1) }] {
        let asked = LeaseRequest { report: Some(report.clone()), asks: Vec::new() };
        assert_eq!(house.call(asked).await.unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(house.sync(report).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}

#[tokio::test]
async fn what_was_asked_in_a_call_that_failed_is_closed_and_never_lent() {
    let house = House::new();
    house.sync(SyncRequest { closed: vec![closed(1, 0)], ..report(1) }).await.unwrap();
    let lent = house.lease(1, vec![ask(&house, &grant(), 1, &[300])]).await.remove(0);
    let refused = lent.refused.unwrap();
    assert_eq!((refused.code.as_str(), lent.served, lent.amount), ("service_unavailable", 0, None));
    assert_eq!(house.left(), [1000, 400]);
}

#[tokio::test]
async fn what_the_module_refused_under_a_grant_is_told_with_its_tenant() {
    let house = House::new();
    let refusal = |sequence, grant| gate::Refusal {
        sequence,
        request_id: "r-9".into(),
        status: 413,
        denial: "prompt_too_large".into(),
        model: "llama".into(),
        detail: "too long".into(),
        grant,
        ..gate::Refusal::default()
    };
    let refusals = vec![refusal(1, house.handle(&grant())), refusal(2, vec![1, 2].into())];
    for _ in 0..2 {
        house.sync(SyncRequest { refusals: refusals.clone(), ..report(1) }).await.unwrap();
    }
    let lines = house.audit();
    let told: Vec<_> = lines.iter().map(|line| (line.record.decision, line.record.tenant.as_str())).collect();
    assert_eq!(told, [(Decision::Deny, "acme"), (Decision::Refused, "")]);
    let record = &lines[0].record;
    assert_eq!(
        (record.code.as_str(), record.provider.as_str(), record.detail.as_str()),
        ("prompt_too_large", "pool", "too long")
    );
}
