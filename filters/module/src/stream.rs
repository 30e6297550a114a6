//! One request: Envoy's callbacks become the filters' values, the filters' steps become host calls.
//!
//! INVARIANT: until the grant is accepted every request callback answers or pauses, and after an answer every request
//! callback pauses: nothing undecided is let go (`mesh.md` §0.1 facts 3 and 4). The whole request is pinned down at its
//! headers (the grant knows the body's length), so that the headers go on and only an edited body is held.

use std::cell::RefCell;
use std::rc::Rc;

use gateway_core::denial::{Code, Denial};
use gateway_core::gate::{Outcome, Refusal, Settlement};
use gateway_core::wire;
use gpu_accounting::outbox::Outbox;
use gpu_accounting::{Accounting, Passed, ResponseStep, StreamEnd};
use header_hardening::HeaderEdit;
use prost::Message as _;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use tenant_context::{Arrival, Held, TenantContext};

use crate::config::Config;
use crate::host::{self, Read};

/// The stream context of one request.
pub(crate) struct Stream {
    config: Option<Rc<Config>>,
    outbox: Rc<RefCell<Outbox>>,
    /// Wakes the worker.
    queue: Option<u32>,
    phase: Phase,
}

enum Phase {
    /// No request callback has run.
    New,
    /// The module has answered; the stream stays paused.
    Refused(Denial),
    /// Under way with its grant.
    Granted(Box<Granted>),
}

struct Granted {
    held: Held,
    accounting: Accounting,
    body: Body,
    body_size: usize,
    refused: Option<Denial>,
}

#[derive(PartialEq)]
enum Body {
    Awaited,
    Gone,
}

impl Stream {
    pub(crate) fn new(config: Option<Rc<Config>>, outbox: Rc<RefCell<Outbox>>, queue: Option<u32>) -> Self {
        Self { config, outbox, queue, phase: Phase::New }
    }

    fn arrive(&mut self) -> Result<(), Denial> {
        let config = self.config.clone().ok_or_else(|| Denial::new(Code::Internal).detail("no configuration"))?;
        let now_ms = host::now_ms();
        let decision = host::ext_authz(wire::DECISION);
        let grant = host::ext_authz(wire::GRANT);
        let (method, authority, path) = (
            host::request_header(Read::Method),
            host::request_header(Read::Authority),
            host::request_header(Read::Path),
        );
        let claim = host::request_header(Read::Claim(&config.claim_header));
        let held = TenantContext::admit(&Arrival {
            decision: decision.as_deref(),
            grant: grant.as_deref(),
            method: method.as_deref().unwrap_or_default(),
            authority: authority.as_deref().unwrap_or_default(),
            path: path.as_deref().unwrap_or_default(),
            claim: claim.as_deref(),
            claims_seen: usize::from(claim.is_some()),
            now_ms,
        })?;
        let mut accounting = Accounting::new(&held.grant, now_ms);
        let text = if held.grant.data_endpoint { held.text()? } else { String::new() };
        for edit in header_hardening::request_plan(&held.grant, &text, host::REQUEST_REMOVALS) {
            match edit {
                HeaderEdit::Set(name, value) => host::set_request_header(&name, &value),
                HeaderEdit::Remove(name) => host::remove_request_header(&name),
            }
        }
        if let Some(length) = accounting.request_length() {
            host::set_request_header("content-length", &length.bytes().to_string());
        }
        self.outbox.borrow_mut().hold(&held.grant.id);
        accounting.sent();
        let granted = Granted { held, accounting, body: Body::Awaited, body_size: 0, refused: None };
        self.phase = Phase::Granted(Box::new(granted));
        Ok(())
    }

    /// At the end of the request body, wherever that is.
    fn finish_body(&mut self) -> Action {
        let Phase::Granted(granted) = &mut self.phase else { return Action::Pause };
        if granted.refused.is_some() {
            return Action::Pause;
        }
        if granted.body == Body::Gone {
            return Action::Continue;
        }
        let edited = if granted.accounting.edits_body() {
            granted.accounting.request_body(&host::request_body())
        } else {
            granted.accounting.untouched_body(granted.body_size).map(|()| None)
        };
        match edited {
            Ok(edited) => {
                if let Some(rewritten) = edited {
                    host::replace_request_body(rewritten.body());
                }
                granted.body = Body::Gone;
                Action::Continue
            }
            Err(denial) => self.refuse(denial),
        }
    }

    /// Answers in place of the upstream; the request never goes on.
    fn refuse(&mut self, denial: Denial) -> Action {
        // Envoy knows the id in the header callback and in `on_log` alone; from then on the grant does
        let body = match &self.phase {
            Phase::Granted(granted) => denial.body(&granted.held.grant.request_id, true),
            Phase::New | Phase::Refused(_) => denial.body(&host::request_id(), false),
        };
        host::answer(denial.code.row().status, &body);
        log::warn!("{}: {}", denial.code.row().code, denial.detail.as_deref().unwrap_or_default());
        match &mut self.phase {
            Phase::Granted(granted) => granted.refused = Some(denial),
            phase => *phase = Phase::Refused(denial),
        }
        Action::Pause
    }

