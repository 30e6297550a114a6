//! Envoy's `Authorization/Check`, a translation of the decision function.
//!
//! The answer leaves after the audit record and the reservation are durable; a call that is dropped while it waits, or
//! a commit that fails, undoes the reservation. No default value of any message here means allow: the gate behind
//! ext_authz wants our word in the metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::Authorization;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use gateway_core::denial::{Code, Denial};
use gateway_core::headers::{self, Head};
use gateway_core::limits::Field;
use gateway_core::wire;
use tonic::{Request, Response, Status};

use super::metrics::Decided;
use super::service::grant_id;
use super::wording::{carried, header, passed, refused, refused_own, text};
use super::{Service, last_hop};
use crate::decide::{Allow, Arrival, Decision, Deny, Facts, limits, printable_path};
use crate::ledger::GrantId;
use crate::throttle::Source;

/// The ext_authz service.
pub(super) struct Check(pub(super) Arc<Service>);

#[tonic::async_trait]
impl Authorization for Check {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let started = std::time::Instant::now();
        let service = &self.0;
        let (metadata, _, message) = request.into_parts();
        let proxy = metadata.get(wire::PROXY).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let address = metadata.get(wire::SOURCE).and_then(|address| address.to_str().ok()?.parse().ok());
        let (peer, request) = message.attributes.map(|all| (all.source, all.request)).unwrap_or_default();
        let (peer, http) = (peer.unwrap_or_default(), request.and_then(|r| r.http).unwrap_or_default());
        let from = From { certificate: &peer.certificate, proxy, address };
        let room = metadata.get(wire::ROOM).map(|room| room.to_str().unwrap_or_default());
        let answer = match room {
            None => answer(service, &http, &from, Body::Here).await,
            Some(wire::ROOM_INLINE) => answer(service, &http, &from, Body::Later).await,
            Some(wire::ROOM_LAST_HOP) => last_hop::answer(service, &http),
            Some(_) => {
                tracing::error!(metadata = wire::ROOM, "a proxy asks for a room that there is none of");
                refused(&Denial::new(Code::Internal), &[], "")
            }
        };
        let (decided, code) = word(&answer);
        // A request that passes its last hop has been counted.
        if room != Some(wire::ROOM_LAST_HOP) || matches!(decided, Decided::Deny) {
            service.metrics().decided(decided, code, started.elapsed());
        }
        Ok(Response::new(answer))
    }
}

/// Where the body is while its head is decided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// In the call.
    Here,
    /// Still to come, and the module's to admit (profile `inline`).
    Later,
}

/// Where a request comes from, as its proxy says.
struct From<'a> {
    /// The client's certificate (PEM, URL-encoded); empty without one.
    certificate: &'a str,
    /// The proxy itself.
    proxy: &'a str,
    /// The client's address; none where the proxy does not say.
    address: Option<IpAddr>,
}

