//! Random lives of a pool and its outbox: every order of calls, honest answers and hostile ones, and a clock that may
//! jump. A book kept beside it, by other rules, says what may happen.

use std::collections::BTreeSet;

use super::*;
use crate::outbox::{Outbox, Reporter};

const SEEDS: u64 = 2_000;
const STEPS: u32 = 160;
/// Scope sets and models whose plain concatenations are alike.
const SETS: [(&str, &str); 4] = [("1acme", "m"), ("acme", "m1"), ("acme", "m"), ("", "1:m")];

#[derive(Default)]
struct Book {
    pool: Pool,
    outbox: Outbox,
    reported: Option<Vec<Closed>>,
    /// The clock that never jumps, and by how much the pool's differs.
    elapsed_ms: u64,
    clock_ms: i64,
    steady: bool,
    streams: u32,
    /// Who waits: set and need, in order.
    waiting: BTreeMap<u32, (usize, Cost)>,
    tickets: Vec<(usize, Ticket)>,
    call: Vec<(usize, Vec<u32>, Ask)>,
    leases: BTreeMap<Vec<u8>, Account>,
    acknowledged: BTreeSet<Vec<u8>>,
    requests: BTreeSet<[u8; 16]>,
    next_id: u64,
    admitted: u64,
    refused: u64,
}

/// What is known of one lease id.
#[derive(Default)]
struct Account {
    set: usize,
    lent: Option<(Cost, u64, u64)>,
    nothing_lent: bool,
    reserved: Cost,
    closed: bool,
    rate_tokens: u64,
    used_tokens: u64,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[test]
fn whatever_happens_nothing_is_admitted_beyond_what_was_lent() {
    let (mut admitted, mut refused) = (0, 0);
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let mut book = Book { steady: !random.one_in(4), clock_ms: T0 as i64, ..Book::default() };
        for _ in 0..STEPS {
            book.step(&mut random);
        }
        book.end();
        (admitted, refused) = (admitted + book.admitted, refused + book.refused);
    }
    assert!(admitted > 20 * SEEDS && refused > SEEDS, "{admitted} admitted, {refused} refused: nothing was tried");
}

impl Book {
    fn now(&self) -> u64 {
        self.clock_ms as u64 + self.elapsed_ms
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(20) {
            0..=6 => self.take(random),
            7 => self.leave(random),
            8..=9 => self.ask(random),
            10..=12 => self.answer(random),
            13 if random.one_in(4) => self.fail(),
            13 => self.overdue(),
            14..=15 => self.finish(random),
            16 => self.report(random),
            17 if !self.steady && random.one_in(3) => self.clock_ms += random.below(8_000) as i64 - 4_000,
            18 if random.one_in(3) => self.elapsed_ms += random.below(6_000),
            _ => self.elapsed_ms += random.below(60),
        }
        assert_eq!(self.pool.queue.len(), self.waiting.len());
        assert_eq!(self.pool.places.len(), self.waiting.len());
    }

    fn take(&mut self, random: &mut Random) {
        let (set, stream) = (random.below(SETS.len() as u64) as usize, self.streams);
        self.streams += 1;
        let tokens = match random.below(30) {
            0 => u64::MAX - random.below(2),
            1 => 0,
            _ => random.below(50),
        };
        let need = Cost { tokens, gpu_ms: random.below(20), micro_usd: random.below(30), requests: random.below(3) };
        let ((scope_set, model), handle) = (SETS[set], Bytes::from(vec![set as u8]));
        let now = self.now();
        let taken = self.pool.take(&Wanted { scope_set, model, handle: &handle, need }, stream, now);
        let need = Cost { requests: 1, ..need };
        match taken {
            Taken::Admitted(ticket) => {
                assert!(self.waiting.values().all(|(waits, _)| *waits != set), "past one that waits");
                self.admit(set, need, ticket);
            }
            Taken::Waits => assert_eq!(self.waiting.insert(stream, (set, need)), None),
            Taken::Full => panic!("not that many"),
        }
    }

    /// The invariants of one admission.
    fn admit(&mut self, set: usize, need: Cost, ticket: Ticket) {
        self.admitted += 1;
        let leased = ticket.leased("", "", 0);
        assert_eq!(leased.reserved, Some(need));
        let account = self.leases.get_mut(leased.lease.as_ref()).expect("a lease that was asked for");
        let (amount, received_ms, expires_in_ms) = account.lent.expect("a lease that was lent");
        assert_eq!(account.set, set, "another set's lease");
        assert!(!account.closed, "admitted after its end was told");
        account.reserved = amount::sum(&account.reserved, &need).expect("no overflow");
        assert!(amount::fits(&account.reserved, &amount), "{:?} of {amount:?}", account.reserved);
        assert_eq!(account.reserved.requests, u64::from(leased.number), "numbers ascend from 1");
        let slack = if self.steady { 0 } else { 2 * CLOCK_SLACK_MS };
        assert!(self.elapsed_ms - received_ms < expires_in_ms.min(5_000) + slack, "after its time");
        assert!(account.rate_tokens == 0 || account.used_tokens < account.rate_tokens, "past the rate");
        assert!(self.requests.insert(ticket.id()), "an id twice");
        self.tickets.push((set, ticket));
    }

