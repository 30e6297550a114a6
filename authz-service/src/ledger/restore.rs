//! Coming back from the store after a restart, and reporting what stands.

use std::sync::Arc;

use gateway_core::name::TenantName;
use gateway_core::price::Terms;
use jiff::tz::TimeZone;

use super::counter::{BadKey, CounterKey, Hold};
use super::entry::{Entry, Phase, Standing};
use super::rate::Rate;
use super::{Ledger, LimitState, Now, Reservation, ReservationState};
use crate::registry::{Limit, Scope};

/// What the store knows of one window of one budget, or of one rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowTotal {
    /// [`CounterKey::to_text`].
    pub key: String,
    /// Start of the window, milliseconds since 1970; 0 for a rate.
    pub start_ms: u64,
    /// Its end; for a rate, when it is whole again.
    pub end_ms: u64,
    /// Σ settled; 0 for a rate.
    pub settled: u64,
}

impl Ledger {
    /// Takes over what the store kept, into a ledger that has served nothing yet. Open reservations come back armed:
    /// their requests may still be under way, so they end by settlement or become spend.
    ///
    /// # Errors
    /// [`BadKey`] when a text names no counter: the store is not one of this program's.
    pub fn restore(
        &self,
        now: Now,
        windows: &[WindowTotal],
        reservations: impl IntoIterator<Item = (Reservation, Terms)>,
    ) -> Result<(), BadKey> {
        let now = self.at(now);
        let mut state = self.lock();
        for total in windows {
            let key = Arc::new(CounterKey::parse(&total.key)?);
            if key.pace().is_some() {
                state.counters.rates.insert(key, Rate::restore(total.end_ms));
                continue;
            }
            let used = state.counters.budgets.entry(key).or_default().entry(total.start_ms).or_default();
            used.end_ms = total.end_ms;
            used.settled = u128::from(total.settled);
        }
        for (kept, terms) in reservations {
            let (phase, stands) = match kept.state {
                ReservationState::Open => (Phase::Open, Standing::reserved(kept.reserved)),
                ReservationState::Undone => (Phase::Undone, Standing::default()),
                ReservationState::Expired => (Phase::Expired { saved: true }, Standing::spent(kept.charged)),
            };
            if kept.state == ReservationState::Open {
                state.counters.replace(now, &kept.holds, &Standing::default(), &stands);
            }
            let order = state.presence.next();
            let mut entry = Entry {
                phase,
                stands,
                holds: kept.holds,
                reserved: kept.reserved,
                terms,
                proxy: Arc::from(kept.proxy),
                armed: true,
                order,
                created_ms: kept.created_ms,
                longest_stream: kept.longest_stream,
                due_ms: 0,
            };
            entry.due_ms = if phase == Phase::Open { entry.over_ms() } else { entry.forget_ms() };
            state.insert(kept.id, entry);
        }
        Ok(())
    }

    /// Where the tenant-wide limits of a plan stand, for reports.
    #[must_use]
    pub fn usage(&self, now: Now, tenant: &TenantName, time_zone: &TimeZone, limits: &[Limit]) -> Vec<LimitState> {
        let now = self.at(now);
        let state = self.lock();
        let wide = limits.iter().filter(|limit| limit.scope == Scope::Tenant);
        wide.map(|limit| state.counters.state(now, limit, &Hold::of_tenant(limit, tenant, time_zone, now))).collect()
    }
}
