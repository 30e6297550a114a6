//! A flat list of what was done to leases, and what follows from it by adding up: nothing of the ledger's own arithmetic.

use super::*;

/// Something that was done.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Lent { lease: LeaseId, amount: Cost, expires_ms: u64 },
    Settled { lease: LeaseId, number: u32, reserved: Cost, charge: Cost },
    Closed { lease: LeaseId, taken: Cost, expired: bool },
    Expired { lease: LeaseId },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    lines: BTreeMap<LeaseId, Line>,
}

#[derive(Clone, Debug)]
struct Line {
    lent: Cost,
    expires_ms: u64,
    closed: Option<Cost>,
    expired: bool,
    settled: BTreeMap<u32, (Cost, Cost)>,
}

impl Book {
    pub(super) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Lent { lease, amount, expires_ms } => {
                let (closed, settled) = (None, BTreeMap::new());
                let line = Line { lent: *amount, expires_ms: *expires_ms, closed, expired: false, settled };
                self.lines.entry(*lease).or_insert(line);
            }
            Entry::Settled { lease, number, reserved, charge } => {
                if let Some(line) = self.lines.get_mut(lease) {
                    line.settled.entry(*number).or_insert((*reserved, *charge));
                }
            }
            Entry::Closed { lease, taken, expired } => {
                if let Some(line) = self.lines.get_mut(lease) {
                    line.closed.get_or_insert(*taken);
                    line.expired = *expired;
                }
            }
            Entry::Expired { lease } => {
                if let Some(line) = self.lines.get_mut(lease) {
                    line.expired = true;
                }
            }
        }
    }

    pub(super) fn has(&self, lease: LeaseId, number: u32) -> bool {
        self.lines.get(&lease).is_some_and(|line| line.settled.contains_key(&number))
    }

    /// Whether a lease that is closed at `now` has become spend.
    pub(super) fn expires_at_close(&self, lease: LeaseId, now: Now, longest_ms: u64) -> bool {
        let Some(line) = self.lines.get(&lease) else { return false };
        if line.closed.is_some() { line.expired } else { line.expires_ms + longest_ms <= now.unix_ms }
    }

    /// Leases that should have become spend by now, and have not.
    pub(super) fn overdue(&self, now: Now, longest_ms: u64) -> Vec<LeaseId> {
        let over = |line: &Line| {
            let wait = if line.closed.is_some() { longest_ms } else { 10_000 };
            !line.expired && line.open().requests > 0 && line.expires_ms + wait <= now.unix_ms
        };
        self.lines.iter().filter(|(_, line)| over(line)).map(|(id, _)| *id).collect()
    }

    /// What is spent or may be, and how many requests are under way, over those leases that `of` picks.
    pub(super) fn used(&self, counts: Counts, of: impl Fn(LeaseId) -> bool) -> (u64, u64) {
        let lines = self.lines.iter().filter(|(id, _)| of(**id)).map(|(_, line)| line);
        lines.fold((0, 0), |(used, under_way), line| {
            let charged: u64 = line.settled.values().map(|(_, charge)| amount_of(charge, counts)).sum();
            let open = line.open();
            let counted = if line.expired { 0 } else { open.requests };
            (used + charged + amount_of(&open, counts), under_way + counted)
        })
    }
}

impl Line {
    /// Of what was lent, or known to be taken, what has not ended.
    fn open(&self) -> Cost {
        let taken = self.closed.unwrap_or(self.lent);
        let ended = u64::try_from(self.settled.len()).unwrap();
        if self.closed.is_some() && ended >= taken.requests {
            return Cost::default();
        }
        let sum = |part: fn(&Cost) -> u64| self.settled.values().map(|(reserved, _)| part(reserved)).sum::<u64>();
        Cost {
            tokens: taken.tokens.saturating_sub(sum(|cost| cost.tokens)),
            gpu_ms: taken.gpu_ms.saturating_sub(sum(|cost| cost.gpu_ms)),
            micro_usd: taken.micro_usd.saturating_sub(sum(|cost| cost.micro_usd)),
            requests: taken.requests.saturating_sub(ended),
        }
    }
}
