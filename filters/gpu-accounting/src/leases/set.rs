//! One scope set and model: its lease, who waits for it, and what it lately spent.

use std::collections::BTreeSet;
use std::rc::Rc;

use gateway_core::gate::{Closed, Cost};

use super::FORGET_AFTER_MS;
use super::lease::{Lease, Ticket};
use super::spent::Spent;

/// What the pool knows of one set.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: Rc<str>,
    pub(super) model: String,
    pub(super) lease: Option<Lease>,
    /// Places in the queue, in order.
    pub(super) line: BTreeSet<u64>,
    /// `None` where too many sets are remembered: this one is forgotten as soon as it has neither lease nor waiters.
    spent: Option<Spent>,
    pub(super) used_ms: u64,
    /// By requests that ended since the last ask: of what ended before, the service knew when it lent.
    pub(super) used_tokens: u64,
}

/// One name for a scope set and a model that no other pair has.
pub(super) fn name_of(scope_set: &str, model: &str) -> String {
    format!("{}:{model}{scope_set}", model.len())
}

impl Set {
    pub(super) fn new(name: Rc<str>, model: &str, remembered: bool) -> Self {
        let spent = remembered.then(Spent::default);
        Self { name, model: model.to_owned(), lease: None, line: BTreeSet::new(), spent, used_ms: 0, used_tokens: 0 }
    }

    /// Admits out of the lease; the caller keeps the order.
    pub(super) fn admit(&mut self, need: &Cost, now_ms: u64, closed: &mut Vec<Closed>) -> Option<Ticket> {
        self.end_if_over(now_ms, closed);
        let ticket = self.lease.as_mut().and_then(|lease| lease.admit(need, &self.name, now_ms));
        self.end_if_over(now_ms, closed);
        if let Some(spent) = self.spent.as_mut().filter(|_| ticket.is_some()) {
            spent.add(need, now_ms);
        }
        ticket
    }

    /// A request of this set has ended.
    pub(super) fn used(&mut self, tokens: u64, now_ms: u64, closed: &mut Vec<Closed>) {
        self.used_tokens = self.used_tokens.saturating_add(tokens);
        self.end_if_over(now_ms, closed);
    }

    /// What was admitted in the last second.
    pub(super) fn lately(&mut self, now_ms: u64) -> Cost {
        self.spent.as_mut().map(|spent| spent.lately(now_ms)).unwrap_or_default()
    }

    pub(super) fn end_if_over(&mut self, now_ms: u64, closed: &mut Vec<Closed>) {
        let over = |lease: &Lease| lease.is_over(now_ms) || lease.is_past_rate(self.used_tokens);
        if self.lease.as_ref().is_some_and(over) {
            self.end_lease(closed);
        }
    }

    pub(super) fn end_lease(&mut self, closed: &mut Vec<Closed>) {
        closed.extend(self.lease.take().map(|lease| lease.closed()));
    }

    pub(super) fn is_idle(&self, now_ms: u64) -> bool {
        let old = now_ms.checked_sub(self.used_ms).is_none_or(|ms| ms >= FORGET_AFTER_MS);
        self.lease.is_none() && self.line.is_empty() && (old || self.spent.is_none())
    }
}
