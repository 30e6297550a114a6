//! The way down, the same for every granted request: the tenant's tag, the meter, the header plan.

use gateway_core::denial::Denial;
use gateway_core::wire;
use gpu_accounting::{AnswerHead, Passed, ResponseStep};
use header_hardening::AnswerFacts;
use proxy_wasm::types::Action;

use super::{Flow, Stream};
use crate::host;

impl Stream {
    /// `on_http_response_headers`
    pub(super) fn answer_head(&mut self, end: bool) -> Action {
        let Some(flow) = self.flow() else { return Action::Continue };
        if let Some(cut) = &flow.cut {
            if let Some(denial) = cut.cut() {
                flow.refused = Some(denial);
                return Action::Continue; // our own answer
            }
            cut.answers();
        }
        if flow.refused.is_some() && flow.accounting.is_none() {
            return Action::Continue; // our own refusal of a request that was never admitted
        }
        match flow.answer_arrives() {
            Ok(()) => {
                if end {
                    flow.answer_ends();
                }
                Action::Continue
            }
            Err(denial) => self.refuse(denial),
        }
    }

    /// `on_http_response_body`
    pub(super) fn answer_body(&mut self, size: usize, end: bool) -> Action {
        let Some(flow) = self.flow().filter(|flow| flow.refused.is_none()) else { return Action::Continue };
        let Some(accounting) = &mut flow.accounting else { return Action::Continue };
        let chunk = if accounting.reads_answer() { host::response_chunk(size) } else { Vec::new() };
        if let Passed::Replaced(chunk) = accounting.response_body(&chunk, end) {
            host::replace_response_chunk(size, &chunk);
        }
        Action::Continue
    }

    /// `on_http_response_trailers`
    pub(super) fn answer_trailers(&mut self) -> Action {
        if let Some(flow) = self.flow() {
            flow.answer_ends();
        }
        let names = host::response_trailer_names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in header_hardening::answer_trailer_removals(&names) {
            host::remove_response_trailer(&name);
        }
        Action::Continue
    }
}

impl Flow {
    fn answer_arrives(&mut self) -> Result<(), Denial> {
        let mut headers = host::response_headers();
        let values = |wanted: &str| -> Vec<&[u8]> {
            headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_slice()).collect()
        };
        tenant_context::answer_tag(&self.tenant, &values(wire::TENANT))?;
        let first = |wanted: &str| values(wanted).first().copied();
        let status = first(":status").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or(0);
        let head = AnswerHead {
            status,
            content_type: first("content-type"),
            content_encoding: first("content-encoding"),
            content_length: first("content-length"),
        };
        match self.accounting.as_mut().map(|accounting| accounting.response_head(head)) {
            Some(ResponseStep::Deny(denial)) => return Err(denial),
            Some(ResponseStep::Continue { remove_content_length: true }) => {
                headers.retain(|(name, _)| name != "content-length");
            }
            Some(ResponseStep::Continue { remove_content_length: false }) | None => {}
        }
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let facts = AnswerFacts { tenant: &self.tenant, request_id: &self.request_id, headers: &self.answer_headers };
        let plan = header_hardening::response_plan(&facts, &names);
        host::replace_response_headers(header_hardening::applied(&plan, &headers));
        Ok(())
    }

    /// Behind headers or trailers. Held bytes went with the last chunk that was whole; a cut event has nowhere to go any
    /// more.
    fn answer_ends(&mut self) {
        if let Some(accounting) = &mut self.accounting {
            let _ = accounting.response_body(&[], true);
        }
    }
}
