//! What the ledger holds: at every admission, over every turn of a reservation, across restarts.
#![allow(clippy::arithmetic_side_effects, reason = "small numbers of the tests' own")]

mod admission;
mod charge;
mod history;
mod lease;
mod model;
mod presence;
mod restart;
mod settlement;

use super::*;
use crate::registry::{Scope, Window};
use gateway_core::gate::Cost;
use gateway_core::price::{ModelCost, Prices, Terms};

/// 2026-11-22T12:00:00Z, a Sunday.
pub(super) const NOON: Now = Now { unix_ms: 1_795_348_800_000 };
pub(super) const PROXY: &str = "edge-1";
pub(super) const HOUR_MS: u64 = 3_600_000;

pub(super) fn after(ms: u64) -> Now {
    Now { unix_ms: NOON.unix_ms + ms }
}

pub(super) fn id(n: u8) -> GrantId {
    GrantId([n; 16])
}

pub(super) fn cost(tokens: u64) -> Cost {
    Cost { tokens, gpu_ms: tokens * 2, micro_usd: tokens * 3, requests: 1 }
}

pub(super) fn limit(name: &str, counts: Counts, scope: Scope, amount: u64, refill: Refill) -> Limit {
    Limit { name: name.to_owned(), counts, scope, amount, refill }
}

pub(super) fn daily(amount: u64) -> Limit {
    limit("tokens-per-day", Counts::Tokens, Scope::Tenant, amount, Refill::Window(Window::Day))
}

pub(super) fn rate(counts: Counts, amount: u64) -> Limit {
    limit("rate", counts, Scope::Tenant, amount, Refill::Rate(Duration::from_secs(60)))
}

pub(super) fn in_flight(amount: u64) -> Limit {
    limit("at-once", Counts::Requests, Scope::Tenant, amount, Refill::InFlight)
}

/// A ledger and one caller of it.
pub(super) struct Bench {
    pub(super) ledger: Ledger,
    pub(super) tenant: TenantName,
    pub(super) zone: TimeZone,
    pub(super) model: ModelName,
    pub(super) principal: &'static str,
    pub(super) key: Option<&'static str>,
    pub(super) limits: Vec<Limit>,
    pub(super) key_limits: Vec<Limit>,
}

impl Bench {
    pub(super) fn new(limits: Vec<Limit>) -> Self {
        let (tenant, model) = (TenantName::parse("acme").unwrap(), ModelName::parse("llama").unwrap());
        let ledger = Ledger::default();
        let zone = TimeZone::UTC;
        Self { ledger, tenant, zone, model, principal: "ana", key: Some("k1"), limits, key_limits: Vec::new() }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            tenant: &self.tenant,
            time_zone: &self.zone,
            principal: self.principal,
            key_id: self.key,
            model: &self.model,
            limits: &self.limits,
            key_limits: &self.key_limits,
            watched: &[],
            longest_stream: Duration::from_secs(3600),
        }
    }

    pub(super) fn reserve(&self, now: Now, n: u8, cost: Cost) -> Result<Reserved, Refused> {
        self.ledger.reserve(now, id(n), &self.subject(), cost, terms(cost), PROXY)
    }

    pub(super) fn left(&self, now: Now) -> Vec<u64> {
        self.ledger.peek(now, &self.subject()).iter().map(|state| state.left).collect()
    }
}

/// Any price will do: what a charge is, others decide.
pub(crate) fn terms(reserved: Cost) -> Terms {
    let prices = Prices {
        gpu_ms_per_1k_input: 1,
        gpu_ms_per_1k_output: 1,
        gpu_ms_fixed: 0,
        gpu_weight_permille: 1000,
        micro_usd_per_1m_input: 1,
        micro_usd_per_1m_cached_input: 1,
        micro_usd_per_1m_output: 1,
        micro_usd_fixed: 0,
        min_bytes_per_token: 1,
        mean_bytes_per_token: 4,
        media_tokens: None,
    };
    Terms { cost: ModelCost::new(prices).unwrap(), reserved, input_estimate: 7 }
}
