//! The bytes that a set was made of: read from a directory, kept by the store, read again from what it kept. Credential
//! files are never kept: each load reads them from disk.

mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::problem::Problems;
use crate::vault::{Secret, read_private};

/// A snapshot of every file that a set was made of: path relative to the directory → text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    resources: BTreeMap<String, String>,
    /// What the resources name: public keys, certificates, revocation lists.
    jwks: BTreeMap<String, String>,
}

/// Bytes are no snapshot.
#[derive(Debug, thiserror::Error)]
#[error("the kept resources cannot be read")]
pub struct BadSources(#[from] serde_json::Error);

impl Sources {
    /// Spells the snapshot; the same set gives the same bytes.
    ///
    /// # Errors
    /// [`BadSources`]: serde_json refused, which no map of texts makes it do.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadSources> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// [`BadSources`] when the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadSources> {
        Ok(serde_json::from_slice(bytes)?)
    }

    /// First 16 hex digits of the SHA-256 over paths and texts, each after its length.
    #[must_use]
    pub fn version(&self) -> String {
        self.version_without(&BTreeSet::new())
    }

    /// The same without some of the YAML files, by path.
    #[must_use]
    pub(super) fn version_without(&self, left_out: &BTreeSet<String>) -> String {
        let mut hash = Sha256::new();
        for map in [&self.resources, &self.jwks] {
            let parts: Vec<_> = map.iter().filter(|(path, _)| !left_out.contains(*path)).collect();
            hash.update((parts.len() as u64).to_be_bytes());
            for part in parts.into_iter().flat_map(|(path, text)| [path, text]) {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part.as_bytes());
            }
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The YAML files, by path.
    pub(super) fn resources(&self) -> &BTreeMap<String, String> {
        &self.resources
    }
}

const MAX_JWKS_BYTES: u64 = 64 * 1024;
/// A revocation list has some 40 bytes for each certificate.
const MAX_PEM_BYTES: u64 = 1024 * 1024;
const MAX_SECRET_BYTES: usize = 16 * 1024;

/// Where files come from: the directory, or what was kept of it.
#[derive(Debug)]
pub(super) struct Origin<'a> {
    dir: &'a Path,
    kept: Option<&'a Sources>,
    read: Sources,
}

impl<'a> Origin<'a> {
    /// Reads every YAML file of a directory; unreadable ones are problems.
    pub(super) fn disk(dir: &'a Path, problems: &Problems) -> Self {
        let resources = walk::read(dir, problems);
        if resources.is_empty() && problems.count() == 0 {
            problems.add_file(&dir.display().to_string(), "holds no resource: no *.yaml or *.yml file");
        }
        Self { dir, kept: None, read: Sources { resources, jwks: BTreeMap::new() } }
    }

    /// Takes the files that were kept.
    pub(super) fn kept(dir: &'a Path, kept: &'a Sources) -> Self {
        Self { dir, kept: Some(kept), read: Sources { resources: kept.resources.clone(), jwks: BTreeMap::new() } }
    }

    /// What was read so far.
    pub(super) fn sources(&self) -> &Sources {
        &self.read
    }

    /// What was read.
    pub(super) fn into_sources(self) -> Sources {
        self.read
    }

    /// A JWKS file, named by a resource in `folder`.
    ///
    /// # Errors
    /// Why not, for the message.
    pub(super) fn jwks(&mut self, folder: &str, name: &str) -> Result<String, String> {
        self.public(folder, name, MAX_JWKS_BYTES)
    }

    /// A file of certificates or revocation lists in PEM, named by a resource in `folder`.
    ///
    /// # Errors
    /// Why not, for the message.
    pub(super) fn pem(&mut self, folder: &str, name: &str) -> Result<String, String> {
        self.public(folder, name, MAX_PEM_BYTES)
    }

    fn public(&mut self, folder: &str, name: &str, greatest: u64) -> Result<String, String> {
        let path = inside(folder, name).ok_or_else(|| format!("`{name}` leads out of the directory"))?;
        let text = match (self.read.jwks.get(&path), self.kept) {
            (Some(text), _) => return Ok(text.clone()),
            (None, Some(kept)) => kept.jwks.get(&path).cloned().ok_or_else(|| format!("`{name}` was not kept"))?,
            (None, None) => {
                let root = self.dir.canonicalize().map_err(|error| reason(&error))?;
                let canonical =
                    self.dir.join(&path).canonicalize().map_err(|error| format!("`{name}` {}", reason(&error)))?;
                if !canonical.starts_with(root) {
                    return Err(format!("`{name}` leads out of the directory"));
                }
                read_text(&canonical, greatest).map_err(|error| format!("`{name}` {error}"))?
            }
        };
        self.read.jwks.insert(path, text.clone());
        Ok(text)
    }

    /// Where a credential file lies that a resource in `folder` names.
    pub(super) fn secret_path(&self, folder: &str, name: &str) -> PathBuf {
        self.dir.join(folder).join(name)
    }

    /// A credential file: its content never gets into a message.
    ///
    /// # Errors
    /// Why not, for the message.
    pub(super) fn secret(&self, folder: &str, name: &str) -> Result<Secret, String> {
        let secret = read_private(&self.secret_path(folder, name), MAX_SECRET_BYTES)
            .map_err(|error| format!("`{name}` {error}"))?;
        let bytes = secret.expose();
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if line.is_empty() || !line.iter().all(u8::is_ascii_graphic) {
            return Err(format!("`{name}` must hold visible ASCII characters and at most one newline after them"));
        }
        Ok(Secret::new(line.to_vec()))
    }
}

/// The path that `name` leads to from `folder`, both relative, unless it leads out.
fn inside(folder: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    if name.starts_with('/') || name.is_empty() {
        return None;
    }
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn read_text(path: &Path, greatest: u64) -> Result<String, String> {
    let metadata = fs::metadata(path).map_err(|error| reason(&error))?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    let file = fs::File::open(path).map_err(|error| reason(&error))?;
    let mut bytes = Vec::new();
    file.take(greatest.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if bytes.len() as u64 > greatest {
        return Err(format!("is larger than {greatest} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

/// The reason without the error's number.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests;
