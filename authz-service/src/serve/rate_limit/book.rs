//! What each proxy charged lately and may still give back: never more than it charged, and in the windows it charged in.
//!
//! In memory alone: after a restart nothing from before is given back.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ask::{Named, What};
use crate::ledger::Now;

/// Every calendar window starts with a minute: charges of one minute lie in the same windows.
const MINUTE_MS: u64 = 60_000;
/// Most subjects that are remembered at once; what is charged for others stays charged.
const MOST: usize = 65_536;

/// Who charged whom for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Account {
    pub(super) proxy: String,
    pub(super) named: Named,
    pub(super) what: What,
}

/// Amounts by account and minute.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<HashMap<Account, BTreeMap<u64, u64>>>);

impl Book {
    /// Notes a charge; what is older than `kept` is not given back any more.
    pub(super) fn charged(&self, account: Account, now: Now, amount: u64, kept: Duration) {
        let oldest = oldest(now, kept);
        let mut book = self.lock();
        if book.len() >= MOST && !book.contains_key(&account) {
            book.retain(|_, minutes| minutes.last_key_value().is_some_and(|(minute, _)| *minute >= oldest));
            if book.len() >= MOST {
                return;
            }
        }
        let minutes = book.entry(account).or_default();
        minutes.retain(|minute, _| *minute >= oldest);
        let sum = minutes.entry(now.unix_ms / MINUTE_MS).or_default();
        *sum = sum.saturating_add(amount);
    }

    /// Takes so much out, newest first: when it was charged, and how much then. `None`: so much was not charged.
    pub(super) fn take(&self, account: &Account, now: Now, amount: u64, kept: Duration) -> Option<Vec<(Now, u64)>> {
        let oldest = oldest(now, kept);
        let mut book = self.lock();
        let minutes = book.get_mut(account)?;
        minutes.retain(|minute, _| *minute >= oldest);
        let there = minutes.values().fold(0_u64, |sum, part| sum.saturating_add(*part));
        let (mut missing, mut parts) = (amount, Vec::new());
        if there < amount {
            return None;
        }
        for (minute, part) in minutes.iter_mut().rev() {
            let taken = missing.min(*part);
            if taken > 0 {
                parts.push((Now { unix_ms: minute.saturating_mul(MINUTE_MS) }, taken));
                *part = part.saturating_sub(taken);
                missing = missing.saturating_sub(taken);
            }
        }
        minutes.retain(|_, part| *part > 0);
        if minutes.is_empty() {
            book.remove(account);
        }
        Some(parts)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Account, BTreeMap<u64, u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn oldest(now: Now, kept: Duration) -> u64 {
    now.unix_ms.saturating_sub(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)) / MINUTE_MS
}

#[cfg(test)]
mod tests {
    use gateway_core::name::TenantName;

    use super::*;

    const KEPT: Duration = Duration::from_secs(600);

    fn account(proxy: &str) -> Account {
        let tenant = TenantName::parse("acme").unwrap();
        let named = Named { tenant, principal: None, key: None, model: None };
        Account { proxy: proxy.into(), named, what: What::Tokens }
    }

    fn at(minute: u64) -> Now {
        Now { unix_ms: minute * MINUTE_MS + 1 }
    }

    #[test]
    fn nobody_gives_back_more_than_it_charged() {
        let book = Book::default();
        let take = |proxy: &str, minute, amount| book.take(&account(proxy), at(minute), amount, KEPT);
        book.charged(account("a"), at(100), 30, KEPT);
        book.charged(account("a"), at(100), 10, KEPT);
        book.charged(account("a"), at(102), 5, KEPT);
        assert_eq!(take("b", 102, 1), None, "another proxy's");
        assert_eq!(take("a", 102, 46), None, "all or nothing");
        let start = |minute: u64| Now { unix_ms: minute * MINUTE_MS };
        assert_eq!(take("a", 102, 15), Some(vec![(start(102), 5), (start(100), 10)]), "the newest first");
        assert_eq!(take("a", 110, 30), Some(vec![(start(100), 30)]));
        assert_eq!(take("a", 110, 1), None);
        book.charged(account("a"), at(110), 5, KEPT);
        assert_eq!(take("a", 121, 1), None, "too long ago");
        assert_eq!(take("a", 121, 0), Some(Vec::new()));
    }
}
