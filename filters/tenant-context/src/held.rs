//! Grants that one worker holds: for requests alike in every input that the decision read, for a few seconds.
//!
//! Bounded in number and bytes: what has expired goes first, then the oldest. Nothing is held that was decided for one
//! request alone, nothing is used that a revocation covers or while knowledge of revocations is old.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use gateway_core::denial::{Code, Denial};
use gateway_core::gate::{AdmissionTerms, Grant, SignedGrant};
use prost::Message as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::gateway::Held;
use crate::request_key::{Inputs, RequestKey};
use crate::revocations::Revocations;

/// Greatest number of grants held, unless told otherwise.
pub const MOST: usize = 4_096;
/// Greatest size of what is held, in bytes, unless told otherwise.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;
/// What terms take once compiled, times their serialized size.
const COMPILED: usize = 3;
/// What a grant takes beside its bytes, roughly.
const OVERHEAD: usize = 512;

/// A grant of profile `inline`, with whatever the caller compiled its terms to.
#[derive(Debug)]
pub struct HeldGrant<T> {
    /// The grant without terms and handle; `signed` is the handle: for leases, settlements and refusals.
    pub held: Held,
    /// The handle as [`gateway_core::wire::GRANT_HEADER`] carries it.
    pub text: String,
    /// Compiled.
    pub terms: T,
    /// It is held until then, in milliseconds of the clock that it was received by.
    pub until_ms: u64,
    size: usize,
}

impl<T> HeldGrant<T> {
    /// Takes a grant apart: its handle replaces what was received, its terms (absent on data endpoints) are compiled.
    ///
    /// # Errors
    /// [`Code::NotAdmitted`] when the handle is not of this grant; what `compile` says.
    pub fn new(
        mut held: Held,
        compile: impl FnOnce(Option<AdmissionTerms>) -> Result<T, Denial>,
    ) -> Result<Self, Denial> {
        let size = held.grant.encoded_len().saturating_mul(COMPILED).saturating_add(OVERHEAD);
        let handle = std::mem::take(&mut held.grant.handle);
        if !handle.is_empty() {
            held.signed = handle;
            let other = Denial::new(Code::NotAdmitted).detail("The grant's handle is not its own.");
            if !held.is_signed() {
                return Err(other);
            }
        }
        let text = held.text()?;
        let terms = compile(held.grant.terms.take())?;
        let hold_ms = u64::from(held.grant.hold_ms.min(held.grant.lifetime_ms));
        Ok(Self { text, terms, until_ms: held.received_ms.saturating_add(hold_ms), size, held })
    }

    /// Whether it still answers for requests alike.
    pub fn usable(&self, revocations: &mut Revocations, now_ms: u64) -> bool {
        self.lasts(now_ms) && revocations.fresh(now_ms) && !revocations.covers(&self.held.grant)
    }

    /// Whether it is held at all, by its own words.
    fn lasts(&self, now_ms: u64) -> bool {
        let Held { grant, received_ms, .. } = &self.held;
        grant.epoch > 0 && grant.hold_ms > 0 && *received_ms <= now_ms && now_ms < self.until_ms
    }
}

impl Held {
    /// Whether `signed` is the same grant, as far as a handle repeats it.
    fn is_signed(&self) -> bool {
        let signed = SignedGrant::decode(self.signed.clone()).ok().filter(|signed| signed.mac.len() == 32);
        signed.and_then(|signed| Grant::decode(signed.grant).ok()).is_some_and(|handle| {
            let grant = &self.grant;
            handle.id == grant.id && handle.tenant == grant.tenant && handle.scope_set == grant.scope_set
        })
    }
}

/// The grants that one worker holds, by request.
pub struct HeldGrants<T> {
    /// Hashed under a secret of the process: how long a look-up takes says nothing of other keys.
    by_key: HashMap<RequestKey, u64>,
    /// By number: the oldest first.
    entries: BTreeMap<u64, Entry<T>>,
    /// When each entry ends, and its number.
    ends: BTreeSet<(u64, u64)>,
    next: u64,
    bytes: usize,
    most: usize,
    most_bytes: usize,
    clock_ms: u64,
    /// The key looked up last.
    scratch: Zeroizing<Vec<u8>>,
}

