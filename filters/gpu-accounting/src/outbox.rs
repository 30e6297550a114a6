//! What one Envoy worker has to tell the service: grants under way, settlements, refusals that Envoy made alone.
//!
//! Bounded, sans-I/O. Nothing is forgotten before the service said that it is durable: a failed report is sent again,
//! the service tells repeats apart. When the queues are full the newest refusal is dropped and counted; a settlement
//! that does not fit is dropped too, and its reservation becomes spend by itself when the longest stream has passed.

use std::collections::{BTreeSet, VecDeque};

use gateway_core::gate::{Refusal, Settlement, SyncRequest};

/// Greatest number of settlements kept, and of refusals.
pub const QUEUE: usize = 8192;
/// Greatest number of each sent in one report.
pub const BATCH: usize = 512;
/// Reports without news after which a worker goes quiet: the service needs two to see that a grant never arrived.
const QUIET_AFTER: u32 = 10;
/// A quiet worker still reports at every so many ticks.
const QUIET_EVERY: u32 = 20;

/// One worker's outbox.
#[derive(Debug, Default)]
pub struct Outbox {
    held: BTreeSet<Vec<u8>>,
    settlements: VecDeque<Settlement>,
    refusals: VecDeque<Refusal>,
    refused_at: VecDeque<u64>,
    refusals_lost: u64,
    next_refusal: u64,
    sequence: u64,
    sent: Option<Sent>,
    served: bool,
    idle_ticks: u32,
}

/// What the report under way holds of each queue.
#[derive(Debug)]
struct Sent {
    settlements: usize,
    refusals: usize,
    lost: u64,
}

impl Outbox {
    /// A granted request has arrived at this worker.
    pub fn hold(&mut self, grant_id: &[u8]) {
        self.news();
        self.held.insert(grant_id.to_vec());
    }

    /// A granted request has ended.
    pub fn settle(&mut self, grant_id: &[u8], settlement: Settlement) {
        self.news();
        self.held.remove(grant_id);
        if self.settlements.len() < QUEUE {
            self.settlements.push_back(settlement);
        }
    }

    /// Envoy refused a request and the service does not know.
    pub fn refuse(&mut self, refusal: Refusal, now_ms: u64) {
        self.news();
        if self.refusals.len() >= QUEUE {
            self.refusals_lost = self.refusals_lost.saturating_add(1);
            return;
        }
        self.next_refusal = self.next_refusal.saturating_add(1);
        self.refusals.push_back(Refusal { sequence: self.next_refusal, ..refusal });
        self.refused_at.push_back(now_ms);
    }

    /// The report to send at this tick, if there is one to send: one at a time, `None` while one is under way, before
    /// the worker has served anything, and most of the time when there is no news.
    pub fn report(&mut self, proxy: &str, worker: &[u8], now_ms: u64) -> Option<SyncRequest> {
        if self.sent.is_some() || !self.served {
            return None;
        }
        let pending = !self.held.is_empty() || !self.settlements.is_empty() || !self.refusals.is_empty();
        if !pending {
            self.idle_ticks = self.idle_ticks.saturating_add(1);
            if self.idle_ticks > QUIET_AFTER && !self.idle_ticks.is_multiple_of(QUIET_EVERY) {
                return None;
            }
        }
        self.sequence = self.sequence.saturating_add(1);
        let settlements: Vec<_> = self.settlements.iter().take(BATCH).cloned().collect();
        let refusals: Vec<_> = self
            .refusals
            .iter()
            .zip(&self.refused_at)
            .take(BATCH)
            .map(|(refusal, at)| Refusal { age_ms: now_ms.saturating_sub(*at), ..refusal.clone() })
            .collect();
        self.sent = Some(Sent { settlements: settlements.len(), refusals: refusals.len(), lost: self.refusals_lost });
        Some(SyncRequest {
            proxy: proxy.to_owned(),
            worker: worker.to_vec().into(),
            sequence: self.sequence,
            module_version: env!("CARGO_PKG_VERSION").to_owned(),
            held: self.held.iter().map(|id| id.clone().into()).collect(),
            settlements,
            refusals,
            refusals_lost: self.refusals_lost,
            ..SyncRequest::default()
        })
    }

    /// The service has answered the report under way: what it held is durable, or (`durable` false) is sent again.
    pub fn answered(&mut self, durable: bool) {
        let Some(sent) = self.sent.take().filter(|_| durable) else { return };
        self.settlements.drain(..sent.settlements.min(self.settlements.len()));
        self.refusals.drain(..sent.refusals.min(self.refusals.len()));
        self.refused_at.drain(..sent.refusals.min(self.refused_at.len()));
        self.refusals_lost = self.refusals_lost.saturating_sub(sent.lost);
    }

    /// Whether there is more to say than the report under way.
    #[must_use]
    pub fn has_settlements(&self) -> bool {
        self.sent.is_none() && !self.settlements.is_empty()
    }

    fn news(&mut self) {
        self.served = true;
        self.idle_ticks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Refusal {
        Refusal { status: 503, details: "ext_authz_error".into(), ..Refusal::default() }
    }

    #[test]
    fn a_worker_that_serves_nothing_says_nothing() {
        assert_eq!(Outbox::default().report("edge", b"w", 0), None);
    }

    #[test]
    fn what_was_not_answered_is_sent_again() {
        let mut outbox = Outbox::default();
        outbox.hold(b"a");
        outbox.settle(b"a", Settlement { status: 200, ..Settlement::default() });
        outbox.refuse(refusal(), 10);
        let first = outbox.report("edge", b"w", 25).unwrap();
        assert_eq!((first.settlements.len(), first.refusals[0].age_ms, first.refusals[0].sequence), (1, 15, 1));
        assert_eq!(outbox.report("edge", b"w", 30), None, "one at a time");
        outbox.answered(false);
        let again = outbox.report("edge", b"w", 40).unwrap();
        assert_eq!((again.settlements, again.refusals[0].sequence), (first.settlements, 1));
        outbox.refuse(refusal(), 41);
        outbox.answered(true);
        let rest = outbox.report("edge", b"w", 50).unwrap();
        assert_eq!((rest.settlements.len(), rest.refusals.len(), rest.refusals[0].sequence), (0, 1, 2));
    }

    #[test]
    fn a_full_queue_counts_what_it_drops() {
        let mut outbox = Outbox::default();
        for _ in 0..QUEUE + 3 {
            outbox.refuse(refusal(), 0);
        }
        let report = outbox.report("edge", b"w", 0).unwrap();
        assert_eq!((report.refusals.len(), report.refusals_lost), (BATCH, 3));
        outbox.refuse(refusal(), 0);
        outbox.answered(true);
        assert_eq!(outbox.report("edge", b"w", 0).unwrap().refusals_lost, 1, "what was lost meanwhile stays counted");
    }

    #[test]
    fn held_grants_are_listed_until_they_end_and_quiet_comes_slowly() {
        let mut outbox = Outbox::default();
        outbox.hold(b"a");
        assert_eq!(outbox.report("edge", b"w", 0).unwrap().held.len(), 1);
        outbox.answered(true);
        outbox.settle(b"a", Settlement::default());
        assert!(outbox.report("edge", b"w", 0).unwrap().held.is_empty());
        outbox.answered(true);
        let heard = (0..1000)
            .filter(|_| {
                let report = outbox.report("edge", b"w", 0).is_some();
                outbox.answered(true);
                report
            })
            .count();
        assert!((12..=70).contains(&heard), "{heard}");
    }
}
