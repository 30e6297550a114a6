//! Finds and reads the YAML files of a directory, in the order of their paths, each once. Never follows a link out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::super::problem::Problems;
use super::{read_text, reason};

const MAX_FILE_BYTES: u64 = 1024 * 1024;
const MAX_SET_BYTES: usize = 64 * 1024 * 1024;
const MAX_FILES: usize = 20_000;
const MAX_FOLDERS: usize = 8;

/// Reads every YAML file of a directory and its sub-directories: relative path → text.
pub(super) fn read(dir: &Path, problems: &Problems) -> BTreeMap<String, String> {
    let root = match dir.canonicalize() {
        Ok(root) => root,
        Err(error) => {
            problems.add_file(&dir.display().to_string(), reason(&error));
            return BTreeMap::new();
        }
    };
    let seen = BTreeSet::from([root.clone()]);
    let mut walk = Walk { root, seen, bytes: 0, read: BTreeMap::new(), problems };
    walk.folder(dir, "", 0);
    walk.read
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
