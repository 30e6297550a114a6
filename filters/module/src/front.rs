//! One request ahead of ext_authz: the root `tenant-context` of profile `inline`. Reads the client's own words, refuses what
//! contradicts itself, and marks a request for which this worker holds a grant, so that Envoy asks nobody.

use std::rc::Rc;

use gateway_core::denial::{Code, Denial};
use gateway_core::headers::Head;
use gateway_core::wire;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use tenant_context::front::FrontStep;

use crate::config::Config;
use crate::host;
use crate::shared::{FrontPart, Shared};

/// The front's context of one stream.
pub(crate) struct Front {
    id: u32,
    config: Rc<Config>,
    shared: Rc<Shared>,
    refused: bool,
}

impl Front {
    pub(crate) fn new(id: u32, config: Rc<Config>, shared: Rc<Shared>) -> Self {
        Self { id, config, shared, refused: false }
    }

    fn arrive(&self) -> Result<(), (Denial, String)> {
        let headers = host::front::client_headers();
        let text = |wanted: &str| -> Option<&str> {
            let (_, value) = headers.iter().find(|(name, _)| name == wanted)?;
            std::str::from_utf8(value).ok()
        };
        let request_id = text(wire::REQUEST_ID).unwrap_or_default().to_owned();
        let refuse = |denial: Denial| (denial, request_id.clone());
        let bad = || refuse(Denial::new(Code::BadRequest).detail("The request line is not text."));
        let (method, authority, path) =
            (text(":method").ok_or_else(bad)?, text(":authority").ok_or_else(bad)?, text(":path").ok_or_else(bad)?);
        let rules = &self.config.rules;
        let plain: Vec<(&str, &[u8])> = headers
            .iter()
            .filter(|(name, _)| !name.starts_with(':'))
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        let head = Head { method, authority, path, headers: &plain };
        let certified = host::front::has_certificate();
        let step = {
            let (mut held, mut revocations) = (self.shared.held.borrow_mut(), self.shared.revocations.borrow_mut());
            tenant_context::front::Front::arrive(rules, &head, certified, &mut held, &mut revocations, host::now_ms())
        };
        let (word, part) = match step {
            FrontStep::Refuse(denial) => return Err(refuse(denial)),
            FrontStep::Ask(key) => (wire::MARK_ASK, FrontPart::Asked(key, request_id)),
            FrontStep::Held(grant) => {
                let names: Vec<&str> = plain.iter().map(|(name, _)| *name).collect();
                host::edit_request_headers(header_hardening::front_plan(
                    &names,
                    &rules.claim_header,
                    &grant.held.grant.tenant,
                ));
                (wire::MARK_HELD, FrontPart::Held(grant, request_id))
            }
        };
        self.leave(word, part);
        Ok(())
    }

    /// For the gateway's context of this stream.
    fn leave(&self, word: &str, part: FrontPart) {
        self.shared.fronts.borrow_mut().insert(self.id, part);
        host::front::mark(&format!("{word}{}", self.id));
    }
}

impl Context for Front {}

impl HttpContext for Front {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let Err((denial, request_id)) = self.arrive() else { return Action::Continue };
        self.refused = true;
        host::refuse(&denial, &denial.body(&request_id), &[]);
        self.leave(wire::MARK_REFUSED, FrontPart::Refused(denial));
        Action::Pause
    }

    fn on_http_request_body(&mut self, _size: usize, _end: bool) -> Action {
        if self.refused { Action::Pause } else { Action::Continue }
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        if self.refused { Action::Pause } else { Action::Continue }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.fronts.borrow_mut().remove(&self.id);
    }
}
