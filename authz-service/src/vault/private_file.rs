//! Files that hold a secret: read only when nobody but their owner can.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::Secret;

/// Why a secret file is not read.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The operating system refused.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A directory, a device, a pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// Group or others have rights on it.
    #[error("has mode {0:04o}; it must be 0600 or stricter")]
    Mode(u32),
    /// Longer than any such secret.
    #[error("has more than {0} bytes")]
    TooLarge(usize),
    /// Nothing in it.
    #[error("is empty")]
    Empty,
}

/// Reads a secret of 1 to `limit` bytes from a regular file that only its owner has rights on. What was checked is what
/// is read: the mode is the open file's, not the path's.
///
/// # Errors
/// [`PrivateFileError`], to be read behind the file's name.
pub fn read_private(path: &Path, limit: usize) -> Result<Secret, PrivateFileError> {
    // Looked at before it is opened: opening a pipe would wait for whoever writes into it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(PrivateFileError::NotAFile);
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(PrivateFileError::NotAFile);
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::Mode(mode));
    }
    // Room for one byte too many from the start: a growing buffer would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit.saturating_add(1)));
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() {
        0 => Err(PrivateFileError::Empty),
        read if read > limit => Err(PrivateFileError::TooLarge(limit)),
        _ => Ok(Secret(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn reads_only_what_is_private_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let read = |bytes: &[u8], mode| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read_private(&path, 4).map_err(|error| error.to_string())
        };
        assert_eq!(read(b"1234", 0o600).unwrap().expose(), b"1234");
        assert_eq!(read(b"12345", 0o600).unwrap_err(), "has more than 4 bytes");
        assert_eq!(read(b"", 0o600).unwrap_err(), "is empty");
        for mode in [0o640, 0o604, 0o620, 0o601, 0o644] {
            assert_eq!(read(b"1234", mode).unwrap_err(), format!("has mode {mode:04o}; it must be 0600 or stricter"));
        }
        assert!(matches!(read_private(dir.path(), 4), Err(PrivateFileError::NotAFile)));
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(matches!(read_private(&pipe, 4), Err(PrivateFileError::NotAFile)), "and does not wait");
        assert!(matches!(read_private(&dir.path().join("none"), 4), Err(PrivateFileError::Io(_))));
    }
}
