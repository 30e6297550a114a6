//! What one Envoy worker has to tell the service: grants under way, settlements, leases that ended, refusals that Envoy
//! made alone.
//!
//! Bounded, sans-I/O. Nothing is forgotten before the service said that it is durable: a failed report is sent again,
//! the service tells repeats apart. When the queues are full the newest refusal is dropped and counted; a settlement
//! that does not fit is dropped too, and its reservation becomes spend by itself when the longest stream has passed: a
//! leased one too, for it stays among what its lease admitted. The end of a lease that does not fit is dropped, and what
//! the lease did not admit becomes spend, not free budget.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

use gateway_core::gate::{Closed, Refusal, Settlement, SyncRequest};

/// Greatest number of settlements kept, of refusals, and of leases that ended.
pub const QUEUE: usize = 8192;
/// Greatest number of settlements, and of refusals, sent in one report.
pub const BATCH: usize = 512;
/// Greatest number of leases that ended in one report: as many as one call may ask for anew.
pub const BATCH_CLOSED: usize = crate::leases::MAX_NEEDS;
/// Reports without news after which a worker goes quiet: the service needs two to see that a grant never arrived.
const QUIET_AFTER: u32 = 10;
/// A quiet worker still reports at every so many ticks.
const QUIET_EVERY: u32 = 20;

/// One worker's outbox.
#[derive(Debug, Default)]
pub struct Outbox {
    held: BTreeSet<Vec<u8>>,
    settlements: VecDeque<Settlement>,
    closed: VecDeque<Closed>,
    refusals: VecDeque<Refusal>,
    refused_at: VecDeque<u64>,
    refusals_lost: u64,
    next_refusal: u64,
    sequence: u64,
    sent: Option<Sent>,
    served: bool,
    urgent: bool,
    idle_ticks: u32,
}

/// Who reports, and when.
#[derive(Clone, Copy, Debug)]
pub struct Reporter<'a> {
    /// The proxy's id.
    pub proxy: &'a str,
    /// The worker's, random per VM.
    pub worker: &'a [u8],
    /// The last that an answer told; 0: none.
    pub epoch: u64,
    /// The caller's clock, in milliseconds.
    pub now_ms: u64,
    /// The worker holds grants for later requests, and must hear of revocations: it reports at every tick.
    pub keep_alive: bool,
}

/// What the report under way holds of each queue.
#[derive(Debug)]
struct Sent {
    settlements: usize,
    closed: usize,
    refusals: usize,
    lost: u64,
}

impl Outbox {
    /// A granted request with a reservation of its own has arrived at this worker (profile `portable`).
    pub fn hold(&mut self, grant_id: &[u8]) {
        self.news();
        self.held.insert(grant_id.to_vec());
    }

    /// A granted request with a reservation of its own has ended.
    pub fn settle(&mut self, grant_id: &[u8], settlement: Settlement) {
        self.held.remove(grant_id);
        self.settle_leased(settlement);
    }

    /// A request that was admitted out of a lease has ended.
    pub fn settle_leased(&mut self, settlement: Settlement) {
        self.news();
        if self.settlements.len() < QUEUE {
            self.settlements.push_back(settlement);
        }
    }

    /// Leases from which nothing new is started any more, each said once.
    pub fn close(&mut self, closed: Vec<Closed>) {
        if !closed.is_empty() {
            self.news();
        }
        let room = QUEUE.saturating_sub(self.closed.len());
        self.closed.extend(closed.into_iter().take(room));
    }

    /// Somebody may be waiting for what was settled last: the next report is due now, not at the tick.
    pub fn hurry(&mut self) {
        self.urgent = true;
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
    /// the worker has served anything, and most of the time when there is no news and nothing to keep alive.
    pub fn report(&mut self, by: &Reporter<'_>) -> Option<SyncRequest> {
        if self.sent.is_some() || !(self.served || by.keep_alive) {
            return None;
        }
        if self.held.is_empty() && !self.has_news() && !by.keep_alive {
            self.idle_ticks = self.idle_ticks.saturating_add(1);
            if self.idle_ticks > QUIET_AFTER && !self.idle_ticks.is_multiple_of(QUIET_EVERY) {
                return None;
            }
        }
        self.report_for_lease(by)
    }

    /// The report in front of a call for leases: there is one, news or not, unless another is under way. It is answered
    /// like any other.
    pub fn report_for_lease(&mut self, by: &Reporter<'_>) -> Option<SyncRequest> {
        if self.sent.is_some() {
            return None;
        }
        self.served = true;
        self.sequence = self.sequence.saturating_add(1);
        let settlements: Vec<_> = self.settlements.iter().take(BATCH).cloned().collect();
        let refusals: Vec<_> = self
            .refusals
            .iter()
            .zip(&self.refused_at)
            .take(BATCH)
            .map(|(refusal, at)| Refusal { age_ms: by.now_ms.saturating_sub(*at), ..refusal.clone() })
            .collect();
        let closed: Vec<_> = self.closed.iter().take(BATCH_CLOSED).cloned().collect();
        self.urgent &= self.settlements.len() > BATCH;
        self.sent = Some(Sent {
            settlements: settlements.len(),
            closed: closed.len(),
            refusals: refusals.len(),
            lost: self.refusals_lost,
        });
        Some(SyncRequest {
            proxy: by.proxy.to_owned(),
            worker: by.worker.to_vec().into(),
            sequence: self.sequence,
            module_version: env!("CARGO_PKG_VERSION").to_owned(),
            held: self.held.iter().map(|id| id.clone().into()).collect(),
            settlements,
            refusals,
            refusals_lost: self.refusals_lost,
            epoch: by.epoch,
            closed,
        })
    }

    /// The service has answered the report under way: what it held is durable, or (`durable` false) is sent again.
    pub fn answered(&mut self, durable: bool) {
        let Some(sent) = self.sent.take().filter(|_| durable) else { return };
        self.settlements.drain(..sent.settlements.min(self.settlements.len()));
        self.closed.drain(..sent.closed.min(self.closed.len()));
        self.refusals.drain(..sent.refusals.min(self.refusals.len()));
        self.refused_at.drain(..sent.refusals.min(self.refused_at.len()));
        self.refusals_lost = self.refusals_lost.saturating_sub(sent.lost);
    }

    /// Whether there is anything to say that the service has not confirmed, the grants under way aside.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.settlements.is_empty() || !self.closed.is_empty() || !self.refusals.is_empty()
    }

    /// Whether a report is due before the next tick, once the last one was taken: somebody may be waiting for it, or more
    /// has come together than one report takes. After a failure the tick is soon enough.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        let full = self.settlements.len() >= BATCH || self.refusals.len() >= BATCH || self.closed.len() >= BATCH_CLOSED;
        self.sent.is_none() && (self.urgent || full)
    }

    fn news(&mut self) {
        self.served = true;
        self.idle_ticks = 0;
    }
}
