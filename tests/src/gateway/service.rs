//! The real `bulkhead serve` of one gateway, and its command line.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use super::builder::bulkhead_binary;
use crate::policies::Policies;
use crate::process::{Process, free_port};
use crate::{client, eventually};

/// A running service and where its things are.
#[derive(Debug)]
pub struct Service {
    directory: PathBuf,
    http: u16,
    process: Process,
}

/// How a command of the CLI ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Service {
    /// Writes the policies and a new key-encryption key into a directory, and starts the service there.
    ///
    /// # Panics
    /// It does not get ready within ten seconds.
    pub(super) async fn start(directory: &Path, policies: &Policies) -> Self {
        policies.write(&directory.join("policies")).expect("the policies are written");
        let kek = directory.join("kek");
        std::fs::write(&kek, crate::mint::random()).expect("the key-encryption key is written");
        std::fs::set_permissions(&kek, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
        let (process, http) = launch(directory).await;
        let service = Self { directory: directory.into(), http, process };
        service.ready().await;
        service
    }

    /// Starts it again, with the state that it left. The one before must have ended.
    ///
    /// # Panics
    /// It still runs, or the new one does not get ready.
    pub async fn restart(&mut self) {
        assert!(!self.process.running(), "the service still runs");
        (self.process, self.http) = launch(&self.directory).await;
        self.ready().await;
    }

    /// Waits for `/readyz`.
    async fn ready(&self) {
        eventually("the service's /readyz", async || {
            assert!(self.process.running(), "the service ended at its start\n{}", self.process.tail());
            self.http("/readyz").await.ok()
        })
        .await;
    }

    /// Its process: signals, log, memory.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The proxies' socket.
    #[must_use]
    pub fn proxies(&self) -> PathBuf {
        self.directory.join("proxies.sock")
    }

    /// The directory of its resources.
    #[must_use]
    pub fn policies(&self) -> PathBuf {
        self.directory.join("policies")
    }

    /// The state file.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.join("state.db")
    }

    /// A page of its HTTP port.
    ///
    /// # Errors
    /// It does not answer, or not with 200.
    pub async fn http(&self, path: &str) -> anyhow::Result<String> {
        client::get(([127, 0, 0, 1], self.http).into(), path).await
    }

    /// A command of the CLI, asked of this service.
    ///
    /// # Panics
    /// The binary cannot be started.
    pub async fn cli(&self, arguments: &[&str], input: &str) -> Said {
        let mut command = tokio::process::Command::new(bulkhead_binary());
        command.args(arguments).env("BULKHEAD_ADMIN", self.admin()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("bulkhead starts");
        let mut stdin = child.stdin.take().expect("its input");
        let _ = stdin.write_all(input.as_bytes()).await; // a command that reads nothing may be gone by now
        drop(stdin);
        let output = child.wait_with_output().await.expect("its end");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// A command that must succeed; what it printed.
    ///
    /// # Panics
    /// It fails.
    pub async fn command(&self, arguments: &[&str]) -> String {
        let said = self.cli(arguments, "").await;
        assert_eq!(said.code, Some(0), "bulkhead {}: {}\n{}", arguments.join(" "), said.err, self.process.tail());
        said.out
    }

    /// Makes an API key; `more` are further arguments of `bulkhead key create`.
    ///
    /// # Panics
    /// It is refused.
    pub async fn create_key(&self, tenant: &str, more: &[&str]) -> String {
        let arguments = [&["key", "create", "--tenant", tenant, "--output", "json"], more].concat();
        let created: Value = serde_json::from_str(&self.command(&arguments).await).expect("JSON");
        created["key"].as_str().expect("a key").to_owned()
    }

    /// Audit records so far, oldest first.
    ///
    /// # Panics
    /// The service does not answer.
    pub async fn audit(&self) -> Vec<Value> {
        let text = self.command(&["audit", "tail", "--output", "json", "--limit", "1000"]).await;
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// What a tenant has used, as `bulkhead usage` says it.
    ///
    /// # Panics
    /// The service does not answer, or does not know the tenant.
    pub async fn usage(&self, tenant: &str) -> Value {
        let usage: Value = serde_json::from_str(&self.command(&["usage", "--output", "json"]).await).expect("JSON");
        let mut tenants = usage["tenants"].as_array().expect("tenants").iter();
        tenants.find(|one| one["tenant"] == tenant).unwrap_or_else(|| panic!("no `{tenant}` in {usage}")).clone()
    }

    fn admin(&self) -> String {
        format!("unix:{}", self.directory.join("admin.sock").display())
    }
}

async fn launch(directory: &Path) -> (Process, u16) {
    let http = free_port();
    let at = |name: &str| directory.join(name).display().to_string();
    let arguments = [
        "serve".into(),
        "--policies".into(),
        at("policies"),
        "--state".into(),
        at("state.db"),
        "--kek-file".into(),
        at("kek"),
        "--proxies".into(),
        format!("unix:{}", at("proxies.sock")),
        "--admin".into(),
        format!("unix:{}", at("admin.sock")),
        "--http".into(),
        format!("127.0.0.1:{http}"),
    ];
    (Process::start("bulkhead", &bulkhead_binary(), &arguments, &directory.join("bulkhead.log")).await, http)
}
