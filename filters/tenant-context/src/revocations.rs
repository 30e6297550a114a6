//! What a worker knows of revocations: those of the service's answers, and how old that knowledge is.
//!
//! Errs towards covering: what has been dropped, or was never told, voids grants that may be good; the service is asked
//! again about those. A grant read `epoch` before it was decided, and a revocation changes what decisions read before it
//! raises `epoch`: so a grant of an epoch below a revocation's may have missed it, and one of that epoch has not.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use gateway_core::gate::{Grant, Revocation, SyncResponse};

/// How old, in milliseconds, a worker's knowledge may be: it is as old as the sending of the last report that was
/// answered.
pub const FRESH_MS: u64 = 2_000;
/// Greatest number of revocations kept.
pub const MOST: usize = 4_096;

/// What one worker was told.
#[derive(Debug, Default)]
pub struct Revocations {
    /// The greatest that an answer told.
    epoch: u64,
    /// Grants below are void.
    floor: u64,
    /// No revocation kept is of a greater epoch.
    newest: u64,
    tenants: BTreeMap<String, Revoked>,
    /// Of `tenants`, and of their keys.
    kept: usize,
    under_way: Option<Report>,
    /// When the last report that was answered had been sent.
    synced_ms: Option<u64>,
    clock_ms: u64,
}

/// Of one tenant: epochs below which its grants are void, all of them or those of a key.
#[derive(Debug, Default)]
struct Revoked {
    whole: u64,
    keys: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Report {
    sequence: u64,
    sent_ms: u64,
}

/// What is known of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No revocation that is known voids it.
    Good,
    /// It is older than what is known: it may have been revoked.
    Unknown,
    /// It was revoked.
    Revoked,
}

impl Revocations {
    /// For the next report: the last epoch that an answer told; 0: none.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A report has left, by itself or in front of a lease's ask; there is one under way at most.
    pub fn sent(&mut self, sequence: u64, now_ms: u64) {
        self.watch(now_ms);
        self.under_way = Some(Report { sequence, sent_ms: now_ms });
    }

    /// The report under way has failed.
    pub fn failed(&mut self) {
        self.under_way = None;
    }

    /// An OK answer to a report. Its revocations hold whichever report it answers; it makes knowledge fresh only as the
    /// answer to the one under way, and never when the service has counted backwards or does not count.
    pub fn told(&mut self, answer: &SyncResponse) {
        let report = self.under_way.take_if(|report| report.sequence == answer.sequence);
        let (first, backwards) = (self.epoch == 0, answer.epoch < self.epoch && report.is_some());
        self.synced_ms = match report {
            Some(report) if answer.epoch > 0 && !backwards => Some(report.sent_ms),
            Some(_) => None,
            None => self.synced_ms,
        };
        // What came before the first answer is not in it; a count that was set back will reach its old values again.
        let unknown = if first { answer.epoch } else { self.epoch };
        self.raise(answer.floor.max(if first || backwards { unknown } else { 0 }));
        self.epoch = self.epoch.max(answer.epoch);
        for revocation in &answer.revocations {
            self.note(revocation);
        }
        while self.kept > MOST && self.shed() {}
    }

    /// Whether the last report that was answered had been sent no longer than [`FRESH_MS`] ago. A clock that went
    /// backwards makes everything old.
    pub fn fresh(&mut self, now_ms: u64) -> bool {
        self.watch(now_ms);
        self.synced_ms.is_some_and(|sent| now_ms.checked_sub(sent).is_some_and(|age| age <= FRESH_MS))
    }

    /// What is known of a grant.
    #[must_use]
    pub fn standing(&self, grant: &Grant) -> Standing {
        if grant.epoch < self.newest
            && self.tenants.get(&grant.tenant).is_some_and(|revoked| grant.epoch < revoked.below(&grant.key_id))
        {
            return Standing::Revoked;
        }
        if grant.epoch < self.floor { Standing::Unknown } else { Standing::Good }
    }

    /// Whether a grant is not to be used any more.
    #[must_use]
    pub fn covers(&self, grant: &Grant) -> bool {
        self.standing(grant) != Standing::Good
    }

    fn watch(&mut self, now_ms: u64) {
        if now_ms < self.clock_ms {
            (self.synced_ms, self.under_way) = (None, None);
        }
        self.clock_ms = now_ms;
    }

    fn note(&mut self, revocation: &Revocation) {
        let epoch = revocation.epoch;
        if revocation.tenant.is_empty() {
            return self.raise(epoch);
        }
        if epoch <= self.floor {
            return;
        }
        self.newest = self.newest.max(epoch);
        let revoked = self.tenants.entry(revocation.tenant.clone()).or_insert_with(|| {
            self.kept = self.kept.saturating_add(1);
            Revoked::default()
        });
        if revocation.key_id.is_empty() {
            revoked.whole = revoked.whole.max(epoch);
            return;
        }
        let key = revoked.keys.entry(revocation.key_id.clone()).or_insert_with(|| {
            self.kept = self.kept.saturating_add(1);
            0
        });
        *key = epoch.max(*key);
    }

    /// Voids everything below, and forgets what says no more than that.
    fn raise(&mut self, floor: u64) {
        if floor <= self.floor {
            return;
        }
        self.floor = floor;
        self.kept = 0;
        self.tenants.retain(|_, revoked| {
            revoked.keys.retain(|_, epoch| *epoch > floor.max(revoked.whole));
            let kept = revoked.whole > floor || !revoked.keys.is_empty();
            if kept {
                self.kept = self.kept.saturating_add(revoked.keys.len()).saturating_add(1);
            }
            kept
        });
    }

    /// Drops the older half: the floor covers what they did, and more. False: there was nothing to drop.
    fn shed(&mut self) -> bool {
        let mut epochs: Vec<u64> = self
            .tenants
            .values()
            .flat_map(|revoked| revoked.keys.values().copied().chain([revoked.whole]))
            .filter(|epoch| *epoch > self.floor)
            .collect();
        epochs.sort_unstable();
        let middle = epochs.get(epochs.len() / 2).copied();
        middle.map(|epoch| self.raise(epoch)).is_some()
    }
}

impl Revoked {
    /// Grants with this key id (none: empty) are void below.
    fn below(&self, key_id: &str) -> u64 {
        self.keys.get(key_id).map_or(self.whole, |epoch| self.whole.max(*epoch))
    }
}
