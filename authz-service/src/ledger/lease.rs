//! Leases: slices of budgets lent to one worker, and what has become of each in sums.
//!
//! A lease is taken from every counter when it is lent, ahead of the requests that will use it. What stands of it in its
//! counters follows from its [`Account`] alone, here and in the store, so that both always agree.

mod end;
mod entry;
mod lend;

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_core::gate::Cost;
use gateway_core::price::ModelCost;

use super::{GrantId, Hold, LimitState, Now, Refused};

pub use end::Taken;
pub(super) use entry::Leases;

/// Nothing new is started from a lease this long after it was lent.
const LIFE: Duration = Duration::from_secs(5);
/// A lease that nobody closed becomes spend this long after its end.
const GRACE: Duration = Duration::from_secs(10);

/// Names a lease: 12 random bytes, made by the worker that asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId([u8; 12]);

/// The one that a lease was lent to. Only its word counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The proxy.
    pub proxy: String,
    /// Its worker.
    pub worker: [u8; 16],
}

/// What a lease was and where it stands: what the store keeps, so that a crash never understates spend.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Who has it.
    pub holder: Holder,
    /// Whose budget it is of.
    pub tenant: String,
    /// Requests of this scope set alone may settle on it.
    pub scope_set: String,
    /// Canonical model.
    pub model: String,
    /// The price of its requests.
    pub cost: ModelCost,
    /// Requests that waited for it and were served.
    pub served: u32,
    /// Nothing new once ended requests have used this many tokens; 0: no such limit.
    pub rate_tokens: u64,
    /// Nothing new is started after this, milliseconds since 1970.
    pub expires_ms: u64,
    /// After this a request of it that was never settled becomes spend.
    pub longest_stream: Duration,
    /// Its sums.
    pub account: Account,
    /// Numbers of the requests whose settlements are durable.
    pub settled: BTreeSet<u32>,
    /// The counters it was taken from.
    pub holds: Vec<Hold>,
}

/// A lease in sums. In each amount, `requests` is how many requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Account {
    /// What was lent.
    pub lent: Cost,
    /// What requests took of it; known once it is closed.
    pub closed: Option<Cost>,
    /// What those of them took that have ended.
    pub ended: Cost,
    /// What these were charged.
    pub charged: Cost,
    /// What may be under way counts as spent.
    pub expired: bool,
}

/// A wish for a lease.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The lease's id, if it comes to be.
    pub id: LeaseId,
    /// Who asks.
    pub holder: &'a Holder,
    /// The scope set.
    pub scope_set: &'a str,
    /// Costs of the requests that wait, in their order.
    pub needs: &'a [Cost],
    /// What is wished for beyond them; `requests` counts too.
    pub extra: Cost,
    /// The price of its requests.
    pub cost: &'a ModelCost,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Lent {
    /// How many needs are within `amount`, from the first on.
    pub served: u32,
    /// Lent, in all of the subject's limits; zero: nothing.
    pub amount: Cost,
    /// Nothing new is started this long after the answer.
    pub expires_in: Duration,
    /// Nothing new once ended requests have used this many tokens; 0: no such limit.
    pub rate_tokens: u64,
    /// Where the subject's limits stand, `amount` taken.
    pub states: Vec<LimitState>,
    /// Why the first need that was not served was refused by a limit.
    pub refused: Option<Refused>,
    /// What the store must keep before the answer.
    pub record: Option<Lease>,
}

impl LeaseId {
    /// From the wire: 16 bytes, the last four zero.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (id, number) = bytes.split_first_chunk::<12>()?;
        (number == [0; 4]).then_some(Self(*id))
    }

    /// The id of its request with that number, from 1; 0 stands for the lease itself.
    #[must_use]
    pub fn request(self, number: u32) -> GrantId {
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(self.0.into_iter().chain(number.to_be_bytes())) {
            *to = from;
        }
        GrantId(id)
    }
}

impl Account {
    /// What has been charged so far, and counts in the windows and on the rates as spent.
    #[must_use]
    pub fn spent(&self) -> Cost {
        if self.expired { sum(&self.charged, &self.open()) } else { self.charged }
    }

    /// What may still be spent: lent, or known to have been taken, by requests that have not ended.
    #[must_use]
    pub fn open(&self) -> Cost {
        if self.is_over() {
            return Cost::default();
        }
        let taken = self.closed.unwrap_or(self.lent);
        Cost {
            tokens: taken.tokens.saturating_sub(self.ended.tokens),
            gpu_ms: taken.gpu_ms.saturating_sub(self.ended.gpu_ms),
            micro_usd: taken.micro_usd.saturating_sub(self.ended.micro_usd),
            requests: taken.requests.saturating_sub(self.ended.requests),
        }
    }

    /// One request that took `reserved` has ended and is charged.
    pub fn end(&mut self, reserved: &Cost, charge: &Cost) {
        self.ended = sum(&self.ended, &Cost { requests: 1, ..*reserved });
        self.charged = sum(&self.charged, charge);
    }

    /// Whether every request of it is known and has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.closed.is_some_and(|taken| taken.requests <= self.ended.requests)
    }
}

impl Lease {
    /// When what is open of it becomes spend, milliseconds since 1970.
    #[must_use]
    pub fn over_ms(&self) -> u64 {
        let longest = if self.account.closed.is_some() { self.longest_stream } else { GRACE };
        Now { unix_ms: self.expires_ms }.plus(longest)
    }

    /// When nothing corrects that any more: another longest stream later.
    fn forget_ms(&self) -> u64 {
        Now { unix_ms: self.over_ms() }.plus(self.longest_stream)
    }
}

/// Both together; what is too much for 64 bits stays the greatest amount.
fn sum(one: &Cost, other: &Cost) -> Cost {
    Cost {
        tokens: one.tokens.saturating_add(other.tokens),
        gpu_ms: one.gpu_ms.saturating_add(other.gpu_ms),
        micro_usd: one.micro_usd.saturating_add(other.micro_usd),
        requests: one.requests.saturating_add(other.requests),
    }
}

impl std::fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
