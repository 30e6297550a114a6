//! `unix:PATH`, as flags and the environment name a socket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A Unix socket's path that fits the kernel's address (unix(7): 108 bytes with its final zero).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixAddr(PathBuf);

/// Why a text is no socket address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnixAddrError {
    /// Another shape.
    #[error("must be `unix:` and a path, as in `unix:/run/bulkhead/admin.sock`")]
    Shape,
    /// The kernel takes no longer ones.
    #[error("the path is longer than 107 bytes, which a Unix socket cannot be")]
    TooLong,
}

const MAX_PATH_BYTES: usize = 107;

impl UnixAddr {
    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The socket's path, taken out.
    #[must_use]
    pub fn into_path(self) -> PathBuf {
        self.0
    }
}

impl FromStr for UnixAddr {
    type Err = UnixAddrError;

    fn from_str(text: &str) -> Result<Self, UnixAddrError> {
        let path = text.strip_prefix("unix:").filter(|path| !path.is_empty() && !path.contains('\0'));
        let path = path.filter(|path| !path.ends_with('/')).ok_or(UnixAddrError::Shape)?;
        if path.len() > MAX_PATH_BYTES { Err(UnixAddrError::TooLong) } else { Ok(Self(path.into())) }
    }
}

impl fmt::Display for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_unix_and_a_path() {
        let address: UnixAddr = "unix:/run/b/admin.sock".parse().unwrap();
        assert_eq!(
            (address.path(), address.to_string().as_str()),
            (Path::new("/run/b/admin.sock"), "unix:/run/b/admin.sock")
        );
        for bad in ["", "unix:", "/run/b", "tcp:1", "unix:/run/", "unix:/a\0b"] {
            assert_eq!(bad.parse::<UnixAddr>(), Err(UnixAddrError::Shape), "{bad:?}");
        }
    }

    #[test]
    fn the_kernels_limit_is_said_before_it_bites() {
        let path = |length: usize| format!("unix:/{}", "x".repeat(length - 1));
        assert!(path(107).parse::<UnixAddr>().is_ok());
        assert_eq!(path(108).parse::<UnixAddr>(), Err(UnixAddrError::TooLong));
    }
}
