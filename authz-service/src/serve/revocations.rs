//! Revocations as workers learn of them: one count, the epoch, and a bounded log of what each step of it voids.
//!
//! Who revokes first changes what decisions read and raises the epoch then; who decides reads the epoch first. So a
//! decision that did not see the change carries an epoch below the revocation's, and is voided by it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use gateway_core::gate::Revocation;

/// Steps that are told one by one; a worker that is further behind drops every grant that it holds.
const MOST: usize = 1024;
/// An opening of the state file leaves room for this many steps, in bits: after a restart every earlier grant is void.
const STEPS: u32 = 32;

/// The count and its log; shared by reference.
#[derive(Debug)]
pub(super) struct Revocations(Mutex<Log>);

/// What a worker is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Since {
    /// The count that this tells of.
    pub(super) epoch: u64,
    /// The steps after the worker's, ascending.
    pub(super) revocations: Vec<Revocation>,
    /// No grant with an epoch below this is to be used any more.
    pub(super) floor: u64,
}

#[derive(Debug)]
struct Log {
    epoch: u64,
    /// The last step that voids everything before it.
    floor: u64,
    /// Each is one step beyond the one before it; the last one is at `epoch`, unless that is at `floor`.
    steps: VecDeque<Revocation>,
}

impl Revocations {
    /// The count of a service whose state file was opened for the `opened`-th time.
    pub(super) fn new(opened: u64) -> Self {
        let epoch = opened.checked_shl(STEPS).filter(|epoch| epoch >> STEPS == opened).unwrap_or(u64::MAX);
        Self(Mutex::new(Log { epoch, floor: epoch, steps: VecDeque::new() }))
    }

    /// To be read before a decision reads anything else.
    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Grants of the tenant are void, or those by one of its keys; to be called once decisions see why.
    pub(super) fn revoke(&self, tenant: &str, key_id: &str) {
        let mut log = self.lock();
        log.epoch = log.epoch.saturating_add(1);
        if log.steps.len() >= MOST {
            log.steps.pop_front();
        }
        let epoch = log.epoch;
        log.steps.push_back(Revocation { epoch, tenant: tenant.to_owned(), key_id: key_id.to_owned() });
    }

    /// Every grant is void; to be called once decisions see why.
    pub(super) fn revoke_all(&self) {
        let mut log = self.lock();
        log.epoch = log.epoch.saturating_add(1);
        log.floor = log.epoch;
        log.steps.clear();
    }

    /// What a worker that knows of everything up to `known` has missed; 0: it knows of nothing. Where the log does not
    /// say, or the count is not ours, every grant up to now is void.
    pub(super) fn since(&self, known: u64) -> Since {
        let log = self.lock();
        let oldest = log.steps.front().map_or(log.epoch, |step| step.epoch.saturating_sub(1));
        if known < log.floor.max(oldest) || known > log.epoch {
            return Since { epoch: log.epoch, revocations: Vec::new(), floor: log.epoch };
        }
        let revocations = log.steps.iter().filter(|step| step.epoch > known).cloned().collect();
        Since { epoch: log.epoch, revocations, floor: log.floor }
    }

    /// Nothing in here panics with the lock held.
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    const FIRST: u64 = 3 << 32;

    /// The worker's rule (`gate.proto`), for a grant of this epoch.
    fn voids(told: &Since, grant: u64, tenant: &str, key_id: &str) -> bool {
        let matches = |step: &Revocation| {
            step.epoch > grant
                && (step.tenant.is_empty() || step.tenant == tenant)
                && (step.key_id.is_empty() || step.key_id == key_id)
        };
        grant < told.floor || told.revocations.iter().any(matches)
    }

    fn step(epoch: u64, tenant: &str, key_id: &str) -> Revocation {
        Revocation { epoch, tenant: tenant.into(), key_id: key_id.into() }
    }

