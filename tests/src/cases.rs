//! `tests/cases/<name>/`: what a customer would name, one folder each, told by files that are read like a conversation and
//! run twice: through the pure filters ([`Pure`]) and through a real Envoy ([`Real`]). The format is in `tests/cases/README.md`.

mod expect;
mod message;
mod observed;
mod pure;
mod real;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use expect::Expect;
pub use message::{AnswerMessage, RequestMessage};
pub use observed::{Charged, Observed, Recorded, Sent};
pub use pure::Pure;
pub use real::Real;

use crate::configuration::{Profile, repository};
use crate::policies::Policies;

/// One folder.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What it changes in the standard policies.
    pub policy: Vec<Value>,
    /// What is sent, in order; each settled before the next.
    pub exchanges: Vec<Exchange>,
}

/// One request, the upstream's answer to it, and what must come of both.
#[derive(Debug)]
pub struct Exchange {
    /// `request.http`.
    pub request: RequestMessage,
    /// `upstream.http`; none where nothing may reach the upstream.
    pub upstream: Option<AnswerMessage>,
    /// `expect.yaml`, as it holds for profile `portable`.
    pub expect: Expect,
    /// The same for profile `inline`.
    pub inline: Expect,
}

impl Exchange {
    /// What is expected in a profile.
    #[must_use]
    pub fn expected(&self, profile: Profile) -> &Expect {
        match profile {
            Profile::Portable => &self.expect,
            Profile::Inline => &self.inline,
        }
    }

    /// Whether the same is expected in both profiles.
    #[must_use]
    pub fn is_alike_in_both(&self) -> bool {
        self.expect == self.inline
    }
}

impl Case {
    /// Every case, by name.
    ///
    /// # Panics
    /// A folder is not as the README says.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let root = repository().join("tests/cases");
        let entries = std::fs::read_dir(&root).expect("tests/cases").map(|entry| entry.expect("an entry").path());
        let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        folders.sort();
        folders.iter().map(|folder| Self::read(folder)).collect()
    }

    fn read(folder: &Path) -> Self {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let mut files: BTreeSet<String> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        let read = |file: &str| {
            std::fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{name}/{file}: {error}"))
        };
        let policy = if files.remove("policy.yaml") {
            serde_saphyr::from_multiple(&read("policy.yaml")).unwrap_or_else(|error| panic!("{name}: {error}"))
        } else {
            Vec::new()
        };
        let starts: Vec<String> =
            files.iter().filter_map(|file| file.strip_suffix("request.http")).map(ToOwned::to_owned).collect();
        let mut exchange = |start: &String| {
            let [request, answer, expect] =
                ["request.http", "upstream.http", "expect.yaml"].map(|file| format!("{start}{file}"));
            let upstream = files.remove(&answer).then(|| AnswerMessage::parse(&read(&answer)));
            files.remove(&request);
            files.remove(&expect);
            let parsed = |profile| {
                Expect::parse(&read(&expect), profile).unwrap_or_else(|error| panic!("{name}/{expect}: {error}"))
            };
            let request = RequestMessage::parse(&read(&request));
            Exchange { request, upstream, expect: parsed(Profile::Portable), inline: parsed(Profile::Inline) }
        };
        let exchanges: Vec<Exchange> = starts.iter().map(&mut exchange).collect();
        assert!(!exchanges.is_empty(), "{name} has no request");
        assert!(files.is_empty(), "{name} has files that nobody reads: {files:?}");
        Self { name, policy, exchanges }
    }

    /// The standard policies with this case's changes: merged into a `spec` (RFC 7396), or added.
    ///
    /// # Panics
    /// A change has no kind or name.
    #[must_use]
    pub fn policies(&self) -> Policies {
        let mut set = Policies::standard();
        self.change(&mut set);
        set
    }

    /// Puts this case's changes into a set.
    ///
    /// # Panics
    /// As [`Case::policies`].
    pub fn change(&self, set: &mut Policies) {
        for change in &self.policy {
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            let (kind, name) = (text(&change["kind"]), text(&change["metadata"]["name"]));
            if set.has(&kind, &name) {
                merge(set.spec(&kind, &name), &change["spec"]);
            } else {
                set.add(change.clone());
            }
        }
    }

    /// The credentials that its requests name.
    #[must_use]
    pub fn credentials(&self) -> BTreeSet<String> {
        self.exchanges.iter().flat_map(|exchange| exchange.request.credentials()).collect()
    }
}

/// JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let target = target.as_object_mut().expect("an object");
    for (name, value) in fields {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_a_merge_patch() {
        let mut target = json!({"a": {"b": 1, "c": [1, 2]}, "d": 4});
        merge(&mut target, &json!({"a": {"b": null, "c": [3], "e": {"f": 5}}, "d": {"g": 6}}));
        assert_eq!(target, json!({"a": {"c": [3], "e": {"f": 5}}, "d": {"g": 6}}));
    }
}
