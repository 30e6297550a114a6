//! Files that may change while the service runs: looked at about twice a second, and read again once they are still.
//!
//! A look is a walk of `stat` calls, not a subscription to events: it sees a ConfigMap's swap of `..data`, an editor's
//! rename, a directory that is replaced as a whole, and what another host wrote over NFS, where inotify sees nothing.
//! It never reads content, and never decides whether what it saw is good.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Service;
use super::service::lines;

/// Least time between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// A look may take this part of the time at most: a large directory on a slow disk is looked at less often.
const SHARE: u32 = 20;
/// Deepest folder that is looked into: one more than resources may lie deep.
const DEPTH: usize = 9;

/// What lay there: equal for equal inodes, sizes, modes and times of every file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look(u64);

/// Tells a change that is over from one that goes on.
#[derive(Debug)]
pub(super) struct Watched {
    taken: Look,
    seen: Look,
}

impl Watched {
    /// Starts from what is taken already.
    pub(super) fn new(taken: Look) -> Self {
        Self { taken, seen: taken }
    }

    /// Whether to read again: this look differs from what was taken, and nothing moved since the look before. Two equal
    /// looks half a second apart also rule out a second write in the same tick of the file system's clock.
    pub(super) fn settled(&mut self, now: Look) -> bool {
        let still = now == self.seen;
        self.seen = now;
        let changed = still && now != self.taken;
        if changed {
            self.taken = now;
        }
        changed
    }
}

/// Looks at files, and at everything in directories but hidden entries; links are followed.
pub(super) fn look(paths: &[PathBuf]) -> Look {
    let mut walk = Walk { hash: DefaultHasher::new(), folders: BTreeSet::new() };
    paths.iter().for_each(|path| walk.entry(path, 0));
    Look(walk.hash.finish())
}

struct Walk {
    hash: DefaultHasher,
    /// By device and inode: a link may lead back.
    folders: BTreeSet<(u64, u64)>,
}

impl Walk {
    fn entry(&mut self, path: &Path, depth: usize) {
        path.hash(&mut self.hash);
        match fs::metadata(path) {
            Ok(is) => {
                (is.dev(), is.ino(), is.mode(), is.uid(), is.size()).hash(&mut self.hash);
                (is.mtime(), is.mtime_nsec(), is.ctime(), is.ctime_nsec()).hash(&mut self.hash);
                if is.is_dir() && depth <= DEPTH && self.folders.insert((is.dev(), is.ino())) {
                    self.folder(path, depth);
                }
            }
            Err(error) => error.kind().hash(&mut self.hash),
        }
    }

    fn folder(&mut self, path: &Path, depth: usize) {
        let Ok(entries) = fs::read_dir(path) else { return "unreadable".hash(&mut self.hash) };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort_unstable();
        for name in names.iter().filter(|name| !name.as_encoded_bytes().starts_with(b".")) {
            self.entry(&path.join(name), depth.saturating_add(1));
        }
    }
}

/// Looks beside the runtime's workers; also how long to wait before the next look. A look that was stopped, which only the
/// runtime's end does, is like none other before it.
pub(super) async fn looked(paths: Vec<PathBuf>) -> (Look, Duration) {
    let began = Instant::now();
    let look = tokio::task::spawn_blocking(move || look(&paths)).await.unwrap_or(Look(0));
    (look, PAUSE.max(began.elapsed().saturating_mul(SHARE)))
}

/// Has each change of these files taken, once it is over, until the process ends. `taken`: what they looked like before they
/// were read first.
pub(super) async fn files(paths: Vec<PathBuf>, taken: Look, take: impl Fn()) {
    let mut watched = Watched::new(taken);
    loop {
        let (look, pause) = looked(paths.clone()).await;
        if watched.settled(look) {
            take();
        }
        tokio::time::sleep(pause).await;
    }
}

/// Takes each change of the resources until the process ends. `taken`: what the directory looked like before it was read
/// first. A set that is refused changes nothing, and each distinct refusal is logged once.
pub(super) async fn resources(service: Arc<Service>, taken: Look) {
    let mut watched = Watched::new(taken);
    let mut refused = String::new();
    loop {
        let (look, pause) = looked(service.resource_files()).await;
        if watched.settled(look) {
            match service.take_resources().await {
                Ok(_) => refused.clear(),
                Err(problems) => {
                    let told = lines(&problems);
                    if told != refused {
                        service.tell_refused(&problems);
                        refused = told;
                    }
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Whether a look at `directory` sees this file: it lies inside, and nothing on the way is hidden.
pub(super) fn sees(directory: &Path, file: &Path) -> bool {
    let seen = |part: Component<'_>| match part {
        Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
        Component::CurDir => true,
        _ => false,
    };
    file.strip_prefix(directory).is_ok_and(|inner| inner.components().all(seen))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_is_taken_once_when_it_is_over() {
        let mut watched = Watched::new(Look(1));
        let said: Vec<bool> =
            [1, 1, 2, 3, 3, 3, 4, 3, 3, 1, 1].into_iter().map(|look| watched.settled(Look(look))).collect();
        assert_eq!(said, [false, false, false, false, true, false, false, false, false, false, true]);
    }

    #[test]
    fn every_way_of_writing_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mut last = look(&[directory.path().to_owned()]);
        let mut differs = |what: &str, write: &dyn Fn()| {
            std::thread::sleep(Duration::from_millis(12)); // one tick of a file system's clock
            write();
            let now = look(&[directory.path().to_owned()]);
            assert_ne!(now, last, "{what}");
            assert_eq!(now, look(&[directory.path().to_owned()]), "{what}: nothing moves");
            last = now;
        };
        differs("a new file", &|| fs::write(at("a.yaml"), "1").unwrap());
        differs("the same length, in place", &|| fs::write(at("a.yaml"), "2").unwrap());
        differs("an editor's rename", &|| {
            fs::write(at(".a.yaml.swp"), "3").unwrap();
            fs::rename(at(".a.yaml.swp"), at("a.yaml")).unwrap();
        });
        differs("its mode", &|| {
            fs::set_permissions(at("a.yaml"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        });
        differs("a folder", &|| fs::create_dir_all(at("keys/deep")).unwrap());
        differs("a file in it", &|| fs::write(at("keys/deep/k.yaml"), "1").unwrap());
        differs("a link that leads back", &|| symlink(directory.path(), at("keys/back")).unwrap());
        // a ConfigMap: visible links through `..data`, which is swapped
        differs("a ConfigMap", &|| {
            for (version, text) in [("..1", "old"), ("..2", "new")] {
                fs::create_dir(at(version)).unwrap();
                fs::write(at(version).join("b.yaml"), text).unwrap();
            }
            symlink("..1", at("..data")).unwrap();
            symlink("..data/b.yaml", at("b.yaml")).unwrap();
        });
        differs("its swap", &|| {
            symlink("..2", at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        });
        differs("a dangling link", &|| fs::remove_file(at("..2/b.yaml")).unwrap());
        differs("a file that is gone", &|| fs::remove_file(at("a.yaml")).unwrap());
    }

    #[test]
    fn what_a_directory_does_not_show_is_looked_at_by_itself() {
        let sees = |file: &str| super::sees(Path::new("/etc/p"), Path::new(file));
        assert!(sees("/etc/p/secrets/key") && sees("/etc/p/./key"));
        for hidden in ["/etc/p/../key", "/run/key", "/etc/p/..data/key", "/etc/p/.git/key"] {
            assert!(!sees(hidden), "{hidden}");
        }
    }
}
