//! The service's side: a ledger, its state file, and what was taken into the one and is not in the other yet.

mod count;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gateway_core::gate::{Outcome, Usage};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::book::Entry;
use super::*;
use crate::store::{AuditRecord, Command, Decision, Fault, LeasedEnd, Settle, Store, StoreOptions};

/// What a worker sends.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) worker: [u8; 16],
    pub(super) sequence: u64,
    pub(super) endings: Vec<Ending>,
    pub(super) closings: Vec<Closing>,
    pub(super) asks: Vec<Asking>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ending {
    pub(super) lease: LeaseId,
    pub(super) number: u32,
    pub(super) reserved: Cost,
    pub(super) charge: Cost,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Closing {
    pub(super) lease: LeaseId,
    pub(super) taken: Cost,
}

#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) lease: LeaseId,
    pub(super) set: u64,
    pub(super) needs: Vec<Cost>,
    pub(super) extra: Cost,
}

/// What it is answered; no `lents`: the call failed.
pub(super) struct Reply {
    pub(super) worker: [u8; 16],
    pub(super) sequence: u64,
    pub(super) lents: Option<Vec<Lent>>,
}

/// A budget, in the window that holds the present.
pub(super) struct Budget {
    pub(super) name: String,
    pub(super) amount: u64,
    hold: Hold,
    counts: Counts,
}

/// Taken into the ledger, and not committed yet.
#[derive(Default)]
struct Job {
    commands: Vec<Command>,
    entries: Vec<Entry>,
    reply: Option<Reply>,
}

pub(super) struct Bank {
    directory: TempDir,
    runtime: Runtime,
    fails: Arc<AtomicBool>,
    store: Option<Store>,
    ledger: Ledger,
    limits: Vec<Limit>,
    pub(super) longest_ms: u64,
    jobs: VecDeque<Job>,
    /// What the ledger was told, and what the state file was.
    told: Book,
    kept: Book,
    leases: BTreeMap<LeaseId, Lease>,
    wrong: Option<String>,
}

impl Bank {
    pub(super) fn new(random: &mut Random) -> Self {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let minute = Refill::Window(Window::Minute);
        let mut limits = vec![
            daily(300 + random.below(1500)),
            limit("minute", Counts::MicroUsd, Scope::Principal, 300 + random.below(1500), minute),
            in_flight(3 + random.below(20)),
        ];
        limits.truncate(2 + random.index(2));
        let mut bank = Self {
            directory,
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            fails: Arc::default(),
            store: None,
            ledger: Ledger::default(),
            limits,
            longest_ms: if random.one_in(3) { 20_000 } else { 600_000 },
            jobs: VecDeque::new(),
            told: Book::default(),
            kept: Book::default(),
            leases: BTreeMap::new(),
            wrong: None,
        };
        bank.restart(NOON);
        bank
    }

    /// What was in memory is gone, with everything that was not committed.
    pub(super) fn restart(&mut self, now: Now) {
        self.jobs.clear();
        self.store = None;
        self.fails.store(false, Ordering::Relaxed);
        let fails = Arc::clone(&self.fails);
        let fault = move || if fails.swap(false, Ordering::Relaxed) { Fault::FailCommit } else { Fault::None };
        let options = StoreOptions { fault: Arc::new(fault), ..StoreOptions::default() };
        let (store, restored) = Store::open_with(&self.directory.path().join("state.db"), options).unwrap();
        self.ledger = Ledger::default();
        self.ledger.restore(now, &restored.windows, []).unwrap();
        self.ledger.restore_leases(now, restored.leases);
        self.store = Some(store);
        self.told = self.kept.clone();
    }

    pub(super) fn fail_next(&mut self) {
        self.fails.store(true, Ordering::Relaxed);
    }

    /// One call, as the Gate takes it.
    pub(super) fn take(&mut self, now: Now, call: Call) {
        let holder = Holder { proxy: PROXY.into(), worker: call.worker };
        let mut job = Job::default();
        for ending in call.endings {
            self.settle(now, &holder, &ending, &mut job);
        }
        for Closing { lease, taken } in call.closings {
            let expired = self.told.expires_at_close(lease, now, self.longest_ms);
            if let Some(account) = self.ledger.close_lease(now, lease, &holder, taken) {
                if account.expired != expired {
                    self.wrong = Some(format!("{lease:?} was closed: expired is {}", account.expired));
                }
                let taken = account.closed.unwrap();
                job.commands.push(Command::CloseLease { id: lease, taken, expired, at_ms: now.unix_ms });
                job.entries.push(Entry::Closed { lease, taken, expired });
                self.told.apply(job.entries.last().unwrap());
            }
        }
        let lents = call.asks.into_iter().map(|ask| self.lend(now, &holder, &ask, &mut job)).collect();
        job.reply = Some(Reply { worker: call.worker, sequence: call.sequence, lents: Some(lents) });
        self.jobs.push_back(job);
    }

