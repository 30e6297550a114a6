//! What the integration tests are built from: a real Envoy with the shipped configuration and module, the real service, and
//! a model that answers as it is told. Nothing in here decides anything about a request.
//!
//! ```text
//! let gateway = Gateway::builder().start().await;
//! let answer = gateway.chat("acme", &json!({"messages": [{"role": "user", "content": "hi [tokens=5]"}]})).await;
//! assert_eq!(answer.status, 200);
//! assert_eq!(gateway.upstream.record()[0].header("x-bulkhead-tenant").as_deref(), Some("acme"));
//! ```

pub mod books;
pub mod browser;
pub mod cases;
pub mod certificates;
pub mod client;
pub mod configuration;
pub mod fake_service;
pub mod gateway;
pub mod mint;
pub mod oidc;
pub mod pipeline;
pub mod policies;
pub mod process;
pub mod upstream;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// Everything that outlives one test's runtime runs here: upstreams, fakes, and the parents of child processes.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    });
    &RUNTIME
}

/// Whether the long counts are asked for (`tests/run.sh --full`).
#[must_use]
pub fn full() -> bool {
    std::env::var_os("BULKHEAD_FULL").is_some()
}

/// Asks until there is an answer, for at most ten seconds.
///
/// # Panics
/// There was none; `what` says what was waited for.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "waited ten seconds for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
