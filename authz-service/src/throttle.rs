//! Sources that fail to prove who they are: each may fail so often a minute, then it is refused before anything is looked
//! up, until it has waited. A source that only succeeds is never slowed.
//!
//! In memory and bounded; a restart forgets it. Time is an argument.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::ledger::{Now, Pace, Rate};

/// The most sources that are watched at once: about 10 MB.
const MAX_SOURCES: usize = 65_536;

/// Where a request comes from: the client's address as Envoy trusts it. One holder of IPv6 has at least a /64, so that is
/// one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl Source {
    /// The source that an address is of.
    pub(crate) const fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6([a, b, c, d]) => write!(f, "{}/64", Ipv6Addr::new(*a, *b, *c, *d, 0, 0, 0, 0)),
        }
    }
}

/// The sources that failed of late.
pub(crate) struct Throttle {
    pace: Pace,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    sources: HashMap<Source, Failing>,
    /// Requests refused to sources that had to make room since they were last told.
    forgotten: u64,
}

#[derive(Default)]
struct Failing {
    rate: Rate,
    /// Requests refused since they were last told.
    refused: u64,
}

/// What was refused since the last time, for the audit log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Requests by source.
    pub(crate) by_source: Vec<(Source, u64)>,
    /// Requests of sources that are no longer known by name.
    pub(crate) others: u64,
}

impl Throttle {
    /// `failures` a minute for each source; as many at once.
    pub(crate) fn new(failures: NonZeroU32) -> Self {
        let pace = Pace { amount: failures.get().into(), per: Duration::from_secs(60) };
        Self { pace, watched: Mutex::default() }
    }

    /// How long a source must wait, if it must; that it asked is counted.
    pub(crate) fn refuse(&self, source: Source, now: Now) -> Option<Duration> {
        let mut watched = self.watched();
        let failing = watched.sources.get_mut(&source)?;
        let wait = failing.rate.wait(now, self.pace, 1).filter(|wait| !wait.is_zero())?;
        failing.refused = failing.refused.saturating_add(1);
        Some(wait)
    }

    /// A source failed once.
    pub(crate) fn failed(&self, source: Source, now: Now) {
        let mut watched = self.watched();
        if watched.sources.len() >= MAX_SOURCES && !watched.sources.contains_key(&source) {
            watched.make_room();
        }
        watched.sources.entry(source).or_default().rate.replace(now, self.pace, 0, 1);
    }

    /// What was refused since this was last asked; forgets whoever has waited long enough.
    pub(crate) fn take_refused(&self, now: Now) -> Refused {
        let mut watched = self.watched();
        let counted = watched.sources.iter_mut().filter(|(_, failing)| failing.refused > 0);
        let mut by_source: Vec<_> =
            counted.map(|(source, failing)| (*source, std::mem::take(&mut failing.refused))).collect();
        by_source.sort_unstable();
        watched.sources.retain(|_, failing| !failing.rate.is_idle(now));
        watched.sources.shrink_to(1024);
        Refused { by_source, others: std::mem::take(&mut watched.forgotten) }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Drops one source, whichever comes: to be that one by chance, a guesser needs the addresses of a botnet.
    fn make_room(&mut self) {
        let Some(any) = self.sources.keys().next().copied() else { return };
        let refused = self.sources.remove(&any).map_or(0, |failing| failing.refused);
        self.forgotten = self.forgotten.saturating_add(refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Now = Now { unix_ms: 1_790_000_000_000 };

    fn throttle(failures: u32) -> Throttle {
        Throttle::new(NonZeroU32::new(failures).unwrap())
    }

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    fn later(ms: u64) -> Now {
        Now { unix_ms: T0.unix_ms + ms }
    }

    #[test]
    fn an_address_is_a_source_and_a_64_is_one() {
        assert_eq!(source("::ffff:203.0.113.7"), source("203.0.113.7"));
        assert_eq!(source("2001:db8:1:2::9"), source("2001:db8:1:2:ffff::1"));
        assert_ne!(source("2001:db8:1:2::9"), source("2001:db8:1:3::9"));
        assert_eq!(source("2001:db8:1:2::9").to_string(), "2001:db8:1:2::/64");
        assert_eq!(source("203.0.113.7").to_string(), "203.0.113.7");
    }

    #[test]
    fn the_failures_are_counted_and_nothing_else() {
        let (throttle, one, other) = (throttle(3), source("203.0.113.7"), source("203.0.113.8"));
        for _ in 0..1000 {
            assert_eq!(throttle.refuse(one, T0), None);
        }
        for _ in 0..3 {
            assert_eq!(throttle.refuse(one, T0), None);
            throttle.failed(one, T0);
        }
        assert_eq!(throttle.refuse(one, T0), Some(Duration::from_secs(20)));
        assert_eq!(throttle.refuse(one, later(19_999)), Some(Duration::from_millis(1)));
        assert_eq!(throttle.refuse(other, T0), None);
        assert_eq!(throttle.refuse(one, later(20_000)), None);
        throttle.failed(one, later(20_000));
        assert_eq!(throttle.refuse(one, later(20_000)), Some(Duration::from_secs(20)));
    }

    #[test]
    fn what_was_refused_is_told_once() {
        let (throttle, one, other) = (throttle(1), source("203.0.113.7"), source("2001:db8::1"));
        throttle.failed(one, T0);
        throttle.failed(other, T0);
        (0..17).for_each(|_| assert!(throttle.refuse(one, T0).is_some()));
        assert!(throttle.refuse(other, T0).is_some());
        let told = Refused { by_source: vec![(one, 17), (other, 1)], others: 0 };
        assert_eq!(throttle.take_refused(T0), told);
        assert_eq!(throttle.take_refused(T0), Refused::default());
        assert!(throttle.refuse(one, later(59_999)).is_some());
        throttle.take_refused(later(60_000));
        assert_eq!(throttle.watched().sources.len(), 0);
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_loses_no_count() {
        let throttle = throttle(1);
        let first = source("203.0.113.7");
        throttle.failed(first, T0);
        assert!(throttle.refuse(first, T0).is_some());
        for number in 0..(MAX_SOURCES as u32 * 2) {
            throttle.failed(Source::V4(Ipv4Addr::from(0x0a00_0000 + number)), T0);
        }
        assert_eq!(throttle.watched().sources.len(), MAX_SOURCES);
        let Refused { by_source, others } = throttle.take_refused(T0);
        assert_eq!(by_source.iter().map(|(_, count)| count).sum::<u64>() + others, 1);
        throttle.take_refused(later(60_000));
        assert!(throttle.watched().sources.capacity() <= 4096);
    }
}
