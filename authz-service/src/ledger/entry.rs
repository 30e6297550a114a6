//! Reservations and the counters that they stand in. Every change of a reservation is one move from what stood to
//! what stands, applied to all of its counters.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use gateway_core::gate::Cost;
use gateway_core::price::Terms;

use super::amounts::{left, replace};
use super::counter::{CounterKey, Hold, Refilled};
use super::lease::{Account, Leases};
use super::presence::Presence;
use super::rate::Rate;
use super::{GrantId, LimitState, Now, amount_of};
use crate::registry::Limit;

/// What the store keeps of a reservation, so that a crash never understates spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The grant's id.
    pub id: GrantId,
    /// What became of it.
    pub state: ReservationState,
    /// The proxy that holds it.
    pub proxy: String,
    /// Canonical model, for its terms.
    pub model: String,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// After this it becomes spend.
    pub longest_stream: Duration,
    /// What was taken.
    pub reserved: Cost,
    /// What is charged already: nothing unless it has expired.
    pub charged: Cost,
    /// Estimate of the input in tokens, for its terms.
    pub input_estimate: u64,
    /// The counters it was taken from.
    pub holds: Vec<Hold>,
}

/// What became of a reservation that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationState {
    /// It counts as reserved.
    Open,
    /// No worker reported it: it counts nothing, a late settlement is still charged.
    Undone,
    /// It was never settled and is charged in full; a late settlement corrects that.
    Expired,
}

/// Everything under the lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) counters: Counters,
    pub(super) entries: HashMap<GrantId, Entry>,
    /// When each entry is looked at next: exactly one row per entry.
    pub(super) due: BTreeSet<(u64, GrantId)>,
    pub(super) presence: Presence,
    pub(super) leases: Leases,
    pub(super) swept_ms: u64,
}

/// The counts themselves.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) budgets: HashMap<Arc<CounterKey>, BTreeMap<u64, WindowUse>>,
    pub(super) rates: HashMap<Arc<CounterKey>, Rate>,
    pub(super) in_flight: HashMap<Arc<CounterKey>, u64>,
}

/// One window of one budget.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WindowUse {
    pub(super) end_ms: u64,
    pub(super) outstanding: u128,
    pub(super) settled: u128,
}

/// One reservation, until its end is durable.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) phase: Phase,
    pub(super) stands: Standing,
    pub(super) holds: Vec<Hold>,
    pub(super) reserved: Cost,
    pub(super) terms: Terms,
    pub(super) proxy: Arc<str>,
    pub(super) armed: bool,
    /// Its place in the order of reservations and syncs.
    pub(super) order: u64,
    pub(super) created_ms: u64,
    pub(super) longest_stream: Duration,
    pub(super) due_ms: u64,
}

/// Life of an entry. `saved`: the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Undone,
    Expired { saved: bool },
    Settled,
}

/// What of a reservation stands in its counters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Standing {
    outstanding: Cost,
    settled: Cost,
    rated: Cost,
    in_flight: u64,
}

impl Standing {
    /// Reserved: rates are post-paid, but a request is known to be one.
    pub(super) fn reserved(cost: Cost) -> Self {
        let rated = Cost { requests: cost.requests, ..Cost::default() };
        Self { outstanding: cost, rated, in_flight: 1, ..Self::default() }
    }

    /// A lease: its open part is reserved, as many requests in flight; the rest is spent.
    pub(super) fn leased(account: &Account) -> Self {
        let (spent, open) = (account.spent(), account.open());
        if account.expired {
            return Self::spent(spent);
        }
        let rated = Cost { requests: spent.requests.saturating_add(open.requests), ..spent };
        Self { outstanding: open, settled: spent, rated, in_flight: open.requests }
    }

    /// Spent.
    pub(super) fn spent(cost: Cost) -> Self {
        Self { settled: cost, rated: cost, ..Self::default() }
    }

    /// What is spent.
    pub(super) fn settled(&self) -> Cost {
        self.settled
    }
}

impl Entry {
    /// When it becomes spend.
    pub(super) fn over_ms(&self) -> u64 {
        Now { unix_ms: self.created_ms }.plus(self.longest_stream)
    }

    /// When nothing corrects it any more: another longest stream later.
    pub(super) fn forget_ms(&self) -> u64 {
        Now { unix_ms: self.over_ms() }.plus(self.longest_stream)
    }
}