    fn leave(&mut self, random: &mut Random) {
        let stream = random.below(u64::from(self.streams) + 1) as u32;
        self.pool.leave(stream);
        self.waiting.remove(&stream);
    }

    fn overdue(&mut self) {
        for stream in self.pool.overdue(1_000, self.now()) {
            assert!(self.waiting.remove(&stream).is_some(), "{stream} does not wait");
        }
    }

    fn ask(&mut self, random: &mut Random) {
        let now = self.now();
        let next_id = &mut self.next_id;
        let mut id = || {
            *next_id += 1 + u64::from(random.one_in(200)); // a gap is as good
            let mut id = [0; 12];
            id[4..].copy_from_slice(&next_id.to_be_bytes());
            id
        };
        let asks = self.pool.asks(now, &mut id);
        assert!(asks.is_empty() || self.call.is_empty(), "two calls");
        if self.call.is_empty() && !self.waiting.is_empty() {
            assert!(!asks.is_empty(), "somebody waits");
        }
        for ask in asks {
            let set = usize::from(ask.grant[0]);
            assert_eq!(ask.model, SETS[set].1);
            let (streams, needs): (Vec<u32>, Vec<Cost>) = self
                .waiting
                .iter()
                .filter(|(_, (of, _))| *of == set)
                .map(|(stream, (_, need))| (*stream, *need))
                .unzip();
            assert_eq!(ask.needs, needs, "all who wait, in order");
            let account = Account { set, ..Account::default() };
            assert!(self.leases.insert(ask.id.to_vec(), account).is_none());
            self.call.push((set, streams, ask));
        }
        self.collect();
    }

    fn answer(&mut self, random: &mut Random) {
        if self.call.is_empty() && !random.one_in(10) {
            return;
        }
        let call = std::mem::take(&mut self.call);
        let (mut lents, mut must): (Vec<Lent>, BTreeMap<u32, &str>) = Default::default();
        for (set, streams, ask) in &call {
            let (lent, good) = self.answer_to(ask, random);
            let account = self.leases.get_mut(ask.id.as_ref()).unwrap();
            let served = lent.served as usize;
            if good && served > 0 {
                account.lent = Some((lent.amount.unwrap(), self.elapsed_ms, lent.expires_in_ms.into()));
                account.rate_tokens = lent.rate_tokens;
            }
            account.nothing_lent = good && served == 0;
            for (at, stream) in streams.iter().enumerate().filter(|(_, stream)| self.waiting.contains_key(stream)) {
                assert_eq!(self.waiting[stream].0, *set);
                let fate = match ask.needs.get(served) {
                    _ if !good => "unavailable",
                    _ if at < served => "admitted",
                    Some(least) if amount::fits(least, &ask.needs[at]) => "refused",
                    _ => "waits or admitted",
                };
                // what ended since may have used the rate up already
                if !(fate == "admitted" && lent.rate_tokens > 0) {
                    must.insert(*stream, fate);
                }
            }
            lents.push(lent);
            if random.one_in(30) {
                lents.extend(lents.last().cloned()); // twice
            }
        }
        if random.one_in(10) {
            lents.push(Lent { id: vec![random.next() as u8; 16].into(), ..lent(&Ask::default(), 0, cost(9, 9)) });
        }
        // an id that has ended, or that another lease still has
        let known = self.leases.keys().nth(random.below(50) as usize).filter(|_| random.one_in(5));
        let known = known.filter(|id| call.iter().all(|(_, _, ask)| ask.id.as_ref() != id.as_slice()));
        lents.extend(known.map(|id| Lent { id: id.clone().into(), ..lent(&Ask::default(), 0, cost(9, 9)) }));
        if random.one_in(5) {
            lents.reverse();
        }
        let now = self.now();
        let verdicts = self.pool.answered(lents, now);
        self.hear(verdicts, &must);
    }

    /// An answer, and whether it can be right.
    fn answer_to(&mut self, ask: &Ask, random: &mut Random) -> (Lent, bool) {
        let count = ask.needs.len();
        let fitting = (0..=count).rev().find(|served| total(&ask.needs[..*served]).is_some()).unwrap();
        let served = if random.one_in(3) { random.below(fitting as u64 + 1) as usize } else { fitting };
        let least = total(&ask.needs[..served]).unwrap();
        let mut amount = least;
        if served == count && !random.one_in(3) {
            let (tokens, gpu_ms) = (random.below(300), random.below(200));
            let extra = Cost { tokens, gpu_ms, micro_usd: random.below(200), requests: random.below(20) };
            amount = amount::zip(&least, &extra, u64::saturating_add);
        }
        let mut lent = lent(ask, served as u32, amount);
        lent.expires_in_ms = if random.one_in(20) { u32::MAX } else { 1 + random.below(5_000) as u32 };
        lent.rate_tokens = if random.one_in(2) { 0 } else { 1 + random.below(400) };
        let good = match random.below(24) {
            0 if least.tokens > 0 => {
                lent.amount = Some(Cost { tokens: least.tokens - 1, ..amount });
                false
            }
            1 if served > 0 => {
                lent.amount = Some(Cost { requests: served as u64 - 1, ..amount });
                false
            }
            2 => {
                lent.served = count as u32 + 1 + random.below(9) as u32;
                false
            }
            3 if served > 0 => {
                lent.expires_in_ms = 0;
                false
            }
            4 if served < count => {
                lent.refused = None;
                false
            }
            5 => {
                lent.id = lent.id.slice(1..);
                false
            }
            6 if served == 0 => {
                lent.amount = Some(cost(0, 1));
                false
            }
            7 if served > 0 => {
                lent.amount = Some(cost(u64::MAX, u64::MAX));
                true
            }
            _ => true,
        };
        (lent, good)
    }

