//! Where a login is kept: one file, readable by its owner alone, replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::LoginError;
use super::provider::{Client, Tokens, Wanted};
use crate::vault::{PrivateFileError, read_private};

/// Longest file, in bytes.
const MOST: usize = 256 * 1024;
/// Longest client secret, in bytes.
const MOST_SECRET: usize = 4096;

/// A login.
#[derive(Deserialize, Serialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// Whose tokens they are.
    #[zeroize(skip)]
    pub(crate) issuer: String,
    #[zeroize(skip)]
    client_id: String,
    /// Where a confidential client's secret is.
    #[zeroize(skip)]
    client_secret_file: Option<PathBuf>,
    #[zeroize(skip)]
    scope: Option<String>,
    #[zeroize(skip)]
    resource: Option<String>,
    access_token: String,
    refresh_token: Option<String>,
    /// Of the access token; absent where the provider did not say.
    #[zeroize(skip)]
    pub(crate) expires_at: Option<Timestamp>,
}

/// The file.
pub(crate) struct KeptFile(PathBuf);

impl Kept {
    /// A login that has just been made.
    pub(crate) fn new(
        issuer: &str,
        client: &Client,
        secret_file: Option<PathBuf>,
        wanted: Wanted,
        tokens: Tokens,
        now: Timestamp,
    ) -> Self {
        let empty = Self {
            issuer: issuer.to_owned(),
            client_id: client.id.clone(),
            client_secret_file: secret_file,
            scope: wanted.scope,
            resource: wanted.resource,
            access_token: String::new(),
            refresh_token: None,
            expires_at: None,
        };
        empty.renewed(tokens, now)
    }

    /// The same with other tokens; a refresh token that is not replaced stays good (RFC 6749 §6).
    pub(super) fn renewed(mut self, mut tokens: Tokens, now: Timestamp) -> Self {
        self.expires_at = tokens.expires_at(now);
        self.access_token = std::mem::take(&mut tokens.access_token);
        if let Some(refresh) = tokens.refresh_token.take() {
            self.refresh_token = Some(refresh);
        }
        self
    }

    /// The access token.
    pub(crate) fn access_token(&self) -> &str {
        &self.access_token
    }

    pub(crate) fn refresh_token(&self) -> Option<&str> {
        self.refresh_token.as_deref()
    }

    /// Whether the access token is good for longer than this; one without an end is asked for again only by a login.
    pub(super) fn lasts(&self, now: Timestamp, longer: SignedDuration) -> bool {
        self.expires_at.is_none_or(|end| end.duration_since(now) > longer)
    }

    /// The client that asked for it, its secret read again.
    pub(crate) fn client(&self) -> Result<Client, LoginError> {
        client(&self.client_id, self.client_secret_file.as_deref())
    }

    pub(super) fn wanted(&self) -> Wanted {
        Wanted { scope: self.scope.clone(), resource: self.resource.clone() }
    }
}

/// A client by its id and the file of its secret.
pub(crate) fn client(id: &str, secret_file: Option<&Path>) -> Result<Client, LoginError> {
    let read = |path: &Path| {
        let secret = read_private(path, MOST_SECRET).map_err(|why| LoginError::File { path: shown(path), why })?;
        let text = secret.expose();
        let line = text.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        Ok::<_, LoginError>(crate::vault::Secret::new(line.unwrap_or(text).to_vec()))
    };
    Ok(Client { id: id.to_owned(), secret: secret_file.map(read).transpose()? })
}

impl KeptFile {
    /// The file that was named, here or by `BULKHEAD_LOGIN`, or the user's own: `$XDG_CONFIG_HOME/bulkhead/login.json`.
    pub(crate) fn new(named: Option<PathBuf>) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|text| !text.is_empty()).map(PathBuf::from);
        let folder = || variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
        let own = || folder().unwrap_or_default().join("bulkhead/login.json");
        Self(named.or_else(|| variable("BULKHEAD_LOGIN")).unwrap_or_else(own))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Reads the login.
    pub(crate) fn read(&self) -> Result<Kept, LoginError> {
        match read_private(&self.0, MOST) {
            Ok(text) => {
                serde_json::from_slice(text.expose()).map_err(|error| LoginError::Unreadable("kept login", error))
            }
            Err(PrivateFileError::Io(why)) if why.kind() == io::ErrorKind::NotFound => {
                Err(LoginError::Nobody(shown(&self.0)))
            }
            Err(why) => Err(LoginError::File { path: shown(&self.0), why }),
        }
    }

    /// Writes the login over what was there.
    pub(crate) fn write(&self, kept: &Kept) -> Result<(), LoginError> {
        let write = || {
            let text = Zeroizing::new(serde_json::to_vec_pretty(kept)?);
            let next = self.beside("next");
            match fs::remove_file(&next) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
                _ => {}
            }
            let mut file = private().write(true).create_new(true).open(&next)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&next, &self.0)
        };
        self.folder().and_then(|()| write()).map_err(|why| self.unwritten(why))
    }

    /// Forgets the login.
    pub(crate) fn remove(&self) -> Result<(), LoginError> {
        fs::remove_file(&self.0).map_err(|why| self.unwritten(why))
    }

    /// One process at a time: a refresh token that rotates is good once. Held until it is dropped.
    pub(crate) fn lock(&self) -> Result<File, LoginError> {
        let lock = || {
            self.folder()?;
            let file = private().write(true).create(true).truncate(false).open(self.beside("lock"))?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|why| self.unwritten(why))
    }

    fn folder(&self) -> io::Result<()> {
        match self.0.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
            }
            _ => Ok(()),
        }
    }

    fn beside(&self, what: &str) -> PathBuf {
        let mut name = self.0.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{what}"));
        self.0.with_file_name(name)
    }

    fn unwritten(&self, why: io::Error) -> LoginError {
        LoginError::Write { path: shown(&self.0), why }
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn kept(expires_at: &str) -> Kept {
        let text = format!(
            r#"{{"issuer":"https://id.example","client_id":"cli","client_secret_file":null,"scope":null,"resource":null,
               "access_token":"a","refresh_token":"r","expires_at":"{expires_at}"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_login_is_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeptFile::new(Some(folder.path().join("a/b/login.json")));
        assert!(matches!(file.read(), Err(LoginError::Nobody(_))));
        file.write(&kept("2026-01-01T00:00:00Z")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(file.path()), mode(&folder.path().join("a"))), (0o600, 0o700));
        assert_eq!(file.read().unwrap().access_token(), "a");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(file.read(), Err(LoginError::File { .. })), "what others may read is not used");
        // what lay there with other rights is not written into
        file.write(&kept("2026-01-02T00:00:00Z")).unwrap();
        assert_eq!(mode(file.path()), 0o600);
        file.remove().unwrap();
        assert!(matches!(file.read(), Err(LoginError::Nobody(_))));
    }

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let half_a_minute = SignedDuration::from_secs(30);
        for (end, lasts) in
            [("2026-01-01T00:00:31Z", true), ("2026-01-01T00:00:30Z", false), ("2025-01-01T00:00:00Z", false)]
        {
            assert_eq!(kept(end).lasts(now, half_a_minute), lasts, "{end}");
        }
        let tokens = |text: &str| serde_json::from_str::<Tokens>(text).unwrap();
        let next = kept("2026-01-01T00:00:00Z")
            .renewed(tokens(r#"{"access_token":"b","token_type":"Bearer","expires_in":60}"#), now);
        assert_eq!((next.access_token(), next.refresh_token()), ("b", Some("r")));
        assert_eq!(next.expires_at, Some("2026-01-01T00:01:00Z".parse().unwrap()));
    }
}
