//! The worker's pool of lent budget: requests are admitted out of leases, and wait in order where none has enough left.
//!
//! Sans-I/O: time and random bytes are arguments, and what is to be said to the service is handed out. Nothing is ever
//! admitted beyond what was lent, after a lease's time, or past a request that waits for the same budget. A scope set
//! and model has one lease at a time: an ask gives back what is left of it, so that a request which no remainder fits is
//! decided on all that there is. State is bounded, and an answer that cannot be right admits nobody.
#![deny(clippy::arithmetic_side_effects)]

mod amount;
mod asking;
mod lease;
mod set;
mod spent;
#[cfg(test)]
mod tests;
mod used;

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use gateway_core::gate::{Closed, Cost, LimitRefusal, LimitState, Settlement};

use asking::Asked;
use lease::LeaseId;
pub use lease::Ticket;
use set::Set;

/// Greatest number of requests that wait at one worker.
pub const MAX_WAITERS: usize = 16_384;
/// Greatest number of requests that one call asks for; the rest waits for the next.
pub const MAX_NEEDS: usize = gateway_core::wire::MAX_NEEDS;
/// Nobody waits longer unless configured otherwise, in milliseconds.
pub const LONGEST_WAIT_MS: u64 = 750;
/// Greatest number of scope sets whose spending is remembered; others are asked for without extra.
const MAX_SETS: usize = 8_192;
/// A set that nobody used for so long is forgotten.
const FORGET_AFTER_MS: u64 = 30_000;
/// Sets are looked through no more often than this.
const SWEEP_EVERY_MS: u64 = 100;
/// A clock that goes back by no more stands still; by more, nothing is known of how long leases have lived.
const CLOCK_SLACK_MS: u64 = 1_000;

/// One worker's pool.
#[derive(Debug, Default)]
pub struct Pool {
    sets: BTreeMap<Rc<str>, Set>,
    /// By place in the order of arrival.
    queue: BTreeMap<u64, Waiter>,
    /// Place by stream.
    places: BTreeMap<u32, u64>,
    next_place: u64,
    /// The asks of the call under way: who waits is in at most one of them.
    asked: BTreeMap<LeaseId, Asked>,
    closed: Vec<Closed>,
    latest_ms: u64,
    swept_ms: u64,
}

/// What one request wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The grant's.
    pub scope_set: &'a str,
    /// Canonical name.
    pub model: &'a str,
    /// The serialized `SignedGrant` by which the service knows who asks.
    pub handle: &'a Bytes,
    /// What is to be reserved; counts as one request, whatever it says of requests.
    pub need: Cost,
}

/// What becomes of a request at once.
#[derive(Debug, PartialEq)]
#[must_use = "only an admitted request may go on"]
pub enum Taken {
    /// It goes on.
    Admitted(Ticket),
    /// It pauses and the root context is woken: a [`Verdict`] follows, unless the request leaves.
    Waits,
    /// Too many wait: it is refused as unavailable.
    Full,
}

/// What becomes of a request that waited.
#[derive(Debug, PartialEq)]
#[must_use = "only an admitted request may go on"]
pub enum Verdict {
    /// It goes on.
    Admitted(Ticket),
    /// A limit is short.
    Refused(LimitRefusal),
    /// The service could not say, or said what cannot be.
    Unavailable,
}

#[derive(Debug)]
struct Waiter {
    stream: u32,
    set: Rc<str>,
    handle: Bytes,
    need: Cost,
    since_ms: u64,
}

impl Pool {
    /// Takes what one request wants, or puts it behind those that wait for the same budget. A stream waits once: a
    /// second call gives up its first place.
    pub fn take(&mut self, wanted: &Wanted<'_>, waiter: u32, now_ms: u64) -> Taken {
        let now_ms = self.at(now_ms);
        self.leave(waiter);
        let name = set::name_of(wanted.scope_set, wanted.model);
        if !self.sets.contains_key(name.as_str()) && !self.make_set(&name, wanted.model, now_ms) {
            return Taken::Full;
        }
        let Some(set) = self.sets.get_mut(name.as_str()) else { return Taken::Full };
        set.used_ms = now_ms;
        let need = Cost { requests: 1, ..wanted.need };
        if set.line.is_empty()
            && let Some(ticket) = set.admit(&need, now_ms, &mut self.closed)
        {
            return Taken::Admitted(ticket);
        }
        if self.queue.len() >= MAX_WAITERS {
            return Taken::Full;
        }
        let place = self.next_place;
        self.next_place = place.saturating_add(1);
        set.line.insert(place);
        let (set, handle) = (Rc::clone(&set.name), wanted.handle.clone());
        self.queue.insert(place, Waiter { stream: waiter, set, handle, need, since_ms: now_ms });
        self.places.insert(waiter, place);
        Taken::Waits
    }

