//! What is counted over whom: the identity of a counter, its text for the store, and a reservation's hold on it.
//!
//! A counter is named by what it counts, not by the limit's name: renaming a limit or changing its amount gives
//! nobody a fresh budget, and two limits over the same thing share one count.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::gate::Cost;
use gateway_core::name::TenantName;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::rate::Pace;
use super::{Now, Subject, amount_of, window};
use crate::registry::{Counts, Limit, Refill, Scope, Watch, Window};

/// Identity of a counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CounterKey {
    tenant: TenantName,
    counts: Counts,
    refill: Refilled,
    scope: Scope,
    /// The scope's value: a principal, a key id, a model; empty for the tenant.
    value: Box<str>,
    /// Set where the limit is a credential's own: then only what that key, or that principal, does is counted.
    own: Option<Box<str>>,
}

/// A text that names no counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no counter")]
pub struct BadKey(String);

/// How a counter comes back. A rate's pace is part of its identity: its state has no meaning under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Refilled {
    Window(Window),
    Rate { amount: u64, per: Duration },
    InFlight,
}

/// One reservation's hold on one counter. In the store: `[key, start_ms, end_ms]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(String, u64, u64)", try_from = "(String, u64, u64)")]
pub struct Hold {
    /// Which counter.
    pub key: Arc<CounterKey>,
    /// Start of the window that was taken from, milliseconds since 1970; 0 where there is none.
    pub start_ms: u64,
    /// Its end; 0 where there is none.
    pub end_ms: u64,
}

impl Hold {
    /// How much of `cost` this budget's window counts; `None` where the hold is not on a budget.
    #[must_use]
    pub fn budget_amount(&self, cost: &Cost) -> Option<u64> {
        matches!(self.key.refill, Refilled::Window(_)).then(|| amount_of(cost, self.key.counts))
    }

    /// For how long the whole of `cost` keeps this rate busy; `None` where the hold is not on a rate.
    #[must_use]
    pub fn rate_time(&self, cost: &Cost) -> Option<Duration> {
        self.key.pace().map(|pace| pace.time_of(amount_of(cost, self.key.counts)))
    }

    /// The hold that a request has on a limit's counter; `own`: the limit is its credential's.
    pub(super) fn new(limit: &Limit, subject: &Subject<'_>, own: bool, now: Now) -> Self {
        let (scope, value) = match (limit.scope, subject.key_id) {
            (Scope::Tenant, _) => (Scope::Tenant, ""),
            (Scope::Key, Some(key)) => (Scope::Key, key),
            (Scope::Principal, _) | (Scope::Key, None) => (Scope::Principal, subject.principal),
            (Scope::Model, _) => (Scope::Model, subject.model.as_str()),
        };
        let credential = || match subject.key_id {
            Some(key) => format!("key {key}"),
            None => format!("principal {}", subject.principal),
        };
        let own = own.then(|| credential().into());
        let key = CounterKey::new(limit, subject.tenant, scope, value, own);
        Self::at(key, limit, subject.time_zone, now)
    }

    /// The hold that a principal's requests have on what is watched.
    pub(super) fn watched(watch: &Watch, tenant: &TenantName, principal: &str, zone: &TimeZone, now: Now) -> Self {
        let (scope, value) = if watch.each_principal { (Scope::Principal, principal) } else { (Scope::Tenant, "") };
        let refill = Refill::Window(watch.window);
        let limit = Limit { name: String::new(), counts: watch.counts, scope, amount: u64::MAX, refill };
        Self::at(CounterKey::new(&limit, tenant, scope, value, None), &limit, zone, now)
    }

    /// The hold that every request of a tenant has on a tenant-wide limit's counter.
    pub(super) fn of_tenant(limit: &Limit, tenant: &TenantName, zone: &TimeZone, now: Now) -> Self {
        Self::at(CounterKey::new(limit, tenant, Scope::Tenant, "", None), limit, zone, now)
    }

    fn at(key: CounterKey, limit: &Limit, zone: &TimeZone, now: Now) -> Self {
        let (start_ms, end_ms) = match limit.refill {
            Refill::Window(window) => {
                let span = window::span(window, now, zone);
                (span.start_ms, span.end_ms)
            }
            Refill::Rate(_) | Refill::InFlight => (0, 0),
        };
        Self { key: Arc::new(key), start_ms, end_ms }
    }
}

