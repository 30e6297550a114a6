//! Whether the books balance once nothing is under way: what was granted is settled once, and nobody else was served.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Gateway;

impl Gateway {
    /// Waits until nothing is reserved any more and every grant is settled or undone; the audit since the start (its last
    /// 1,000 lines). Envoy's word and the upstreams' are held against it.
    ///
    /// # Panics
    /// Something stays reserved, a grant is settled twice or never, an upstream saw a request that was not granted or saw
    /// one twice, or Envoy or its module did not survive.
    pub async fn balanced(&self, tenant: &str) -> Vec<Value> {
        let mut last = String::new();
        let waited = tokio::time::timeout(std::time::Duration::from_secs(9), async {
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

        let audit = self.service().audit().await;
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
        let audit = self.service().audit().await;
        let reserved = audit.iter().filter(|line| line["decision"] == "allow" && line["reserved"].is_object());
        if let Some(open) = reserved.clone().find(|line| line["charged"].is_null()) {
            return format!("not settled: {open}");
        }
        // the gauge is set once a second
        let metrics = self.service().http("/metrics").await.expect("the metrics");
        let sum = |name: &str| -> u64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
        };
        if sum("bulkhead_reservations ") != 0 {
            return format!("{} reservations", sum("bulkhead_reservations "));
        }
        let (settled, granted) = (sum("bulkhead_settlements_total"), reserved.count() as u64);
        // a settlement of what was taken for undone counts; the audit knows its last 1,000 lines
        if audit.len() < 1000 && settled != granted {
            return format!("{granted} granted, {settled} settled");
        }
        String::new()
    }
}
