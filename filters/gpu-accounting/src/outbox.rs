//! What one Envoy worker has to tell the service: grants under way, settlements, leases that ended, refusals that Envoy
//! made alone.
//!
//! Bounded, sans-I/O. Nothing is forgotten before the service said that it is durable: a failed report is sent again,
//! the service tells repeats apart. When the queues are full the newest refusal is dropped and counted; a settlement
//! that does not fit is dropped too, and its reservation becomes spend by itself when the longest stream has passed: a
//! leased one too, for it stays among what its lease admitted. The end of a lease that does not fit is dropped, and what
//! the lease did not admit becomes spend, not free budget.

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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now_ms: u64) -> Reporter<'static> {
        Reporter { proxy: "edge", worker: b"w", epoch: 7, now_ms, keep_alive: false }
    }

    fn refusal() -> Refusal {
        Refusal { status: 503, details: "ext_authz_error".into(), ..Refusal::default() }
    }

    #[test]
    fn a_worker_that_serves_nothing_says_nothing() {
        assert_eq!(Outbox::default().report(&at(0)), None);
    }

    #[test]
    fn what_was_not_answered_is_sent_again() {
        let mut outbox = Outbox::default();
        outbox.hold(b"a");
        outbox.settle(b"a", Settlement { status: 200, ..Settlement::default() });
        outbox.refuse(refusal(), 10);
        let first = outbox.report(&at(25)).unwrap();
        assert_eq!((first.settlements.len(), first.refusals[0].age_ms, first.refusals[0].sequence), (1, 15, 1));
        assert_eq!(outbox.report(&at(30)), None, "one at a time");
        outbox.answered(false);
        let again = outbox.report(&at(40)).unwrap();
        assert_eq!((again.settlements, again.refusals[0].sequence), (first.settlements, 1));
        outbox.refuse(refusal(), 41);
        outbox.answered(true);
        let rest = outbox.report(&at(50)).unwrap();
        assert_eq!((rest.settlements.len(), rest.refusals.len(), rest.refusals[0].sequence), (0, 1, 2));
    }

    #[test]
    fn a_full_queue_counts_what_it_drops() {
        let mut outbox = Outbox::default();
        for _ in 0..QUEUE + 3 {
            outbox.refuse(refusal(), 0);
        }
        let report = outbox.report(&at(0)).unwrap();
        assert_eq!((report.refusals.len(), report.refusals_lost), (BATCH, 3));
        outbox.refuse(refusal(), 0);
        outbox.answered(true);
        assert_eq!(outbox.report(&at(0)).unwrap().refusals_lost, 1, "what was lost meanwhile stays counted");
    }

    #[test]
    fn held_grants_are_listed_until_they_end_and_quiet_comes_slowly() {
        let mut outbox = Outbox::default();
        outbox.hold(b"a");
        assert_eq!(outbox.report(&at(0)).unwrap().held.len(), 1);
        outbox.answered(true);
        outbox.settle(b"a", Settlement::default());
        assert!(outbox.report(&at(0)).unwrap().held.is_empty());
        outbox.answered(true);
        let heard = (0..1000)
            .filter(|_| {
                let report = outbox.report(&at(0)).is_some();
                outbox.answered(true);
                report
            })
            .count();
        assert!((12..=70).contains(&heard), "{heard}");
    }

    #[test]
    fn a_lease_that_ended_is_said_until_it_was_heard_and_never_again() {
        let mut outbox = Outbox::default();
        let closed = |lease: u8| Closed { lease: vec![lease; 16].into(), admitted: 1, reserved: None };
        outbox.close(vec![closed(1), closed(2)]);
        outbox.settle_leased(Settlement { status: 200, ..Settlement::default() });
        let first = outbox.report(&at(0)).unwrap();
        assert_eq!((first.closed.as_slice(), first.epoch), ([closed(1), closed(2)].as_slice(), 7));
        assert!(first.held.is_empty(), "a leased request has no reservation of its own");
        outbox.close(vec![closed(3)]);
        outbox.answered(false);
        let again = outbox.report_for_lease(&at(0)).unwrap();
        assert_eq!((again.closed.len(), again.settlements.len()), (3, 1));
        outbox.answered(true);
        assert!(!outbox.has_news());
        let rest = outbox.report(&at(0)).unwrap();
        assert_eq!((rest.closed.len(), rest.settlements.len()), (0, 0));
        outbox.answered(true);
        outbox.close((0..=255).cycle().take(QUEUE + 5).map(closed).collect());
        let told: Vec<usize> = std::iter::from_fn(|| {
            let told = outbox.report(&at(0))?.closed.len();
            outbox.answered(true);
            Some(told).filter(|told| *told > 0)
        })
        .collect();
        assert_eq!(told, vec![BATCH_CLOSED; QUEUE / BATCH_CLOSED], "what does not fit is dropped");
    }

    #[test]
    fn a_call_for_leases_has_a_report_in_front_with_or_without_news() {
        let mut outbox = Outbox::default();
        let first = outbox.report_for_lease(&at(0)).unwrap();
        assert_eq!((first.sequence, &first.settlements, &first.closed), (1, &vec![], &vec![]));
        outbox.settle_leased(Settlement::default());
        assert_eq!(outbox.report(&at(0)), None, "one at a time");
        assert_eq!(outbox.report_for_lease(&at(0)), None, "one at a time");
        outbox.answered(true);
        let next = outbox.report(&at(0)).unwrap();
        assert_eq!((next.sequence, next.settlements.len()), (2, 1), "what came meanwhile was not acknowledged");
    }

    #[test]
    fn who_holds_grants_reports_at_every_tick() {
        let mut outbox = Outbox::default();
        let heard = |outbox: &mut Outbox, keep_alive| {
            let reports = (0..100).filter(|_| {
                let report = outbox.report(&Reporter { keep_alive, ..at(0) }).is_some();
                outbox.answered(true);
                report
            });
            reports.count()
        };
        assert_eq!(heard(&mut outbox, true), 100);
        assert!(heard(&mut outbox, false) < 20);
    }

    #[test]
    fn what_somebody_waits_for_is_said_at_once_and_the_rest_at_the_tick() {
        let mut outbox = Outbox::default();
        outbox.settle_leased(Settlement::default());
        assert!(outbox.has_news() && !outbox.is_urgent());
        assert!(outbox.report(&at(0)).is_some());
        outbox.settle_leased(Settlement::default());
        outbox.hurry();
        assert!(!outbox.is_urgent(), "one at a time");
        outbox.answered(true);
        assert!(outbox.is_urgent());
        assert_eq!(outbox.report(&at(0)).unwrap().settlements.len(), 1);
        outbox.answered(true);
        assert!(!outbox.is_urgent() && !outbox.has_news());
        for _ in 0..=BATCH {
            outbox.settle_leased(Settlement::default());
        }
        outbox.hurry();
        assert!(outbox.report(&at(0)).is_some());
        outbox.answered(true);
        assert!(outbox.is_urgent(), "the last one is still to be said");
    }
}
