//! One worker and the service: reports, leases, revocations; and the streams that wait for their answers.
//!
//! One call at a time: a lease is asked for with the report in front, so that what this worker has given back counts when
//! the service lends. The main thread's VM ticks too but serves nothing, and so says nothing.

use std::rc::Rc;

use gateway_core::denial::{Code, Denial, Words};
use gateway_core::gate::{Ask, Header, LeaseRequest, LeaseResponse, LimitRefusal, SyncRequest, SyncResponse};
use gpu_accounting::leases::Verdict;
use gpu_accounting::outbox::Reporter;
use prost::Message as _;

use crate::config::Config;
use crate::host;
use crate::host::gate::{Call, Service};
use crate::shared::{Due, Shared, WaitEnd, random};

/// Milliseconds between two looks at who has waited too long.
const TICK_MS: u64 = 100;

/// Streams that are let go or answered in one callback. The host does it behind the callback, each within the one before it:
/// some hundreds overflow its stack.
const AT_ONCE: usize = 8;

/// The worker's side of the Gate.
pub(crate) struct Worker {
    /// The root context's id.
    root: u32,
    config: Rc<Config>,
    service: Service,
    shared: Rc<Shared>,
    next_report_ms: u64,
}

impl Worker {
    /// Takes the VM's state over; a call that another root context has under way counts as failed.
    pub(crate) fn start(root: u32, config: Rc<Config>, shared: Rc<Shared>) -> Self {
        host::tick_every(TICK_MS.min(config.sync_interval_ms));
        // a queue wakes the root context that registered it: another configuration brings another one
        let name: String = shared.id.iter().map(|byte| format!("{byte:02x}")).collect();
        shared.queue.set(host::gate::register_queue(&format!("{name}-{root}")));
        let service = Service::new(&config.service);
        let worker = Self { root, config, service, shared, next_report_ms: 0 };
        if worker.shared.call.take().is_some() {
            worker.failed();
        }
        worker
    }

    /// `on_tick`
    pub(crate) fn tick(&mut self) {
        let now_ms = host::now_ms();
        let overdue = self.shared.pool.borrow_mut().overdue(self.config.lease_timeout_ms, now_ms);
        for waiter in overdue {
            self.end_waiting(waiter, Verdict::Unavailable);
        }
        self.note_cuts(now_ms);
        self.act();
        self.shared.held.borrow_mut().expire(now_ms);
        if self.shared.call.get().is_some() {
            return;
        }
        let due = now_ms >= self.next_report_ms;
        if due {
            self.next_report_ms = now_ms.saturating_add(self.config.sync_interval_ms).saturating_add(self.jitter());
        }
        if due || self.shared.pool.borrow().has_waiters() {
            self.call();
        }
    }

    /// `on_queue_ready`: somebody waits, or something is to be done or told at once.
    pub(crate) fn woken(&mut self) {
        self.act();
        self.call();
    }

    fn call(&mut self) {
        if self.shared.call.get().is_some() {
            return;
        }
        let now_ms = host::now_ms();
        let asks = self.shared.pool.borrow_mut().asks(now_ms, &mut random::<12>);
        let which = if asks.is_empty() { Call::Sync } else { Call::Lease };
        match self.report(now_ms, which == Call::Lease) {
            Some(report) => self.send(which, report, asks, now_ms),
            None if which == Call::Lease => self.failed(),
            None => {}
        }
    }

    /// `on_grpc_call_response`
    pub(crate) fn answered(&mut self, token: u32, status: u32, size: usize) {
        let Some((_, which)) = self.shared.call.get().filter(|(expected, _)| *expected == token) else { return };
        self.shared.call.set(None);
        let answer = if status == 0 { read(which, &host::gate::answered(size)) } else { None };
        let Some(LeaseResponse { report: Some(report), lents }) = answer else {
            log::warn!("the service did not take the report (gRPC status {status}): it is sent again");
            self.failed();
            return;
        };
        self.shared.outbox.borrow_mut().answered(true);
        self.shared.revocations.borrow_mut().told(&report);
        if which == Call::Lease {
            let verdicts = self.shared.pool.borrow_mut().answered(lents, host::now_ms());
            for (waiter, verdict) in verdicts {
                self.end_waiting(waiter, verdict);
            }
            self.act();
        }
        if self.shared.pool.borrow().has_waiters() || self.shared.outbox.borrow().is_urgent() {
            self.call();
        }
    }

    fn report(&self, now_ms: u64, for_lease: bool) -> Option<SyncRequest> {
        let closed = self.shared.pool.borrow_mut().closed(now_ms);
        let by = Reporter {
            proxy: &self.config.proxy,
            worker: &self.shared.id,
            epoch: self.shared.revocations.borrow().epoch(),
            now_ms,
            keep_alive: self.shared.keep_alive(),
        };
        let mut outbox = self.shared.outbox.borrow_mut();
        outbox.close(closed);
        if for_lease { outbox.report_for_lease(&by) } else { outbox.report(&by) }
    }

