//! The bytes that a set was made of: read from a directory, kept by the store, read again from what it kept. Credential
//! files are never kept: each load reads them from disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::problem::Problems;
use crate::vault::{Secret, read_private};

/// A snapshot of every YAML and JWKS file that a set was made of: path relative to the directory → text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    resources: BTreeMap<String, String>,
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
        let mut hash = Sha256::new();
        for map in [&self.resources, &self.jwks] {
            hash.update((map.len() as u64).to_be_bytes());
            for part in map.iter().flat_map(|(path, text)| [path, text]) {
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

const MAX_FILE_BYTES: u64 = 1024 * 1024;
const MAX_SET_BYTES: usize = 64 * 1024 * 1024;
const MAX_FILES: usize = 20_000;
const MAX_FOLDERS: usize = 8;
const MAX_JWKS_BYTES: u64 = 64 * 1024;
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
        let mut walk = Walk { root: PathBuf::new(), seen: BTreeSet::new(), bytes: 0, read: BTreeMap::new(), problems };
        match dir.canonicalize() {
            Ok(root) => {
                walk.seen.insert(root.clone());
                walk.root = root;
                walk.folder(dir, "", 0);
            }
            Err(error) => problems.add_file(&dir.display().to_string(), reason(&error)),
        }
        if walk.read.is_empty() && problems.count() == 0 {
            problems.add_file(&dir.display().to_string(), "holds no resource: no *.yaml or *.yml file");
        }
        Self { dir, kept: None, read: Sources { resources: walk.read, jwks: BTreeMap::new() } }
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
        let path = inside(folder, name).ok_or_else(|| format!("`{name}` leads out of the directory"))?;
        let text = match (self.read.jwks.get(&path), self.kept) {
            (Some(text), _) => return Ok(text.clone()),
            (None, Some(kept)) => kept.jwks.get(&path).cloned().ok_or_else(|| format!("`{name}` was not kept"))?,
            (None, None) => {
                let root = self.dir.canonicalize().map_err(|error| reason(&error))?;
                let canonical = self.dir.join(&path).canonicalize().map_err(|error| format!("`{name}` {}", reason(&error)))?;
                if !canonical.starts_with(root) {
                    return Err(format!("`{name}` leads out of the directory"));
                }
                read_text(&canonical, MAX_JWKS_BYTES).map_err(|error| format!("`{name}` {error}"))?
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
        let secret = read_private(&self.secret_path(folder, name), MAX_SECRET_BYTES).map_err(|error| format!("`{name}` {error}"))?;
        let bytes = secret.expose();
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if line.is_empty() || !line.iter().all(u8::is_ascii_graphic) {
            return Err(format!("`{name}` must hold visible ASCII characters and at most one newline after them"));
        }
        Ok(Secret::new(line.to_vec()))
    }
}

/// Reads the YAML files of a directory and its sub-directories.
struct Walk<'a> {
    root: PathBuf,
    seen: BTreeSet<PathBuf>,
    bytes: usize,
    read: BTreeMap<String, String>,
    problems: &'a Problems,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, relative: &str, depth: usize) {
        let entries = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) => return self.problems.add_file(relative, reason(&error)),
        };
        let mut names: Vec<_> = entries.iter().map(fs::DirEntry::file_name).collect();
        names.sort();
        for name in names.iter().map(|name| name.to_string_lossy()).filter(|name| !name.starts_with('.')) {
            let inner = if relative.is_empty() { name.to_string() } else { format!("{relative}/{name}") };
            self.entry(&folder.join(name.as_ref()), &inner, depth);
        }
    }

    fn entry(&mut self, path: &Path, relative: &str, depth: usize) {
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if !yaml && !path.is_dir() {
            return;
        }
        let canonical = match path.canonicalize() {
            Ok(canonical) => canonical,
            Err(error) => return self.problems.add_file(relative, reason(&error)),
        };
        if !canonical.starts_with(&self.root) {
            return self.problems.add_file(relative, "leads out of the directory");
        }
        if !self.seen.insert(canonical.clone()) {
            return;
        }
        match canonical.is_dir() {
            true if depth < MAX_FOLDERS => self.folder(path, relative, depth.saturating_add(1)),
            true => self.problems.add_file(relative, format!("lies more than {MAX_FOLDERS} folders deep")),
            false => self.file(&canonical, relative),
        }
    }

    fn file(&mut self, canonical: &Path, relative: &str) {
        if self.read.len() >= MAX_FILES || self.bytes > MAX_SET_BYTES {
            return self.problems.add_file("", format!("more than {MAX_FILES} files or {MAX_SET_BYTES} bytes"));
        }
        match read_text(canonical, MAX_FILE_BYTES) {
            Ok(text) => {
                self.bytes = self.bytes.saturating_add(text.len());
                self.read.insert(relative.to_owned(), text);
            }
            Err(message) => self.problems.add_file(relative, message),
        }
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
