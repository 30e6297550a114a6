//! What a set spent in the last second: this second's sum, and the part of the one before that is not yet a second old, as
//! if it had been spent evenly. Integers only.

use gateway_core::gate::Cost;

use super::amount::zip;

const PERIOD_MS: u64 = 1_000;

/// A sliding sum.
#[derive(Debug, Default)]
pub(super) struct Spent {
    since_ms: u64,
    current: Cost,
    before: Cost,
}

impl Spent {
    pub(super) fn add(&mut self, cost: &Cost, now_ms: u64) {
        self.turn(now_ms);
        self.current = zip(&self.current, cost, u64::saturating_add);
    }

    pub(super) fn lately(&mut self, now_ms: u64) -> Cost {
        self.turn(now_ms);
        let fresh = PERIOD_MS.saturating_sub(now_ms.saturating_sub(self.since_ms));
        let part = |before: u64| {
            let scaled = u128::from(before).saturating_mul(u128::from(fresh)).div_ceil(u128::from(PERIOD_MS));
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        zip(&self.current, &self.before, |current, before| current.saturating_add(part(before)))
    }

    fn turn(&mut self, now_ms: u64) {
        match now_ms.checked_sub(self.since_ms).map(|ms| ms.checked_div(PERIOD_MS)) {
            Some(Some(0)) => {}
            Some(Some(1)) => {
                self.since_ms = self.since_ms.saturating_add(PERIOD_MS);
                self.before = std::mem::take(&mut self.current);
            }
            _ => *self = Self { since_ms: now_ms, ..Self::default() },
        }
    }
}
