//! Which of a dialect's paths still match where the scanner is: a set of fields, one bit each, narrowed step by step.
//! A key is compared as its bytes arrive; it is never kept.

use crate::meter::dialect::{Field, Meaning, Step};

/// The fields that the value at hand may belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paths {
    fields: &'static [Field],
    set: u32,
    /// Bytes of the key at hand that have been compared.
    key_bytes: usize,
}

impl Paths {
    /// At the root every path matches.
    pub(super) fn root(fields: &'static [Field]) -> Self {
        Self { fields, set: u32::MAX, key_bytes: 0 }
    }

    /// The dialect's fields.
    pub(super) fn fields(self) -> &'static [Field] {
        self.fields
    }

    /// What stands here, `depth` steps from the root.
    pub(super) fn meanings(self, depth: usize) -> impl Iterator<Item = Meaning> {
        self.members().filter(move |(_, field)| field.path.len() == depth).map(|(_, field)| field.meaning)
    }

    /// The set to enter a container with, `depth` steps from the root; `None` where no path leads into it.
    pub(super) fn inside(self, depth: usize, array: bool) -> Option<u32> {
        let set = self.keep(|field| field.path.get(depth).is_some_and(|step| (*step == Step::Item) == array));
        (set != 0).then_some(set)
    }

    /// Before a member of the container that was entered with `set`.
    pub(super) fn enter(&mut self, set: u32) {
        (self.set, self.key_bytes) = (set, 0);
    }

    /// The next bytes of the key that is step number `step`.
    pub(super) fn key_bytes(&mut self, step: usize, bytes: &[u8]) {
        let rest = |key: &'static [u8]| key.get(self.key_bytes..);
        self.set = self.keep(|field| key(field, step).and_then(rest).is_some_and(|rest| rest.starts_with(bytes)));
        self.key_bytes = self.key_bytes.saturating_add(bytes.len());
    }

    /// The end of that key.
    pub(super) fn key_end(&mut self, step: usize) {
        let length = self.key_bytes;
        self.set = self.keep(|field| key(field, step).is_some_and(|key| key.len() == length));
    }

    fn members(self) -> impl Iterator<Item = (u32, &'static Field)> {
        let mut left = self.set;
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            self.fields.get(bit as usize).map(|field| (bit, field))
        })
    }

    fn keep(self, keep: impl Fn(&Field) -> bool) -> u32 {
        self.members().filter(|(_, field)| keep(field)).fold(0, |set, (bit, _)| set | 1 << bit)
    }
}

fn key(field: &Field, step: usize) -> Option<&'static [u8]> {
    match field.path.get(step)? {
        Step::Key(key) => Some(key.as_bytes()),
        Step::Item => None,
    }
}
