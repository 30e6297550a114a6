//! A request that the module admits: under a grant with terms, out of a lease.
//!
//! Held from its headers on: the body is complete before anything is decided on it, rewritten before anybody is asked, and
//! then the request either goes on at once or waits for a lease, with every callback pausing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gateway_core::admission::{self, Admitted, Catalog as _, Terms};
use gateway_core::denial::{Code, Denial};
use gateway_core::gate::{Dialect, Key, LimitState};
use gateway_core::{limits, wire};
use gpu_accounting::Checked;
use gpu_accounting::leases::{Taken, Ticket, Wanted};
use header_hardening::InlineTarget;
use proxy_wasm::types::Action;

use super::{Flow, Phase, Portable, admitted};
use crate::config::Config;
use crate::cut::CutGuard;
use crate::host;
use crate::shared::{FrontPart, Granted, Shared, Wait, WaitEnd};

/// Under a grant with terms.
pub(super) struct Inline {
    flow: Flow,
    pub(super) grant: Rc<Granted>,
    /// Canonical model, once it is known.
    pub(super) model: String,
    pub(super) stage: Stage,
    arrived_ms: u64,
    /// The stream context's id: the waiter's.
    id: u32,
}

/// How far it has come.
pub(super) enum Stage {
    /// Its body is on the way.
    Body,
    /// Admitted but for the budget.
    Waiting(Rc<Wait>, Box<Ready>),
    /// It went on.
    Sent(Ticket),
    /// It was answered in place of the upstream.
    Over,
}

/// All that is decided of a request that waits for budget.
pub(super) struct Ready {
    checked: Checked,
    input_estimate: u64,
    region: String,
}

/// Finds the request's grant: the one that the front held, or the one that ext_authz has just brought.
/// `on_http_request_headers`.
pub(super) fn begin(id: u32, config: &Config, shared: &Rc<Shared>) -> Result<Phase, Denial> {
    let now_ms = host::now_ms();
    let (grant, request_id) = match front_part(shared) {
        Some(FrontPart::Held(grant, request_id)) => {
            let path = host::request_header(host::Read::Path).unwrap_or_default();
            grant.held.decided_upon_path(&path)?;
            (grant, request_id)
        }
        Some(FrontPart::Asked(key, request_id)) => {
            let held = admitted(config)?;
            if held.grant.terms.is_none() {
                // a data endpoint: the service answers it, and no provider's key is needed
                host::set_request_header(wire::ROUTE, &config.service);
                host::leaves_with_own_key(false);
                return Ok(Phase::Portable(Box::new(Portable::begin(id, held, shared)?)));
            }
            let compile = |terms: Option<_>| {
                let terms = terms.as_ref().map(Terms::try_from);
                let unreadable = || Denial::new(Code::NotAdmitted).detail("The grant's terms cannot be read.");
                terms.and_then(Result::ok).map(Rc::new).ok_or_else(unreadable)
            };
            let grant = Rc::new(Granted::new(held, compile)?);
            shared.held.borrow_mut().insert(key, Rc::clone(&grant), now_ms);
            (grant, request_id)
        }
        Some(FrontPart::Refused(_)) | None => {
            let detail =
                "The root `tenant-context` has not seen this request: is it ahead of ext_authz, with this vm_id?";
            return Err(Denial::new(Code::NotAdmitted).detail(detail));
        }
    };
    let flow = Flow { tenant: grant.held.grant.tenant.clone(), request_id, ..Flow::default() };
    shared.under_way.set(shared.under_way.get().saturating_add(1));
    shared.listen(now_ms);
    let stage = Stage::Body;
    Ok(Phase::Inline(Box::new(Inline { flow, grant, model: String::new(), stage, arrived_ms: now_ms, id })))
}

/// What the front left for this stream; taken, so that nobody finds it twice.
pub(super) fn front_part(shared: &Shared) -> Option<FrontPart> {
    let mark = host::mark()?;
    let (_, number) = std::str::from_utf8(&mark).ok()?.split_once(':')?;
    shared.fronts.borrow_mut().remove(&number.parse().ok()?)
}

impl Inline {
    /// What was answered while the request waited is known from here on.
    pub(super) fn flow(&mut self) -> &mut Flow {
        self.waited();
        &mut self.flow
    }

    /// More of the body, its end, or both.
    pub(super) fn body(&mut self, size: usize, end: bool, shared: &Rc<Shared>) -> Result<Action, Denial> {
        self.waited();
        match &self.stage {
            Stage::Sent(_) => Ok(Action::Continue),
            Stage::Waiting(..) | Stage::Over => Ok(Action::Pause),
            Stage::Body if self.flow.refused.is_some() => Ok(Action::Pause),
            Stage::Body => {
                admission::check_size(self.grant.terms.caps().body_bytes, size as u64)?;
                if end { self.admit(shared) } else { Ok(Action::Pause) }
            }
        }
    }

