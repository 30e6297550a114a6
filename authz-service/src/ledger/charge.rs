//! Charges that have no reservation: what somebody else let through and measured, and what of it is given back.
//!
//! They go through the same counters under the same lock; a charge that passes a limit becomes debt, as a settlement does.

use gateway_core::gate::Cost;

use super::counter::Hold;
use super::entry::Standing;
use super::{Ledger, LimitState, Now, Refused, Subject};

/// A charge was made, or taken back.
#[derive(Clone, Debug)]
pub struct Charged {
    /// Where every limit stands now.
    pub states: Vec<LimitState>,
    /// The counters that it stands in, for the store.
    pub holds: Vec<Hold>,
}

impl Ledger {
    /// Charges `cost`, whatever is left; with `fits`, only if that much is left of every limit, requests in flight
    /// included.
    ///
    /// # Errors
    /// [`Refused`] by the limit that binds longest; nothing is changed then.
    pub fn charge(&self, now: Now, subject: &Subject<'_>, fits: Option<&Cost>, cost: Cost) -> Result<Charged, Refused> {
        let now = self.at(now);
        let bound = subject.bound(now);
        let holds = subject.holds(now, &bound);
        let mut state = self.lock();
        if let Some(refused) = fits.and_then(|fits| state.counters.refused(now, &bound, fits)) {
            return Err(refused);
        }
        state.counters.replace(now, &holds, &Standing::default(), &Standing::spent(cost));
        Ok(Charged { states: state.counters.states(now, &bound), holds })
    }

    /// Takes back what was charged at `then`, in the windows of that time; never below nothing.
    pub fn refund(&self, now: Now, subject: &Subject<'_>, then: Now, cost: Cost) -> Charged {
        let now = self.at(now);
        let bound = subject.bound(now);
        let holds = subject.holds(then, &subject.bound(then));
        let mut state = self.lock();
        state.counters.replace(now, &holds, &Standing::spent(cost), &Standing::default());
        Charged { states: state.counters.states(now, &bound), holds }
    }
}