    fn settle(&mut self, now: Now, holder: &Holder, ending: &Ending, job: &mut Job) {
        let Ending { lease, number, reserved, charge } = *ending;
        let Some(settled) = self.ledger.settle_leased(now, lease, holder, number, reserved, charge) else {
            if !self.told.has(lease, number) && !self.forgets() {
                self.wrong = Some(format!("the settlement of {number} on {lease:?} was ignored"));
            }
            return;
        };
        let settle = Settle {
            grant_id: lease.request(number),
            charge: settled.charge,
            usage: Usage::default(),
            estimated: false,
            outcome: Outcome::Answered,
            status: 200,
            denial: String::new(),
            details: String::new(),
            duration_ms: 0,
            at_ms: now.unix_ms,
        };
        let record = AuditRecord { decision: Decision::Allow, ..AuditRecord::default() };
        job.commands.push(Command::SettleLeased(Box::new(LeasedEnd {
            lease,
            record,
            reserved: settled.reserved,
            settle,
        })));
        job.entries.push(Entry::Settled { lease, number, reserved: settled.reserved, charge: settled.charge });
        self.told.apply(job.entries.last().unwrap());
    }

    fn lend(&mut self, now: Now, holder: &Holder, ask: &Asking, job: &mut Job) -> Lent {
        let price = terms(cost(1)).cost;
        let (id, needs, extra) = (ask.lease, ask.needs.as_slice(), ask.extra);
        let asked = Asked { id, holder, scope_set: "s", needs, extra, cost: &price };
        let lent = self.with_subject(ask.set, |subject| self.ledger.lend(now, &asked, subject));
        if let Some(lease) = &lent.record {
            let (amount, expires_ms) = (lease.account.lent, lease.expires_ms);
            job.commands.push(Command::Lend(Box::new(lease.clone())));
            job.entries.push(Entry::Lent { lease: id, amount, expires_ms });
            self.told.apply(job.entries.last().unwrap());
            self.leases.insert(id, lease.clone());
        }
        if let Some((over, used)) = self.used(now).into_iter().find(|(budget, used)| *used > budget.amount) {
            self.wrong = Some(format!("{}: {used} of {} are lent or spent", over.name, over.amount));
        }
        lent
    }

    /// Commits the oldest jobs, and answers them.
    pub(super) fn commit(&mut self, now: Now, most: u64, unsaved: bool) -> Vec<Reply> {
        let most = usize::try_from(most).unwrap().min(self.jobs.len());
        let jobs: Vec<Job> = self.jobs.drain(..most).collect();
        jobs.into_iter().filter_map(|job| self.commit_one(now, job, unsaved)).collect()
    }

    fn commit_one(&mut self, now: Now, job: Job, unsaved: bool) -> Option<Reply> {
        let store = self.store.as_ref().unwrap();
        let saved = unsaved || self.runtime.block_on(store.write(Command::Batch(job.commands))).is_ok();
        if !saved {
            return job.reply.map(|reply| Reply { lents: None, ..reply });
        }
        for entry in &job.entries {
            self.kept.apply(entry);
            match *entry {
                Entry::Lent { .. } => {}
                Entry::Settled { lease, number, .. } => self.ledger.confirm_settled(now, lease, number),
                Entry::Closed { lease, .. } => self.ledger.confirm_closed(now, lease),
                Entry::Expired { lease } => self.ledger.confirm_expired(now, lease),
            }
        }
        job.reply
    }

    /// What the clock does once a second.
    pub(super) fn expire(&mut self, now: Now, sabotage: Sabotage) {
        assert_eq!(self.ledger.expire(now), []);
        let mut job = Job::default();
        for lease in self.ledger.expire_leases(now) {
            if sabotage == Sabotage::FreedAtExpiry {
                let (holder, taken) = (self.leases[&lease].holder.clone(), Cost::default());
                self.ledger.close_lease(now, lease, &holder, taken);
                job.commands.push(Command::CloseLease { id: lease, taken, expired: false, at_ms: now.unix_ms });
                job.entries.push(Entry::Closed { lease, taken, expired: false });
            } else {
                job.commands.push(Command::SpendLease { id: lease, at_ms: now.unix_ms });
                job.entries.push(Entry::Expired { lease });
            }
            self.told.apply(job.entries.last().unwrap());
        }
        self.jobs.push_back(job);
        let overdue = self.told.overdue(now, self.longest_ms);
        if !overdue.is_empty() {
            self.wrong = Some(format!("{overdue:?} should have become spend"));
        }
    }
}
