//! When each API key was last used: noted in memory as it is used, written down now and then.
//!
//! What was not written when the process is killed is forgotten; a key was then used later than is said.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// Last uses by key id, milliseconds since 1970. Only keys that were proved are in it.
#[derive(Debug, Default)]
pub struct LastUsed(Mutex<HashMap<String, Use>>);

#[derive(Clone, Copy, Debug)]
struct Use {
    at_ms: u64,
    kept_ms: u64,
}

impl LastUsed {
    /// As the state file has them.
    pub fn kept_as(kept: impl IntoIterator<Item = (String, u64)>) -> Self {
        let uses = kept.into_iter().map(|(id, at_ms)| (id, Use { at_ms, kept_ms: at_ms }));
        Self(Mutex::new(uses.collect()))
    }

    /// A key was used.
    pub fn note(&self, id: &str, at_ms: u64) {
        let mut uses = self.lock();
        match uses.get_mut(id) {
            Some(known) => known.at_ms = known.at_ms.max(at_ms),
            None => drop(uses.insert(id.to_owned(), Use { at_ms, kept_ms: 0 })),
        }
    }

    /// When a key was last used, if it ever was.
    pub fn of(&self, id: &str) -> Option<Timestamp> {
        let at_ms = self.lock().get(id)?.at_ms;
        i64::try_from(at_ms).ok().and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok())
    }

    /// What is to be written down.
    pub fn unkept(&self) -> Vec<(String, u64)> {
        let uses = self.lock();
        let unkept = uses.iter().filter(|(_, one)| one.at_ms > one.kept_ms);
        unkept.map(|(id, one)| (id.clone(), one.at_ms)).collect()
    }

    /// This much of it is written down.
    pub fn kept(&self, written: &[(String, u64)]) {
        let mut uses = self.lock();
        for (id, at_ms) in written {
            if let Some(known) = uses.get_mut(id) {
                known.kept_ms = known.kept_ms.max(*at_ms);
            }
        }
    }

    /// Nothing in here panics with the lock held.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_is_written_once_and_none_goes_back() {
        let uses = LastUsed::kept_as([("a".to_owned(), 5_000)]);
        assert_eq!(uses.unkept(), []);
        uses.note("a", 4_000);
        assert_eq!((uses.unkept(), uses.of("a").unwrap().as_millisecond()), (Vec::new(), 5_000));
        uses.note("a", 6_000);
        uses.note("b", 1_000);
        let mut unkept = uses.unkept();
        unkept.sort();
        assert_eq!(unkept, [("a".to_owned(), 6_000), ("b".to_owned(), 1_000)]);
        uses.note("b", 2_000);
        uses.kept(&unkept);
        assert_eq!(uses.unkept(), [("b".to_owned(), 2_000)], "what came while it was written is still to come");
        assert_eq!(uses.of("c"), None);
    }
}
