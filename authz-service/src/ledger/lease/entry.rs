//! Leases in memory: those that live, and the ids of those that must not come to life any more.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use gateway_core::gate::Cost;

use super::{Lease, LeaseId};
use crate::ledger::Now;
use crate::ledger::entry::{Standing, State};

/// An id that was closed is remembered this long: no call of a worker is under way for longer.
const BURIED_MS: u64 = 60_000;
/// Such ids, at most.
const MOST_BURIED: usize = 65_536;

/// Every lease, by id.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Leases {
    pub(super) live: HashMap<LeaseId, Entry>,
    /// When each is looked at next: exactly one row per lease.
    pub(super) due: BTreeSet<(u64, LeaseId)>,
    buried: HashSet<LeaseId>,
    /// Oldest first.
    graves: VecDeque<(u64, LeaseId)>,
}

/// One lease, until nothing corrects it any more.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) lease: Lease,
    pub(super) stands: Standing,
    /// What the store has of it.
    pub(super) saved: Saved,
    /// Settlements that are not durable yet: reserved and charged.
    pub(super) unsaved: BTreeMap<u32, (Cost, Cost)>,
    pub(super) due_ms: u64,
}

/// What the store has of a lease, beside its settlements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) closed: bool,
    pub(super) expired: bool,
}

impl Entry {
    /// Whether the store has everything that will ever be known of it.
    pub(super) fn is_done(&self) -> bool {
        self.saved.closed && self.unsaved.is_empty() && self.lease.account.is_over()
    }
}

impl Leases {
    /// No lease of this id will come to be.
    pub(super) fn bury(&mut self, now: Now, id: LeaseId) {
        if self.buried.insert(id) {
            self.graves.push_back((now.unix_ms.saturating_add(BURIED_MS), id));
        }
        while self.graves.len() > MOST_BURIED || self.graves.front().is_some_and(|(until, _)| *until <= now.unix_ms) {
            let Some((_, oldest)) = self.graves.pop_front() else { break };
            self.buried.remove(&oldest);
        }
    }

    /// Nothing of any lease is still to come.
    #[cfg(test)]
    pub(in crate::ledger) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.due.is_empty()
    }

    pub(super) fn is_buried(&self, id: LeaseId) -> bool {
        self.buried.contains(&id)
    }
}

impl State {
    /// Adds a lease of which `before` stands in its counters.
    pub(super) fn insert_lease(&mut self, now: Now, lease: Lease, before: &Standing) {
        let stands = Standing::leased(&lease.account);
        self.counters.replace(now, &lease.holds, before, &stands);
        let (id, due_ms) = (lease.id, lease.due_ms());
        let saved = Saved { closed: lease.account.closed.is_some(), expired: lease.account.expired };
        self.leases.due.insert((due_ms, id));
        self.leases.live.insert(id, Entry { lease, stands, saved, unsaved: BTreeMap::new(), due_ms });
    }

    /// Its account has changed: all of its counters follow. `due_ms` is when to look at it next.
    pub(super) fn restate(&mut self, now: Now, id: LeaseId, due_ms: u64) {
        let Some(entry) = self.leases.live.get_mut(&id) else { return };
        let stands = Standing::leased(&entry.lease.account);
        self.counters.replace(now, &entry.lease.holds, &entry.stands, &stands);
        self.leases.due.remove(&(entry.due_ms, id));
        self.leases.due.insert((due_ms, id));
        (entry.stands, entry.due_ms) = (stands, due_ms);
    }

    /// Forgets a lease; what stands of it in its counters stays.
    pub(super) fn forget_lease(&mut self, now: Now, id: LeaseId) {
        if let Some(entry) = self.leases.live.remove(&id) {
            self.leases.due.remove(&(entry.due_ms, id));
            self.leases.bury(now, id);
        }
    }
}

impl Lease {
    /// When to look at it next, once the store has what is known of it.
    pub(super) fn due_ms(&self) -> u64 {
        if self.account.expired { self.forget_ms() } else { self.over_ms() }
    }
}
