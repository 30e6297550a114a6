//! A request that the module admits: under a grant with terms, out of a lease.
//!
//! Held from its headers on: the body is complete before anything is decided on it, rewritten before anybody is asked, and
//! then the request either goes on at once or waits for a lease, with every callback pausing.

use std::cell::RefCell;
use std::rc::Rc;

use gateway_core::admission::{self, Admitted};
use gateway_core::denial::{Code, Denial};
use gateway_core::gate::{Header, Key};
use gateway_core::wire;
use gpu_accounting::leases::{Taken, Ticket, Wanted};
use gpu_accounting::{Accounting, Rewritten};
use header_hardening::InlineTarget;
use proxy_wasm::types::Action;

use super::{Flow, Phase, Portable, admitted, apply};
use crate::config::Config;
use crate::host;
use crate::shared::{FrontPart, Granted, Shared, Wait, WaitEnd};

/// Under a grant with terms.
pub(super) struct Inline {
    flow: Flow,
    pub(super) grant: Rc<Granted>,
    pub(super) body_size: usize,
    /// Canonical model, once it is known.
    pub(super) model: String,
    pub(super) stage: Stage,
    /// The stream context's id: the waiter's.
    id: u32,
}

/// How far it has come.
pub(super) enum Stage {
    /// Its body is on the way.
    Body,
    /// Admitted but for the budget.
    Waiting(Rc<Wait>),
    /// It went on.
    Sent(Ticket),
    /// A limit refused it, and it was answered.
    Over,
}

/// Finds the request's grant: the one that the front held, or the one that ext_authz has just brought. `on_http_request_headers`.
pub(super) fn begin(id: u32, config: &Config, shared: &Shared) -> Result<Phase, Denial> {
    let (grant, request_id) = match front_part(shared) {
        Some(FrontPart::Held(grant, request_id)) => {
            let path = host::request_header(host::Read::Path).unwrap_or_default();
            if path != grant.grant.path.as_bytes() {
                let detail = "The path is not the one that was decided upon: does a filter change it on the way?";
                return Err(Denial::new(Code::NotAdmitted).detail(detail));
            }
            (grant, request_id)
        }
        Some(FrontPart::Asked(key, request_id)) => {
            let held = admitted(config)?;
            if held.grant.terms.is_none() {
                return Ok(Phase::Portable(Box::new(Portable::begin(held, shared)?)));
            }
            let terms = admission::Terms::try_from(held.grant.terms.as_ref())?;
            let grant = Rc::new(Granted::new(held, Rc::new(terms))?);
            hold(shared, key, &grant);
            (grant, request_id)
        }
        Some(FrontPart::Refused(_)) | None => {
            let detail = "The root `tenant-context` has not seen this request: is it ahead of ext_authz, with the same vm_id?";
            return Err(Denial::new(Code::NotAdmitted).detail(detail));
        }
    };
    let flow = Flow {
        tenant: grant.grant.tenant.clone(),
        request_id,
        answer_headers: Vec::new(),
        accounting: Accounting::for_lease(host::now_ms()),
        refused: None,
    };
    let inline = Inline { flow, grant, body_size: 0, model: String::new(), stage: Stage::Body, id };
    inline.check_length()?;
    Ok(Phase::Inline(Box::new(inline)))
}

/// What the front left for this stream; taken, so that nobody finds it twice.
pub(super) fn front_part(shared: &Shared) -> Option<FrontPart> {
    let mark = host::mark()?;
    let (_, number) = std::str::from_utf8(&mark).ok()?.split_once(':')?;
    shared.fronts.borrow_mut().remove(&number.parse().ok()?)
}

/// Keeps the grant for requests alike; the service is told at once that this worker holds grants, unless it knows.
fn hold(shared: &Shared, key: tenant_context::front::RequestKey, grant: &Rc<Granted>) {
    let now_ms = host::now_ms();
    let kept = shared.held.borrow_mut().insert(key, Rc::clone(grant), now_ms);
    if kept && !shared.revocations.borrow().fresh(now_ms) {
        shared.wake();
    }
}

