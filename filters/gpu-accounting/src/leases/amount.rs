//! The four integers of a cost, one at a time. Never wraps: a sum that does not fit is none, or the greatest there is.

use gateway_core::gate::Cost;

/// Whether `need` is within `left` in every dimension.
pub(super) fn fits(need: &Cost, left: &Cost) -> bool {
    need.tokens <= left.tokens
        && need.gpu_ms <= left.gpu_ms
        && need.micro_usd <= left.micro_usd
        && need.requests <= left.requests
}

/// Both together; `None` where that does not fit 64 bits.
pub(super) fn sum(a: &Cost, b: &Cost) -> Option<Cost> {
    Some(Cost {
        tokens: a.tokens.checked_add(b.tokens)?,
        gpu_ms: a.gpu_ms.checked_add(b.gpu_ms)?,
        micro_usd: a.micro_usd.checked_add(b.micro_usd)?,
        requests: a.requests.checked_add(b.requests)?,
    })
}

/// What is left of `amount`.
pub(super) fn rest(amount: &Cost, used: &Cost) -> Cost {
    zip(amount, used, u64::saturating_sub)
}

/// One number of each pair.
pub(super) fn zip(a: &Cost, b: &Cost, of: impl Fn(u64, u64) -> u64) -> Cost {
    Cost {
        tokens: of(a.tokens, b.tokens),
        gpu_ms: of(a.gpu_ms, b.gpu_ms),
        micro_usd: of(a.micro_usd, b.micro_usd),
        requests: of(a.requests, b.requests),
    }
}
