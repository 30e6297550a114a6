//! Reserving: every limit of a request at once, all or nothing.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::gate::Cost;
use gateway_core::name::TenantName;
use gateway_core::price::Terms;
use jiff::tz::TimeZone;

use super::counter::{Hold, Refilled};
use super::entry::{Counters, Entry, Phase, Standing};
use super::rate::Rate;
use super::{
    GrantId, Ledger, LimitState, Now, Refused, RefusedBy, Reservation, ReservationState, Reserved, Subject, amount_of,
};
use crate::registry::{Counts, Limit, Watch};

/// How long to wait for what is only reserved or in flight: it may come back at any time.
const MAY_COME_BACK: Duration = Duration::from_secs(1);

impl Ledger {
    /// Takes `reserved` from every budget of the subject, counts the request as in flight and checks that no rate is
    /// in debt; all or nothing. At its return Σ outstanding + Σ settled ≤ amount in every window it was taken from.
    /// The id must be new: a known one keeps its first reservation, and the repeat is answered with where limits stand.
    ///
    /// # Errors
    /// [`Refused`] names the limit that binds longest; nothing is changed then.
    #[allow(clippy::too_many_arguments, reason = "the walk's contract: each is one fact of the request")]
    pub fn reserve(
        &self,
        now: Now,
        id: GrantId,
        subject: &Subject<'_>,
        reserved: Cost,
        terms: Terms,
        proxy: &str,
    ) -> Result<Reserved, Refused> {
        let now = self.at(now);
        let bound = subject.bound(now);
        let mut entry = Entry {
            phase: Phase::Open,
            stands: Standing::reserved(reserved),
            holds: subject.holds(now, &bound),
            reserved,
            terms,
            proxy: Arc::from(proxy),
            armed: false,
            order: 0,
            created_ms: now.unix_ms,
            longest_stream: subject.longest_stream,
            due_ms: now.plus(subject.longest_stream),
        };
        let reservation = entry.to_reservation(id, subject.model.as_str());

        let mut state = self.lock();
        if !state.entries.contains_key(&id) {
            if let Some(refused) = state.counters.refused(now, &bound, &reserved) {
                return Err(refused);
            }
            state.counters.replace(now, &entry.holds, &Standing::default(), &entry.stands);
            entry.order = state.presence.next();
            state.insert(id, entry);
        }
        Ok(Reserved { states: state.counters.states(now, &bound), reservation })
    }

    /// What of a watch's window is spent, or reserved and so may be.
    #[must_use]
    pub fn spent(&self, now: Now, watch: &Watch, tenant: &TenantName, zone: &TimeZone, principal: &str) -> u64 {
        let now = self.at(now);
        let hold = Hold::watched(watch, tenant, principal, zone, now);
        let used = self.lock().counters.window(&hold);
        u64::try_from(used.outstanding.saturating_add(used.settled)).unwrap_or(u64::MAX)
    }

    /// Where the subject's limits stand, without reserving.
    #[must_use]
    pub fn peek(&self, now: Now, subject: &Subject<'_>) -> Vec<LimitState> {
        let now = self.at(now);
        let bound = subject.bound(now);
        self.lock().counters.states(now, &bound)
    }
}

/// Why one limit refuses.
struct Verdict {
    kind: RefusedBy,
    left: u64,
    wait: Option<Duration>,
}

impl Subject<'_> {
    /// Every limit with the counter it counts in.
    pub(super) fn bound(&self, now: Now) -> Vec<(&Limit, Hold)> {
        let plan = self.limits.iter().map(|limit| (limit, Hold::new(limit, self, false, now)));
        plan.chain(self.key_limits.iter().map(|limit| (limit, Hold::new(limit, self, true, now)))).collect()
    }

    /// The counters of these limits and of what is watched. Those over the same thing share one, which is taken from
    /// once.
    pub(super) fn holds(&self, now: Now, bound: &[(&Limit, Hold)]) -> Vec<Hold> {
        let watched = |watch| Hold::watched(watch, self.tenant, self.principal, self.time_zone, now);
        let mut holds: Vec<Hold> = Vec::with_capacity(bound.len().saturating_add(self.watched.len()));
        for hold in bound.iter().map(|(_, hold)| hold.clone()).chain(self.watched.iter().map(watched)) {
            if !holds.contains(&hold) {
                holds.push(hold);
            }
        }
        holds
    }
}

impl Entry {
    fn to_reservation(&self, id: GrantId, model: &str) -> Reservation {
        Reservation {
            id,
            state: ReservationState::Open,
            proxy: self.proxy.as_ref().to_owned(),
            model: model.to_owned(),
            created_ms: self.created_ms,
            longest_stream: self.longest_stream,
            reserved: self.reserved,
            charged: Cost::default(),
            input_estimate: self.terms.input_estimate,
            holds: self.holds.clone(),
        }
    }
}

impl Counters {
    pub(super) fn states(&self, now: Now, bound: &[(&Limit, Hold)]) -> Vec<LimitState> {
        bound.iter().map(|(limit, hold)| self.state(now, limit, hold)).collect()
    }

    /// By the limit that refuses `cost` for the longest time.
    pub(super) fn refused(&self, now: Now, bound: &[(&Limit, Hold)], cost: &Cost) -> Option<Refused> {
        let refusing = bound.iter().filter_map(|(limit, hold)| Some((*limit, self.refuses(now, limit, hold, cost)?)));
        let (limit, verdict) = refusing.max_by(|(_, a), (_, b)| longer(a.wait, b.wait))?;
        let (kind, left, retry_after) = (verdict.kind, verdict.left, verdict.wait);
        Some(Refused { limit: limit.clone(), left, retry_after, kind, states: self.states(now, bound) })
    }

    fn refuses(&self, now: Now, limit: &Limit, hold: &Hold, cost: &Cost) -> Option<Verdict> {
        let left = || self.state(now, limit, hold).left;
        match hold.key.refill() {
            Refilled::Window(_) => {
                let (used, asked) = (self.window(hold), u128::from(amount_of(cost, limit.counts)));
                let amount = u128::from(limit.amount);
                if used.outstanding.saturating_add(used.settled).saturating_add(asked) <= amount {
                    return None;
                }
                let wait = if asked > amount {
                    None
                } else if used.settled.saturating_add(asked) <= amount {
                    Some(MAY_COME_BACK)
                } else {
                    Some(now.until(hold.end_ms))
                };
                Some(Verdict { kind: RefusedBy::Budget, left: left(), wait })
            }
            Refilled::Rate { .. } => {
                let asked = if limit.counts == Counts::Requests { cost.requests.max(1) } else { 1 };
                let (pace, left) = (hold.key.pace()?, left());
                if left >= asked {
                    return None;
                }
                let wait = self
                    .rates
                    .get(&hold.key)
                    .map_or_else(|| Rate::default().wait(now, pace, asked), |rate| rate.wait(now, pace, asked));
                Some(Verdict { kind: RefusedBy::Rate, left, wait })
            }
            Refilled::InFlight if self.in_flight(hold) < limit.amount => None,
            Refilled::InFlight => Some(Verdict { kind: RefusedBy::InFlight, left: 0, wait: Some(MAY_COME_BACK) }),
        }
    }
}

/// Never is longest.
fn longer(a: Option<Duration>, b: Option<Duration>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(&b),
    }
}
