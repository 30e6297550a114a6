//! Names that resources declare and others refer to.

use std::collections::BTreeMap;

use super::field::{At, Each};
use super::problem::{Place, Problems, nearest};

/// What the resources of one kind declare.
#[derive(Debug)]
pub(super) struct Names<T> {
    kind: &'static str,
    by_name: BTreeMap<String, (Place, Option<T>)>,
    complete: bool,
}

impl<T> Names<T> {
    /// No names yet. `kind` is the word that messages use; where not every resource could be read, nothing is said about
    /// unknown names.
    pub(super) fn new(kind: &'static str, complete: bool) -> Self {
        Self { kind, by_name: BTreeMap::new(), complete }
    }

    /// Declares a name; `None`: its resource is a problem already, so references to it are none.
    pub(super) fn declare(&mut self, name: &At<String>, value: Option<T>, problems: &Problems) {
        let Self { kind, by_name, .. } = self;
        if let Some((first, _)) = by_name.get(&name.value) {
            let (file, line) = (problems.path(first.file), first.line);
            problems.add(name.place, format!("{kind} `{}` is there already: {file}:{line}", name.value));
        } else {
            by_name.insert(name.value.clone(), (name.place, value));
        }
    }

    /// Declares what is there without being written.
    pub(super) fn declare_own(&mut self, name: &str, value: T) {
        self.by_name.insert(name.to_owned(), (Place::default(), Some(value)));
    }

    /// What a reference leads to; `None`: the reason is among the problems.
    pub(super) fn find(&self, wanted: &At<String>, problems: &Problems) -> Option<&T> {
        if self.complete && !self.by_name.contains_key(&wanted.value) {
            let hint = nearest(&wanted.value, self.by_name.keys().map(String::as_str));
            problems.add(wanted.place, format!("{} `{}` does not exist{hint}", self.kind, wanted.value));
        }
        self.get(&wanted.value)
    }

    /// The whole one of this name, quietly.
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.by_name.get(name).and_then(|(_, value)| value.as_ref())
    }

    /// What the references of a list lead to.
    pub(super) fn find_each<'a, C: FromIterator<R>, R>(
        &self,
        wanted: &'a Each<At<String>>,
        problems: &Problems,
        then: impl Fn(&T, &'a At<String>) -> R,
    ) -> C {
        wanted.0.iter().filter_map(|name| Some(then(self.find(name, problems)?, name))).collect()
    }

    /// Each whole one with its name and where that stands, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Place, &T)> + Clone {
        self.by_name.iter().filter_map(|(name, (place, value))| Some((name.as_str(), *place, value.as_ref()?)))
    }
}