struct Entry<T> {
    key: RequestKey,
    held: Rc<HeldGrant<T>>,
}

impl<T> Entry<T> {
    fn size(&self) -> usize {
        // The handle stands in it twice: as it is, and as text.
        let handle = self.held.held.signed.len().saturating_add(self.held.text.len());
        self.key.as_bytes().len().saturating_add(self.held.size).saturating_add(handle)
    }
}

impl<T> Default for HeldGrants<T> {
    fn default() -> Self {
        Self::new(MOST, MOST_BYTES)
    }
}

impl<T> HeldGrants<T> {
    /// None yet, and never more than so many, or so many bytes.
    #[must_use]
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            by_key: HashMap::new(),
            entries: BTreeMap::new(),
            ends: BTreeSet::new(),
            next: 0,
            bytes: 0,
            most,
            most_bytes,
            clock_ms: 0,
            scratch: Zeroizing::default(),
        }
    }

    /// Holds a grant for requests of this key, in place of any other. One that was made for its request alone (`hold_ms`
    /// or `epoch` 0) is not held.
    pub fn insert(&mut self, key: RequestKey, held: Rc<HeldGrant<T>>, now_ms: u64) {
        self.expire(now_ms);
        if let Some(number) = self.by_key.get(&key).copied() {
            self.remove(number);
        }
        let entry = Entry { key, held };
        let size = entry.size();
        if !entry.held.lasts(now_ms) || self.most == 0 || size > self.most_bytes {
            return;
        }
        while self.entries.len() >= self.most || self.bytes.saturating_add(size) > self.most_bytes {
            let Some(oldest) = self.entries.keys().next().copied() else { return };
            self.remove(oldest);
        }
        self.next = self.next.saturating_add(1);
        self.bytes = self.bytes.saturating_add(size);
        self.by_key.insert(entry.key.clone(), self.next);
        self.ends.insert((entry.held.until_ms, self.next));
        self.entries.insert(self.next, entry);
    }

    /// The grant that answers for a request, if there is one.
    pub fn get(&mut self, key: &RequestKey, revocations: &mut Revocations, now_ms: u64) -> Option<Rc<HeldGrant<T>>> {
        self.look_up(key.as_bytes(), revocations, now_ms)
    }

    /// The same, for a request whose key has not been made: makes none.
    pub(crate) fn find(
        &mut self,
        inputs: &Inputs<'_>,
        revocations: &mut Revocations,
        now_ms: u64,
    ) -> Option<Rc<HeldGrant<T>>> {
        let mut scratch = std::mem::take(&mut self.scratch);
        inputs.write(&mut scratch);
        let found = self.look_up(&scratch, revocations, now_ms);
        self.scratch = scratch;
        found
    }

    /// Forgets what has expired, and the last look-up; everything, once the clock went backwards. For the worker's tick:
    /// credentials of clients that do not come back are not kept.
    pub fn expire(&mut self, now_ms: u64) {
        self.scratch.zeroize();
        self.watch(now_ms);
        while let Some((_, number)) = self.ends.first().filter(|(until_ms, _)| *until_ms <= now_ms).copied() {
            self.remove(number);
        }
    }

    /// How many are held, expired ones that nothing has come across included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn look_up(&mut self, key: &[u8], revocations: &mut Revocations, now_ms: u64) -> Option<Rc<HeldGrant<T>>> {
        self.watch(now_ms);
        let number = *self.by_key.get(key)?;
        let held = &self.entries.get(&number)?.held;
        if held.usable(revocations, now_ms) {
            return Some(Rc::clone(held));
        }
        if !held.lasts(now_ms) || revocations.covers(&held.held.grant) {
            self.remove(number);
        }
        None
    }

    fn remove(&mut self, number: u64) {
        let Some(entry) = self.entries.remove(&number) else { return };
        self.by_key.remove(&entry.key);
        self.ends.remove(&(entry.held.until_ms, number));
        self.bytes = self.bytes.saturating_sub(entry.size());
    }

    /// By a clock that went backwards nobody can say what has expired.
    fn watch(&mut self, now_ms: u64) {
        if now_ms < self.clock_ms {
            self.by_key.clear();
            self.entries.clear();
            self.ends.clear();
            self.bytes = 0;
        }
        self.clock_ms = now_ms;
    }
}
