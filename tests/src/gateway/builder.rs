//! Starts a gateway piece by piece and says which piece did not come up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use authz_service::serve::Clock;
use serde_json::Value;

use super::{Gateway, Service};
use crate::configuration::{Places, Profile, patient_checks, placed};
use crate::fake_service::{FakeService, GateWord, Word};
use crate::policies::{PLATFORM_KEYS, Policies, TENANTS, write_secret};
use crate::process::{Process, built};
use crate::upstream::{Options, Upstream};
use crate::{client, eventually, runtime};

/// How long the shipped text waits for a Check.
const SHIPPED_CHECK: &str = " timeout: 0.25s\n";

type Edit = Box<dyn FnOnce(String) -> String + Send>;

/// What a gateway is to be like.
pub struct Builder {
    policies: Policies,
    concurrency: u32,
    edits: Vec<Edit>,
    profile: Profile,
    fake: Option<Word>,
    gate: GateWord,
    keys: bool,
    record: bool,
    state: Option<PathBuf>,
    serve: Vec<String>,
    failed_logins: u32,
    clock: Option<Clock>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            policies: Policies::standard(),
            concurrency: 1,
            edits: Vec::new(),
            profile: Profile::under_test(),
            fake: None,
            gate: GateWord::Lends,
            keys: true,
            record: true,
            state: None,
            serve: Vec::new(),
            failed_logins: 1_000_000,
            clock: None,
        }
    }
}

impl Builder {
    /// Changes the standard policies.
    #[must_use]
    pub fn policies(mut self, change: impl FnOnce(&mut Policies)) -> Self {
        change(&mut self.policies);
        self
    }

    /// Envoy's workers.
    #[must_use]
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Changes the text of the shipped configuration, after its places were filled in. Only for tests of what happens
    /// when operators do.
    #[must_use]
    pub fn envoy(mut self, edit: impl FnOnce(String) -> String + Send + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Takes this profile, whichever is under test.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Puts a fake in the service's place.
    #[must_use]
    pub fn fake_service(mut self, word: Word) -> Self {
        self.fake = Some(word);
        self
    }

    /// What the fake's Gate says; without this it lends.
    #[must_use]
    pub fn gate(mut self, word: GateWord) -> Self {
        self.gate = word;
        self
    }

    /// Makes no API keys at the start.
    #[must_use]
    pub fn without_keys(mut self) -> Self {
        self.keys = false;
        self
    }

    /// The upstreams keep no record: for the bench.
    #[must_use]
    pub fn quiet_upstream(mut self) -> Self {
        self.record = false;
        self
    }

    /// Puts the state file elsewhere than beside everything else.
    #[must_use]
    pub fn state(mut self, file: &Path) -> Self {
        self.state = Some(file.into());
        self
    }

    /// The service runs as a library in this process, by this clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// How often a source may fail to log in each minute; by chance no test meets the limit that it has otherwise.
    #[must_use]
    pub fn failed_logins_per_minute(mut self, failures: u32) -> Self {
        self.failed_logins = failures;
        self
    }

    /// Gives `bulkhead serve` further arguments; `--proxies` among them replaces the socket.
    #[must_use]
    pub fn serve(mut self, arguments: &[&str]) -> Self {
        self.serve.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Starts everything and waits until it is ready.
    ///
    /// # Panics
    /// Something does not come up; the message holds the end of its log.
    pub async fn start(self) -> Gateway {
        let directory = tempfile::Builder::new().prefix("bulkhead-").tempdir().expect("a directory");
        let upstream = spawn_upstream(self.record).await;
        let upstream_2 = spawn_upstream(self.record).await;

        let (service, fake) = match self.fake {
            Some(word) => {
                let fake = FakeService::spawn(word);
                fake.gate(self.gate);
                (None, Some(fake))
            }
            None => {
                let failed_logins = ["--failed-logins-per-minute".into(), self.failed_logins.to_string()];
                let arguments = [self.serve, failed_logins.into()].concat();
                let state = self.state.unwrap_or_else(|| directory.path().join("state.db"));
                let service = match self.clock {
                    Some(clock) => Service::start_by(directory.path(), &self.policies, &state, clock).await,
                    None => Service::start(directory.path(), &self.policies, &state, arguments).await,
                };
                (Some(service), None)
            }
        };
        let proxies = match (&service, &fake) {
            (Some(service), _) => service.proxies(),
            (None, Some(fake)) => fake.socket().to_owned(),
            (None, None) => unreachable!("one of them was started"),
        };
        let mut keys = BTreeMap::new();
        if let Some(service) = service.as_ref().filter(|_| self.keys) {
            for tenant in TENANTS.into_iter().filter(|tenant| self.policies.has("Tenant", tenant)) {
                keys.insert(tenant.to_owned(), service.create_key(tenant, &[]).await);
            }
        }

        let secrets = directory.path().join("secrets");
        for (provider, key) in PLATFORM_KEYS.into_iter().filter(|_| self.profile == Profile::Inline) {
            write_secret(&secrets, provider, &format!("Bearer {key}")).expect("the platform's keys are written");
        }
        let places = Places {
            upstream: upstream.addr(),
            upstream_2: upstream_2.addr(),
            proxies: &proxies,
            wasm: &wasm(),
            secrets: &secrets,
            access_log: &directory.path().join("access.jsonl"),
        };
        let text = self.edits.into_iter().fold(placed(&self.profile.text(), &places), |text, edit| edit(text));
        // a busy machine misses the shipped quarter of a second; whose subject it is says another time itself
        let text = if text.contains(SHIPPED_CHECK) { patient_checks(&text, "1.5s") } else { text };
        let config = directory.path().join("envoy.yaml");
        std::fs::write(&config, text).expect("the configuration is written");
        let (envoy, admin, addr) = start_envoy(directory.path(), &config, self.concurrency).await;

        let (profile, directory) = (self.profile, Some(directory));
        Gateway { addr, profile, upstream, upstream_2, envoy, keys, admin, service, fake, directory }
    }
}

async fn spawn_upstream(record: bool) -> Upstream {
    let spawned = runtime().spawn(crate::upstream::spawn(Options { record, ..Options::default() })).await;
    spawned.expect("the runtime").expect("an upstream")
}

/// The Envoy to test: `ENVOY`, or the one that `tests/install.sh` put into the cache.
///
/// # Panics
/// There is none.
#[must_use]
pub fn envoy_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ENVOY") {
        return path.into();
    }
    let packages = cache().join("envoy-1.40.0/lib");
    let found = std::fs::read_dir(&packages).into_iter().flatten().flatten().map(|python| python.path());
    let mut found = found.map(|python| python.join("site-packages/envoy/_bin/envoy")).filter(|path| path.is_file());
    found.next().unwrap_or_else(|| panic!("no Envoy in {}: run tests/install.sh, or set ENVOY", packages.display()))
}