    /// Whether anybody waits.
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        !self.queue.is_empty()
    }

    /// A request waits no more: the client hung up. What is lent for it stays with the worker until the lease ends.
    pub fn leave(&mut self, waiter: u32) {
        if let Some(place) = self.places.get(&waiter) {
            self.unqueue(*place);
        }
    }

    /// Those that have waited for `longest_ms`: they wait no more and are to be refused as unavailable.
    pub fn overdue(&mut self, longest_ms: u64, now_ms: u64) -> Vec<u32> {
        let now_ms = self.at(now_ms);
        let late = |waiter: &Waiter| now_ms.checked_sub(waiter.since_ms).is_none_or(|ms| ms >= longest_ms);
        let places: Vec<u64> = self.queue.iter().filter(|(_, waiter)| late(waiter)).map(|(place, _)| *place).collect();
        places.into_iter().filter_map(|place| self.unqueue(place)).map(|waiter| waiter.stream).collect()
    }

    /// An admitted request has ended: its set's lease ends too once those that did have used up the post-paid rate.
    pub fn ended(&mut self, ticket: &Ticket, settlement: &Settlement) {
        if let Some(set) = self.sets.get_mut(ticket.set.as_ref()) {
            set.used(used::tokens(settlement), self.latest_ms, &mut self.closed);
        }
    }

    /// The leases that have ended since the last call, each handed out once: the outbox keeps them until the service has
    /// them. Call it after [`Self::asks`], before the report is made: what an ask gives back counts for it.
    #[must_use = "what is not reported is lost"]
    pub fn closed(&mut self, now_ms: u64) -> Vec<Closed> {
        let now_ms = self.at(now_ms);
        self.sweep(now_ms);
        std::mem::take(&mut self.closed)
    }

    /// Where the limits of an admitted request stand, as far as is known here: as its set's lease left them, plus what is
    /// not used of that.
    #[must_use]
    pub fn limits_now(&self, ticket: &Ticket, now_ms: u64) -> Vec<LimitState> {
        let lease = self.sets.get(ticket.set.as_ref()).and_then(|set| set.lease.as_ref());
        let unused = lease.map(lease::Lease::left).unwrap_or_default();
        lease.map_or(&ticket.standing, |lease| &lease.standing).now(&unused, now_ms)
    }

    /// The time that counts: a clock set back ends every lease.
    fn at(&mut self, now_ms: u64) -> u64 {
        if now_ms.saturating_add(CLOCK_SLACK_MS) < self.latest_ms {
            self.sets.values_mut().for_each(|set| set.end_lease(&mut self.closed));
            self.latest_ms = now_ms;
        }
        self.latest_ms = self.latest_ms.max(now_ms);
        self.latest_ms
    }

    fn make_set(&mut self, name: &str, model: &str, now_ms: u64) -> bool {
        if self.sets.len() >= MAX_SETS {
            self.sweep(now_ms);
        }
        if self.sets.len() >= MAX_SETS.saturating_add(MAX_WAITERS) {
            return false;
        }
        let name: Rc<str> = name.into();
        self.sets.insert(Rc::clone(&name), Set::new(name, model, self.sets.len() < MAX_SETS));
        true
    }

    /// Ends what is over, forgets what is idle.
    fn sweep(&mut self, now_ms: u64) {
        if now_ms.checked_sub(self.swept_ms).is_some_and(|ms| ms < SWEEP_EVERY_MS) {
            return;
        }
        self.swept_ms = now_ms;
        self.sets.retain(|_, set| {
            set.end_if_over(now_ms, &mut self.closed);
            !set.is_idle(now_ms)
        });
    }

    fn unqueue(&mut self, place: u64) -> Option<Waiter> {
        let waiter = self.queue.remove(&place)?;
        self.places.remove(&waiter.stream);
        if let Some(set) = self.sets.get_mut(waiter.set.as_ref()) {
            set.line.remove(&place);
        }
        Some(waiter)
    }
}
