//! Sets of a dialect's fields, one bit each: which of their paths still match where the scanner is.

use crate::meter::dialect::{Field, Meaning};

/// The fields of a set.
fn members(fields: &'static [Field], mut set: u32) -> impl Iterator<Item = (u32, &'static Field)> {
    std::iter::from_fn(move || {
        let bit = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        fields.get(bit as usize).map(|field| (bit, field))
    })
}

/// What stands at `depth`, where `candidates` still match.
pub(super) fn meanings(fields: &'static [Field], candidates: u32, depth: usize) -> impl Iterator<Item = Meaning> {
    members(fields, candidates).filter(move |(_, field)| field.path.len() == depth).map(|(_, field)| field.meaning)
}

/// Those of `candidates` that `keep` keeps.
pub(super) fn retain(fields: &'static [Field], candidates: u32, keep: impl Fn(&Field) -> bool) -> u32 {
    members(fields, candidates).filter(|(_, field)| keep(field)).fold(0, |set, (bit, _)| set | 1 << bit)
}
