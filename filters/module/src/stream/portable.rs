//! A request under a grant that pins it down whole: the service has admitted it, knows its length, and has said what to
//! change in it.

use std::rc::Rc;

use gateway_core::denial::{Code, Denial};
use gpu_accounting::Accounting;
use proxy_wasm::types::Action;
use tenant_context::Held;

use super::Flow;
use crate::cut::CutGuard;
use crate::host;
use crate::shared::Shared;

/// Under way with its grant; its flow has its accounting from the start.
pub(super) struct Portable {
    pub(super) flow: Flow,
    pub(super) held: Held,
    body_gone: bool,
}

impl Portable {
    /// The headers go on, with the edited body's length in them. `on_http_request_headers`.
    pub(super) fn begin(id: u32, held: Held, shared: &Rc<Shared>) -> Result<Self, Denial> {
        let mut accounting = Accounting::new(&held.grant, held.received_ms);
        let text = if held.grant.data_endpoint { held.text()? } else { String::new() };
        host::edit_request_headers(header_hardening::request_plan(&held.grant, &text, host::REQUEST_REMOVALS));
        if let Some(length) = accounting.request_length() {
            host::set_request_header("content-length", &length.bytes().to_string());
        }
        shared.outbox.borrow_mut().hold(&held.grant.id);
        accounting.sent();
        let flow = Flow {
            tenant: held.grant.tenant.clone(),
            request_id: held.grant.request_id.clone(),
            answer_headers: held.grant.answer_headers.clone(),
            accounting: Some(accounting),
            cut: CutGuard::new(shared, &held.grant, held.received_ms, id, &held.grant.request_id),
            ..Flow::default()
        };
        Ok(Self { flow, held, body_gone: false })
    }

    /// More of the body, its end, or both; at its end it is the one that was checked, edited.
    pub(super) fn body(&mut self, size: usize, end: bool) -> Result<Action, Denial> {
        if self.flow.refused.is_some() {
            return Ok(Action::Pause);
        }
        if self.body_gone {
            return Ok(Action::Continue);
        }
        if !end {
            return Ok(Action::Pause);
        }
        let accounting = self.flow.accounting.as_ref().ok_or(Denial::new(Code::Internal))?;
        if accounting.edits_body() {
            if let Some(rewritten) = accounting.request_body(&host::request_body())? {
                host::replace_request_body(rewritten.body());
            }
        } else {
            accounting.untouched_body(size)?;
        }
        self.body_gone = true;
        Ok(Action::Continue)
    }
}
