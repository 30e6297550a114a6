//! The four integers of a cost, one at a time. Sums are kept in 128 bits, where no number of 64-bit costs overflows.

use gateway_core::gate::Cost;

use crate::registry::Counts;

/// The part of a cost that a limit counts, in that limit's unit.
#[must_use]
pub fn amount_of(cost: &Cost, counts: Counts) -> u64 {
    match counts {
        Counts::GpuMs => cost.gpu_ms,
        Counts::Tokens => cost.tokens,
        Counts::MicroUsd => cost.micro_usd,
        Counts::Requests => cost.requests,
    }
}

/// `sum - from + to`; never below zero.
pub(super) fn replace(sum: u128, from: u64, to: u64) -> u128 {
    sum.saturating_add(u128::from(to)).saturating_sub(u128::from(from))
}

/// What is left of `amount`, 0 in debt.
pub(super) fn left(amount: u64, used: u128) -> u64 {
    u64::try_from(u128::from(amount).saturating_sub(used)).unwrap_or(amount)
}
