//! The state file: one SQLite database, one writer thread, group commit. What is answered `Ok` is on the disk.
//!
//! No SQLite call runs on an async worker: writes go through a bounded channel, reads through [`Reader`] on a blocking
//! thread. A second process on the same file is refused. No plaintext of a credential ever comes in here: keys are
//! SHA-256 hashes, provider keys are sealed bytes.

mod apply;
mod audit;
mod certificates;
mod command;
mod integer;
mod leases;
mod open;
mod reader;
mod restored;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use audit::{AuditLine, AuditRecord, BY_PROXY, Decision, SettledLine};
pub use certificates::{AuthorityRow, CertificateCommand, CertificateRow};
pub use command::{Command, IssuedRow, JobRow, KeyRow, LeasedEnd, Refusal, Settle, SigningKeyRow, VaultRow};
pub use open::StoreError;
pub use reader::{Reader, TenantUsage};
pub use restored::{Restored, Salt, Sources};

/// The state file, open for writing. Dropping it waits until everything submitted is committed.
#[derive(Debug)]
pub struct Store {
    jobs: Option<mpsc::Sender<writer::Job>>,
    thread: Option<JoinHandle<()>>,
    totals: Arc<writer::Totals>,
    path: PathBuf,
}

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// Commands that may wait; more are refused as [`WriteError::Busy`].
    pub queue: usize,
    /// Asked before each commit; the way for tests to see a disk fail or dawdle.
    pub fault: Arc<dyn Fn() -> Fault + Send + Sync>,
    /// Told after each commit, successful or not.
    pub observe: Observe,
}

/// Hears of commits: how many commands each held, and how long it took.
pub type Observe = Arc<dyn Fn(usize, Duration) + Send + Sync>;

/// What happens to the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing unusual.
    None,
    /// It is rolled back and reported as failed.
    FailCommit,
    /// It takes this much longer.
    Delay(Duration),
}

/// Why something was not written, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The queue is full; nothing was written.
    #[error("the state file's queue is full")]
    Busy,
    /// The writer has ended; whether it was written is not known.
    #[error("the state file is closed")]
    Closed,
    /// The commit failed; nothing was written.
    #[error("the state file cannot be written: {0}")]
    Failed(String),
    /// What is there contradicts it (a key that exists, a version that is not newer); nothing was written.
    #[error("{0}")]
    Conflict(String),
}

/// What has been written since the store was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Commands answered, a batch as one.
    pub commands: u64,
    /// Transactions committed.
    pub commits: u64,
}

/// The answer to come: `Ok` means durable.
#[derive(Debug)]
#[must_use = "the command is durable only once this resolves to Ok"]
pub struct Receipt(oneshot::Receiver<Result<(), WriteError>>);

impl Store {
    /// Opens the file, creating it with mode 0600 where there is none, and reads what is needed to go on.
    ///
    /// # Errors
    /// [`StoreError`]: it is in use, not ours, from a newer version, or cannot be read or written.
    pub fn open(path: &Path) -> Result<(Self, Restored), StoreError> {
        Self::open_with(path, StoreOptions::default())
    }

    /// [`Self::open`] with a queue length and faults of the caller's.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(path: &Path, options: StoreOptions) -> Result<(Self, Restored), StoreError> {
        let lock = open::lock(path)?;
        let connection = open::connect(path)?;
        let restored = restored::read(&connection)?;
        let (jobs, queue) = mpsc::channel(options.queue.max(1));
        let totals = Arc::new(writer::Totals::default());
        let writer = writer::Writer {
            connection,
            lock,
            fault: options.fault,
            observe: options.observe,
            totals: Arc::clone(&totals),
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || writer.run(queue));
        let thread = thread.map_err(|error| StoreError::Io { path: path.to_owned(), error })?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread), totals, path: path.to_owned() }, restored))
    }

    /// Queues a command, in the order of calls, without waiting.
    ///
    /// # Errors
    /// [`WriteError::Busy`] or [`WriteError::Closed`].
    pub fn submit(&self, command: Command) -> Result<Receipt, WriteError> {
        let (reply, receipt) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(WriteError::Closed)?;
        jobs.try_send(writer::Job { command, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WriteError::Busy,
            mpsc::error::TrySendError::Closed(_) => WriteError::Closed,
        })?;
        Ok(Receipt(receipt))
    }

    /// Queues a command and waits until it is durable. Dropped while it waits, the command is written all the same.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write(&self, command: Command) -> Result<(), WriteError> {
        self.submit(command)?.await
    }

    /// A connection that reads only, for blocking threads.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.path)
    }

    /// What has been written since the store was opened.
    #[must_use]
    pub fn written(&self) -> Written {
        let (commands, commits) = (&self.totals.commands, &self.totals.commits);
        Written { commands: commands.load(Ordering::Relaxed), commits: commits.load(Ordering::Relaxed) }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself; had it panicked, every caller has been told `Closed`.
            let _ = thread.join();
        }
    }
}

impl Future for Receipt {
    type Output = Result<(), WriteError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(WriteError::Closed)))
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { queue: 4096, fault: Arc::new(|| Fault::None), observe: Arc::new(|_, _| {}) }
    }
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions").field("queue", &self.queue).finish_non_exhaustive()
    }
}
