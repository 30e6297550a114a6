//! One post-paid rate: GCRA on governor's state, read before a request and charged when its cost is known.
//!
//! governor's own limiter refuses a charge above the burst; here such a charge becomes debt, which delays the next
//! request (`reference/deps.md` §0.5). The theoretical arrival time counts nanoseconds since 1970.

use std::time::Duration;

use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore as _};

use super::Now;

/// Where a rate stands.
#[derive(Default)]
pub(crate) struct Rate(InMemoryState);

/// How much comes back in which time; the burst is the whole amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) amount: u64,
    pub(crate) per: Duration,
}

impl Rate {
    /// What may be spent at once now; 0 in debt.
    pub(crate) fn left(&self, now: Now, pace: Pace) -> u64 {
        let free = pace.per_ns().saturating_sub(self.backlog_ns(now));
        let left = free.saturating_mul(u128::from(pace.amount)).checked_div(pace.per_ns());
        left.and_then(|left| u64::try_from(left).ok()).unwrap_or(0)
    }

    /// Until `n` may be spent at once; `None`: never.
    pub(crate) fn wait(&self, now: Now, pace: Pace, n: u64) -> Option<Duration> {
        if n > pace.amount {
            return None;
        }
        let needed = u128::from(n).saturating_mul(pace.per_ns()).div_ceil(u128::from(pace.amount.max(1)));
        Some(nanos(self.backlog_ns(now).saturating_add(needed).saturating_sub(pace.per_ns())))
    }

    /// Until all of it is back.
    pub(super) fn full_after(&self, now: Now) -> Duration {
        nanos(self.backlog_ns(now))
    }

    /// Takes back what `from` had charged and charges `to`, whatever is left.
    pub(crate) fn replace(&self, now: Now, pace: Pace, from: u64, to: u64) {
        let now = now_ns(now);
        let _: Result<(), ()> = self.0.measure_and_replace(&NotKeyed::NonKey, |tat| {
            let tat = tat.map_or(0, Nanos::as_u64);
            let moved = match to.checked_sub(from) {
                Some(0) => return Err(()),
                Some(more) => tat.max(now).saturating_add(pace.interval_ns(more)),
                None => tat.saturating_sub(pace.interval_ns(from.saturating_sub(to))),
            };
            Ok(((), Nanos::new(moved)))
        });
    }

    /// Whether forgetting it changes nothing.
    pub(crate) fn is_idle(&self, now: Now) -> bool {
        self.backlog_ns(now) == 0
    }

    /// As it stands after a restart: whole again at `whole_ms`.
    pub(super) fn restore(whole_ms: u64) -> Self {
        let rate = Self::default();
        let tat = Nanos::new(whole_ms.saturating_mul(1_000_000));
        let _: Result<(), ()> = rate.0.measure_and_replace(&NotKeyed::NonKey, |_| Ok(((), tat)));
        rate
    }

    fn backlog_ns(&self, now: Now) -> u128 {
        let read: Result<(), u64> =
            self.0.measure_and_replace(&NotKeyed::NonKey, |tat| Err(tat.map_or(0, Nanos::as_u64)));
        u128::from(read.err().unwrap_or(0).saturating_sub(now_ns(now)))
    }
}

impl Pace {
    /// Time in which `n` come back, rounded up to milliseconds.
    pub(super) fn time_of(self, n: u64) -> Duration {
        if n == 0 { Duration::ZERO } else { nanos(u128::from(self.interval_ns(n))) }
    }

    fn per_ns(self) -> u128 {
        self.per.as_nanos().max(1)
    }

    /// Time in which `n` come back: rounded down, so that a whole burst fits; at least a nanosecond.
    fn interval_ns(self, n: u64) -> u64 {
        let exact = u128::from(n).saturating_mul(self.per_ns()).checked_div(u128::from(self.amount));
        exact.and_then(|ns| u64::try_from(ns).ok()).unwrap_or(u64::MAX).max(1)
    }
}

impl std::fmt::Debug for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rate({})", self.backlog_ns(Now { unix_ms: 0 }))
    }
}

fn now_ns(now: Now) -> u64 {
    now.unix_ms.saturating_mul(1_000_000)
}

/// Rounded up to a whole millisecond: nobody is told to come back too early.
fn nanos(ns: u128) -> Duration {
    Duration::from_millis(u64::try_from(ns.div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Now = Now { unix_ms: 1_790_000_000_000 };

    fn later(ms: u64) -> Now {
        Now { unix_ms: T0.unix_ms.saturating_add(ms) }
    }

    #[test]
    fn debt_delays_the_next_request_and_is_never_forgiven() {
        let (rate, pace) = (Rate::default(), Pace { amount: 100, per: Duration::from_secs(10) });
        assert_eq!((rate.left(T0, pace), rate.wait(T0, pace, 100)), (100, Some(Duration::ZERO)));
        rate.replace(T0, pace, 0, 300);
        assert_eq!(rate.left(T0, pace), 0);
        assert_eq!(rate.wait(T0, pace, 1), Some(Duration::from_millis(20_100)));
        assert_eq!(rate.full_after(T0), Duration::from_secs(30));
        assert_eq!((rate.left(later(20_099), pace), rate.left(later(20_100), pace)), (0, 1));
        assert!(!rate.is_idle(later(29_999)) && rate.is_idle(later(30_000)));
    }

    #[test]
    fn what_is_taken_back_is_as_if_never_charged() {
        let (rate, pace) = (Rate::default(), Pace { amount: 7, per: Duration::from_secs(1) });
        rate.replace(T0, pace, 0, 3);
        rate.replace(T0, pace, 3, 0);
        assert_eq!(rate.left(T0, pace), 7);
    }

    #[test]
    fn a_burst_is_exactly_the_amount_whatever_the_rounding() {
        for amount in [1, 3, 6, 7, 999_999, 1_000_003] {
            let (rate, pace) = (Rate::default(), Pace { amount, per: Duration::from_secs(1) });
            let steps = amount.min(50);
            (0..steps).for_each(|_| rate.replace(T0, pace, 0, 1));
            assert_eq!(rate.left(T0, pace), amount - steps, "{amount}");
        }
    }

    #[test]
    fn extremes_neither_panic_nor_admit() {
        let none = Pace { amount: 0, per: Duration::ZERO };
        let rate = Rate::default();
        assert_eq!((rate.left(T0, none), rate.wait(T0, none, 1)), (0, None));
        rate.replace(T0, none, 0, u64::MAX);
        rate.replace(Now { unix_ms: u64::MAX }, Pace { amount: 1, per: Duration::MAX }, 0, u64::MAX);
        assert_eq!(rate.left(T0, Pace { amount: u64::MAX, per: Duration::from_secs(1) }), 0);
    }
}
