//! The record of budgets, rates, requests in flight and reservations: all limits of a request at once, under one lock.
//!
//! Pure and in memory: no clock, no I/O. Time is an argument ([`Now`]); what must survive a restart is handed out
//! ([`Reservation`], [`Hold`]) for the store to keep, and comes back through [`Ledger::restore`].
//! Time never runs backwards in here: an earlier `now` than the latest one seen counts as that latest one, so that a
//! clock set back opens no second window.

#![deny(clippy::arithmetic_side_effects)]

mod admission;
mod amounts;
mod charge;
mod counter;
mod entry;
mod lease;
mod presence;
mod rate;
mod restore;
mod settlement;
#[cfg(test)]
mod tests;
mod window;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway_core::name::{ModelName, TenantName};
use jiff::tz::TimeZone;

use crate::registry::{Counts, Limit, Refill, Watch};

pub use amounts::amount_of;
pub use charge::Charged;
pub use counter::{BadKey, CounterKey, Hold};
pub use entry::{Reservation, ReservationState};
pub use lease::{Account, Asked, Holder, Lease, LeaseId, Lent, Taken};
pub use presence::Synced;
pub(crate) use rate::{Pace, Rate};
pub use restore::WindowTotal;
pub use settlement::{Expired, Settled};
#[cfg(test)]
pub(crate) use tests::terms as test_terms;

/// The caller's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: u64,
}

/// Names a grant and its reservation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantId(pub [u8; 16]);

/// Who and what a request is, as limits count it, and the limits that bind it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Whose budget.
    pub tenant: &'a TenantName,
    /// Zone of its calendar windows.
    pub time_zone: &'a TimeZone,
    /// Which principal of the tenant.
    pub principal: &'a str,
    /// The API key, where the credential is one.
    pub key_id: Option<&'a str>,
    /// Canonical model.
    pub model: &'a ModelName,
    /// The plan's limits.
    pub limits: &'a [Limit],
    /// The key's own limits: each counts what this key does, within its scope.
    pub key_limits: &'a [Limit],
    /// What is counted beside them.
    pub watched: &'a [Watch],
    /// After this a reservation that was never settled becomes spend.
    pub longest_stream: Duration,
}

/// Where one limit stands, as answers tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// Name of the limit.
    pub name: String,
    /// What it counts.
    pub counts: Counts,
    /// How it comes back.
    pub refill: Refill,
    /// The greatest amount.
    pub amount: u64,
    /// What is left of it; 0 also in debt.
    pub left: u64,
    /// Until it is whole again: the window turns, the rate has refilled. Zero for requests in flight.
    pub reset_after: Duration,
}

/// A reservation was made.
#[derive(Clone, Debug)]
pub struct Reserved {
    /// Where every limit stands now, this request included.
    pub states: Vec<LimitState>,
    /// What the store must keep before the request goes on.
    pub reservation: Reservation,
}

/// No reservation was made: the limit that bound, the one with the longest wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which limit.
    pub limit: Limit,
    /// What is left of it.
    pub left: u64,
    /// When the same request may be admitted; `None`: never, it is larger than the limit. One second where what is
    /// missing is only reserved or in flight, and so may come back at any time.
    pub retry_after: Option<Duration>,
    /// What kind of limit.
    pub kind: RefusedBy,
    /// Where every limit stands.
    pub states: Vec<LimitState>,
}

/// Kinds of limits, as denials tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// A budget.
    Budget,
    /// A rate.
    Rate,
    /// Requests in flight.
    InFlight,
}

/// The record itself; shared by reference.
#[derive(Debug, Default)]
pub struct Ledger {
    latest_ms: AtomicU64,
    state: Mutex<entry::State>,
}

impl Ledger {
    /// The latest time seen, `now` included.
    fn at(&self, now: Now) -> Now {
        Now { unix_ms: self.latest_ms.fetch_max(now.unix_ms, Ordering::Relaxed).max(now.unix_ms) }
    }

    /// Nothing in here panics with the lock held; were it to, every single counter would still be whole.
    fn lock(&self) -> MutexGuard<'_, entry::State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn plus(self, duration: Duration) -> u64 {
        self.unix_ms.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    fn until(self, unix_ms: u64) -> Duration {
        Duration::from_millis(unix_ms.saturating_sub(self.unix_ms))
    }
}

impl std::fmt::Debug for GrantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
