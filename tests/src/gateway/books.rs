//! Whether the books balance once nothing is under way: what was granted is settled once, and nobody else was served.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Gateway;
use crate::configuration::Profile;

impl Gateway {
    /// Waits until nothing is reserved or lent any more and every grant is settled or undone; the whole audit. What the upstreams
    /// saw is held against it.
    ///
    /// # Panics
    /// Something stays reserved, a grant is settled twice or never, an upstream saw a request that was not granted or saw
    /// one twice, or Envoy or its module did not survive.
    pub async fn balanced(&self, tenant: &str) -> Vec<Value> {
        let mut last = String::new();
        // a lease goes back when it expires, after five seconds
        let patience = if self.profile == Profile::Inline { 15 } else { 9 };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(patience), async {
            loop {
                last = self.open_items(tenant).await;
                if last.is_empty() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        });
        assert!(waited.await.is_ok(), "the books do not balance: {last}");
        assert!(self.is_whole().await, "Envoy or its module did not survive");

        let audit = self.service().whole_audit().await;
        let granted: Vec<&Value> = audit.iter().filter(|line| line["decision"] == "allow").collect();
        let ids: BTreeSet<&str> = granted.iter().filter_map(|line| line["requestId"].as_str()).collect();
        let mut served = BTreeSet::new();
        for seen in self.upstream.record().into_iter().chain(self.upstream_2.record()) {
            let id = seen.header("x-request-id").expect("a request id upstream");
            assert!(ids.contains(id.as_str()), "undecided, and let through: {seen:?}");
            assert!(served.insert(id), "seen twice upstream: {seen:?}");
        }
        audit
    }

    /// What is not settled yet, in words.
    async fn open_items(&self, tenant: &str) -> String {
        let usage = self.service().usage(tenant).await;
        let flight = usage["limits"].as_array().into_iter().flatten().find(|limit| limit["name"] == "in-flight");
        if let Some(flight) = flight.filter(|flight| flight["left"] != flight["amount"]) {
            return format!("in flight: {flight}");
        }
        let count = |which: &str| {
            let sql = "SELECT count(*) FROM audit WHERE decision = 'allow' AND reserved_requests > 0";
            self.service().number(&format!("{sql}{which}"))
        };
        let (granted, open) = (count(""), count(" AND settled_ms IS NULL"));
        if open > 0 {
            return format!("{open} of {granted} are not settled");
        }
        // the gauge is set once a second
        let metrics = self.service().http("/metrics").await.expect("the metrics");
        let sum = |name: &str| -> i64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<i64>().ok()).sum()
        };
        let (reserved, settled) = (sum("bulkhead_reservations "), sum("bulkhead_settlements_total"));
        if reserved != 0 || settled != granted {
            return format!("{granted} granted, {settled} settled, {reserved} reserved");
        }
        String::new()
    }
}