    fn hear(&mut self, verdicts: Vec<(u32, Verdict)>, must: &BTreeMap<u32, &str>) {
        let order: Vec<u32> = verdicts.iter().map(|(stream, _)| *stream).collect();
        assert!(order.is_sorted(), "in the order of waiting: {order:?}");
        let mut heard: BTreeMap<u32, &str> = told(&verdicts).into_iter().collect();
        for (stream, fate) in must {
            let word = heard.remove(stream).unwrap_or("waits");
            assert!(fate.split(" or ").any(|fate| fate == word), "{stream}: {word}, not {fate}");
        }
        for (stream, verdict) in verdicts {
            let (set, need) = self.waiting.remove(&stream).expect("one verdict each");
            match verdict {
                Verdict::Admitted(ticket) => self.admit(set, need, ticket),
                Verdict::Refused(_) => self.refused += 1,
                Verdict::Unavailable => {}
            }
        }
        self.collect();
    }

    fn fail(&mut self) {
        let call = std::mem::take(&mut self.call);
        let streams =
            call.iter().flat_map(|(_, streams, _)| streams).filter(|stream| self.waiting.contains_key(stream));
        let must: BTreeMap<u32, &str> = streams.map(|stream| (*stream, "unavailable")).collect();
        let now = self.now();
        let verdicts = self.pool.failed(now);
        assert_eq!(verdicts.len(), must.len());
        self.hear(verdicts, &must);
    }

    fn finish(&mut self, random: &mut Random) {
        if self.tickets.is_empty() {
            return;
        }
        let (set, ticket) = self.tickets.swap_remove(random.below(self.tickets.len() as u64) as usize);
        let output_seen = if random.one_in(50) { u64::MAX } else { 1 + random.below(60) };
        for account in self.leases.values_mut().filter(|account| account.set == set) {
            account.used_tokens = account.used_tokens.saturating_add(output_seen);
        }
        let settlement =
            Settlement { outcome: 2, output_seen, leased: Some(ticket.leased("", "", 0)), ..Default::default() };
        self.pool.ended(&ticket, &settlement);
        self.outbox.settle_leased(settlement);
    }

    /// Ends go to the outbox, and agree with what was admitted.
    fn collect(&mut self) {
        let closed = self.pool.closed(self.now());
        for end in &closed {
            let account = self.leases.get_mut(end.lease.as_ref()).expect("an id that was asked for");
            assert!(!std::mem::replace(&mut account.closed, true), "ended twice");
            assert!(!account.nothing_lent, "nothing was lent");
            assert_eq!((end.reserved, u64::from(end.admitted)), (Some(account.reserved), account.reserved.requests));
        }
        self.outbox.close(closed);
    }

    fn report(&mut self, random: &mut Random) {
        self.collect();
        if let Some(closed) = self.reported.take() {
            let durable = !random.one_in(3);
            self.outbox.answered(durable);
            for end in closed.into_iter().filter(|_| durable) {
                assert!(self.acknowledged.insert(end.lease.to_vec()), "acknowledged, and sent again");
            }
        }
        let by = Reporter { proxy: "edge", worker: b"w", epoch: 0, now_ms: self.now(), keep_alive: true };
        self.reported = self.outbox.report(&by).map(|report| report.closed);
    }

    /// Everybody leaves, everything ends: nothing is left, and everything was told.
    fn end(&mut self) {
        self.waiting.clear();
        (0..self.streams).for_each(|stream| self.pool.leave(stream));
        self.fail();
        let mut random = Random(u64::from(self.streams));
        while !self.tickets.is_empty() {
            self.finish(&mut random);
        }
        self.elapsed_ms += 12_000 + FORGET_AFTER_MS;
        while self.outbox.has_news() || self.reported.is_some() {
            self.report(&mut random);
            if !self.outbox.has_news() {
                self.reported = None;
            }
        }
        self.collect();
        let pool = &self.pool;
        assert!(pool.sets.is_empty() && pool.queue.is_empty() && pool.places.is_empty());
        assert!(pool.asked.is_empty() && pool.closed.is_empty());
        for (id, account) in &self.leases {
            assert_eq!(self.acknowledged.contains(id), !account.nothing_lent, "{id:?}");
        }
    }
}

fn total(needs: &[Cost]) -> Option<Cost> {
    needs.iter().try_fold(Cost::default(), |total, need| amount::sum(&total, need))
}
