//! Envoy's `Authorization/Check`, a translation of the decision function.
//!
//! The answer leaves after the audit record and the reservation are durable; a call that is dropped while it waits, or
//! a commit that fails, undoes the reservation. No default value of any message here means allow: the gate behind
//! ext_authz wants our word in the metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::Authorization;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use envoy_types::pb::google::rpc;
use gateway_core::denial::{Code, Denial};
use gateway_core::headers::{self, Head};
use gateway_core::wire;
use tonic::{Request, Response, Status};

use super::Service;
use super::metrics::Decided;
use super::service::grant_id;
use crate::decide::{Allow, Arrival, Decision, Deny, Field};
use crate::ledger::GrantId;
use crate::registry::CredentialHeader;
use crate::throttle::Source;

/// gRPC codes of the answers.
const OK: i32 = 0;
const PERMISSION_DENIED: i32 = 7;

/// The ext_authz service.
pub(super) struct Check(pub(super) Arc<Service>);

#[tonic::async_trait]
impl Authorization for Check {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let started = std::time::Instant::now();
        let service = &self.0;
        let (metadata, _, message) = request.into_parts();
        let proxy = metadata.get(wire::PROXY).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let source = metadata.get(wire::SOURCE).and_then(|address| Source::parse(address.to_str().ok()?));
        let (peer, request) = message.attributes.map(|all| (all.source, all.request)).unwrap_or_default();
        let (peer, http) = (peer.unwrap_or_default(), request.and_then(|r| r.http).unwrap_or_default());
        let answer = answer(service, &http, &peer.certificate, proxy, source).await;
        let (decided, code) = word(&answer);
        service.metrics().decided(decided, code, started.elapsed());
        Ok(Response::new(answer))
    }
}

async fn answer(
    service: &Arc<Service>,
    http: &HttpRequest,
    certificate: &str,
    proxy: &str,
    source: Option<Source>,
) -> CheckResponse {
    let headers: Vec<(&str, &[u8])> = http
        .header_map
        .iter()
        .flat_map(|map| &map.headers)
        .filter(|header| !header.key.starts_with(':'))
        .map(|header| (header.key.as_str(), header.raw_value.as_slice()))
        .collect();
    let request_id = value(&headers, wire::REQUEST_ID);
    if proxy.is_empty() {
        tracing::error!(
            metadata = wire::PROXY,
            "a proxy does not say who it is: what it is granted could never be settled"
        );
        return refused(&Denial::new(Code::Internal), &[], request_id, None);
    }
    if let Some(wait) = service.must_wait(source) {
        return throttled(wait, request_id);
    }
    let head = Head { method: &http.method, authority: &http.host, path: &http.path, headers: &headers };
    if service.wait_for_key(&head).await
        && let Some(wait) = service.must_wait(source)
    {
        return throttled(wait, request_id);
    }
    let now = jiff::Timestamp::now();
    let Ok(grant_id) = grant_id(now) else {
        return refused(&Denial::new(Code::Internal), &[], request_id, None);
    };
    let body: &[u8] = if http.raw_body.is_empty() { http.body.as_bytes() } else { &http.raw_body };
    let arrival = Arrival { head, body, request_id, proxy, certificate, now, grant_id };
    match service.decide(&arrival) {
        Decision::Allow(allow) => allowed(service, &arrival, *allow).await,
        Decision::Deny(deny) => {
            service.count_failure(source, &deny);
            denied(service, &arrival, *deny).await
        }
    }
}

async fn allowed(service: &Arc<Service>, arrival: &Arrival<'_>, allow: Allow) -> CheckResponse {
    let undo = UndoOnDrop { service, id: allow.reservation.is_some().then_some(arrival.grant_id) };
    if service.record_allow(arrival, &allow).await.is_err() {
        drop(undo);
        return refused(
            &Denial::new(Code::ServiceUnavailable),
            &[Field::new("retry-after", "1")],
            arrival.request_id,
            None,
        );
    }
    let response = granted(service, arrival, &allow);
    undo.keep();
    response
}

fn granted(service: &Service, arrival: &Arrival<'_>, allow: &Allow) -> CheckResponse {
    let tenant = allow.grant.tenant.as_str();
    let mut set = vec![header(wire::CLAIM_HEADER, tenant), header(wire::ROUTE, &allow.cluster)];
    let mut written = BTreeSet::from([wire::CLAIM_HEADER, wire::ROUTE]);
    if let Some((carrier, secret)) = &allow.credential {
        let (name, value) = carried(*carrier, secret.expose());
        written.insert(name);
        set.push(header(name, &value));
    }
    let names: BTreeSet<&str> = arrival.head.headers.iter().map(|(name, _)| *name).collect();
    let remove = names.into_iter().filter(|name| headers::remove_upstream(name) && !written.contains(name));
    let ok = OkHttpResponse {
        headers: set,
        headers_to_remove: remove.map(ToOwned::to_owned).collect(),
        ..OkHttpResponse::default()
    };
    let grant = service.sign(&allow.grant);
    let words = BTreeMap::from([
        (wire::DECISION, wire::DECISION_ALLOW),
        (wire::GRANT, grant.as_str()),
        (wire::LOG_TENANT, tenant),
        (wire::LOG_MODEL, allow.grant.model.as_str()),
    ]);
    CheckResponse {
        status: Some(rpc::Status { code: OK, ..rpc::Status::default() }),
        dynamic_metadata: Some(metadata(words)),
        http_response: Some(HttpResponse::OkResponse(ok)),
    }
}

