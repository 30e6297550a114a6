//! Opening the state file: one process, mode 0600, ours, of a version that we know.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::schema::{APPLICATION_ID, STEPS};

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("`{}` is in use by another bulkhead process: one state file serves exactly one", .0.display())]
    InUse(PathBuf),
    /// Some other program's database.
    #[error("`{}` is a database, but not a bulkhead state file", .0.display())]
    NotOurs(PathBuf),
    /// Written by a newer version.
    #[error("`{}` has schema version {found}, this bulkhead knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: usize,
    },
    /// The file system refuses.
    #[error("cannot open `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// SQLite refuses.
    #[error("cannot read or write the state file: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row that this program would not have written.
    #[error("the state file is damaged: {0}")]
    Damaged(String),
}

/// Takes `FILE.lock` for as long as the returned file lives. Not the database itself: closing any descriptor of that
/// would drop SQLite's own POSIX locks.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = create(&name)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(StoreError::Io { path: name, error }),
    }
}

/// Opens the database for writing, makes it ours where it is new, and brings its tables up to date. To be called with
/// the lock held.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    // SQLite gives its -wal and -shm the mode of the database.
    drop(create(path)?);
    let mut connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    check_ours(&connection, path)?;
    let wide = |error| StoreError::Io { path: path.to_owned(), error };
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(wide)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::Damaged(format!("its journal mode is `{mode}`, not `wal`")));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A step that copies a table takes the old one away from under those that refer to it.
    connection.pragma_update(None, "foreign_keys", "OFF")?;
    // A page is often changed again before it must move from the log into the file; and the indexes stay in memory.
    connection.pragma_update(None, "wal_autocheckpoint", 8192)?;
    connection.pragma_update(None, "cache_size", -32_768)?;
    migrate(&mut connection, path)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    Ok(connection)
}

fn create(path: &Path) -> Result<File, StoreError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map_err(|error| StoreError::Io { path: path.to_owned(), error })
}

/// A file is ours when it says so, or when it is empty.
fn check_ours(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let not_ours = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => StoreError::NotOurs(path.to_owned()),
        _ => StoreError::Sqlite(error),
    };
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(not_ours)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if id == APPLICATION_ID || (id == 0 && tables == 0) { Ok(()) } else { Err(StoreError::NotOurs(path.to_owned())) }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let newer = || StoreError::Newer { path: path.to_owned(), found: version, known: STEPS.len() };
    let steps = usize::try_from(version).ok().and_then(|done| STEPS.get(done..)).ok_or_else(newer)?;
    if steps.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    if version == 0 {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| StoreError::Damaged(format!("no random bytes: {error}")))?;
        transaction.execute("INSERT INTO meta VALUES ('salt', ?1), ('epoch', x'0000000000000000')", [&salt[..]])?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(STEPS.len()).unwrap_or(i64::MAX))?;
    Ok(transaction.commit()?)
}
