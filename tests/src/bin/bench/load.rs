//! One measurement: a run of wrk against one subject, the CPU that it cost, and the calls that it took.

use anyhow::{Context as _, ensure};
use bulkhead_tests::configuration::repository;
use bulkhead_tests::gateway::Gateway;
use serde::{Deserialize, Serialize};

use crate::stage::Stage;
use crate::subject::Subject;

/// What wrk says.
#[derive(Deserialize)]
struct Load {
    requests: u64,
    seconds: f64,
    p50_us: u64,
    p99_us: u64,
    bad_status: u64,
    broken: u64,
}

/// One subject in one round.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    pub(crate) subject: String,
    pub(crate) kind: &'static str,
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    pub(crate) envoy_us: f64,
    pub(crate) service_us: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// Calls of the service for each request.
    pub(crate) calls: Calls,
}

/// How often the service was called.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Calls {
    pub(crate) check: f64,
    pub(crate) lease: f64,
    pub(crate) sync: f64,
}

impl Calls {
    /// Of every kind.
    pub(crate) fn all(&self) -> f64 {
        self.check + self.lease + self.sync
    }

    async fn so_far(gateway: Option<&Gateway>) -> anyhow::Result<Self> {
        let Some(gateway) = gateway else { return Ok(Self::default()) };
        let page = gateway.service().http("/metrics").await?;
        let count = |name: &str| -> f64 {
            let of = |line: &str| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<f64>().ok();
            page.lines().filter_map(of).sum()
        };
        Ok(Self {
            check: count("bulkhead_requests_total{"),
            lease: count("bulkhead_leases_total{"),
            sync: count("bulkhead_syncs_total{"),
        })
    }

    fn since(&self, before: &Self, requests: f64) -> Self {
        Self {
            check: (self.check - before.check) / requests,
            lease: (self.lease - before.lease) / requests,
            sync: (self.sync - before.sync) / requests,
        }
    }
}

/// Runs wrk for so long.
///
/// # Errors
/// A request failed.
pub(crate) async fn measure(
    subject: &Subject<'_>,
    stage: &Stage,
    seconds: u32,
    connections: u32,
) -> anyhow::Result<Figures> {
    let credentials = stage.portable.directory().join("authorizations");
    std::fs::write(&credentials, subject.who.authorizations().join("\n"))?;
    let calls = Calls::so_far(subject.gateway).await?;
    let cpu = || (subject.envoy.cpu_seconds(), subject.service.map_or(0.0, |service| service.cpu_seconds()));
    let before = cpu();
    let output = tokio::process::Command::new("wrk")
        .args(["--threads", "1", "--connections", &connections.to_string(), "--duration", &format!("{seconds}s")])
        .args(["--timeout", "10s", "--script"])
        .arg(repository().join("tests/bench/post.lua"))
        .arg(format!("http://{}/v1/chat/completions", subject.address))
        .env("BENCH_BODY", &subject.body)
        .env("BENCH_AUTHORIZATIONS", &credentials)
        .output()
        .await
        .context("wrk")?;
    let after = cpu();
    let said = String::from_utf8_lossy(&output.stdout);
    let what = format!("{}, {}", subject.name, subject.kind);
    let odd = || format!("{what}: wrk said: {said}{}", String::from_utf8_lossy(&output.stderr));
    let line = said.lines().rfind(|line| line.starts_with('{')).with_context(odd)?;
    let load: Load = serde_json::from_str(line)?;
    ensure!(load.bad_status == 0 && load.broken == 0 && load.requests > 0, "{what}: requests failed: {line}");
    let requests = load.requests as f64;
    Ok(Figures {
        subject: subject.name.clone(),
        kind: subject.kind,
        requests: load.requests,
        requests_per_second: requests / load.seconds,
        envoy_us: (after.0 - before.0) * 1e6 / requests,
        service_us: (after.1 - before.1) * 1e6 / requests,
        p50_us: load.p50_us,
        p99_us: load.p99_us,
        calls: Calls::so_far(subject.gateway).await?.since(&calls, requests),
    })
}
