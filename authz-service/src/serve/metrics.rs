//! What `/metrics` shows: counts and times of the service as a whole. No label ever names a tenant, a key or a model.

mod http;

use std::fmt;
use std::time::Duration;

use gateway_core::gate::Outcome;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use http::{HttpError, Phase, Readiness, bind_http, http_router};

/// The service's metrics; every method is cheap, and none fails or waits.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    check_seconds: Histogram,
    commit_seconds: Histogram,
    commit_records: Histogram,
    settlements: Family<SettlementLabels, Counter>,
    syncs: Family<ResultLabels, Counter>,
    leases: Family<ResultLabels, Counter>,
    rate_limits: Family<RateLimitLabels, Counter>,
    refusals: Counter,
    refusals_lost: Counter,
    reservations: Gauge,
    resources: Family<KindLabels, Gauge>,
    reload_ok: Gauge,
    reloads: Family<ResultLabels, Counter>,
    issuer_readings: Family<ResultLabels, Counter>,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Decided {
    /// Let through.
    Allow,
    /// Refused.
    Deny,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    decision: Decided,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SettlementLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RateLimitLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

impl Metrics {
    /// All metrics, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("bulkhead");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "This binary", build);
        let mut metrics = Self {
            requests: Family::default(),
            // 50 µs to 1.6 s: Envoy gives a check 250 ms.
            check_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 16)),
            commit_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 16)),
            commit_records: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            settlements: Family::default(),
            syncs: Family::default(),
            leases: Family::default(),
            rate_limits: Family::default(),
            refusals: Counter::default(),
            refusals_lost: Counter::default(),
            reservations: Gauge::default(),
            resources: Family::default(),
            reload_ok: Gauge::default(),
            reloads: Family::default(),
            issuer_readings: Family::default(),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        metrics.registry = registry;
        metrics
    }

    fn register(&self, to: &mut Registry) {
        to.register("requests", "Requests decided, by decision and code", self.requests.clone());
        to.register("check_seconds", "Time from a check's arrival to its answer", self.check_seconds.clone());
        to.register("commit_seconds", "Time of one commit to the state file", self.commit_seconds.clone());
        to.register("commit_records", "Records in one commit to the state file", self.commit_records.clone());
        to.register("settlements", "Settlements that counted, by outcome", self.settlements.clone());
        to.register("syncs", "Calls of Sync, by result", self.syncs.clone());
        to.register("leases", "Calls of Lease, by result", self.leases.clone());
        to.register("rate_limits", "Calls of ShouldRateLimit, by overall code", self.rate_limits.clone());
        to.register(
            "proxy_refusals",
            "Requests that proxies refused by themselves, as they reported",
            self.refusals.clone(),
        );
        to.register("proxy_refusals_lost", "Such reports that proxies had to drop", self.refusals_lost.clone());
        to.register("reservations", "Reservations that are not settled yet", self.reservations.clone());
        to.register("resources", "Resources in force, by kind", self.resources.clone());
        to.register(
            "last_reload_ok",
            "1 when the policies last read are in force, 0 when they were refused",
            self.reload_ok.clone(),
        );
        to.register("reloads", "Readings of the policies, by result", self.reloads.clone());
        to.register(
            "issuer_readings",
            "Readings of the keys that issuers publish, by result",
            self.issuer_readings.clone(),
        );
    }

    /// One request decided, `took` after it arrived. `code` is a row of the table of denials, or `ok`.
    pub fn decided(&self, decision: Decided, code: &'static str, took: Duration) {
        self.requests.get_or_create(&RequestLabels { decision, code }).inc();
        self.check_seconds.observe(took.as_secs_f64());
    }

    /// One commit of `records` records.
    pub fn committed(&self, records: usize, took: Duration) {
        self.commit_records.observe(u32::try_from(records).unwrap_or(u32::MAX).into());
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// One settlement that counted; repeats do not.
    pub fn settled(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Unspecified => "unspecified",
            Outcome::NotSent => "not_sent",
            Outcome::Answered => "answered",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::HungUp => "hung_up",
        };
        self.settlements.get_or_create(&SettlementLabels { outcome }).inc();
    }

    /// One call of Sync.
    pub fn synced(&self, ok: bool) {
        self.syncs.get_or_create(&ResultLabels { result: result(ok) }).inc();
    }

    /// One call of Lease.
    pub fn leased(&self, ok: bool) {
        self.leases.get_or_create(&ResultLabels { result: result(ok) }).inc();
    }

    /// One call of `ShouldRateLimit`.
    pub fn rate_limited(&self, over: bool) {
        let code = if over { "over_limit" } else { "ok" };
        self.rate_limits.get_or_create(&RateLimitLabels { code }).inc();
    }

    /// What a proxy refused by itself: so many reports, so many lost.
    pub fn proxy_refused(&self, reported: u64, lost: u64) {
        self.refusals.inc_by(reported);
        self.refusals_lost.inc_by(lost);
    }

    /// How many reservations are outstanding now.
    pub fn reservations(&self, outstanding: usize) {
        self.reservations.set(i64::try_from(outstanding).unwrap_or(i64::MAX));
    }

    /// How many resources of a kind are in force now.
    pub fn resources(&self, kind: &'static str, count: usize) {
        self.resources.get_or_create(&KindLabels { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The policies were read, and are in force or were refused.
    pub fn reloaded(&self, ok: bool) {
        self.reload_ok.set(i64::from(ok));
        self.reloads.get_or_create(&ResultLabels { result: result(ok) }).inc();
    }

    /// An issuer's published keys were read, or could not be.
    pub fn issuer_read(&self, ok: bool) {
        self.issuer_readings.get_or_create(&ResultLabels { result: result(ok) }).inc();
    }

    /// All of it, as `OpenMetrics` text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

const fn result(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.decided(Decided::Allow, "ok", Duration::from_micros(300));
        metrics.decided(Decided::Deny, "tenant_conflict", Duration::from_micros(80));
        metrics.committed(3, Duration::from_micros(250));
        metrics.settled(Outcome::HungUp);
        metrics.synced(true);
        metrics.leased(true);
        metrics.rate_limited(true);
        metrics.proxy_refused(2, 1);
        metrics.reservations(7);
        metrics.resources("Tenant", 3);
        metrics.reloaded(false);
        metrics.issuer_read(false);
        let text = metrics.text();
        for line in [
            r#"bulkhead_requests_total{decision="Allow",code="ok"} 1"#,
            r#"bulkhead_requests_total{decision="Deny",code="tenant_conflict"} 1"#,
            "bulkhead_check_seconds_count 2",
            "bulkhead_commit_records_sum 3.0",
            r#"bulkhead_settlements_total{outcome="hung_up"} 1"#,
            r#"bulkhead_syncs_total{result="ok"} 1"#,
            r#"bulkhead_leases_total{result="ok"} 1"#,
            r#"bulkhead_rate_limits_total{code="over_limit"} 1"#,
            "bulkhead_proxy_refusals_total 2",
            "bulkhead_proxy_refusals_lost_total 1",
            "bulkhead_reservations 7",
            r#"bulkhead_resources{kind="Tenant"} 3"#,
            "bulkhead_last_reload_ok 0",
            r#"bulkhead_reloads_total{result="failed"} 1"#,
            r#"bulkhead_issuer_readings_total{result="failed"} 1"#,
            concat!(r#"bulkhead_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
            "# EOF",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn no_label_names_a_tenant() {
        let metrics = Metrics::new();
        metrics.decided(Decided::Deny, "tenant_conflict", Duration::ZERO);
        metrics.resources("Tenant", 1);
        assert!(!metrics.text().contains("tenant="));
    }
}
