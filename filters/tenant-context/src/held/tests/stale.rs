//! The stale-accept harness: a service, one worker, and everything between them late or out of order. A held grant must
//! not admit a credential that was revoked before a `Sync` was sent that has been answered.

use super::*;

/// What is broken on purpose: the harness must be able to see it.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The worker is not told of revocations.
    NotTold,
    /// The service reads its epoch after it has decided.
    EpochReadLate,
    /// A revocation raises the epoch before decisions see it.
    RaisedEarly,
    /// A report counts from its answer, not from its sending.
    FreshByAnswer,
}

const CREDENTIALS: usize = 12;
const STEPS: usize = 10_000;

/// What is under way, and when it gets where it goes.
enum Event {
    /// The service begins to decide.
    Read { credential: usize },
    /// The service has read one of the two; now the other.
    Decide { credential: usize, epoch: Option<u64>, valid: Option<bool> },
    /// The answer of a Check arrives.
    Granted { credential: usize, epoch: u64 },
    /// The second half of a revocation.
    Raise { credential: usize },
    /// A report arrives at the service.
    Asked { sequence: u64, epoch: u64, sent_ms: u64 },
    /// Its answer arrives; `None`: it failed.
    Told { answer: Option<SyncResponse>, sent_ms: u64 },
}

struct World {
    fault: Fault,
    dice: u64,
    now_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    // the service
    valid: [bool; CREDENTIALS],
    /// When a revocation was acknowledged that has not been taken back.
    revoked_ms: [Option<u64>; CREDENTIALS],
    epoch: u64,
    log: Vec<Revocation>,
    // the worker
    grants: HeldGrants<u64>,
    known: Revocations,
    reporting: bool,
    outage_until_ms: u64,
    /// The latest sending of a report that has been answered.
    synced_ms: u64,
    // what came of it
    stale: usize,
    late: usize,
    held: usize,
    asked: usize,
}

fn name(credential: usize) -> (String, String) {
    (format!("tenant-{}", credential % 3), format!("k{credential}"))
}

