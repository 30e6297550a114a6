//! The one thread that writes: takes what is queued, up to a bound, into one transaction, commits it, and only then
//! answers each caller.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::command::Command;
use super::{Fault, Observe, WriteError, apply};

/// Commands in one transaction, at most.
const GROUP: usize = 512;

/// A command and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) command: Command,
    pub(super) reply: oneshot::Sender<Result<(), WriteError>>,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) commands: AtomicU64,
    pub(super) commits: AtomicU64,
}

/// The thread's own.
pub(super) struct Writer {
    pub(super) connection: Connection,
    /// Released when the thread ends, after the connection is closed.
    pub(super) lock: File,
    pub(super) fault: Arc<dyn Fn() -> Fault + Send + Sync>,
    pub(super) observe: Observe,
    pub(super) totals: Arc<Totals>,
}

type Answers = Vec<Result<(), WriteError>>;

impl Writer {
    /// Serves until the store is dropped and the queue is empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            let began = Instant::now();
            let answers = self.commit(&group).unwrap_or_else(|error| vec![Err(error); group.len()]);
            self.totals.commands.fetch_add(u64::try_from(group.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            (self.observe)(group.len(), began.elapsed());
            for (job, answer) in group.drain(..).zip(answers) {
                // Who no longer waits does not need to know.
                let _ = job.reply.send(answer);
            }
        }
        let Self { connection, lock, .. } = self;
        drop(connection);
        drop(lock);
    }

    /// One transaction. A command that fails alone is undone alone; when the transaction fails, all fail.
    fn commit(&mut self, group: &[Job]) -> Result<Answers, WriteError> {
        let mut transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Hardly any command fails: savepoints are for the groups that hold one.
        let answers = if group.iter().all(|job| apply::apply(&transaction, &job.command).is_ok()) {
            vec![Ok(()); group.len()]
        } else {
            transaction.rollback()?;
            transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            one_by_one(&mut transaction, group)?
        };
        match (self.fault)() {
            Fault::None => {}
            Fault::FailCommit => return Err(WriteError::Failed("a fault was injected".into())),
            Fault::Delay(delay) => std::thread::sleep(delay),
        }
        transaction.commit()?;
        self.totals.commits.fetch_add(1, Ordering::Relaxed);
        Ok(answers)
    }
}

/// Each command within a savepoint of its own.
fn one_by_one(transaction: &mut Transaction<'_>, group: &[Job]) -> Result<Answers, WriteError> {
    let mut answers = Answers::with_capacity(group.len());
    for job in group {
        let savepoint = transaction.savepoint()?;
        match apply::apply(&savepoint, &job.command) {
            Ok(()) => {
                savepoint.commit()?;
                answers.push(Ok(()));
            }
            // On a full or failing disk SQLite has rolled everything back by itself.
            Err(error) if savepoint.is_autocommit() => return Err(error),
            Err(error) => {
                savepoint.finish()?;
                answers.push(Err(error));
            }
        }
    }
    Ok(answers)
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
