//! One lease and the requests admitted out of it. Never admits beyond the amount, and nothing once it is over.

use std::rc::Rc;

use gateway_core::gate::{Closed, Cost, Counts, Leased, Lent, LimitState, Refill};

use super::amount::{fits, rest, sum};

/// Twelve random bytes, then four zeroes.
pub(super) type LeaseId = [u8; 16];

/// A lease is never used for longer, in milliseconds, whatever its answer says.
const LONGEST_LEASE_MS: u64 = 5_000;

/// A slice of the budget of one scope set and model.
#[derive(Debug)]
pub(super) struct Lease {
    id: LeaseId,
    amount: Cost,
    reserved: Cost,
    admitted: u32,
    /// 0: any number.
    rate_tokens: u64,
    expires_ms: u64,
    settle_at_once: bool,
    pub(super) standing: Rc<Standing>,
}

/// Where limits stood when a lease was lent, all of it taken.
#[derive(Debug, PartialEq)]
pub(super) struct Standing {
    limits: Vec<LimitState>,
    at_ms: u64,
}

/// One admitted request. There is no second one with its id, and it cannot be copied.
#[derive(Debug, PartialEq)]
#[must_use = "an admitted request is settled"]
pub struct Ticket {
    lease: LeaseId,
    number: u32,
    reserved: Cost,
    settle_at_once: bool,
    pub(super) set: Rc<str>,
    pub(super) standing: Rc<Standing>,
}

impl Lease {
    /// As the service lent it; `amount` has been checked against the needs it serves.
    pub(super) fn new(id: LeaseId, lent: Lent, amount: Cost, now_ms: u64) -> Self {
        Self {
            id,
            amount,
            reserved: Cost::default(),
            admitted: 0,
            rate_tokens: lent.rate_tokens,
            expires_ms: now_ms.saturating_add(u64::from(lent.expires_in_ms).min(LONGEST_LEASE_MS)),
            settle_at_once: lent.settle_at_once,
            standing: Rc::new(Standing { limits: lent.limits, at_ms: now_ms }),
        }
    }

    /// Admits one request of the set, if there is enough.
    pub(super) fn admit(&mut self, need: &Cost, set: &Rc<str>, now_ms: u64) -> Option<Ticket> {
        if self.is_over(now_ms) || !fits(need, &self.left()) {
            return None;
        }
        let (reserved, number) = (sum(&self.reserved, need)?, self.admitted.checked_add(1)?);
        (self.reserved, self.admitted) = (reserved, number);
        Some(Ticket {
            lease: self.id,
            number,
            reserved: *need,
            settle_at_once: self.settle_at_once,
            set: Rc::clone(set),
            standing: Rc::clone(&self.standing),
        })
    }

    /// Whether nothing more can be admitted.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.expires_ms || self.left().requests == 0 || self.admitted == u32::MAX
    }

    /// Whether requests that ended have used up the post-paid rate that it was lent under.
    pub(super) fn is_past_rate(&self, used_tokens: u64) -> bool {
        self.rate_tokens != 0 && used_tokens >= self.rate_tokens
    }

    pub(super) fn left(&self) -> Cost {
        rest(&self.amount, &self.reserved)
    }

    /// Its end, as the service is told.
    pub(super) fn closed(&self) -> Closed {
        Closed { lease: self.id.to_vec().into(), admitted: self.admitted, reserved: Some(self.reserved) }
    }
}

impl Standing {
    /// With what is unused given back. Rates but those of requests are paid afterwards: of them nothing was taken.
    pub(super) fn now(&self, unused: &Cost, now_ms: u64) -> Vec<LimitState> {
        let age_ms = now_ms.saturating_sub(self.at_ms);
        let limits = self.limits.iter().map(|limit| {
            let back = match (limit.counts(), limit.refill()) {
                (Counts::Requests, _) => unused.requests,
                (_, Refill::Rate) | (Counts::Unspecified, _) => 0,
                (Counts::GpuMs, _) => unused.gpu_ms,
                (Counts::Tokens, _) => unused.tokens,
                (Counts::MicroUsd, _) => unused.micro_usd,
            };
            LimitState {
                left: limit.left.saturating_add(back).min(limit.amount),
                reset_after_ms: limit.reset_after_ms.saturating_sub(age_ms),
                ..limit.clone()
            }
        });
        limits.collect()
    }
}

impl Ticket {
    /// The request's own id in ledger and audit log: the lease's twelve random bytes, then the number, big-endian.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        let mut id = self.lease;
        for (byte, digit) in id.iter_mut().skip(12).zip(self.number.to_be_bytes()) {
            *byte = digit;
        }
        id
    }

    /// What was taken for it.
    #[must_use]
    pub const fn reserved(&self) -> Cost {
        self.reserved
    }

    /// Whether somebody may be waiting for what it gives back: its end is to be reported now.
    #[must_use]
    pub const fn settle_at_once(&self) -> bool {
        self.settle_at_once
    }

    /// What its settlement says of it.
    #[must_use]
    pub fn leased(&self, request_id: &str, model: &str, input_estimate: u64) -> Leased {
        Leased {
            lease: self.lease.to_vec().into(),
            number: self.number,
            request_id: request_id.to_owned(),
            model: model.to_owned(),
            reserved: Some(self.reserved),
            input_estimate,
        }
    }
}