    fn send(&mut self, which: Call, report: SyncRequest, asks: Vec<Ask>, now_ms: u64) {
        self.shared.revocations.borrow_mut().sent(report.sequence, now_ms);
        let message = match which {
            Call::Sync => report.encode_to_vec(),
            Call::Lease => LeaseRequest { report: Some(report), asks }.encode_to_vec(),
        };
        let token = host::gate::call(&self.service, which, &self.config.proxy, &message);
        self.shared.call.set(token.map(|token| (token, which)));
        if token.is_none() {
            self.failed();
        }
    }

    /// The call did not succeed, or nobody knows: who waited for it is refused, what it told is told again.
    fn failed(&self) {
        self.shared.outbox.borrow_mut().answered(false);
        self.shared.revocations.borrow_mut().failed();
        let verdicts = self.shared.pool.borrow_mut().failed(host::now_ms());
        for (waiter, verdict) in verdicts {
            self.end_waiting(waiter, verdict);
        }
        self.act();
    }

    /// Notes how waiting has ended for a stream.
    fn end_waiting(&self, waiter: u32, verdict: Verdict) {
        let waiting = self.shared.waiting.borrow();
        let Some(wait) = waiting.get(&waiter) else { return };
        *wait.end.borrow_mut() = Some(match verdict {
            Verdict::Admitted(ticket) => {
                let limits = self.shared.pool.borrow().limits_now(&ticket, host::now_ms());
                WaitEnd::Admitted(ticket, limits)
            }
            Verdict::Refused(refusal) => refused(refusal),
            Verdict::Unavailable => {
                let denial = Denial::new(Code::ServiceUnavailable).detail("No lease came in time.");
                WaitEnd::Refused(denial, vec![Header { name: "retry-after".into(), value: "1".into() }])
            }
        });
        self.shared.due.borrow_mut().push_back(Due::Waited(waiter));
    }

    /// Notes streams whose credential is over by now. One that waits for a lease is looked at again once it does not.
    fn note_cuts(&self, now_ms: u64) {
        let mut cuts = self.shared.cuts.borrow_mut();
        let later = cuts.split_off(&(now_ms.saturating_add(1), 0));
        let over = std::mem::replace(&mut *cuts, later);
        let (waiting, mut due) = (self.shared.waiting.borrow(), self.shared.due.borrow_mut());
        for (at, cut) in over {
            if waiting.contains_key(&cut.stream()) {
                cuts.insert(at, cut);
            } else {
                due.push_back(Due::Over(cut));
            }
        }
    }

    /// Lets streams that waited go on, or answers them, and cuts others: a few at a time, the rest at the next wake-up.
    fn act(&self) {
        for _ in 0..AT_ONCE {
            let Some(due) = self.shared.due.borrow_mut().pop_front() else { return };
            let waiter = match due {
                Due::Waited(waiter) => waiter,
                Due::Over(cut) => {
                    // nobody else has it: the stream has ended meanwhile
                    if Rc::strong_count(&cut) > 1 {
                        host::gate::on_stream(self.root, cut.stream(), || cut.act());
                    }
                    continue;
                }
            };
            let Some(wait) = self.shared.waiting.borrow_mut().remove(&waiter) else { continue };
            let act = || match &*wait.end.borrow() {
                Some(WaitEnd::Admitted(..)) => host::gate::resume_request(),
                Some(WaitEnd::Refused(denial, headers)) => {
                    let words = Words::from(wait.grant.held.grant.words.as_ref());
                    let headers: Vec<_> =
                        headers.iter().map(|each| (each.name.as_str(), each.value.as_str())).collect();
                    host::refuse(denial, &words.body(denial, &wait.request_id), &headers);
                }
                None => {}
            };
            host::gate::on_stream(self.root, waiter, act);
            wait.acted.set(true);
        }
        if !self.shared.due.borrow().is_empty() {
            self.shared.wake();
        }
    }

    /// Up to 63 ms, so that workers do not report in step.
    fn jitter(&self) -> u64 {
        u64::from(self.shared.id.first().copied().unwrap_or_default() & 63)
    }
}

/// The answer to either call, in the form of the longer one.
fn read(which: Call, message: &[u8]) -> Option<LeaseResponse> {
    match which {
        Call::Sync => Some(LeaseResponse { report: SyncResponse::decode(message).ok(), lents: Vec::new() }),
        Call::Lease => LeaseResponse::decode(message).ok(),
    }
}

/// A limit's refusal as the client hears it; a code that this module does not know is no reason to go on.
fn refused(refusal: LimitRefusal) -> WaitEnd {
    let mut denial = Denial::new(Code::named(&refusal.code).unwrap_or(Code::ServiceUnavailable)).detail(refusal.detail);
    if !refusal.param.is_empty() {
        denial = denial.param(refusal.param);
    }
    WaitEnd::Refused(denial, header_hardening::refusal_headers(refusal.headers))
}
