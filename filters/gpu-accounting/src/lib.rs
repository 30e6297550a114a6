//! GPU accounting of one stream: the grant's body edits on the way up, the meter on the way down, the settlement at the
//! end.
//!
//! A state machine without I/O or a clock: each phase's values in, what to do out. It decides nothing about who may do
//! what, and no phase that fails to come can make a request free: without proof that nothing was sent, it was sent.

mod answer;
pub mod leases;
pub mod outbox;
mod outcome;
mod request;

#[cfg(test)]
mod tests;

pub use answer::{AnswerHead, ResponseStep};
pub use gateway_core::meter::Passed;
pub use outcome::StreamEnd;
pub use request::{AnnouncedLength, MAX_GROWTH_BYTES, Rewritten};

use answer::Answer;
use gateway_core::denial::Denial;
use gateway_core::gate;
use request::Request;

/// A request that was checked in Envoy (profile `inline`) while budget for it is not yet at hand: nothing of it may go on,
/// and there is nothing to settle.
#[derive(Debug)]
pub struct Checked {
    request: Request,
    dialect: gate::Dialect,
    hide_usage: bool,
    started_ms: u64,
}

/// The accounting of one granted request.
#[derive(Debug)]
pub struct Accounting {
    request: Request,
    sent: bool,
    dialect: gate::Dialect,
    hide_usage: bool,
    answer: Option<Answer>,
    started_ms: u64,
    leased: Option<gate::Leased>,
}

impl Checked {
    /// Applies what admission decided to the whole body, before any budget is asked for: also what replaces body and
    /// length, in the same callback, or `None` where the body goes on as it is.
    ///
    /// # Errors
    /// [`gateway_core::denial::Code::BodyTooLarge`] beyond [`gateway_core::wire::MAX_BODY_BYTES`];
    /// [`gateway_core::denial::Code::Internal`] when the edits do not fit the body or add more than
    /// [`MAX_GROWTH_BYTES`].
    pub fn new(
        edits: &gate::BodyEdits,
        body: &[u8],
        dialect: gate::Dialect,
        hide_usage: bool,
        started_ms: u64,
    ) -> Result<(Self, Option<Rewritten>), Denial> {
        let (request, rewritten) = Request::held(edits, body)?;
        Ok((Self { request, dialect, hide_usage, started_ms }, rewritten))
    }

    /// Budget was lent for it: it may go on, and will be settled. [`Accounting::untouched_body`] then tells whether the
    /// body that goes on is as long as the one made here.
    #[must_use]
    pub fn admitted(self, leased: gate::Leased) -> Accounting {
        let Self { request, dialect, hide_usage, started_ms } = self;
        Accounting { request, sent: false, dialect, hide_usage, answer: None, started_ms, leased: Some(leased) }
    }
}

impl Accounting {
    /// Begins with the grant; `started_ms` is the caller's clock, in milliseconds, the same as at the end.
    #[must_use]
    pub fn new(grant: &gate::Grant, started_ms: u64) -> Self {
        Self {
            request: Request::new(grant.edits.clone().unwrap_or_default()),
            sent: false,
            dialect: grant.dialect(),
            hide_usage: grant.hide_usage,
            answer: None,
            started_ms,
            leased: None,
        }
    }

    /// Request headers: the `content-length` to set because the body will be edited; `None`: leave it alone.
    pub fn request_length(&mut self) -> Option<AnnouncedLength> {
        self.request.announce()
    }

    /// The whole request body, at its end (also where trailers end it, also where it is empty): what replaces it, or
    /// `None` where it goes on as it is.
    ///
    /// # Errors
    /// [`gateway_core::denial::Code::Internal`] when it is not the body that was checked, when the edits do not fit
    /// it, or when it would change without its length having been announced.
    pub fn request_body(&self, body: &[u8]) -> Result<Option<Rewritten>, Denial> {
        self.request.rewrite(body)
    }

    /// Whether the body is edited: only then must its bytes be looked at.
    #[must_use]
    pub fn edits_body(&self) -> bool {
        self.request.edits_body()
    }

    /// The end of a request body that is not edited, by its length alone.
    ///
    /// # Errors
    /// [`gateway_core::denial::Code::Internal`] when it is not the body that was checked.
    pub fn untouched_body(&self, bytes: usize) -> Result<(), Denial> {
        self.request.untouched(bytes)
    }

    /// Something of the request went on towards the router: from here on it counts as sent, unless Envoy says that
    /// nothing reached an upstream.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    /// Response headers, of the upstream or of Envoy's own reply. Where they end the stream, [`Self::response_body`]
    /// follows with an empty chunk and `end`.
    pub fn response_head(&mut self, head: AnswerHead<'_>) -> ResponseStep {
        let (answer, step) = Answer::begin(self.dialect, self.hide_usage, head);
        self.answer = Some(answer);
        step
    }

    /// Whether chunks of the answer must be looked at; otherwise an empty one with `end` at the end will do.
    #[must_use]
    pub fn reads_answer(&self) -> bool {
        self.answer.as_ref().is_some_and(Answer::is_read)
    }

    /// A chunk of the response body; trailers are an empty chunk with `end`.
    #[must_use = "a chunk that was replaced must not pass"]
    pub fn response_body(&mut self, chunk: &[u8], end: bool) -> Passed {
        self.answer.as_mut().map_or(Passed::Unchanged, |answer| answer.push(chunk, end))
    }

    /// The end of the stream, however it ended: what the service is told.
    #[must_use]
    pub fn settle(self, end: &StreamEnd) -> gate::Settlement {
        let seen = outcome::Seen {
            sent: self.sent,
            status: self.answer.as_ref().map(Answer::status),
            ended: self.answer.as_ref().is_some_and(Answer::has_ended),
        };
        let outcome = outcome::of(end, seen);
        let reading = self.answer.map(|answer| answer.reading()).filter(|_| outcome != gate::Outcome::NotSent);
        gate::Settlement {
            grant: end.signed.clone(),
            outcome: outcome.into(),
            status: end.status.unwrap_or(0),
            output_seen: reading.as_ref().map_or(0, |reading| reading.output_seen),
            usage: reading.and_then(|reading| reading.usage),
            denial: end.denial.unwrap_or_default().to_owned(),
            details: outcome::details(end),
            duration_ms: end.now_ms.saturating_sub(self.started_ms),
            leased: self.leased,
        }
    }
}
