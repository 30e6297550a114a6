//! Asking the service for budget, and its answers. One call is under way at a time; an answer counts only as far as it is
//! about what was asked, and is what it says: anything else admits nobody, and is given back whole.

use std::collections::BTreeMap;
use std::rc::Rc;

use gateway_core::gate::{Ask, Closed, Cost, Lent, LimitRefusal};

use super::amount::{fits, sum};
use super::lease::{Lease, LeaseId};
use super::{MAX_NEEDS, Pool, Verdict, Waiter};

/// One ask under way.
#[derive(Debug)]
pub(super) struct Asked {
    set: Rc<str>,
    /// Places in the queue, some of them left meanwhile, and what was asked for each.
    needs: Vec<(u64, Cost)>,
}

/// Verdicts by place.
type Verdicts = Vec<(u64, u32, Verdict)>;

impl Pool {
    /// What goes into the next call: one ask for each set that somebody waits for, in the order of waiting, and nothing
    /// while a call is under way. From here on [`Self::answered`] or [`Self::failed`] must follow. `random` makes ids.
    #[must_use = "those who are asked for wait for the answer"]
    pub fn asks(&mut self, now_ms: u64, random: &mut dyn FnMut() -> [u8; 12]) -> Vec<Ask> {
        let now_ms = self.at(now_ms);
        if !self.asked.is_empty() {
            return Vec::new();
        }
        let mut lines: BTreeMap<&str, Vec<(u64, &Waiter)>> = BTreeMap::new();
        for (place, waiter) in self.queue.iter().take(MAX_NEEDS) {
            lines.entry(&waiter.set).or_default().push((*place, waiter));
        }
        let mut lines: Vec<_> = lines.into_iter().collect();
        lines.sort_by_key(|(_, line)| line.first().map(|(place, _)| *place));
        let mut asks = Vec::with_capacity(lines.len());
        for (name, line) in lines {
            let mut id = LeaseId::default();
            id.iter_mut().zip(random()).for_each(|(byte, random)| *byte = random);
            let Some(set) = self.sets.get_mut(name).filter(|_| !self.asked.contains_key(&id)) else { continue };
            set.end_lease(&mut self.closed);
            set.used_tokens = 0;
            asks.push(Ask {
                id: id.to_vec().into(),
                grant: line.first().map(|(_, waiter)| waiter.handle.clone()).unwrap_or_default(),
                model: set.model.clone(),
                needs: line.iter().map(|(_, waiter)| waiter.need).collect(),
                extra: Some(set.lately(now_ms)),
            });
            let needs = line.iter().map(|(place, waiter)| (*place, waiter.need)).collect();
            self.asked.insert(id, Asked { set: Rc::clone(&set.name), needs });
        }
        asks
    }

    /// The call's answer: what becomes of those who waited for it, in the order of waiting. Those without a verdict are
    /// asked for again.
    #[must_use = "those who have a verdict wait no more"]
    pub fn answered(&mut self, lents: Vec<Lent>, now_ms: u64) -> Vec<(u32, Verdict)> {
        let now_ms = self.at(now_ms);
        let mut verdicts = Verdicts::new();
        for lent in lents {
            // what was not asked for is not ours: closing it could undo what was admitted out of an earlier lease
            let id = LeaseId::try_from(lent.id.as_ref()).ok();
            if let Some((id, asked)) = id.and_then(|id| self.asked.remove_entry(&id)) {
                self.lent(id, asked, lent, now_ms, &mut verdicts);
            }
        }
        self.give_up(&mut verdicts);
        in_order(verdicts)
    }

    /// The call failed: nobody that it asked for is admitted, and whatever it lent all the same goes back.
    #[must_use = "those who have a verdict wait no more"]
    pub fn failed(&mut self, now_ms: u64) -> Vec<(u32, Verdict)> {
        self.at(now_ms);
        let mut verdicts = Verdicts::new();
        self.give_up(&mut verdicts);
        in_order(verdicts)
    }