    fn response_arrives(&mut self) -> Result<(), Denial> {
        let Phase::Granted(granted) = &mut self.phase else { return Ok(()) };
        let headers = host::response_headers();
        let values = |wanted: &str| -> Vec<&[u8]> {
            headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_slice()).collect()
        };
        granted.held.answer_tag(&values(wire::TENANT))?;
        let first = |wanted: &str| values(wanted).first().copied();
        let status = first(":status").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or(0);
        let step = granted.accounting.response_head(status, first("content-type"), first("content-encoding"));
        match step {
            ResponseStep::Deny(denial) => return Err(denial),
            ResponseStep::Continue { remove_content_length: true } => host::remove_response_header("content-length"),
            ResponseStep::Continue { remove_content_length: false } => {}
        }
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        for edit in header_hardening::response_plan(&granted.held.grant, &names) {
            match edit {
                HeaderEdit::Set(name, value) => host::set_response_header(&name, &value),
                HeaderEdit::Remove(name) => host::remove_response_header(&name),
            }
        }
        Ok(())
    }

    /// Behind headers or trailers. Held bytes went with the last chunk that was whole; a cut event has nowhere to go any
    /// more.
    fn answer_ends(&mut self) {
        if let Phase::Granted(granted) = &mut self.phase {
            let _ = granted.accounting.response_body(&[], true);
        }
    }

    /// A request that never went on: its grant, if the service gave one, is handed back; otherwise the refusal is told,
    /// unless it was the service's own, or Envoy's before the chain: the access log alone has those, because neither
    /// their number nor their request ids are anybody's but the client's.
    fn report(outbox: &mut Outbox, denial: &str) {
        let details = host::code_details();
        let status = host::response_code().unwrap_or(0);
        if let Some((signed, grant)) = host::ext_authz(wire::GRANT).and_then(|text| wire::decode_grant(&text).ok()) {
            let settlement = Settlement {
                grant: signed.encode_to_vec().into(),
                outcome: Outcome::NotSent.into(),
                status,
                denial: denial.to_owned(),
                details,
                ..Settlement::default()
            };
            outbox.settle(&grant.id, settlement);
        } else if (!denial.is_empty() || in_the_chain()) && host::ext_authz(wire::DENIAL).is_none() {
            // the service's own denial that it could not record: its code is known all the same
            let theirs = || String::from_utf8(host::ext_authz(wire::LOG_CODE)?).ok();
            let denial = Some(denial.to_owned()).filter(|denial| !denial.is_empty()).or_else(theirs);
            let refusal = Refusal {
                request_id: host::request_id(),
                status,
                details,
                denial: denial.unwrap_or_default(),
                ..Refusal::default()
            };
            outbox.refuse(refusal, host::now_ms());
        }
    }

    fn settle(granted: Granted, outbox: &mut Outbox) {
        let id = granted.held.grant.id.clone();
        let end = StreamEnd {
            code_details: host::code_details(),
            response_flags: host::response_flags(),
            status: host::response_code(),
            now_ms: host::now_ms(),
            denial: granted.refused.map(|denial| denial.code.row().code),
            signed: granted.held.signed.to_vec(),
        };
        outbox.settle(&id, granted.accounting.settle(&end));
    }
}

/// Whether the filters have run: the chain's first one leaves a word where the decision will be. `on_log`.
fn in_the_chain() -> bool {
    host::ext_authz(wire::DECISION).is_some()
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end: bool) -> Action {
        match self.arrive() {
            Ok(()) if end => self.finish_body(),
            Ok(()) => Action::Continue,
            Err(denial) => self.refuse(denial),
        }
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        let Phase::Granted(granted) = &mut self.phase else { return Action::Pause };
        granted.body_size = size;
        if end || granted.body == Body::Gone { self.finish_body() } else { Action::Pause }
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let claim_header = self.config.as_deref().map_or(wire::CLAIM_HEADER, |config| config.claim_header.as_str());
        let names = host::request_trailer_names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in header_hardening::trailer_removals(&names, claim_header) {
            host::remove_request_trailer(&name);
        }
        self.finish_body()
    }

    fn on_http_response_headers(&mut self, _count: usize, end: bool) -> Action {
        match self.response_arrives() {
            Ok(()) => {
                if end {
                    self.answer_ends();
                }
                Action::Continue
            }
            Err(denial) => self.refuse(denial),
        }
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        let Phase::Granted(granted) = &mut self.phase else { return Action::Continue };
        if granted.refused.is_some() {
            return Action::Continue;
        }
        let chunk = if granted.accounting.reads_answer() { host::response_chunk(size) } else { Vec::new() };
        if let Passed::Replaced(chunk) = granted.accounting.response_body(&chunk, end) {
            host::replace_response_chunk(size, &chunk);
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.answer_ends();
        let names = host::response_trailer_names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in header_hardening::answer_trailer_removals(&names) {
            host::remove_response_trailer(&name);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        let mut outbox = self.outbox.borrow_mut();
        match std::mem::replace(&mut self.phase, Phase::New) {
            Phase::Granted(granted) => {
                let at_once = granted.held.grant.settle_at_once;
                Self::settle(*granted, &mut outbox);
                if at_once {
                    outbox.hurry();
                    self.queue.into_iter().for_each(host::wake);
                }
            }
            Phase::Refused(denial) => Self::report(&mut outbox, denial.code.row().code),
            Phase::New => Self::report(&mut outbox, ""),
        }
    }
}
