//! The real `bulkhead serve` of one gateway, and its command line.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use authz_service::admin::client::Client;
use authz_service::cli::ServeOptions;
use authz_service::serve::Clock;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use super::builder::bulkhead_binary;
use crate::books::is_request;
use crate::policies::Policies;
use crate::process::{Process, free_port};
use crate::{client, eventually};

/// A running service and where its things are.
#[derive(Debug)]
pub struct Service {
    directory: PathBuf,
    state: PathBuf,
    http: u16,
    /// Further arguments of `serve`.
    more: Vec<String>,
    /// None: it runs in this process, by a clock of the test's.
    process: Option<Process>,
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
    /// Writes the policies and a new key-encryption key into a directory, and starts the service there, with these further
    /// arguments.
    ///
    /// # Panics
    /// It does not get ready within ten seconds.
    pub(super) async fn start(directory: &Path, policies: &Policies, state: &Path, more: Vec<String>) -> Self {
        policies.write(&directory.join("policies")).expect("the policies are written");
        Self::start_with(directory, state, free_port(), false, more).await
    }

    /// Starts it on a directory that holds `policies`, with a new key-encryption key, its HTTP on this port. `apart`: in a
    /// session of its own.
    ///
    /// # Panics
    /// It does not get ready within ten seconds.
    pub async fn start_on(directory: &Path, http: u16, apart: bool) -> Self {
        Self::start_with(directory, &directory.join("state.db"), http, apart, Vec::new()).await
    }

    async fn start_with(directory: &Path, state: &Path, http: u16, apart: bool, more: Vec<String>) -> Self {
        write_kek(directory);
        let process = Some(launch(directory, state, http, apart, &more).await);
        let service = Self { directory: directory.into(), state: state.into(), http, more, process };
        service.ready().await;
        service
    }

    /// The same service as a library in this process, by this clock. It ends with the process.
    pub(super) async fn start_by(directory: &Path, policies: &Policies, state: &Path, clock: Clock) -> Self {
        policies.write(&directory.join("policies")).expect("the policies are written");
        write_kek(directory);
        let (at, http) = (|name: &str| directory.join(name), free_port());
        let socket = |name: &str| format!("unix:{}", at(name).display());
        let options = ServeOptions {
            policies: at("policies"),
            state: state.into(),
            kek_file: at("kek"),
            proxies: socket("proxies.sock").parse().expect("an address"),
            proxies_tls: None,
            listed: Vec::new(),
            admin: socket("admin.sock").parse().expect("an address"),
            http: ([127, 0, 0, 1], http).into(),
            mesh: None,
            issuer: "https://bulkhead.internal".into(),
            failed_logins_per_minute: std::num::NonZeroU32::MAX,
        };
        crate::runtime().spawn(async move {
            let ended = authz_service::serve::run_by(options, clock).await;
            panic!("the service ended: {ended:?}");
        });
        let service = Self { directory: directory.into(), state: state.into(), http, more: Vec::new(), process: None };
        service.ready().await;
        service
    }

    /// Starts it again, with the state that it left. The one before must have ended.
    ///
    /// # Panics
    /// It still runs, or the new one does not get ready.
    pub async fn restart(&mut self) {
        assert!(!self.process().running(), "the service still runs");
        self.http = free_port();
        self.process = Some(launch(&self.directory, &self.state, self.http, false, &self.more).await);
        self.ready().await;
    }

    /// Waits for `/readyz`.
    async fn ready(&self) {
        eventually("the service's /readyz", async || {
            let running = self.process.as_ref().is_none_or(Process::running);
            assert!(running, "the service ended at its start\n{}", self.tail());
            self.http("/readyz").await.ok()
        })
        .await;
    }