async fn answer(service: &Arc<Service>, http: &HttpRequest, from: &From<'_>, body: Body) -> CheckResponse {
    let From { certificate, proxy, address } = *from;
    let source = address.map(Source::of);
    let headers = fields(http);
    let request_id = value(&headers, wire::REQUEST_ID);
    if proxy.is_empty() {
        tracing::error!(
            metadata = wire::PROXY,
            "a proxy does not say who it is: what it is granted could never be settled"
        );
        return refused(&Denial::new(Code::Internal), &[], request_id);
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
    let now = service.time();
    let (certificate, garbled) = match service.certificate_of_client(certificate, &headers, now) {
        Ok(certificate) => (certificate, None),
        Err(denial) => ("", Some(denial)),
    };
    let Ok(grant_id) = grant_id(now) else {
        return refused(&Denial::new(Code::Internal), &[], request_id);
    };
    let bytes: &[u8] = if http.raw_body.is_empty() { http.body.as_bytes() } else { &http.raw_body };
    let bytes = if body == Body::Here { bytes } else { &[] };
    let arrival = Arrival { head, body: bytes, request_id, proxy, certificate, source: address, now, grant_id };
    if let Some(denial) = garbled {
        let facts = Facts { path: printable_path(&http.path), ..Facts::default() };
        let deny = Deny { denial, headers: Vec::new(), facts };
        return denied(service, &arrival, deny).await;
    }
    let decision = match body {
        Body::Here => service.decide(&arrival),
        Body::Later => service.decide_head(&arrival),
    };
    let facts = match &decision {
        Decision::Allow(allow) => &allow.facts,
        Decision::Deny(deny) => &deny.facts,
    };
    service.used(facts.key_id.as_deref(), u64::try_from(now.as_millisecond()).unwrap_or(0));
    match decision {
        Decision::Allow(allow) => allowed(service, &arrival, *allow, body).await,
        Decision::Deny(deny) => {
            service.count_failure(source, &deny);
            denied(service, &arrival, *deny).await
        }
    }
}

async fn allowed(service: &Arc<Service>, arrival: &Arrival<'_>, mut allow: Allow, body: Body) -> CheckResponse {
    let undo = UndoOnDrop { service, id: allow.reservation.is_some().then_some(arrival.grant_id) };
    if body == Body::Later {
        allow.grant = service.with_handle(allow.grant);
    }
    let grant = service.sign(&allow.grant);
    if grant.len() > wire::MAX_GRANT_BYTES {
        tracing::error!(tenant = allow.grant.tenant, bytes = grant.len(), "a grant is larger than the module reads");
        let denial =
            Denial::new(Code::Internal).detail("The tenant has too many models, or words for refusals, for one grant.");
        return denied(service, arrival, Deny { denial, headers: Vec::new(), facts: allow.facts }).await;
    }
    if service.record_allow(arrival, &allow).await.is_err() {
        drop(undo);
        let denial = Denial::new(Code::ServiceUnavailable);
        return refused(&denial, &[Field::new("retry-after", "1")], arrival.request_id);
    }
    let response = granted(arrival, &allow, &grant, body);
    undo.keep();
    response
}

fn granted(arrival: &Arrival<'_>, allow: &Allow, grant: &str, body: Body) -> CheckResponse {
    let tenant = allow.grant.tenant.as_str();
    let mut set = vec![header(wire::CLAIM_HEADER, tenant)];
    let mut written = BTreeSet::from([wire::CLAIM_HEADER]);
    // Where the body is still to come, the module knows the route once it has read it.
    if body == Body::Here {
        written.insert(wire::ROUTE);
        set.push(header(wire::ROUTE, &allow.cluster));
    }
    if let Some((carrier, secret)) = &allow.credential {
        let (name, value) = carried(*carrier, secret.expose());
        written.insert(name);
        set.push(header(name, &value));
    }
    let names: BTreeSet<&str> = arrival.head.headers.iter().map(|(name, _)| *name).collect();
    let remove = names.into_iter().filter(|name| headers::remove_upstream(name) && !written.contains(name));
    let words = BTreeMap::from([
        (wire::DECISION, wire::DECISION_ALLOW),
        (wire::GRANT, grant),
        (wire::LOG_TENANT, tenant),
        (wire::LOG_MODEL, allow.grant.model.as_str()),
    ]);
    passed(set, remove.map(ToOwned::to_owned).collect(), words)
}

async fn denied(service: &Arc<Service>, arrival: &Arrival<'_>, deny: Deny) -> CheckResponse {
    let tenant = deny.facts.tenant.as_ref();
    let recorded = service.record_deny(arrival, &deny).await.is_ok();
    let Deny { denial, headers, .. } = &deny;
    let mut response = match tenant {
        Some(tenant) => {
            let words = service.registry().words(tenant);
            refused_own(denial, headers, arrival.request_id, tenant.as_str(), &words)
        }
        None => refused(denial, headers, arrival.request_id),
    };
    if recorded && let Some(fields) = &mut response.dynamic_metadata {
        fields.fields.insert(wire::DENIAL.to_owned(), text(arrival.request_id));
    }
    response
}

/// Refused with whatever it asked: its failures are used up. The audit log has it, counted with the others of its second.
fn throttled(wait: Duration, request_id: &str) -> CheckResponse {
    let mut response = refused(&Denial::new(Code::RateLimited), &[limits::retry_after(wait)], request_id);
    if let Some(fields) = &mut response.dynamic_metadata {
        fields.fields.insert(wire::DENIAL.to_owned(), text(request_id));
    }
    response
}

/// An answer as metrics count it.
fn word(answer: &CheckResponse) -> (Decided, &'static str) {
    if matches!(answer.http_response, Some(HttpResponse::OkResponse(_))) {
        return (Decided::Allow, "ok");
    }
    let code = answer.dynamic_metadata.as_ref().and_then(|metadata| metadata.fields.get(wire::LOG_CODE));
    let code = match code.and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(code)) => Code::named(code).map(|known| known.row().code),
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

/// The request's headers without its pseudo-headers, each occurrence by itself.
pub(super) fn fields(http: &HttpRequest) -> Vec<(&str, &[u8])> {
    http.header_map
        .iter()
        .flat_map(|map| &map.headers)
        .filter(|header| !header.key.starts_with(':'))
        .map(|header| (header.key.as_str(), header.raw_value.as_slice()))
        .collect()
}

fn value<'a>(headers: &[(&str, &'a [u8])], wanted: &str) -> &'a str {
    let found = headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    found.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