async fn denied(service: &Arc<Service>, arrival: &Arrival<'_>, deny: Deny) -> CheckResponse {
    let authenticated = deny.facts.tenant.as_ref().map(ToString::to_string);
    let recorded = service.record_deny(arrival, &deny).await.is_ok();
    let mut response = refused(&deny.denial, &deny.headers, arrival.request_id, authenticated.as_deref());
    if recorded && let Some(fields) = &mut response.dynamic_metadata {
        fields.fields.insert(wire::DENIAL.to_owned(), text(arrival.request_id));
    }
    response
}

/// Refused with whatever it asked: its failures are used up. The audit log has it, counted with the others of its second.
fn throttled(wait: Duration, request_id: &str) -> CheckResponse {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    let fields = [Field::new("retry-after", seconds.to_string())];
    let mut response = refused(&Denial::new(Code::RateLimited), &fields, request_id, None);
    if let Some(fields) = &mut response.dynamic_metadata {
        fields.fields.insert(wire::DENIAL.to_owned(), text(request_id));
    }
    response
}

/// A refusal on the wire. Status at least 400 and a body, always; without `DENIAL` the module reports it to the audit.
fn refused(denial: &Denial, fields: &[Field], request_id: &str, tenant: Option<&str>) -> CheckResponse {
    let row = denial.code.row();
    let mut headers = vec![header("content-type", "application/json"), header("cache-control", "no-store")];
    headers.extend(fields.iter().map(|field| header(field.name, &field.value)));
    let body = String::from_utf8(denial.body(request_id, tenant.is_some())).unwrap_or_default();
    let words = BTreeMap::from([
        (wire::DECISION, wire::DECISION_DENY),
        (wire::LOG_TENANT, tenant.unwrap_or_default()),
        (wire::LOG_CODE, row.code),
    ]);
    let status = Some(HttpStatus { code: i32::from(row.status) });
    CheckResponse {
        status: Some(rpc::Status { code: PERMISSION_DENIED, ..rpc::Status::default() }),
        dynamic_metadata: Some(metadata(words)),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse { status, headers, body })),
    }
}

/// An answer as metrics count it.
fn word(answer: &CheckResponse) -> (Decided, &'static str) {
    if matches!(answer.http_response, Some(HttpResponse::OkResponse(_))) {
        return (Decided::Allow, "ok");
    }
    let code = answer.dynamic_metadata.as_ref().and_then(|metadata| metadata.fields.get(wire::LOG_CODE));
    let code = match code.and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(code)) => Code::ALL.iter().map(|known| known.row().code).find(|known| known == code),
        _ => None,
    };
    (Decided::Deny, code.unwrap_or("internal"))
}

/// Undoes a reservation unless told to keep it: the answer was dropped, or could not be made durable.
struct UndoOnDrop<'a> {
    service: &'a Arc<Service>,
    id: Option<GrantId>,
}

impl UndoOnDrop<'_> {
    fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for UndoOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.service.undo(id);
        }
    }
}

fn carried(carrier: CredentialHeader, secret: &[u8]) -> (&'static str, String) {
    let secret = String::from_utf8_lossy(secret);
    match carrier {
        CredentialHeader::Bearer => ("authorization", format!("Bearer {secret}")),
        CredentialHeader::XApiKey => ("x-api-key", secret.into_owned()),
        CredentialHeader::XGoogApiKey => ("x-goog-api-key", secret.into_owned()),
    }
}

fn value<'a>(headers: &[(&str, &'a [u8])], wanted: &str) -> &'a str {
    let found = headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    found.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
}

/// A header that replaces what was there: `append` is never set (`mesh.md` §0.2 fact 3).
fn header(name: &str, value: &str) -> HeaderValueOption {
    let header = HeaderValue { key: name.to_owned(), value: value.to_owned(), ..HeaderValue::default() };
    HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
}

fn metadata(words: BTreeMap<&str, &str>) -> Struct {
    Struct { fields: words.into_iter().map(|(key, word)| (key.to_owned(), text(word))).collect() }
}

fn text(word: &str) -> Value {
    Value { kind: Some(Kind::StringValue(word.to_owned())) }
}
