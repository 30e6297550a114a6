//! The end of a reservation: undone, settled, or turned into spend because nobody settled it; and what late
//! settlements still change.

use gateway_core::gate::Cost;
use gateway_core::price::Terms;

use super::entry::{Phase, Standing, State};
use super::{GrantId, Ledger, Now};

/// A settlement whose commit was neither confirmed nor repeated is handed to the store again after this long.
const RESAVE_MS: u64 = 10_000;
/// Counters are swept at most this often.
const SWEEP_MS: u64 = 10_000;

/// A settlement to make durable, then to [`Ledger::confirm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settled {
    /// What was reserved.
    pub reserved: Cost,
    /// What is charged.
    pub charge: Cost,
    /// It came after the reservation was undone, or had become spend.
    pub late: bool,
}

/// What the store has to note as spend, then to be [`Ledger::confirm`]ed: a reservation that nobody settled, or one whose
/// settlement nobody confirmed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expired {
    /// Which.
    pub id: GrantId,
    /// What is charged.
    pub charge: Cost,
}

impl Ledger {
    /// Gives everything back, as if the reservation had never been made. For requests that were never answered; a
    /// settled or expired one stays. Returns whether there was something to undo.
    pub fn undo(&self, now: Now, id: GrantId) -> bool {
        let now = self.at(now);
        let mut state = self.lock();
        let open = state.entries.get(&id).is_some_and(|entry| entry.phase == Phase::Open);
        if open {
            state.turn(now, id, Phase::Undone, Standing::default(), 0);
            state.forget(id);
        }
        open
    }

    /// The terms on which `proxy` may settle the grant: it made the reservation, and no settlement is durable yet.
    #[must_use]
    pub fn terms(&self, id: GrantId, proxy: &str) -> Option<Terms> {
        self.lock().entries.get(&id).filter(|entry| &*entry.proxy == proxy).map(|entry| entry.terms.clone())
    }

    /// Replaces what was reserved by `charge`, in the window it was reserved in, and ends the request; an over-run is
    /// debt in that window. Counts once: `None` when the id is unknown or its settlement confirmed. A repeat before
    /// [`Self::confirm`] is answered with the first settlement, to be stored again (the store ignores repeats).
    pub fn settle(&self, now: Now, id: GrantId, charge: Cost) -> Option<Settled> {
        let now = self.at(now);
        let mut state = self.lock();
        let entry = state.entries.get(&id)?;
        let (reserved, phase) = (entry.reserved, entry.phase);
        if phase == Phase::Settled {
            return Some(Settled { reserved, charge: entry.stands.settled(), late: false });
        }
        let due_ms = now.unix_ms.saturating_add(RESAVE_MS);
        state.turn(now, id, Phase::Settled, Standing::spent(charge), due_ms);
        drop(state);
        Some(Settled { reserved, charge, late: phase != Phase::Open })
    }

    /// The store has the settlement or the expiry: a settled reservation is forgotten, an expired one kept for
    /// corrections.
    pub fn confirm(&self, id: GrantId) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&id) else { return };
        match entry.phase {
            Phase::Settled => state.forget(id),
            Phase::Expired { .. } => entry.phase = Phase::Expired { saved: true },
            Phase::Open | Phase::Undone => {}
        }
    }

    /// Reservations whose end is not durable yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.lock().entries.values().filter(|entry| matches!(entry.phase, Phase::Open | Phase::Settled)).count()
    }

    /// Turns reservations older than their longest stream into spend, and drops what has had its day: undone and
    /// expired ones another longest stream later, idle counters. To be called about once a second.
    ///
    /// Returns what the store has to note; what is not confirmed is returned again ten seconds later.
    pub fn expire(&self, now: Now) -> Vec<Expired> {
        let now = self.at(now);
        let mut state = self.lock();
        let mut expired = Vec::new();
        let due: Vec<GrantId> =
            state.due.iter().take_while(|(due_ms, _)| *due_ms <= now.unix_ms).map(|(_, id)| *id).collect();
        for id in due {
            if !state.look_at(now, id, &mut expired) {
                state.forget(id);
            }
        }
        if now.unix_ms >= state.swept_ms.saturating_add(SWEEP_MS) {
            state.swept_ms = now.unix_ms;
            state.counters.sweep(now);
            state.presence.sweep(now);
        }
        expired
    }
}

impl State {
    /// An entry is due: moves it on and sets when to look again, or returns that it can be forgotten.
    fn look_at(&mut self, now: Now, id: GrantId, expired: &mut Vec<Expired>) -> bool {
        let Some(entry) = self.entries.get(&id) else { return false };
        let again_ms = now.unix_ms.saturating_add(RESAVE_MS);
        let charge = match entry.phase {
            Phase::Open => entry.reserved,
            Phase::Expired { saved: false } | Phase::Settled => entry.stands.settled(),
            Phase::Undone => return false,
            Phase::Expired { saved: true } => {
                let (stands, end_ms) = (entry.stands, entry.forget_ms());
                self.turn(now, id, entry.phase, stands, end_ms);
                return end_ms > now.unix_ms;
            }
        };
        let phase = if entry.phase == Phase::Settled { Phase::Settled } else { Phase::Expired { saved: false } };
        expired.push(Expired { id, charge });
        self.turn(now, id, phase, Standing::spent(charge), again_ms);
        true
    }
}