    /// Its process: signals, log, memory.
    ///
    /// # Panics
    /// It runs in this process.
    #[must_use]
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("a process of its own")
    }

    /// The end of its log, where it has one.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.as_ref().map(Process::tail).unwrap_or_default()
    }

    /// Lets it go on when its owner ends, if it was started apart.
    pub fn leave(self) {
        self.process.into_iter().for_each(Process::leave);
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
        self.state.clone()
    }

    /// A page of its HTTP port.
    ///
    /// # Errors
    /// It does not answer, or not with 200.
    pub async fn http(&self, path: &str) -> anyhow::Result<String> {
        client::get(([127, 0, 0, 1], self.http).into(), path).await
    }

    /// What gRPC health says on the proxies' socket.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn health(&self) -> String {
        let path = self.proxies();
        let connect = tower::service_fn(move |_: http::Uri| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
        });
        let channel = tonic::transport::Endpoint::from_static("http://proxies").connect_with_connector(connect).await;
        let mut client = tonic_health::pb::health_client::HealthClient::new(channel.expect("a connection"));
        let asked = tonic_health::pb::HealthCheckRequest { service: String::new() };
        let answer = client.check(asked).await.expect("an answer").into_inner();
        answer.status().as_str_name().to_lowercase()
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
        assert_eq!(said.code, Some(0), "bulkhead {}: {}\n{}", arguments.join(" "), said.err, self.tail());
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

    /// Audit records so far, oldest first; in profile `inline` with those of grants.
    ///
    /// # Panics
    /// The service does not answer.
    pub async fn audit(&self) -> Vec<Value> {
        let text = self.command(&["audit", "tail", "--output", "json", "--limit", "1000"]).await;
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// The whole audit log, however long, oldest first.
    ///
    /// # Panics
    /// The service does not answer.
    pub async fn whole_audit(&self) -> Vec<Value> {
        let client = Client::new(self.directory.join("admin.sock"));
        let (mut records, mut after) = (Vec::new(), 0);
        loop {
            let page = client.audit(Some(after), 1000).await.expect("the audit log");
            if page.records.is_empty() {
                return records;
            }
            records.extend(page.records.iter().map(|record| serde_json::from_str(record.get()).expect("JSON")));
            after = page.next;
        }
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

    /// The audit lines of one request, oldest first, without the grant's that it was made for.
    ///
    /// # Panics
    /// The service does not answer.
    pub async fn lines(&self, request_id: &str) -> Vec<Value> {
        let all = self.audit().await;
        all.into_iter().filter(|line| line["requestId"] == request_id && is_request(line)).collect()
    }

    /// The one audit line of a granted request, once it is settled.
    ///
    /// # Panics
    /// It is not settled within ten seconds, or has more than one line.
    pub async fn settled(&self, request_id: &str) -> Value {
        eventually(&format!("the settlement of {request_id}"), async || {
            let mut lines = self.lines(request_id).await;
            assert!(lines.len() <= 1, "one request, one line: {lines:#?}");
            lines.pop().filter(|line| line["settledAt"].is_string())
        })
        .await
    }

    /// What is left of one of a tenant's limits.
    ///
    /// # Panics
    /// It has no such limit.
    pub async fn left(&self, tenant: &str, limit: &str) -> u64 {
        let usage = self.usage(tenant).await;
        let found = usage["limits"].as_array().into_iter().flatten().find(|one| one["name"] == limit);
        found.and_then(|one| one["left"].as_u64()).unwrap_or_else(|| panic!("no `{limit}` in {usage}"))
    }

    /// One number of the state file, read beside the service: what is durable, whoever lives.
    ///
    /// # Panics
    /// The file or the query is not good.
    #[must_use]
    pub fn number(&self, sql: &str) -> i64 {
        let file = rusqlite::Connection::open_with_flags(self.state(), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
        file.and_then(|file| file.query_row(sql, (), |row| row.get(0))).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Texts of the state file, one a row.
    ///
    /// # Panics
    /// The file or the query is not good.
    #[must_use]
    pub fn texts(&self, sql: &str) -> Vec<String> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
            let file = rusqlite::Connection::open_with_flags(self.state(), flags)?;
            file.prepare(sql)?.query_map((), |row| row.get(0))?.collect()
        };
        read().unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Address of its admin socket, as `BULKHEAD_ADMIN` takes it.
    #[must_use]
    pub fn admin(&self) -> String {
        format!("unix:{}", self.directory.join("admin.sock").display())
    }
}

fn write_kek(directory: &Path) {
    let kek = directory.join("kek");
    std::fs::write(&kek, crate::mint::random()).expect("the key-encryption key is written");
    std::fs::set_permissions(&kek, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
}

async fn launch(directory: &Path, state: &Path, http: u16, apart: bool, more: &[String]) -> Process {
    let at = |name: &str| directory.join(name).display().to_string();
    let mut arguments = vec![
        "serve".into(),
        "--policies".into(),
        at("policies"),
        "--state".into(),
        state.display().to_string(),
        "--kek-file".into(),
        at("kek"),
        "--admin".into(),
        format!("unix:{}", at("admin.sock")),
        "--http".into(),
        format!("127.0.0.1:{http}"),
    ];
    arguments.extend(more.iter().cloned());
    if !more.iter().any(|argument| argument == "--proxies") {
        arguments.extend(["--proxies".into(), format!("unix:{}", at("proxies.sock"))]);
    }
    let (program, log) = (bulkhead_binary(), directory.join("bulkhead.log"));
    match apart {
        true => Process::start_apart("bulkhead", &program, &arguments, &log).await,
        false => Process::start("bulkhead", &program, &arguments, &log).await,
    }
}