impl State {
    /// Moves an entry to a phase and all of its counters with it; `due_ms` is when to look at it next.
    pub(super) fn turn(&mut self, now: Now, id: GrantId, phase: Phase, stands: Standing, due_ms: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.counters.replace(now, &entry.holds, &entry.stands, &stands);
        self.due.remove(&(entry.due_ms, id));
        self.due.insert((due_ms, id));
        if !entry.armed && phase != Phase::Open {
            self.presence.forget(&entry.proxy, entry.order, id);
        }
        (entry.phase, entry.stands, entry.due_ms) = (phase, stands, due_ms);
    }

    /// Forgets an entry; what stands of it in its counters stays.
    pub(super) fn forget(&mut self, id: GrantId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.due.remove(&(entry.due_ms, id));
            self.presence.forget(&entry.proxy, entry.order, id);
        }
    }

    /// Adds an entry with nothing in its counters yet.
    pub(super) fn insert(&mut self, id: GrantId, entry: Entry) {
        self.due.insert((entry.due_ms, id));
        if !entry.armed {
            self.presence.expect(&entry.proxy, entry.order, id);
        }
        self.entries.insert(id, entry);
    }
}

impl Counters {
    /// Replaces what stood by what stands in every counter held.
    pub(super) fn replace(&mut self, now: Now, holds: &[Hold], from: &Standing, to: &Standing) {
        for hold in holds {
            let counts = hold.key.counts();
            match hold.key.refill() {
                Refilled::Window(_) => {
                    let windows = self.budgets.entry(Arc::clone(&hold.key)).or_default();
                    let used = windows.entry(hold.start_ms).or_default();
                    used.end_ms = hold.end_ms;
                    let of = |cost: &Cost| amount_of(cost, counts);
                    used.outstanding = replace(used.outstanding, of(&from.outstanding), of(&to.outstanding));
                    used.settled = replace(used.settled, of(&from.settled), of(&to.settled));
                }
                Refilled::Rate { .. } => {
                    let rate = self.rates.entry(Arc::clone(&hold.key)).or_default();
                    if let Some(pace) = hold.key.pace() {
                        rate.replace(now, pace, amount_of(&from.rated, counts), amount_of(&to.rated, counts));
                    }
                }
                Refilled::InFlight => {
                    let count = self.in_flight.entry(Arc::clone(&hold.key)).or_default();
                    *count = count.saturating_add(to.in_flight).saturating_sub(from.in_flight);
                }
            }
        }
    }

    /// Where a limit stands for whom `hold` names.
    pub(super) fn state(&self, now: Now, limit: &Limit, hold: &Hold) -> LimitState {
        let (left, reset_after) = match hold.key.pace() {
            Some(pace) => match self.rates.get(&hold.key) {
                Some(rate) => (rate.left(now, pace), rate.full_after(now)),
                None => (Rate::default().left(now, pace), Duration::ZERO),
            },
            None if hold.key.refill() == Refilled::InFlight => {
                (limit.amount.saturating_sub(self.in_flight(hold)), Duration::ZERO)
            }
            None => {
                let used = self.window(hold);
                (left(limit.amount, used.outstanding.saturating_add(used.settled)), now.until(hold.end_ms))
            }
        };
        let (name, counts, refill, amount) = (limit.name.clone(), limit.counts, limit.refill, limit.amount);
        LimitState { name, counts, refill, amount, left, reset_after }
    }

    pub(super) fn window(&self, hold: &Hold) -> WindowUse {
        self.budgets.get(&hold.key).and_then(|windows| windows.get(&hold.start_ms)).copied().unwrap_or_default()
    }

    pub(super) fn in_flight(&self, hold: &Hold) -> u64 {
        self.in_flight.get(&hold.key).copied().unwrap_or(0)
    }

    /// Drops every counter whose absence means the same.
    pub(super) fn sweep(&mut self, now: Now) {
        self.budgets.retain(|_, windows| {
            windows.retain(|_, used| used.outstanding > 0 || (used.settled > 0 && used.end_ms > now.unix_ms));
            !windows.is_empty()
        });
        self.rates.retain(|_, rate| !rate.is_idle(now));
        self.in_flight.retain(|_, count| *count > 0);
    }
}