    /// The body is all there: room 4, then the header plan, then the budget.
    fn admit(&mut self, shared: &Rc<Shared>) -> Result<Action, Denial> {
        let now_ms = host::now_ms();
        let grant = Rc::clone(&self.grant);
        grant.held.still_good(&mut shared.revocations.borrow_mut(), self.arrived_ms, now_ms)?;
        let body = host::request_body();
        let admitted = match admission::admit_chat(&*grant.terms, &body) {
            Ok(admitted) => admitted,
            Err(refused) => {
                self.model = refused.model.map(|model| model.to_string()).unwrap_or_default();
                return Err(refused.denial);
            }
        };
        self.model = admitted.model.to_string();
        let hide = admitted.admission.hide_usage;
        let (checked, rewritten) =
            Checked::new(&admitted.admission.edits, &body, Dialect::OpenaiChat, hide, self.arrived_ms)?;
        if let Some(rewritten) = &rewritten {
            host::replace_request_body(rewritten.body());
        }
        self.set_headers(&admitted, rewritten.map(|rewritten| rewritten.length().bytes()));
        let ready = Ready {
            checked,
            input_estimate: admitted.admission.input_estimate,
            region: admitted.target.region.to_owned(),
        };
        let wanted = Wanted {
            scope_set: &grant.held.grant.scope_set,
            model: &self.model,
            handle: &grant.held.signed,
            need: admitted.admission.reserved,
        };
        let taken = shared.pool.borrow_mut().take(&wanted, self.id, now_ms);
        let held = &grant.held;
        self.flow.cut = CutGuard::new(shared, &held.grant, held.received_ms, self.id, &self.flow.request_id);
        match taken {
            Taken::Admitted(ticket) => {
                let limits = shared.pool.borrow().limits_now(&ticket, now_ms);
                self.send(ticket, ready, &limits, true);
                Ok(Action::Continue)
            }
            Taken::Waits => {
                let wait = Rc::new(Wait {
                    request_id: self.flow.request_id.clone(),
                    grant,
                    end: RefCell::default(),
                    acted: Cell::new(false),
                });
                shared.waiting.borrow_mut().insert(self.id, Rc::clone(&wait));
                self.stage = Stage::Waiting(wait, Box::new(ready));
                shared.wake();
                Ok(Action::Pause)
            }
            Taken::Full => Err(Denial::new(Code::ServiceUnavailable).detail("Too many requests wait for a lease.")),
        }
    }

    fn set_headers(&self, admitted: &Admitted<'_>, length: Option<u64>) {
        let own = admitted.target.key == Key::Own;
        host::leaves_with_own_key(own);
        host::edit_request_headers(header_hardening::inline_plan(&InlineTarget {
            tenant: &self.flow.tenant,
            cluster: admitted.target.cluster,
            upstream_path: admitted.target.upstream_path,
            handle: own.then_some(&self.grant.text),
            length,
        }));
    }

    /// Is admitted; once it went on it counts as sent.
    fn send(&mut self, ticket: Ticket, ready: Ready, limits: &[LimitState], went_on: bool) {
        let leased = ticket.leased(&self.flow.request_id, &self.model, ready.input_estimate);
        let mut accounting = ready.checked.admitted(leased);
        if went_on {
            accounting.sent();
        }
        self.flow.accounting = Some(accounting);
        self.flow.answer_headers = limits::answer_headers(&self.model, &ready.region, limits);
        self.stage = Stage::Sent(ticket);
    }

    /// Whether waiting has ended meanwhile, and the stream was let go or answered for it.
    fn waited(&mut self) {
        if matches!(&self.stage, Stage::Waiting(wait, _) if wait.acted.get()) {
            self.stop_waiting();
        }
    }

    /// Takes what waiting has brought, if it has: also what the stream did not live to be told.
    pub(super) fn stop_waiting(&mut self) {
        let (end, went_on) = match &self.stage {
            Stage::Waiting(wait, _) => (wait.end.take(), wait.acted.get()),
            Stage::Body | Stage::Sent(_) | Stage::Over => return,
        };
        let Some(end) = end else { return };
        let Stage::Waiting(_, ready) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        match end {
            WaitEnd::Admitted(ticket, limits) => self.send(ticket, *ready, &limits, went_on),
            WaitEnd::Refused(denial, _) => self.flow.refused = Some(denial),
        }
    }
}
