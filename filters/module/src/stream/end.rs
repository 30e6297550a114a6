//! The end of a stream, however it came: what the service is told. No request header is read here: a provider's key may be
//! among them by now.

use gateway_core::gate::{Outcome, Refusal, Settlement};
use gateway_core::wire;
use gpu_accounting::StreamEnd;
use prost::Message as _;
use prost::bytes::Bytes;

use super::inline::{Inline, Stage, front_part};
use super::portable::Portable;
use super::{Flow, Phase, Stream};
use crate::host;
use crate::shared::{FrontPart, Shared};

impl Stream {
    /// `on_log`
    pub(super) fn end(&mut self) {
        let refusal = match std::mem::replace(&mut self.phase, Phase::New) {
            Phase::Portable(request) => return request.end(&self.shared),
            Phase::Inline(request) => return request.end(&self.shared, self.id),
            Phase::Refused(denial) => Some(denial),
            Phase::New => match front_part(&self.shared) {
                Some(FrontPart::Refused(denial)) => Some(denial),
                _ => None,
            },
        };
        let refusal = refusal.map(|denial| Refusal {
            denial: denial.code.row().code.to_owned(),
            detail: denial.logged(),
            ..Refusal::default()
        });
        report(&self.shared, refusal);
    }
}

impl Portable {
    fn end(self, shared: &Shared) {
        let grant = &self.held.grant;
        let end = stream_end(&self.flow, self.held.signed.clone());
        if let Some(accounting) = self.flow.accounting {
            shared.outbox.borrow_mut().settle(&grant.id, accounting.settle(&end));
        }
        if grant.settle_at_once {
            at_once(shared);
        }
    }
}

impl Inline {
    fn end(mut self, shared: &Shared, id: u32) {
        shared.under_way.set(shared.under_way.get().saturating_sub(1));
        self.stop_waiting();
        let flow = std::mem::take(self.flow());
        if shared.waiting.borrow_mut().remove(&id).is_some() {
            shared.pool.borrow_mut().leave(id);
        }
        let end = stream_end(&flow, self.grant.held.signed.clone());
        match (self.stage, flow.accounting) {
            (Stage::Sent(ticket), Some(accounting)) => {
                let settlement = accounting.settle(&end);
                shared.pool.borrow_mut().ended(&ticket, &settlement);
                shared.outbox.borrow_mut().settle_leased(settlement);
                if ticket.settle_at_once() {
                    at_once(shared);
                }
            }
            _ => {
                let refusal = Refusal {
                    request_id: flow.request_id,
                    status: end.status.unwrap_or(0),
                    details: end.code_details,
                    denial: end.denial.unwrap_or_default().to_owned(),
                    detail: flow.refused.map(|denial| denial.logged()).unwrap_or_default(),
                    grant: end.signed,
                    model: self.model,
                    ..Refusal::default()
                };
                shared.outbox.borrow_mut().refuse(refusal, end.now_ms);
            }
        }
    }
}

/// Somebody may be waiting for what this request gives back.
fn at_once(shared: &Shared) {
    shared.outbox.borrow_mut().hurry();
    shared.wake();
}

/// A request that never had a grant here: a grant that the service gave all the same is handed back; otherwise the refusal
/// is told, unless it was the service's own, or Envoy's before the chain: the access log alone has those, because neither
/// their number nor their request ids are anybody's but the client's.
fn report(shared: &Shared, refusal: Option<Refusal>) {
    let (status, details) = (host::response_code().unwrap_or(0), host::code_details());
    let granted = host::ext_authz(wire::GRANT).and_then(|text| wire::decode_grant(&text).ok());
    let mut outbox = shared.outbox.borrow_mut();
    match granted {
        Some((signed, grant)) if grant.terms.is_none() => {
            let settlement = Settlement {
                grant: signed.encode_to_vec().into(),
                outcome: Outcome::NotSent.into(),
                status,
                denial: refusal.map(|refusal| refusal.denial).unwrap_or_default(),
                details,
                ..Settlement::default()
            };
            outbox.settle(&grant.id, settlement);
        }
        granted if (refusal.is_some() || in_the_chain()) && host::ext_authz(wire::DENIAL).is_none() => {
            let refusal = refusal.unwrap_or_else(|| Refusal {
                // the service's own denial that it could not record: its code is known all the same
                denial: host::ext_authz(wire::LOG_CODE)
                    .and_then(|code| String::from_utf8(code).ok())
                    .unwrap_or_default(),
                ..Refusal::default()
            });
            let grant = granted.map(|(_, grant)| grant.handle).unwrap_or_default();
            let refusal = Refusal { request_id: host::request_id(), status, details, grant, ..refusal };
            outbox.refuse(refusal, host::now_ms());
        }
        _ => {}
    }
}

/// Whether the filters have run: the chain's first one leaves a word where the decision will be. `on_log`.
fn in_the_chain() -> bool {
    host::ext_authz(wire::DECISION).is_some()
}

fn stream_end(flow: &Flow, signed: Bytes) -> StreamEnd {
    StreamEnd {
        code_details: host::code_details(),
        response_flags: host::response_flags(),
        status: host::response_code(),
        now_ms: host::now_ms(),
        denial: flow.refused.as_ref().map(|denial| denial.code.row().code),
        cut: flow.cut.as_ref().is_some_and(|cut| cut.cut().is_some()),
        signed,
    }
}
