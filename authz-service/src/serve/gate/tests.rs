//! The Gate over a real service, its state file and its resources; only the network is missing.

mod leases;
mod strangers;

use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;

use gateway_core::gate::{self, Ask, Closed, Cost, Grant, Leased, Lent, Outcome, Settlement, SignedGrant, Usage};
use gateway_core::name::TenantName;
use gateway_core::wire;
use prost::Message as _;
use tempfile::TempDir;

use super::*;
use crate::cli::ServeOptions;
use crate::identity::api_key::{KeyHash, KeyRecord};
use crate::ledger::Now;
use crate::serve::wall_clock;
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
        mesh: None,
        issuer: "https://bulkhead.internal".into(),
        failed_logins_per_minute: NonZeroU32::MAX,
    };
    Service::start(&options, wall_clock()).unwrap()
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
        let states =
            self.service.ledger.usage(self.service.now(), &tenant.name, &tenant.time_zone, &tenant.plan.limits);
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
        credential: "jwt".into(),
        method: "POST".into(),
        path: "/v1/chat/completions?a=b".into(),
        lifetime_ms: 65_000,
        hold_ms: 10_000,
        issued_at_ms: now().unix_ms,
        scope_set: "tenant=acme".into(),
        ..Grant::default()
    }
}

fn now() -> Now {
    Now { unix_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap() }
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
