//! Everything at once: what happens next is drawn from the seed; what must hold is checked against what really happened.

use super::*;

/// Everything there is.
pub(super) struct World {
    now: Now,
    random: Random,
    sabotage: Sabotage,
    bank: Bank,
    workers: Vec<Worker>,
    requests: Requests,
    calls: Vec<(u64, Call)>,
    replies: Vec<Reply>,
    deaths: usize,
}

impl World {
    pub(super) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let bank = Bank::new(&mut random);
        let forgetful = sabotage == Sabotage::ClosedTooEarly;
        let workers = (0..2 + random.below(2)).map(|_| Worker::new(&mut random, forgetful)).collect();
        let (requests, calls, replies) = Default::default();
        World { now: NOON, random, sabotage, bank, workers, requests, calls, replies, deaths: 0 }
    }

    pub(super) fn step(&mut self) -> &'static str {
        let far = self.random.one_in(25);
        self.now.unix_ms += if far { self.random.below(20_000) } else { self.random.below(400) };
        self.calls.retain(|(sent, _)| sent + MESSAGE_MS > self.now.unix_ms);
        for worker in &mut self.workers {
            worker.give_up(self.now);
        }
        match self.random.below(100) {
            0..30 => self.client(),
            30..48 => self.ended(),
            48..62 => self.call(),
            62..76 => self.deliver(),
            76..88 => self.commit(),
            88..94 => self.answer(),
            94..97 => self.bank.expire(self.now, self.sabotage),
            97 => self.bank.fail_next(),
            98 => self.crash(),
            _ => return self.death(),
        }
        "a step"
    }

    /// A client asks: from what is lent, else the request waits.
    fn client(&mut self) {
        let (of, set) = (self.pick(), self.random.below(2));
        let need = cost(10 + self.random.below(50));
        self.workers[of].request(self.now, set, need, &mut self.requests);
    }

    /// A request ends; it has used what it had reserved, or less, or was never sent.
    fn ended(&mut self) {
        let of = self.pick();
        let (which, part) = (self.random.next(), self.random.below(101));
        self.workers[of].end(which, part, &mut self.requests);
    }

    fn call(&mut self) {
        let of = self.pick();
        let early = self.sabotage == Sabotage::ClosedTooEarly && self.random.one_in(3);
        let extra = self.random.below(4);
        if let Some(call) = self.workers[of].call(self.now, extra, early, &mut self.random) {
            self.calls.push((self.now.unix_ms, call));
        }
    }

    /// Some message arrives, whichever was sent first; or is lost; or arrives and will do so again.
    fn deliver(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let which = self.random.index(self.calls.len());
        let call = if self.random.one_in(8) { self.calls[which].1.clone() } else { self.calls.swap_remove(which).1 };
        if !self.random.one_in(8) {
            self.bank.take(self.now, call);
        }
    }

    fn commit(&mut self) {
        let most = 1 + self.random.below(3);
        let unsaved = self.sabotage == Sabotage::AnsweredUnsaved && self.random.one_in(3);
        self.replies.extend(self.bank.commit(self.now, most, unsaved));
    }

    fn answer(&mut self) {
        if self.replies.is_empty() {
            return;
        }
        let which = self.random.index(self.replies.len());
        let reply = self.replies.swap_remove(which);
        if !self.random.one_in(8) {
            self.receive(reply);
        }
    }

    fn receive(&mut self, reply: Reply) {
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.id == reply.worker) {
            worker.receive(self.now, reply, &mut self.requests);
        }
    }

    /// The service is killed: what was not committed is gone, and so is every connection.
    fn crash(&mut self) {
        self.calls.clear();
        self.bank.restart(self.now);
    }

    /// A worker dies, with all of its requests; another takes its place.
    fn death(&mut self) -> &'static str {
        let of = self.pick();
        self.deaths += 1;
        self.workers[of] = Worker::new(&mut self.random, self.sabotage == Sabotage::ClosedTooEarly);
        "a worker died"
    }

    fn pick(&mut self) -> usize {
        self.random.index(self.workers.len())
    }

    /// Nothing fails any more: what is under way ends and is reported, and what was lost expires.
    pub(super) fn settle_down(&mut self) {
        self.calls.clear();
        for round in 0..12 {
            for of in 0..self.workers.len() {
                self.workers[of].end_all(&mut self.requests);
                self.now.unix_ms += if round == 0 { CALL_MS + 1 } else { 1 };
                self.workers[of].give_up(self.now);
                if let Some(call) = self.workers[of].call(self.now, 0, true, &mut self.random) {
                    self.bank.take(self.now, call);
                }
                for reply in self.bank.commit(self.now, 99, false) {
                    self.receive(reply);
                }
            }
            self.now.unix_ms += 5_001;
        }
        self.now.unix_ms += 60_000;
        for _ in 0..3 {
            self.bank.expire(self.now, self.sabotage);
            self.bank.commit(self.now, 99, false);
            self.now.unix_ms += 10_001;
        }
    }

    /// What holds after every step.
    pub(super) fn check(&self) -> Result<(), String> {
        self.bank.check_books(self.now)?;
        for (budget, used) in self.bank.used(self.now) {
            let real = self.bank.real(&budget, &self.requests);
            if real > budget.amount {
                return Err(format!("{}: {real} of {} were admitted", budget.name, budget.amount));
            }
            if used < real {
                return Err(format!("{}: {used} are counted, {real} were used", budget.name));
            }
        }
        Ok(())
    }

    /// What holds when all is quiet, before a last crash and after it.
    pub(super) fn check_end(&mut self) -> Result<(), String> {
        self.check()?;
        self.check_acknowledged()?;
        // What a worker asked or said and did not live to hear acknowledged may be lost; so may what it says too late.
        let exact = self.deaths == 0 && self.bank.longest_ms > 100_000;
        let before = self.bank.used(self.now);
        self.bank.restart(self.now);
        self.check()?;
        let after: Vec<u64> = self.bank.used(self.now).into_iter().map(|(_, used)| used).collect();
        for ((budget, used), again) in before.into_iter().zip(after) {
            let real = self.bank.real(&budget, &self.requests);
            if exact && (used != real || again != real) {
                let name = budget.name;
                return Err(format!(
                    "{name}: {real} were used, {used} counted, {again} after a crash, and nobody died"
                ));
            }
        }
        self.now.unix_ms += 700_000;
        self.bank.expire(self.now, self.sabotage);
        self.bank.commit(self.now, 99, false);
        self.check()?;
        if self.bank.outstanding() > 0 { Err("something is still outstanding".into()) } else { Ok(()) }
    }

    /// Every settlement that was acknowledged is in the audit log once, as it was.
    fn check_acknowledged(&self) -> Result<(), String> {
        let lines = self.bank.charged();
        for request in self.requests.values().filter(|request| request.acknowledged) {
            let id = request.lease.request(request.number);
            let line = lines.get(&id).copied();
            if line != request.charge && !self.bank.may_forget(request.lease, request.number) {
                return Err(format!("{id:?}: {line:?} in the audit log, {:?} acknowledged", request.charge));
            }
        }
        Ok(())
    }
}
