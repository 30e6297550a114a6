//! What has been counted of one answer. Counts only grow: of a usage that is stated more than once the greatest valid
//! value of each field holds, so that an answer cannot take back what it said.

use super::dialect::{SLOTS, Slot};
use crate::gate::Usage;

/// The greatest count that is believed: 2^53, where JSON numbers stop being exact.
pub(super) const MAX_COUNT: u64 = 1 << 53;

/// Content and usage so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    /// Bytes of text that the model wrote, unescaped.
    pub(super) content_bytes: u64,
    /// Events with at least one byte of such text.
    pub(super) deltas: u64,
    counts: Option<[u64; SLOTS]>,
}

/// One usage object while it is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    counts: [Option<u64>; SLOTS],
    refused: bool,
}

impl Draft {
    /// Notes a count; the greater one holds where a key stands twice.
    pub(super) fn set(&mut self, slot: Slot, count: u64) {
        if let Some(held) = self.counts.get_mut(slot as usize) {
            *held = Some(held.unwrap_or(0).max(count));
        }
    }

    /// A count was no count: the whole usage is as if absent.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    fn get(&self, slot: Slot) -> Option<u64> {
        self.counts.get(slot as usize).copied().flatten()
    }

    fn is_whole(&self) -> bool {
        let output = self.get(Slot::Output).or(self.get(Slot::Total));
        !self.refused && self.get(Slot::Input).is_some() && output.is_some()
    }
}

impl Totals {
    /// Takes a usage over, if it is whole: the input, and the output or the total.
    pub(super) fn commit(&mut self, draft: &Draft) {
        if draft.is_whole() {
            let counts = self.counts.get_or_insert([0; SLOTS]);
            for (held, new) in counts.iter_mut().zip(draft.counts) {
                *held = (*held).max(new.unwrap_or(0));
            }
        }
    }

    /// The usage as the ledger reads it. Some providers (xAI, Gemini's compatible endpoint) leave reasoning out of the
    /// output but not out of the total, so the output is at least the rest of the total.
    pub(super) fn usage(&self) -> Option<Usage> {
        let counts = self.counts?;
        let get = |slot: Slot| counts.get(slot as usize).copied().unwrap_or(0);
        let (input, reasoning) = (get(Slot::Input), get(Slot::Reasoning));
        let output = get(Slot::Output).max(get(Slot::Total).saturating_sub(input)).max(reasoning);
        Some(Usage { input, cached_input: get(Slot::CachedInput).min(input), output, reasoning })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(counts: &[(Slot, u64)]) -> Draft {
        let mut draft = Draft::default();
        for (slot, count) in counts {
            draft.set(*slot, *count);
        }
        draft
    }

    #[test]
    fn a_usage_never_shrinks() {
        let mut totals = Totals::default();
        totals.commit(&draft(&[(Slot::Input, 9), (Slot::Output, 20)]));
        totals.commit(&draft(&[(Slot::Input, 10), (Slot::Output, 4)]));
        assert_eq!(totals.usage(), Some(Usage { input: 10, output: 20, ..Usage::default() }));
    }

    #[test]
    fn half_a_usage_is_none() {
        let mut totals = Totals::default();
        totals.commit(&draft(&[(Slot::Input, 9)]));
        totals.commit(&draft(&[(Slot::Output, 9), (Slot::Total, 9)]));
        let mut refused = draft(&[(Slot::Input, 9), (Slot::Output, 9)]);
        refused.refuse();
        totals.commit(&refused);
        assert_eq!(totals.usage(), None);
    }

    #[test]
    fn parts_never_exceed_their_whole() {
        let mut totals = Totals::default();
        let counts =
            [(Slot::Input, 9), (Slot::CachedInput, 50), (Slot::Output, 5), (Slot::Reasoning, 30), (Slot::Total, 44)];
        totals.commit(&draft(&counts));
        assert_eq!(totals.usage(), Some(Usage { input: 9, cached_input: 9, output: 35, reasoning: 30 }));
    }
}
