//! The processes of the quickstart, in the repository's target/quickstart: two model providers, the service, Envoy with the
//! shipped configuration. Started in that order, ended with this process unless they are left.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use bulkhead_tests::configuration::{Places, Profile, placed_on, repository};
use bulkhead_tests::gateway::Service;
use bulkhead_tests::process::{Process, built, free_port};
use bulkhead_tests::{client, eventually};

use crate::kept;
use crate::providers::Providers;
use crate::tenants::Issuers;

/// The platform's keys at its providers, by the name of the `Provider`.
pub(crate) const PLATFORM_KEYS: [(&str, &str); 2] =
    [("gpu-pool", "sk-platform-gpu-pool"), ("hosted", "sk-platform-hosted")];
/// A Unix socket's address has room for this many bytes (unix(7)).
const SOCKET_PATH: usize = 107;

/// Everything that runs.
pub(crate) struct Stack {
    directory: PathBuf,
    service: Service,
    others: Vec<Process>,
    gateway: SocketAddr,
    providers: Providers,
}

/// Where it all is: `target/quickstart` of the repository, wherever cargo builds.
pub(crate) fn directory() -> PathBuf {
    repository().join("target/quickstart")
}

impl Stack {
    /// Starts everything in an empty directory. `keep`: so that it can be left running.
    pub(crate) async fn start(
        directory: &Path,
        envoy: &Path,
        wasm: &Path,
        issuers: &Issuers,
        keep: bool,
    ) -> anyhow::Result<Self> {
        kept::ensure_nothing_runs(directory)?;
        prepare(directory, issuers).with_context(|| format!("{} cannot be filled", directory.display()))?;
        let [gateway, admin, http, pool, hosted, pool_control, hosted_control] =
            [10_000, 9_901, 9_464, 8_001, 8_002, 8_081, 8_082].map(port);

        say(&format!("two model providers    127.0.0.1:{pool} (gpu-pool), 127.0.0.1:{hosted} (hosted)"));
        let providers = Providers([("gpu-pool", local(pool_control)), ("hosted", local(hosted_control))]);
        let mut others = Vec::new();
        for (name, serves, control) in [("gpu-pool", pool, pool_control), ("hosted", hosted, hosted_control)] {
            let arguments = ["--listen", &local(serves).to_string(), "--control", &local(control).to_string()];
            let log = directory.join(format!("{name}.log"));
            others.push(spawn(keep, name, &built("model-upstream"), &arguments, &log).await);
            let up = async || client::get(local(control), "/_record").await.ok();
            up_or_ended(others.last(), up).await;
        }

        say(&format!("bulkhead serve         {}/proxies.sock, http://127.0.0.1:{http}/metrics", directory.display()));
        let service = Service::start_on(directory, http, keep).await;

        say(&format!("Envoy                  http://127.0.0.1:{gateway}, admin on http://127.0.0.1:{admin}"));
        let places = Places {
            upstream: local(pool),
            upstream_2: local(hosted),
            proxies: &service.proxies(),
            wasm,
            secrets: directory,
            access_log: &directory.join("access.jsonl"),
        };
        let config = directory.join("envoy.yaml");
        fs::write(&config, placed_on(&Profile::Portable.text(), &places, gateway, admin))?;
        let config = config.display().to_string();
        let arguments = ["-c", &config, "--concurrency", "2", "--disable-hot-restart", "--log-level", "warning"];
        others.push(spawn(keep, "envoy", envoy, &arguments, &directory.join("envoy.log")).await);
        up_or_ended(others.last(), async || client::get(local(admin), "/ready").await.ok()).await;

        let stack = Self { directory: directory.into(), service, others, gateway: local(gateway), providers };
        kept::record(&stack)?;
        Ok(stack)
    }

    /// Directory of everything that is written.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where clients connect.
    pub(crate) fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// The service.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// The providers' control ports.
    pub(crate) fn providers(&self) -> &Providers {
        &self.providers
    }

    /// Every process, in the order in which they are to be stopped.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.others.iter().rev().take(1).chain([self.service.process()]).chain(self.others.iter().rev().skip(1))
    }

    /// Lets everything go on.
    pub(crate) fn leave(self) {
        self.service.leave();
        self.others.into_iter().for_each(Process::leave);
    }

    /// Ends everything.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        kept::forget(&self.directory)
    }
}

/// A copy of the shipped resources, with what is never shipped: the identity providers' public keys, the platform's secrets.
fn prepare(directory: &Path, issuers: &Issuers) -> anyhow::Result<()> {
    let socket = directory.join("proxies.sock").as_os_str().len();
    ensure!(socket <= SOCKET_PATH, "its path is {} bytes too long for a Unix socket", socket - SOCKET_PATH);
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    let policies = directory.join("policies");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&policies)?;
    for file in fs::read_dir(repository().join("examples/quickstart/policies"))? {
        let file = file?;
        fs::copy(file.path(), policies.join(file.file_name()))?;
    }
    issuers.publish(&policies)?;
    fs::create_dir(policies.join("secrets"))?;
    for (provider, key) in PLATFORM_KEYS {
        write_private(&policies.join(format!("secrets/{provider}.key")), key)?;
    }
    Ok(())
}

/// A file that only its owner reads.
pub(crate) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

async fn spawn(keep: bool, name: &'static str, program: &Path, arguments: &[&str], log: &Path) -> Process {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    match keep {
        true => Process::start_apart(name, program, &arguments, log).await,
        false => Process::start(name, program, &arguments, log).await,
    }
}

/// Waits until a process answers; panics with the end of its log when it has ended instead.
async fn up_or_ended(process: Option<&Process>, answers: impl AsyncFn() -> Option<String>) {
    let Some(process) = process else { return };
    eventually(process.name(), async || {
        assert!(process.running(), "{} ended at its start\n{}", process.name(), process.tail());
        answers().await
    })
    .await;
}

/// The port that is wished for, or a free one.
fn port(wished: u16) -> u16 {
    if TcpListener::bind(local(wished)).is_ok() {
        return wished;
    }
    let free = free_port();
    say(&format!("port {wished} is taken; using {free} instead"));
    free
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn say(what: &str) {
    println!("    {what}");
}
