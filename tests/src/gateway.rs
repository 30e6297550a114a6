//! A whole gateway for one test: upstreams, service, Envoy, on ports and in directories of their own.

mod ask;
mod books;
pub(crate) mod builder;
mod service;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

pub use ask::{CHAT, chat_body};
pub use builder::{Builder, bulkhead_binary, envoy_binary, envoy_minor, start_envoy, wasm};
pub use service::Service;

use crate::client;
use crate::configuration::Profile;
use crate::fake_service::FakeService;
use crate::process::Process;
use crate::upstream::Upstream;

/// A running gateway. Dropping it ends everything; when the test fails, the ends of the logs are printed and the
/// directory stays.
#[derive(Debug)]
pub struct Gateway {
    /// Where clients connect.
    pub addr: SocketAddr,
    /// Which of the shipped texts Envoy runs.
    pub profile: Profile,
    /// The provider of cluster `model-upstream` (HTTP/1.1).
    pub upstream: Upstream,
    /// The provider of cluster `model-upstream-2` (HTTP/2).
    pub upstream_2: Upstream,
    /// Envoy.
    pub envoy: Process,
    /// An API key of each tenant of the set; empty where something else stands for the service.
    pub keys: BTreeMap<String, String>,
    admin: SocketAddr,
    service: Option<Service>,
    fake: Option<FakeService>,
    directory: Option<TempDir>,
}

impl Gateway {
    /// A gateway with the standard policies, the real service and one Envoy worker, unless told otherwise.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The real service.
    ///
    /// # Panics
    /// Something else stands for it.
    #[must_use]
    pub fn service(&self) -> &Service {
        self.service.as_ref().expect("the real service")
    }

    /// The real service, to be started again.
    ///
    /// # Panics
    /// Something else stands for it.
    pub fn service_mut(&mut self) -> &mut Service {
        self.service.as_mut().expect("the real service")
    }

    /// What stands for the service.
    ///
    /// # Panics
    /// It is the real one.
    #[must_use]
    pub fn fake(&self) -> &FakeService {
        self.fake.as_ref().expect("a fake service")
    }

    /// Directory of everything that this gateway writes.
    ///
    /// # Panics
    /// Never: it is there until the end.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.directory.as_ref().expect("the directory").path().to_owned()
    }

    /// Directory of the SDS files with the platform's keys, in profile `inline`.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.directory().join("secrets")
    }

    /// Starts another Envoy, with so many workers, on the same configuration; it listens on another port. The one before
    /// must have ended.
    ///
    /// # Panics
    /// It still runs, or the new one does not come up.
    pub async fn restart_envoy(&mut self, workers: u32) {
        assert!(!self.envoy.running(), "Envoy still runs");
        let directory = self.directory();
        let _ = std::fs::remove_file(directory.join("envoy-admin")); // the new one's is waited for
        let config = directory.join("envoy.yaml");
        (self.envoy, self.admin, self.addr) = start_envoy(&directory, &config, workers).await;
    }

    /// A page of Envoy's admin interface.
    ///
    /// # Panics
    /// Envoy is dead, or has no such page.
    pub async fn envoy_admin(&self, path: &str) -> String {
        let page = client::get(self.admin, path).await;
        page.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.envoy.tail()))
    }

    /// One of Envoy's counters or gauges by its exact name; 0 where there is none.
    ///
    /// # Panics
    /// Envoy is dead.
    pub async fn envoy_stat(&self, name: &str) -> u64 {
        let page = self.envoy_admin("/stats").await;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// Whether Envoy answers; its module has not been reloaded since the start.
    pub async fn is_whole(&self) -> bool {
        let stats = client::get(self.admin, "/stats?filter=vm_reload|wasm_vm").await;
        self.envoy.running() && stats.is_ok_and(|stats| !stats.lines().any(reloaded))
    }

    /// Lines of the access log so far, each a JSON object.
    ///
    /// # Panics
    /// A line is none.
    #[must_use]
    pub fn access_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory().join("access.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }
}

/// `wasm.<plugin>.vm_reload_success: 1` and its like.
fn reloaded(line: &str) -> bool {
    line.contains("vm_reload") && !line.ends_with(": 0") && !line.contains("No recorded values")
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.envoy.tail());
            if let Some(service) = &self.service {
                eprintln!("{}", service.tail());
            }
            if let Some(directory) = self.directory.take() {
                eprintln!("kept: {}", directory.keep().display());
            }
        }
    }
}
