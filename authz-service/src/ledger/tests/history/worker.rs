//! A worker as the module is one: at most one call under way, what is not acknowledged is sent again, what was asked for in
//! a call that failed is closed.

use super::bank::{Asking, Call, Closing, Ending, Reply};
use super::*;

pub(super) struct Worker {
    pub(super) id: [u8; 16],
    leases: BTreeMap<LeaseId, Held>,
    under_way: Vec<(LeaseId, u32)>,
    endings: Vec<Ending>,
    closings: Vec<Closing>,
    waiting: [Vec<Cost>; 2],
    call: Option<(u64, Call)>,
    calls: u64,
    /// It is broken: it closes leases and forgets what is under way.
    forgetful: bool,
}

struct Held {
    set: u64,
    until_ms: u64,
    balance: Cost,
    taken: Cost,
}

impl Worker {
    pub(super) fn new(random: &mut Random, forgetful: bool) -> Self {
        Self {
            id: random.bytes(),
            leases: BTreeMap::new(),
            under_way: Vec::new(),
            endings: Vec::new(),
            closings: Vec::new(),
            waiting: Default::default(),
            call: None,
            calls: 0,
            forgetful,
        }
    }

    pub(super) fn request(&mut self, now: Now, set: u64, need: Cost, requests: &mut Requests) {
        let fits = |held: &Held| {
            held.set == set
                && now.unix_ms < held.until_ms
                && held.balance.requests > 0
                && held.balance.tokens >= need.tokens
                && held.balance.micro_usd >= need.micro_usd
        };
        match self.leases.iter().find(|(_, held)| fits(held)).map(|(id, _)| *id) {
            Some(id) => self.start(id, need, requests),
            None => self.waiting[usize::try_from(set).unwrap()].push(need),
        }
    }

    fn start(&mut self, id: LeaseId, need: Cost, requests: &mut Requests) {
        let held = self.leases.get_mut(&id).unwrap();
        let number = u32::try_from(held.taken.requests).unwrap() + 1;
        held.taken = plus(held.taken, need);
        held.balance = Cost {
            tokens: held.balance.tokens - need.tokens,
            gpu_ms: held.balance.gpu_ms - need.gpu_ms,
            micro_usd: held.balance.micro_usd - need.micro_usd,
            requests: held.balance.requests - 1,
        };
        self.under_way.push((id, number));
        let truth = Truth { lease: id, number, reserved: need, charge: None, acknowledged: false };
        requests.insert((id, number), truth);
    }

    /// One request ends, having used so many hundredths of what it had reserved.
    pub(super) fn end(&mut self, which: u64, part: u64, requests: &mut Requests) {
        if self.under_way.is_empty() {
            return;
        }
        let which = usize::try_from(which).unwrap() % self.under_way.len();
        let of = self.under_way.swap_remove(which);
        let truth = requests.get_mut(&of).unwrap();
        let charge = if part == 0 { Cost::default() } else { cost(truth.reserved.tokens * part / 100) };
        truth.charge = Some(charge);
        self.endings.push(Ending { lease: of.0, number: of.1, reserved: truth.reserved, charge });
    }

    pub(super) fn end_all(&mut self, requests: &mut Requests) {
        while !self.under_way.is_empty() {
            self.end(0, 50, requests);
        }
    }

    /// Reports, and asks for what waits; `early` closes what could still be used.
    pub(super) fn call(&mut self, now: Now, extra: u64, early: bool, random: &mut Random) -> Option<Call> {
        if self.call.is_some() {
            return None;
        }
        let over = |held: &Held| early || now.unix_ms >= held.until_ms;
        let closed: Vec<LeaseId> = self.leases.iter().filter(|(_, held)| over(held)).map(|(id, _)| *id).collect();
        for id in closed {
            let mut taken = self.leases.remove(&id).unwrap().taken;
            if self.forgetful && self.under_way.iter().any(|(lease, _)| *lease == id) {
                taken = Cost::default();
            }
            self.closings.push(Closing { lease: id, taken });
        }
        let mut asks = Vec::new();
        for set in 0..2_u64 {
            let needs = std::mem::take(&mut self.waiting[usize::try_from(set).unwrap()]);
            if !needs.is_empty() {
                let mut id = random.bytes::<16>();
                id[12..].fill(0);
                let extra = Cost { requests: extra, ..cost(30 * extra) };
                asks.push(Asking { lease: LeaseId::parse(&id).unwrap(), set, needs, extra });
            }
        }
        self.calls += 1;
        let (endings, closings) = (self.endings.clone(), self.closings.clone());
        let call = Call { worker: self.id, sequence: self.calls, endings, closings, asks };
        self.call = Some((now.unix_ms + CALL_MS, call.clone()));
        Some(call)
    }

    /// A call that was not answered in time has failed: who waited for it is refused.
    pub(super) fn give_up(&mut self, now: Now) {
        if self.call.as_ref().is_some_and(|(until, _)| *until < now.unix_ms) {
            self.fail();
        }
    }

    fn fail(&mut self) {
        let Some((_, call)) = self.call.take() else { return };
        self.closings.extend(call.asks.iter().map(|ask| Closing { lease: ask.lease, taken: Cost::default() }));
    }

    pub(super) fn receive(&mut self, now: Now, reply: Reply, requests: &mut Requests) {
        if self.call.as_ref().is_none_or(|(_, call)| call.sequence != reply.sequence) {
            return;
        }
        let Some(lents) = reply.lents else { return self.fail() };
        let Some((_, call)) = self.call.take() else { return };
        self.endings.retain(|ending| !call.endings.contains(ending));
        self.closings.retain(|closing| !call.closings.contains(closing));
        for ending in &call.endings {
            requests.get_mut(&(ending.lease, ending.number)).unwrap().acknowledged = true;
        }
        for (ask, lent) in call.asks.into_iter().zip(lents) {
            if lent.amount.requests == 0 {
                continue;
            }
            let until_ms = now.plus(lent.expires_in);
            self.leases.insert(ask.lease, Held { set: ask.set, until_ms, balance: lent.amount, taken: NOTHING });
            for need in ask.needs.into_iter().take(usize::try_from(lent.served).unwrap()) {
                self.start(ask.lease, need, requests);
            }
        }
    }
}

const NOTHING: Cost = Cost { tokens: 0, gpu_ms: 0, micro_usd: 0, requests: 0 };

pub(super) fn plus(a: Cost, b: Cost) -> Cost {
    Cost {
        tokens: a.tokens + b.tokens,
        gpu_ms: a.gpu_ms + b.gpu_ms,
        micro_usd: a.micro_usd + b.micro_usd,
        requests: a.requests + b.requests,
    }
}