impl World {
    fn new(seed: u64, fault: Fault) -> Self {
        Self {
            fault,
            dice: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            now_ms: 1_000,
            events: BTreeMap::new(),
            count: 0,
            valid: [true; CREDENTIALS],
            revoked_ms: [None; CREDENTIALS],
            epoch: 1,
            log: Vec::new(),
            grants: HeldGrants::new(10, MOST_BYTES),
            known: Revocations::default(),
            reporting: false,
            outage_until_ms: 0,
            synced_ms: 0,
            stale: 0,
            late: 0,
            held: 0,
            asked: 0,
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        (self.dice.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn any(&mut self) -> usize {
        usize::try_from(self.roll(CREDENTIALS as u64)).unwrap()
    }

    /// Mostly quick, sometimes very late.
    fn later(&mut self, event: Event) {
        let most = if self.roll(8) == 0 { 1_500 } else { 40 };
        self.count += 1;
        let at = self.now_ms + self.roll(most);
        self.events.insert((at, self.count), event);
    }

    fn step(&mut self) {
        self.now_ms += self.roll(12);
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now_ms) {
            let event = entry.remove();
            self.happen(event);
        }
        match self.roll(200) {
            0 => self.revoke(),
            1 => self.grant_again(),
            2 => self.outage_until_ms = self.now_ms + self.roll(6) * 700,
            3..=8 => self.report(),
            _ => self.request(),
        }
    }

    fn request(&mut self) {
        let credential = self.any();
        let path = format!("/{credential}");
        if self.grants.get(&key(&path), &mut self.known, self.now_ms).is_none() {
            self.asked += 1;
            return self.later(Event::Read { credential });
        }
        self.held += 1;
        if let Some(revoked_ms) = self.revoked_ms[credential] {
            self.stale += usize::from(revoked_ms < self.synced_ms);
            self.late += usize::from(self.now_ms - revoked_ms > crate::revocations::FRESH_MS);
        }
    }

    fn report(&mut self) {
        if self.reporting {
            return;
        }
        self.reporting = true;
        self.count += 1;
        let (sequence, sent_ms) = (self.count, self.now_ms);
        self.known.sent(sequence, sent_ms);
        self.later(Event::Asked { sequence, epoch: self.known.epoch(), sent_ms });
    }

    fn revoke(&mut self) {
        let credential = self.any();
        if !self.valid[credential] {
            return;
        }
        if self.fault == Fault::RaisedEarly {
            self.raise(credential);
        } else {
            self.valid[credential] = false;
        }
        self.later(Event::Raise { credential });
    }

    fn raise(&mut self, credential: usize) {
        self.epoch += 1;
        let (tenant, key_id) = name(credential);
        self.log.push(Revocation { epoch: self.epoch, tenant, key_id });
    }

    fn grant_again(&mut self) {
        let credential = self.any();
        // not while its revocation is still under way
        if self.revoked_ms[credential].take().is_some() {
            self.valid[credential] = true;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Read { credential } => {
                let late = self.fault == Fault::EpochReadLate;
                let (epoch, valid) = if late { (None, Some(self.valid[credential])) } else { (Some(self.epoch), None) };
                self.later(Event::Decide { credential, epoch, valid });
            }
            Event::Decide { credential, epoch, valid } => {
                let (epoch, valid) = (epoch.unwrap_or(self.epoch), valid.unwrap_or(self.valid[credential]));
                if valid {
                    self.later(Event::Granted { credential, epoch });
                }
            }
            Event::Granted { credential, epoch } => {
                let (tenant, key_id) = name(credential);
                let held = received(Grant { tenant, key_id, epoch, hold_ms: 8_000, ..grant() }, self.now_ms);
                self.grants.insert(key(&format!("/{credential}")), held, self.now_ms);
            }
            Event::Raise { credential } => {
                if self.fault == Fault::RaisedEarly {
                    self.valid[credential] = false;
                } else {
                    self.raise(credential);
                }
                self.revoked_ms[credential] = Some(self.now_ms);
            }
            Event::Asked { sequence, epoch, sent_ms } => {
                let since = |one: &&Revocation| one.epoch > epoch && self.fault != Fault::NotTold;
                let revocations = self.log.iter().filter(since).cloned().collect();
                let epoch = if self.fault == Fault::NotTold { 1 } else { self.epoch };
                let answer = SyncResponse { sequence, epoch, revocations, floor: 0 };
                let lost = self.now_ms < self.outage_until_ms;
                self.later(Event::Told { answer: Some(answer).filter(|_| !lost), sent_ms });
            }
            Event::Told { answer, sent_ms } => {
                self.reporting = false;
                let Some(answer) = answer else { return self.known.failed() };
                if self.fault == Fault::FreshByAnswer {
                    self.known.sent(answer.sequence, self.now_ms);
                }
                self.known.told(&answer);
                self.synced_ms = sent_ms;
            }
        }
    }
}

/// Over all seeds: stale accepts, accepts longer after a revocation than knowledge may be old, held, asked.
fn run(seeds: u64, fault: Fault) -> [usize; 4] {
    let mut sums = [0; 4];
    for seed in 1..=seeds {
        let mut world = World::new(seed, fault);
        (0..STEPS).for_each(|_| world.step());
        let came = [world.stale, world.late, world.held, world.asked];
        sums.iter_mut().zip(came).for_each(|(sum, one)| *sum += one);
    }
    sums
}

#[test]
fn no_stale_accept_while_the_worker_is_told() {
    let [stale, late, held, asked] = run(12, Fault::None);
    assert_eq!((stale, late), (0, 0));
    assert!(held > 20_000 && asked > 4_000, "both ways are taken: {held} held, {asked} asked");
}

#[test]
fn the_harness_sees_what_is_broken() {
    let [stale, late, ..] = run(2, Fault::NotTold);
    assert!(stale > 100 && late > 100, "not told: {stale} {late}");
    for fault in [Fault::EpochReadLate, Fault::RaisedEarly] {
        let [stale, ..] = run(12, fault);
        assert!(stale > 0);
    }
    let [stale, late, ..] = run(12, Fault::FreshByAnswer);
    assert!(stale == 0 && late > 0, "fresh by answer: {stale} {late}");
}
