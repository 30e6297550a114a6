//! One request behind the gate: Envoy's callbacks become the filters' values, the filters' steps become host calls.
//!
//! INVARIANT: until the request is admitted every request callback answers or pauses, and after an answer every request
//! callback pauses: nothing undecided is let go (`mesh.md` §0.1 facts 3 and 4). Under a grant that pins the whole request
//! down (`stream/portable.rs`) the headers go on and only an edited body is held; under a grant with terms
//! (`stream/inline.rs`) everything is held until it is admitted.

mod answer;
mod end;
mod inline;
mod portable;

use std::rc::Rc;

use gateway_core::denial::{Code, Denial, Words};
use gateway_core::gate::{Grant, Header};
use gateway_core::wire;
use gpu_accounting::Accounting;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use tenant_context::{Arrival, Held, TenantContext};

use self::inline::Inline;
use self::portable::Portable;
use crate::config::{Config, Profile};
use crate::cut::CutGuard;
use crate::host::{self, Read};
use crate::shared::Shared;

/// The stream context of one request.
pub(crate) struct Stream {
    id: u32,
    config: Option<Rc<Config>>,
    shared: Rc<Shared>,
    phase: Phase,
    /// Bytes of the request's body that have come.
    body_size: usize,
}

enum Phase {
    /// No request callback has run.
    New,
    /// Refused without a grant; the stream stays paused.
    Refused(Denial),
    /// Under a grant that admits this one request.
    Portable(Box<Portable>),
    /// Under a grant with terms: the module admits.
    Inline(Box<Inline>),
}

/// What both kinds of requests have: what an answer is measured and dressed with.
#[derive(Default)]
struct Flow {
    tenant: String,
    request_id: String,
    answer_headers: Vec<Header>,
    /// None until the request is admitted.
    accounting: Option<Accounting>,
    cut: Option<CutGuard>,
    refused: Option<Denial>,
}

impl Stream {
    pub(crate) fn new(id: u32, config: Option<Rc<Config>>, shared: Rc<Shared>) -> Self {
        Self { id, config, shared, phase: Phase::New, body_size: 0 }
    }

    fn arrive(&mut self) -> Result<(), Denial> {
        let config = self.config.clone().ok_or_else(|| Denial::new(Code::Internal).detail("no configuration"))?;
        self.phase = match config.profile {
            Profile::Portable => Phase::Portable(Box::new(Portable::begin(self.id, admitted(&config)?, &self.shared)?)),
            Profile::Inline => inline::begin(self.id, &config, &self.shared)?,
        };
        Ok(())
    }

    /// What the answer is measured with; none where the request was refused without a grant.
    fn flow(&mut self) -> Option<&mut Flow> {
        match &mut self.phase {
            Phase::New | Phase::Refused(_) => None,
            Phase::Portable(request) => Some(&mut request.flow),
            Phase::Inline(request) => Some(request.flow()),
        }
    }

    /// The grant that the request is under.
    fn grant(&self) -> Option<&Grant> {
        match &self.phase {
            Phase::New | Phase::Refused(_) => None,
            Phase::Portable(request) => Some(&request.held.grant),
            Phase::Inline(request) => Some(&request.grant.held.grant),
        }
    }

    /// More of the body, its end, or both.
    fn body(&mut self, size: usize, end: bool) -> Action {
        self.body_size = size;
        let went_on = match &mut self.phase {
            Phase::New | Phase::Refused(_) => return Action::Pause,
            Phase::Portable(request) => request.body(size, end),
            Phase::Inline(request) => request.body(size, end, &self.shared),
        };
        match went_on {
            Ok(action) => action,
            Err(denial) => self.refuse(denial),
        }
    }

    /// Answers in place of the upstream; the request never goes on.
    fn refuse(&mut self, denial: Denial) -> Action {
        log::warn!("{}: {}", denial.code.row().code, denial.logged());
        let words = Words::from(self.grant().and_then(|grant| grant.words.as_ref()));
        match self.flow() {
            Some(flow) => {
                host::refuse(&denial, &words.body(&denial, &flow.request_id), &[]);
                flow.refused = Some(denial);
            }
            // Envoy knows the id in the header callback and in `on_log` alone; from then on the grant does
            None => {
                host::refuse(&denial, &denial.body(&host::request_id()), &[]);
                self.phase = Phase::Refused(denial);
            }
        }
        Action::Pause
    }
}

/// The grant that ext_authz left, compared with the request. `on_http_request_headers`.
fn admitted(config: &Config) -> Result<Held, Denial> {
    let decision = host::ext_authz(wire::DECISION);
    let grant = host::ext_authz(wire::GRANT);
    let (method, authority, path) =
        (host::request_header(Read::Method), host::request_header(Read::Authority), host::request_header(Read::Path));
    let claim = host::request_header(Read::Claim(&config.rules.claim_header));
    TenantContext::admit(&Arrival {
        decision: decision.as_deref(),
        grant: grant.as_deref(),
        method: method.as_deref().unwrap_or_default(),
        authority: authority.as_deref().unwrap_or_default(),
        path: path.as_deref().unwrap_or_default(),
        claim: claim.as_deref(),
        claims_seen: usize::from(claim.is_some()),
        now_ms: host::now_ms(),
    })
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end: bool) -> Action {
        match self.arrive() {
            Ok(()) => match &self.phase {
                Phase::Portable(_) if !end => Action::Continue,
                _ => self.body(0, end),
            },
            Err(denial) => self.refuse(denial),
        }
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        self.body(size, end)
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let claim_header = self.config.as_deref().map_or(wire::CLAIM_HEADER, |config| &config.rules.claim_header);
        let names = host::request_trailer_names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in header_hardening::trailer_removals(&names, claim_header) {
            host::remove_request_trailer(&name);
        }
        self.body(self.body_size, true)
    }

    fn on_http_response_headers(&mut self, _count: usize, end: bool) -> Action {
        self.answer_head(end)
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        self.answer_body(size, end)
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.answer_trailers()
    }

    fn on_log(&mut self) {
        self.end();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // `on_log` has ended it; a stream without one must not keep its place
        if self.shared.waiting.borrow_mut().remove(&self.id).is_some() {
            self.shared.pool.borrow_mut().leave(self.id);
        }
    }
}