    fn lent(&mut self, id: LeaseId, asked: Asked, mut lent: Lent, now_ms: u64, verdicts: &mut Verdicts) {
        let Some((served, amount)) = served(&lent, &asked.needs) else { return self.reject(id, &asked, verdicts) };
        let refused = lent.refused.take();
        if !served.is_empty() {
            let Some(set) = self.sets.get_mut(asked.set.as_ref()) else { return self.reject(id, &asked, verdicts) };
            set.end_lease(&mut self.closed);
            set.lease = Some(Lease::new(id, lent, amount, now_ms));
        }
        for (place, _) in served {
            self.serve(*place, now_ms, verdicts);
        }
        let rest = asked.needs.get(served.len()..).unwrap_or_default();
        if let (Some(refusal), Some((_, least))) = (&refused, rest.first()) {
            self.refuse(refusal, least, rest, verdicts);
        }
        while let Some(next) = self.sets.get(asked.set.as_ref()).and_then(|set| set.line.first().copied()) {
            if !self.serve(next, now_ms, verdicts) {
                break;
            }
        }
    }

    /// Admits one that waits out of the set's lease.
    fn serve(&mut self, place: u64, now_ms: u64, verdicts: &mut Verdicts) -> bool {
        let Some(waiter) = self.queue.get(&place) else { return false };
        let set = self.sets.get_mut(waiter.set.as_ref());
        let Some(ticket) = set.and_then(|set| set.admit(&waiter.need, now_ms, &mut self.closed)) else { return false };
        verdicts.push((place, waiter.stream, Verdict::Admitted(ticket)));
        self.unqueue(place);
        true
    }

    /// Who needs at least what was refused is refused too; smaller ones are asked for again.
    fn refuse(&mut self, refusal: &LimitRefusal, least: &Cost, rest: &[(u64, Cost)], verdicts: &mut Verdicts) {
        for (place, _) in rest.iter().filter(|(_, need)| fits(least, need)) {
            if let Some(waiter) = self.unqueue(*place) {
                verdicts.push((*place, waiter.stream, Verdict::Refused(refusal.clone())));
            }
        }
    }

    /// Every ask that is still under way.
    fn give_up(&mut self, verdicts: &mut Verdicts) {
        while let Some((id, asked)) = self.asked.pop_first() {
            self.reject(id, &asked, verdicts);
        }
    }

    /// An ask without an answer that counts: whatever the service lent for it goes back.
    fn reject(&mut self, id: LeaseId, asked: &Asked, verdicts: &mut Verdicts) {
        self.closed.push(Closed { lease: id.to_vec().into(), admitted: 0, reserved: Some(Cost::default()) });
        for (place, _) in &asked.needs {
            if let Some(waiter) = self.unqueue(*place) {
                verdicts.push((*place, waiter.stream, Verdict::Unavailable));
            }
        }
    }
}

/// The needs that an answer serves, and what it lends; `None` where it cannot be right: more than was asked, less than it
/// says it serves, no time to use it, nothing served but something lent, or the rest not refused.
fn served<'a>(lent: &Lent, needs: &'a [(u64, Cost)]) -> Option<(&'a [(u64, Cost)], Cost)> {
    let served = needs.get(..usize::try_from(lent.served).ok()?)?;
    let amount = lent.amount.unwrap_or_default();
    let least = served.iter().try_fold(Cost::default(), |total, (_, need)| sum(&total, need))?;
    let whole = served.len() == needs.len() || lent.refused.is_some();
    let usable = if served.is_empty() { amount == Cost::default() } else { lent.expires_in_ms > 0 };
    (fits(&least, &amount) && whole && usable).then_some((served, amount))
}

fn in_order(mut verdicts: Verdicts) -> Vec<(u32, Verdict)> {
    verdicts.sort_by_key(|(place, ..)| *place);
    verdicts.into_iter().map(|(_, stream, verdict)| (stream, verdict)).collect()
}
