//! What the state file holds: durability, groups, one writer, one process.

mod crash;
mod durable;
mod jobs;
mod keys;
mod leases;
mod migration;
mod reports;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use gateway_core::gate::{Cost, Outcome, Usage};
use gateway_core::name::{ModelName, TenantName};
use jiff::tz::TimeZone;
use tempfile::TempDir;

use super::*;
use crate::ledger::{GrantId, Ledger, Now, Reservation, Subject};
use crate::registry::{Counts, Limit, Refill, Scope, Window};

/// 2026-11-22T12:00:00Z.
pub(super) const NOON: u64 = 1_795_348_800_000;

pub(super) fn id(n: u16) -> GrantId {
    let mut id = [7; 16];
    id[..2].copy_from_slice(&n.to_be_bytes());
    GrantId(id)
}

pub(super) fn cost(tokens: u64) -> Cost {
    Cost { tokens, gpu_ms: tokens * 2, micro_usd: tokens * 3, requests: 1 }
}

pub(super) fn allow(n: u16) -> AuditRecord {
    AuditRecord {
        at_ms: NOON,
        request_id: format!("r-{n}"),
        tenant: "acme".into(),
        principal: "ana".into(),
        decision: Decision::Allow,
        model: "llama".into(),
        proxy: "edge-1".into(),
        grant_id: Some(id(n)),
        reserved: Some(cost(50)),
        ..AuditRecord::default()
    }
}

pub(super) fn deny(n: u16, code: &str) -> AuditRecord {
    AuditRecord { decision: Decision::Deny, code: code.into(), status: 429, grant_id: None, reserved: None, ..allow(n) }
}

pub(super) fn daily() -> Limit {
    Limit {
        name: "daily".into(),
        counts: Counts::Tokens,
        scope: Scope::Tenant,
        amount: 1_000_000,
        refill: Refill::Window(Window::Day),
    }
}

pub(super) fn per_minute() -> Limit {
    let refill = Refill::Rate(Duration::from_secs(60));
    Limit { name: "rate".into(), amount: 100, refill, ..daily() }
}

/// A reservation of 50 tokens as a ledger makes it.
pub(super) fn reservation(n: u16) -> Reservation {
    let (tenant, model) = (TenantName::parse("acme").unwrap(), ModelName::parse("llama").unwrap());
    let limits = [daily(), Limit { name: "money".into(), counts: Counts::MicroUsd, ..daily() }, per_minute()];
    let subject = Subject {
        tenant: &tenant,
        time_zone: &TimeZone::UTC,
        principal: "ana",
        key_id: None,
        model: &model,
        limits: &limits,
        key_limits: &[],
        watched: &[],
        longest_stream: Duration::from_secs(3600),
    };
    let terms = crate::ledger::test_terms(cost(50));
    Ledger::default().reserve(Now { unix_ms: NOON }, id(n), &subject, cost(50), terms, "edge-1").unwrap().reservation
}

pub(super) fn admit(n: u16) -> Command {
    Command::Decision(Box::new(allow(n)), Some(Box::new(reservation(n))))
}

pub(super) fn settle(n: u16, tokens: u64) -> Command {
    Command::Settle(Box::new(Settle {
        grant_id: id(n),
        charge: cost(tokens),
        usage: Usage { input: 7, cached_input: 2, output: tokens, reasoning: 1 },
        estimated: false,
        outcome: Outcome::Answered,
        status: 200,
        denial: String::new(),
        details: "via_upstream".into(),
        duration_ms: 1234,
        at_ms: NOON + 5000,
    }))
}

/// Σ settled by what is counted.
pub(super) fn spent(restored: &Restored) -> Vec<(bool, u64)> {
    let budgets = restored.windows.iter().filter(|window| window.start_ms > 0);
    let mut spent: Vec<_> = budgets.map(|window| (window.key.contains("tokens"), window.settled)).collect();
    spent.sort_unstable();
    spent
}

/// A state file in a directory of its own.
pub(super) struct Bench {
    pub(super) directory: TempDir,
    pub(super) fault: Arc<Mutex<Fault>>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self { directory: TempDir::new().unwrap(), fault: Arc::new(Mutex::new(Fault::None)) }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("state.db")
    }

    pub(super) fn open(&self) -> (Store, Restored) {
        self.open_with(4096)
    }

    pub(super) fn open_with(&self, queue: usize) -> (Store, Restored) {
        let fault = Arc::clone(&self.fault);
        let fault = Arc::new(move || *fault.lock().unwrap());
        Store::open_with(&self.path(), StoreOptions { queue, fault, ..StoreOptions::default() }).unwrap()
    }

    pub(super) fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }
}

/// Waits without a runtime: the writer answers from its own thread.
pub(super) fn write(store: &Store, command: Command) -> Result<(), WriteError> {
    wait(store.submit(command)?)
}

pub(super) fn wait(receipt: Receipt) -> Result<(), WriteError> {
    receipt.0.blocking_recv().unwrap_or(Err(WriteError::Closed))
}
