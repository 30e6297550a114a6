//! Which workers of which proxies report, and which reservations none of them has reported: those are undone, because
//! their requests never started. Where a worker fell silent first, nobody knows that they did not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::entry::{Phase, Standing, State};
use super::{GrantId, Ledger, Now};

/// A worker that has not reported for this long is forgotten: longer than a quiet one waits between two reports (about ten
/// seconds, and two for a report that is not answered).
const FORGET_WORKER_MS: u64 = 15_000;
/// A report says nothing about a reservation unless it was made this long after it: the answer to the check may have been
/// on its way. When it was made is not known, only that it was after the answer to the worker's report before. Longer than
/// a report may take (2 s) and the time to the next one: a worker that has never reported is not known to be waited for.
const YOUNG_MS: u64 = 3_000;
/// Undone reservations that are remembered, in case that they are settled after all.
const MOST_UNDONE: usize = 100_000;

/// What one report of a worker changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Undone now: every worker known for the proxy has reported twice since, and none held it.
    pub undone: Vec<GrantId>,
    /// Had been undone, and is held after all: reserved again, as debt if need be.
    pub reinstated: Vec<GrantId>,
}

/// Workers, and reservations that wait for their first report, by proxy.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// Orders reservations and reports among each other.
    order: u64,
    proxies: HashMap<Arc<str>, Proxy>,
    /// Oldest first.
    undone: BTreeSet<(u64, GrantId)>,
}

#[derive(Debug, Default)]
struct Proxy {
    workers: BTreeMap<[u8; 16], Worker>,
    unarmed: BTreeSet<(u64, GrantId)>,
}

#[derive(Clone, Copy, Debug)]
struct Worker {
    heard_ms: u64,
    last: u64,
    before: Option<Before>,
}

/// A worker's report before its last, which it made after that one was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Before {
    order: u64,
    heard_ms: u64,
}

impl Ledger {
    /// A worker of `proxy` says that it lives and which grants' requests are under way there.
    ///
    /// Arms what it lists, if the reservation is this proxy's, and undoes what no worker of the proxy has listed while
    /// each of them reported twice. A repeat of the same report must not be passed in again.
    pub fn sync(&self, proxy: &str, worker: [u8; 16], now: Now, held: &[GrantId]) -> Synced {
        let now = self.at(now);
        let mut state = self.lock();
        let mut synced = Synced::default();
        for id in held {
            if state.arm(now, *id, proxy) {
                synced.reinstated.push(*id);
            }
        }
        let (passed, passed_ms) = state.presence.report(proxy, worker, now);
        for id in passed {
            let young = |created_ms: u64| passed_ms < created_ms.saturating_add(YOUNG_MS);
            if state.entries.get(&id).is_some_and(|entry| !young(entry.created_ms)) {
                state.set_undone(now, id);
                synced.undone.push(id);
            }
        }
        synced
    }

    /// The module of `proxy` has reported the grant: from now on only a settlement ends it, or its longest stream.
    /// Returns whether it had been undone and is reserved again.
    pub fn arm(&self, now: Now, id: GrantId, proxy: &str) -> bool {
        let now = self.at(now);
        self.lock().arm(now, id, proxy)
    }
}

impl State {
    fn arm(&mut self, now: Now, id: GrantId, proxy: &str) -> bool {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| &*entry.proxy == proxy) else { return false };
        if entry.phase == Phase::Undone {
            let (reserved, longest_stream, order) = (entry.reserved, entry.longest_stream, entry.order);
            entry.armed = true;
            self.turn(now, id, Phase::Open, Standing::reserved(reserved), now.plus(longest_stream));
            self.presence.undone.remove(&(order, id));
            return true;
        }
        if !entry.armed {
            entry.armed = true;
            self.presence.forget(&entry.proxy, entry.order, id);
        }
        false
    }

    fn set_undone(&mut self, now: Now, id: GrantId) {
        let Some(entry) = self.entries.get(&id) else { return };
        let (order, until_ms) = (entry.order, now.plus(entry.longest_stream));
        self.turn(now, id, Phase::Undone, Standing::default(), until_ms);
        self.presence.undone.insert((order, id));
        while self.presence.undone.len() > MOST_UNDONE {
            let Some((_, oldest)) = self.presence.undone.pop_first() else { break };
            self.forget(oldest);
        }
    }
}

impl Presence {
    /// The next place in the order of reservations and reports.
    pub(super) fn next(&mut self) -> u64 {
        self.order = self.order.saturating_add(1);
        self.order
    }

    /// A reservation waits for its first report.
    pub(super) fn expect(&mut self, proxy: &Arc<str>, order: u64, id: GrantId) {
        self.proxies.entry(Arc::clone(proxy)).or_default().unarmed.insert((order, id));
    }

    /// It no longer waits, and is not remembered as undone.
    pub(super) fn forget(&mut self, proxy: &Arc<str>, order: u64, id: GrantId) {
        if let Some(proxy) = self.proxies.get_mut(proxy) {
            proxy.unarmed.remove(&(order, id));
        }
        self.undone.remove(&(order, id));
    }

    /// Notes a worker's report; returns the reservations that every known worker has now passed over twice, and the time
    /// after which each of them made the later of these reports.
    fn report(&mut self, proxy: &str, worker: [u8; 16], now: Now) -> (Vec<GrantId>, u64) {
        let order = self.next();
        if !self.proxies.contains_key(proxy) {
            self.proxies.insert(Arc::from(proxy), Proxy::default());
        }
        let Some(proxy) = self.proxies.get_mut(proxy) else { return Default::default() };
        proxy.forget_silent_workers(now);
        let known = proxy.workers.get(&worker);
        let before = known.map(|worker| Before { order: worker.last, heard_ms: worker.heard_ms });
        proxy.workers.insert(worker, Worker { heard_ms: now.unix_ms, last: order, before });
        let passed = proxy.workers.values().map(|worker| worker.before.unwrap_or_default()).min().unwrap_or_default();
        let older = proxy.unarmed.iter().take_while(|(made, _)| *made < passed.order);
        (older.map(|(_, id)| *id).collect(), passed.heard_ms)
    }

    /// Drops proxies of which nothing is known.
    pub(super) fn sweep(&mut self, now: Now) {
        self.proxies.retain(|_, proxy| {
            proxy.forget_silent_workers(now);
            !proxy.workers.is_empty() || !proxy.unarmed.is_empty()
        });
    }
}

impl Proxy {
    /// What a worker that died had not passed over twice may have been under way there, and nobody will say so: it waits
    /// for no report any more, and becomes spend unless it is settled.
    fn forget_silent_workers(&mut self, now: Now) {
        let unarmed = &mut self.unarmed;
        self.workers.retain(|_, worker| {
            let lives = worker.heard_ms.saturating_add(FORGET_WORKER_MS) > now.unix_ms;
            if !lives {
                let passed = worker.before.unwrap_or_default().order;
                unarmed.retain(|(made, _)| *made < passed);
            }
            lives
        });
    }
}