impl CounterKey {
    fn new(limit: &Limit, tenant: &TenantName, scope: Scope, value: &str, own: Option<Box<str>>) -> Self {
        let refill = match limit.refill {
            Refill::Window(window) => Refilled::Window(window),
            Refill::Rate(per) => Refilled::Rate { amount: limit.amount, per },
            Refill::InFlight => Refilled::InFlight,
        };
        Self { tenant: tenant.clone(), counts: limit.counts, refill, scope, value: value.into(), own }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn refill(&self) -> Refilled {
        self.refill
    }

    pub(super) fn pace(&self) -> Option<Pace> {
        match self.refill {
            Refilled::Rate { amount, per } => Some(Pace { amount, per }),
            Refilled::Window(_) | Refilled::InFlight => None,
        }
    }

    /// The text that the store keeps: a JSON array, so that no value can be read as another.
    #[must_use]
    pub fn to_text(&self) -> String {
        let refill = match self.refill {
            Refilled::Window(window) => name_of(WINDOWS, window).to_owned(),
            Refilled::Rate { amount, per } => format!("rate {amount} {}", per.as_nanos()),
            Refilled::InFlight => IN_FLIGHT.to_owned(),
        };
        let (counts, scope) = (name_of(COUNTS, self.counts), name_of(SCOPES, self.scope));
        let parts = (self.tenant.as_str(), counts, refill, scope, &*self.value, self.own.as_deref());
        serde_json::to_string(&parts).unwrap_or_default()
    }

    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    /// [`BadKey`] on any other text.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        Self::try_parse(text).ok_or_else(|| BadKey(text.to_owned()))
    }

    fn try_parse(text: &str) -> Option<Self> {
        type Parts = (String, String, String, String, Box<str>, Option<Box<str>>);
        let (tenant, counts, refill, scope, value, own): Parts = serde_json::from_str(text).ok()?;
        Some(Self {
            tenant: TenantName::parse(&tenant).ok()?,
            counts: named(COUNTS, &counts)?,
            refill: parse_refill(&refill)?,
            scope: named(SCOPES, &scope)?,
            value,
            own,
        })
    }
}

impl From<Hold> for (String, u64, u64) {
    fn from(hold: Hold) -> Self {
        (hold.key.to_text(), hold.start_ms, hold.end_ms)
    }
}

impl TryFrom<(String, u64, u64)> for Hold {
    type Error = BadKey;

    fn try_from((key, start_ms, end_ms): (String, u64, u64)) -> Result<Self, BadKey> {
        Ok(Self { key: Arc::new(CounterKey::parse(&key)?), start_ms, end_ms })
    }
}

const IN_FLIGHT: &str = "in_flight";
const WINDOWS: &[(&str, Window)] =
    &[("minute", Window::Minute), ("hour", Window::Hour), ("day", Window::Day), ("month", Window::Month)];
const COUNTS: &[(&str, Counts)] = &[
    ("gpu_ms", Counts::GpuMs),
    ("tokens", Counts::Tokens),
    ("micro_usd", Counts::MicroUsd),
    ("requests", Counts::Requests),
];
const SCOPES: &[(&str, Scope)] =
    &[("tenant", Scope::Tenant), ("principal", Scope::Principal), ("key", Scope::Key), ("model", Scope::Model)];

fn name_of<T: PartialEq>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, each)| *each == value).map_or("", |(name, _)| name)
}

fn named<T: Copy>(table: &[(&'static str, T)], name: &str) -> Option<T> {
    table.iter().find(|(each, _)| *each == name).map(|(_, value)| *value)
}

fn parse_refill(text: &str) -> Option<Refilled> {
    if let Some(rate) = text.strip_prefix("rate ") {
        let (amount, per) = rate.split_once(' ')?;
        return Some(Refilled::Rate { amount: amount.parse().ok()?, per: from_nanos(per.parse().ok()?)? });
    }
    if text == IN_FLIGHT { Some(Refilled::InFlight) } else { named(WINDOWS, text).map(Refilled::Window) }
}

fn from_nanos(ns: u128) -> Option<Duration> {
    let (seconds, rest) = (ns.checked_div(1_000_000_000)?, ns.checked_rem(1_000_000_000)?);
    Some(Duration::new(u64::try_from(seconds).ok()?, u32::try_from(rest).ok()?))
}
