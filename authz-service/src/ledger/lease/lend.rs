//! Lending: the longest run of needs that fits every limit, and where all of them fit, a little ahead.

use std::time::Duration;

use gateway_core::gate::Cost;

use super::{Account, Asked, LIFE, Lease, Lent, sum};
use crate::ledger::entry::{Counters, Standing, State};
use crate::ledger::{Hold, Ledger, Now, Subject, amount_of};
use crate::registry::{Counts, Limit, Refill};

/// What is lent ahead is at most this part of what is left of each limit.
const AHEAD: u64 = 16;
/// The greatest amount of a lease: what a column of the state file holds.
const MOST: u64 = i64::MAX.unsigned_abs();

/// The subject's limits, each with the counter that it counts in.
type Bound<'a> = Vec<(&'a Limit, Hold)>;

impl Ledger {
    /// Lends to the needs of `asked` in their order, each as [`Ledger::reserve`] would admit it, up to the first that a
    /// limit refuses. Where all fit, `extra` is lent too, scaled down in whole requests to a sixteenth of what is left
    /// of each limit. At its return Σ outstanding + Σ settled ≤ amount in every window that was taken from.
    ///
    /// A repeat is answered as the first was; an id that was closed, or is another holder's, is lent nothing.
    pub fn lend(&self, now: Now, asked: &Asked<'_>, subject: &Subject<'_>) -> Lent {
        let now = self.at(now);
        let bound = subject.bound(now);
        let mut state = self.lock();
        if let Some(known) = state.leases.live.get(&asked.id) {
            let lease = (known.lease.holder == *asked.holder && known.lease.account.closed.is_none())
                .then(|| known.lease.clone());
            return state.repeated(now, asked, &bound, lease);
        }
        if state.leases.is_buried(asked.id) {
            return Lent { states: state.counters.states(now, &bound), ..Lent::default() };
        }
        let holds = subject.holds(now, &bound);
        let (mut account, mut lent) = (Account::default(), Lent::default());
        for need in asked.needs {
            let need = Cost { requests: 1, ..*need };
            lent.refused = state.counters.refused(now, &bound, &need);
            if lent.refused.is_some() || !state.counters.take(now, &holds, &mut account, &need) {
                break;
            }
            lent.served = lent.served.saturating_add(1);
        }
        if asked.needs.len() == usize::try_from(lent.served).unwrap_or(usize::MAX) {
            let ahead = state.counters.ahead(now, &bound, &asked.extra);
            state.counters.take(now, &holds, &mut account, &ahead);
        }
        lent.states = state.counters.states(now, &bound);
        if account.lent.requests == 0 {
            return lent;
        }
        let lease = Lease {
            id: asked.id,
            holder: asked.holder.clone(),
            tenant: subject.tenant.to_string(),
            scope_set: asked.scope_set.to_owned(),
            model: subject.model.to_string(),
            cost: asked.cost.clone(),
            served: lent.served,
            rate_tokens: rate_tokens(&lent),
            expires_ms: expires_ms(now, &holds),
            longest_stream: subject.longest_stream,
            account,
            settled: std::collections::BTreeSet::new(),
            holds,
        };
        state.insert_lease(now, lease.clone(), &Standing::leased(&account));
        lent.of(now, lease)
    }
}

impl Lent {
    /// What is told of a lease at `now`.
    fn of(self, now: Now, lease: Lease) -> Self {
        Self {
            served: lease.served,
            amount: lease.account.lent,
            expires_in: now.until(lease.expires_ms),
            rate_tokens: lease.rate_tokens,
            record: Some(lease),
            ..self
        }
    }
}

impl Default for Lent {
    /// Nothing.
    fn default() -> Self {
        Self {
            served: 0,
            amount: Cost::default(),
            expires_in: Duration::ZERO,
            rate_tokens: 0,
            states: Vec::new(),
            refused: None,
            record: None,
        }
    }
}

impl State {
    /// The answer to a repeat; `None` where there is nothing to be told of the lease.
    fn repeated(&self, now: Now, asked: &Asked<'_>, bound: &Bound<'_>, lease: Option<Lease>) -> Lent {
        let first = lease.as_ref().map_or(0, |lease| lease.served);
        let next = usize::try_from(first).ok().and_then(|first| asked.needs.get(first));
        let refused = next.and_then(|need| self.counters.refused(now, bound, &Cost { requests: 1, ..*need }));
        let lent = Lent { states: self.counters.states(now, bound), refused, ..Lent::default() };
        match lease {
            Some(lease) => lent.of(now, lease),
            None => lent,
        }
    }
}

impl Counters {
    /// Takes one more amount for a lease. False, and nothing is taken, where the lease would be too large to be kept.
    fn take(&mut self, now: Now, holds: &[Hold], account: &mut Account, more: &Cost) -> bool {
        let lent = sum(&account.lent, more);
        if [lent.tokens, lent.gpu_ms, lent.micro_usd, lent.requests].into_iter().any(|amount| amount > MOST) {
            return false;
        }
        let grown = Account { lent, ..*account };
        self.replace(now, holds, &Standing::leased(account), &Standing::leased(&grown));
        *account = grown;
        true
    }

    /// As much of `extra`, in whole requests, as leaves the greatest part of every limit to others.
    fn ahead(&self, now: Now, bound: &Bound<'_>, extra: &Cost) -> Cost {
        let of_limit = |(limit, hold): &(&Limit, Hold)| {
            let left = self.state(now, limit, hold).left;
            let most = left.checked_div(AHEAD).unwrap_or(0);
            match (limit.refill, limit.counts) {
                (Refill::InFlight, _) | (Refill::Rate(_), Counts::Requests) => most,
                (Refill::Rate(_), _) => {
                    if left == 0 {
                        0
                    } else {
                        u64::MAX
                    }
                }
                (Refill::Window(_), counts) => requests_within(extra, amount_of(extra, counts), most),
            }
        };
        let requests = bound.iter().map(of_limit).min().unwrap_or(u64::MAX).min(extra.requests);
        let part = |amount: u64| {
            let part = u128::from(amount).saturating_mul(u128::from(requests));
            part.checked_div(u128::from(extra.requests)).and_then(|part| u64::try_from(part).ok()).unwrap_or(0)
        };
        Cost {
            tokens: part(extra.tokens),
            gpu_ms: part(extra.gpu_ms),
            micro_usd: part(extra.micro_usd),
            requests: part(extra.requests),
        }
    }
}

/// How many of the requests of `extra`, which together need `amount`, need at most `most`.
fn requests_within(extra: &Cost, amount: u64, most: u64) -> u64 {
    let within = u128::from(most).saturating_mul(u128::from(extra.requests)).checked_div(u128::from(amount));
    within.map_or(u64::MAX, |within| u64::try_from(within).unwrap_or(u64::MAX))
}

/// The least that a rate of tokens has left: such a rate is charged when requests have ended.
fn rate_tokens(lent: &Lent) -> u64 {
    let rates =
        lent.states.iter().filter(|state| matches!(state.refill, Refill::Rate(_)) && state.counts == Counts::Tokens);
    rates.map(|state| state.left).min().unwrap_or(0)
}

/// Five seconds from now, or when the first of its windows turns.
fn expires_ms(now: Now, holds: &[Hold]) -> u64 {
    let turns = holds.iter().filter(|hold| hold.end_ms > 0).map(|hold| hold.end_ms);
    turns.fold(now.plus(LIFE), u64::min)
}