/// Minor version of the Envoy to test: 40 of 1.40.0.
///
/// # Panics
/// It does not say.
#[must_use]
pub fn envoy_minor() -> u32 {
    static MINOR: LazyLock<u32> = LazyLock::new(|| {
        let output = std::process::Command::new(envoy_binary()).arg("--version").output().expect("envoy --version");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let minor = said.split('/').find_map(|part| part.strip_prefix("1.")?.split('.').next()?.parse().ok());
        minor.unwrap_or_else(|| panic!("no version in `{said}`"))
    });
    *MINOR
}

/// The module: `BULKHEAD_WASM`, or where `wasm-build.sh` leaves it.
///
/// # Panics
/// There is none.
#[must_use]
pub fn wasm() -> PathBuf {
    let default = || std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache().join("target"), PathBuf::from);
    let path = std::env::var_os("BULKHEAD_WASM").map_or_else(|| default().join("bulkhead.wasm"), PathBuf::from);
    assert!(path.is_file(), "no module at {}: run ./wasm-build.sh", path.display());
    path
}

/// The service's binary.
#[must_use]
pub fn bulkhead_binary() -> PathBuf {
    built("bulkhead")
}

pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("bulkhead")
}

/// Starts an Envoy with this configuration; its admin address and its first listener's.
///
/// # Panics
/// It does not come up.
pub async fn start_envoy(directory: &Path, config: &Path, workers: u32) -> (Process, SocketAddr, SocketAddr) {
    let admin_file = directory.join("envoy-admin");
    let arguments = [
        "-c",
        &config.display().to_string(),
        "--concurrency",
        &workers.to_string(),
        "--admin-address-path",
        &admin_file.display().to_string(),
        "--disable-hot-restart",
        "--file-flush-interval-msec",
        "50",
        "--log-level",
        "warning",
        "--component-log-level",
        "wasm:info",
    ];
    let arguments = arguments.map(String::from);
    let envoy = Process::start("envoy", &envoy_binary(), &arguments, &directory.join("envoy.log")).await;
    let alive = || assert!(envoy.running(), "envoy ended at its start\n{}", envoy.tail());
    let admin: SocketAddr = eventually("envoy's admin address", async || {
        alive();
        std::fs::read_to_string(&admin_file).ok()?.parse().ok()
    })
    .await;
    let addr = eventually("envoy's listener", async || {
        alive();
        client::get(admin, "/ready").await.ok()?;
        let listeners: Value = serde_json::from_str(&client::get(admin, "/listeners?format=json").await.ok()?).ok()?;
        let address = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
        let port = u16::try_from(address["port_value"].as_u64()?).ok()?;
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    })
    .await;
    (envoy, admin, addr)
}