    #[test]
    fn workers_are_told_what_they_missed() {
        let count = Revocations::new(3);
        assert_eq!(count.since(FIRST), Since { epoch: FIRST, revocations: vec![], floor: FIRST });
        count.revoke("acme", "k1");
        count.revoke("globex", "");
        let (one, two) = (step(FIRST + 1, "acme", "k1"), step(FIRST + 2, "globex", ""));
        let told = count.since(FIRST);
        assert_eq!(told, Since { epoch: FIRST + 2, revocations: vec![one, two.clone()], floor: FIRST });
        assert_eq!(count.since(FIRST + 1).revocations, [two]);
        assert_eq!(count.since(FIRST + 2).revocations, []);
        for (grant, tenant, key, void) in [
            (FIRST, "acme", "k1", true),
            (FIRST, "acme", "k2", false),
            (FIRST, "acme", "", false),
            (FIRST + 1, "acme", "k1", false),
            (FIRST + 1, "globex", "k9", true),
            (FIRST + 1, "globex", "", true),
            (FIRST + 2, "globex", "", false),
            (FIRST - 1, "initech", "", true),
        ] {
            assert_eq!(voids(&told, grant, tenant, key), void, "{grant} {tenant} {key}");
        }
    }

    #[test]
    fn who_knows_nothing_or_is_too_far_behind_keeps_nothing() {
        let count = Revocations::new(3);
        (0..1030).for_each(|n| count.revoke(&format!("t{n}"), ""));
        let epoch = FIRST + 1030;
        let nothing = Since { epoch, revocations: vec![], floor: epoch };
        // a new worker; one of another run, or of another state file; one whose next step is no longer in the log
        for known in [0, 1, 2 << 32, (2 << 32) + 7, FIRST, FIRST + 5, epoch + 1, u64::MAX] {
            assert_eq!(count.since(known), nothing, "{known}");
        }
        let told = count.since(FIRST + 6);
        assert_eq!((told.revocations.len(), told.floor), (1024, FIRST));
        assert_eq!(told.revocations[0], step(FIRST + 7, "t6", ""));
    }

    #[test]
    fn what_voids_everything_is_a_floor() {
        let count = Revocations::new(3);
        count.revoke("acme", "");
        count.revoke_all();
        let everything = Since { epoch: FIRST + 2, revocations: vec![], floor: FIRST + 2 };
        for known in [0, FIRST, FIRST + 1, FIRST + 2] {
            assert_eq!(count.since(known), everything, "{known}");
        }
        count.revoke("acme", "");
        let told = count.since(FIRST + 2);
        assert_eq!((told.floor, told.revocations), (FIRST + 2, vec![step(FIRST + 3, "acme", "")]));
        assert_eq!(count.since(FIRST + 1).floor, FIRST + 3);
    }

    #[test]
    fn a_restart_voids_every_earlier_grant() {
        let count = Revocations::new(4);
        assert_eq!(count.since(FIRST + 9).floor, 4 << 32);
        assert_eq!(Revocations::new(u64::MAX).epoch(), u64::MAX);
    }

    /// A decision allows while the key is in force; each one that did not see the change is voided by its revocation.
    #[test]
    fn a_decision_that_missed_a_change_is_covered_by_its_revocation() {
        for _ in 0..200 {
            let (count, in_force, seen) = (Revocations::new(3), AtomicBool::new(true), AtomicU64::new(0));
            let allowed: Vec<u64> = std::thread::scope(|scope| {
                let decide = || {
                    let mut allowed = Vec::new();
                    loop {
                        let epoch = count.epoch();
                        if !in_force.load(Ordering::SeqCst) {
                            return allowed;
                        }
                        seen.fetch_add(1, Ordering::SeqCst);
                        allowed.push(epoch);
                    }
                };
                let deciders = [scope.spawn(decide), scope.spawn(decide)];
                while seen.load(Ordering::SeqCst) < 20 {
                    std::hint::spin_loop();
                }
                count.revoke("globex", "");
                in_force.store(false, Ordering::SeqCst);
                count.revoke("acme", "k1");
                deciders.into_iter().flat_map(|decider| decider.join().unwrap()).collect()
            });
            let told = count.since(FIRST);
            assert!(allowed.len() >= 20);
            assert!(allowed.iter().all(|epoch| voids(&told, *epoch, "acme", "k1")), "{allowed:?}");
        }
    }
}
