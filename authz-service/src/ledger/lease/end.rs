//! The end of a lease: its requests settle one by one, its holder closes it, or it turns into spend because nobody did;
//! and what late words still change.

use gateway_core::gate::Cost;
use gateway_core::price::ModelCost;

use super::entry::{Entry, Saved};
use super::{Account, Holder, Lease, LeaseId};
use crate::ledger::entry::Standing;
use crate::ledger::{Ledger, Now, Settled};

/// A lease whose end was not confirmed is handed to the store again after this long.
const RESAVE_MS: u64 = 10_000;

/// What a holder reads of its lease before it settles on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// Whose budget it is of.
    pub tenant: String,
    /// The scope set that it was lent to.
    pub scope_set: String,
    /// Canonical model.
    pub model: String,
    /// The price of its requests.
    pub cost: ModelCost,
}

impl Ledger {
    /// What a settlement on the lease is judged and priced by; its holder alone may know.
    #[must_use]
    pub fn lease_terms(&self, id: LeaseId, holder: &Holder) -> Option<Taken> {
        let state = self.lock();
        let Lease { tenant, scope_set, model, cost, .. } =
            state.leases.live.get(&id).map(|entry| &entry.lease).filter(|lease| lease.holder == *holder)?;
        Some(Taken { tenant: tenant.clone(), scope_set: scope_set.clone(), model: model.clone(), cost: cost.clone() })
    }

    /// Replaces what request `number` took of the lease by `charge`; what goes beyond either is debt. Counts once: `None`
    /// when the lease is not known or another's, or the settlement confirmed. A repeat before
    /// [`Self::confirm_settled`] is answered with the first settlement, to be stored again (the store ignores repeats).
    pub fn settle_leased(
        &self,
        now: Now,
        id: LeaseId,
        holder: &Holder,
        number: u32,
        reserved: Cost,
        charge: Cost,
    ) -> Option<Settled> {
        let now = self.at(now);
        let mut state = self.lock();
        let entry = state.leases.live.get_mut(&id).filter(|entry| entry.lease.holder == *holder)?;
        let late = entry.lease.account.expired;
        if entry.lease.settled.contains(&number) {
            return None;
        }
        if let Some((reserved, charge)) = entry.unsaved.get(&number).copied() {
            return Some(Settled { reserved, charge, late });
        }
        entry.unsaved.insert(number, (reserved, charge));
        entry.lease.account.end(&reserved, &charge);
        let due_ms = entry.due_ms;
        state.restate(now, id, due_ms);
        Some(Settled { reserved, charge, late })
    }

    /// Its holder starts nothing new: what `taken` does not hold goes back. Returns where it stands, to be
    /// stored, also at a repeat, which changes nothing; `None` where it is another's or not known. One that is not known
    /// will never be lent.
    pub fn close_lease(&self, now: Now, id: LeaseId, holder: &Holder, taken: Cost) -> Option<Account> {
        let now = self.at(now);
        let mut state = self.lock();
        let Some(entry) = state.leases.live.get_mut(&id) else {
            state.leases.bury(now, id);
            return None;
        };
        if entry.lease.holder != *holder {
            return None;
        }
        if entry.lease.account.closed.is_none() {
            entry.lease.account.closed = Some(taken);
            // Who closes it lives: what it has under way is only spend once that has gone on for too long.
            entry.lease.account.expired = entry.lease.over_ms() <= now.unix_ms;
            let due_ms = entry.lease.due_ms();
            state.restate(now, id, due_ms);
        }
        state.leases.live.get(&id).map(|entry| entry.lease.account)
    }

    /// The store has the settlement.
    pub fn confirm_settled(&self, now: Now, id: LeaseId, number: u32) {
        self.confirm_lease(now, id, |entry| {
            if entry.unsaved.remove(&number).is_some() {
                entry.lease.settled.insert(number);
            }
        });
    }

    /// The store knows that it is closed.
    pub fn confirm_closed(&self, now: Now, id: LeaseId) {
        self.confirm_lease(now, id, |entry| {
            let account = &entry.lease.account;
            entry.saved = Saved { closed: account.closed.is_some(), expired: account.expired };
        });
    }

    /// The store knows that it is spent.
    pub fn confirm_expired(&self, now: Now, id: LeaseId) {
        self.confirm_lease(now, id, |entry| entry.saved.expired = entry.lease.account.expired);
    }

    /// A lease of which the store has everything is forgotten.
    fn confirm_lease(&self, now: Now, id: LeaseId, change: impl FnOnce(&mut Entry)) {
        let now = self.at(now);
        let mut state = self.lock();
        let Some(entry) = state.leases.live.get_mut(&id) else { return };
        change(entry);
        if entry.is_done() {
            state.forget_lease(now, id);
        }
    }

    /// Turns into spend what is open of leases that nobody closed, or whose requests have gone on for too long; and drops
    /// those that nothing corrects any more. To be called about once a second.
    ///
    /// Returns what the store has to note; what is not confirmed is returned again ten seconds later.
    pub fn expire_leases(&self, now: Now) -> Vec<LeaseId> {
        let now = self.at(now);
        let mut state = self.lock();
        let mut expired = Vec::new();
        let due: Vec<LeaseId> =
            state.leases.due.iter().take_while(|(due_ms, _)| *due_ms <= now.unix_ms).map(|(_, id)| *id).collect();
        for id in due {
            let Some(entry) = state.leases.live.get_mut(&id) else { continue };
            let again_ms = if entry.lease.account.expired && entry.saved.expired {
                entry.lease.forget_ms()
            } else {
                (entry.lease.account.expired, entry.saved.expired) = (true, false);
                expired.push(id);
                now.unix_ms.saturating_add(RESAVE_MS)
            };
            if again_ms > now.unix_ms {
                state.restate(now, id, again_ms);
            } else {
                state.forget_lease(now, id);
            }
        }
        expired
    }

    /// Takes over the leases that the store kept, after [`Self::restore`]. What they have spent counts already.
    pub fn restore_leases(&self, now: Now, leases: impl IntoIterator<Item = Lease>) {
        let now = self.at(now);
        let mut state = self.lock();
        for lease in leases {
            let spent = Standing::spent(lease.account.spent());
            state.insert_lease(now, lease, &spent);
        }
    }
}