impl Inline {
    /// What was answered while the request waited is known from here on.
    pub(super) fn flow(&mut self) -> &mut Flow {
        self.waited();
        &mut self.flow
    }

    /// More of the body, its end, or both.
    pub(super) fn body(&mut self, size: usize, end: bool, shared: &Shared) -> Result<Action, Denial> {
        self.waited();
        self.body_size = size;
        if self.flow.refused.is_some() {
            return Ok(Action::Pause);
        }
        match &self.stage {
            Stage::Sent(_) => Ok(Action::Continue),
            Stage::Waiting(_) | Stage::Over => Ok(Action::Pause),
            Stage::Body => {
                self.check_size(size as u64)?;
                if end { self.admit(shared) } else { Ok(Action::Pause) }
            }
        }
    }

    /// The body is all there: room 4, then the header plan, then the budget.
    fn admit(&mut self, shared: &Shared) -> Result<Action, Denial> {
        self.grant.still_good(&shared.revocations.borrow(), host::now_ms())?;
        let body = host::request_body();
        let admitted = match admission::admit_chat(&self.grant.terms, &body) {
            Ok(admitted) => admitted,
            Err(refused) => {
                self.model = refused.model.map(|model| model.to_string()).unwrap_or_default();
                return Err(refused.denial);
            }
        };
        self.model = admitted.model.to_string();
        let rewritten = self.flow.accounting.admitted(&admitted.admission, &body)?;
        if let Some(rewritten) = &rewritten {
            host::replace_request_body(rewritten.body());
        }
        self.set_headers(&admitted, rewritten.as_ref());
        let need = admitted.admission.reserved;
        let wanted = Wanted {
            scope_set: &self.grant.grant.scope_set,
            model: &self.model,
            handle: &self.grant.grant.handle,
            need,
        };
        let taken = shared.pool.borrow_mut().take(&wanted, self.id, host::now_ms());
        self.flow.answer_headers = answer_headers(&admitted);
        match taken {
            Taken::Admitted(ticket) => {
                self.send(ticket, shared);
                Ok(Action::Continue)
            }
            Taken::Waits => {
                let wait = Rc::new(Wait { request_id: self.flow.request_id.clone(), end: RefCell::default() });
                shared.waiting.borrow_mut().insert(self.id, Rc::clone(&wait));
                self.stage = Stage::Waiting(wait);
                shared.wake();
                Ok(Action::Pause)
            }
            Taken::Full => Err(Denial::new(Code::ServiceUnavailable).detail("too many requests wait for a lease")),
        }
    }

    fn set_headers(&self, admitted: &Admitted<'_>, rewritten: Option<&Rewritten>) {
        let own = admitted.provider.key == Key::Own;
        if !own {
            host::leaves_with_platform_key();
        }
        let handle = own.then(|| wire::encode_signed(&self.grant.grant.handle));
        apply(header_hardening::inline_plan(&InlineTarget {
            tenant: &self.flow.tenant,
            cluster: &admitted.provider.cluster,
            upstream_path: &admitted.provider.upstream_path,
            handle: handle.as_deref(),
            length: rewritten.map(|rewritten| rewritten.length().bytes()),
        }));
    }

    /// Goes on: from here on it counts as sent.
    fn send(&mut self, ticket: Ticket) {
        self.flow.accounting.sent();
        self.stage = Stage::Sent(ticket);
    }

    /// Whether waiting has ended meanwhile.
    pub(super) fn waited(&mut self) {
        let Stage::Waiting(wait) = &self.stage else { return };
        match wait.end.take() {
            None => {}
            Some(WaitEnd::Admitted(ticket)) => self.send(ticket),
            Some(WaitEnd::Refused(denial)) => {
                self.flow.refused = Some(denial);
                self.stage = Stage::Over;
            }
        }
    }
}
