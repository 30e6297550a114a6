//! From which networks each principal has been let through, and since when: what rules on new networks are held against.
//!
//! In memory and bounded; every change is handed out for the state file, so that a restart makes no network new. Only
//! principals of tenants that have such rules are noted. Time is an argument.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use gateway_core::name::TenantName;

/// The most networks of one principal: the one that was used longest ago makes room.
const EACH_PRINCIPAL: usize = 16;
/// The most networks of one tenant, about 4 MB: the same.
const EACH_TENANT: usize = 16_384;
/// The last use is written down again after this long.
const STALE_S: i64 = 24 * 3600;

/// Where an address is: an IPv4 /24, an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neighbourhood(IpAddr);

/// A row of the state file: one network of one principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Whose.
    pub tenant: TenantName,
    /// Of whom.
    pub principal: String,
    /// From where.
    pub network: Neighbourhood,
    /// Let through first, Unix seconds.
    pub first_s: i64,
    /// Let through last, to the day.
    pub last_s: i64,
}

/// What the state file has to take over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// New, or used again.
    pub noted: Option<Sighting>,
    /// Made room.
    pub forgotten: Option<Sighting>,
}

/// The networks that are known.
#[derive(Debug, Default)]
pub struct Sightings(Mutex<HashMap<TenantName, Known>>);

type Known = HashMap<(String, Neighbourhood), Span>;

#[derive(Clone, Copy, Debug)]
struct Span {
    first_s: i64,
    last_s: i64,
}

impl Sightings {
    /// As the state file has them.
    #[must_use]
    pub fn restore(rows: impl IntoIterator<Item = Sighting>) -> Self {
        let known = Self::default();
        for row in rows {
            let span = Span { first_s: row.first_s, last_s: row.last_s };
            known.lock().entry(row.tenant).or_default().insert((row.principal, row.network), span);
        }
        known
    }

    /// Since when a principal is known where this address is, Unix seconds; `None`: it never was let through from there.
    #[must_use]
    pub fn since(&self, tenant: &TenantName, principal: &str, address: IpAddr) -> Option<i64> {
        let at = (principal.to_owned(), Neighbourhood::of(address));
        self.lock().get(tenant)?.get(&at).map(|span| span.first_s)
    }

    /// A principal was let through from this address. `None`: the state file knows it.
    #[must_use]
    pub fn note(&self, tenant: &TenantName, principal: &str, address: IpAddr, now_s: i64) -> Option<Change> {
        let at = (principal.to_owned(), Neighbourhood::of(address));
        let mut all = self.lock();
        let known = all.entry(tenant.clone()).or_default();
        let first_s = match known.get(&at) {
            Some(span) if now_s.saturating_sub(span.last_s) < STALE_S => return None,
            Some(span) => span.first_s,
            None => now_s,
        };
        let row = |(principal, network): &(String, Neighbourhood), span: Span| Sighting {
            tenant: tenant.clone(),
            principal: principal.clone(),
            network: *network,
            first_s: span.first_s,
            last_s: span.last_s,
        };
        let full = if known.contains_key(&at) { None } else { oldest_of_too_many(known, principal) };
        let forgotten = full.and_then(|oldest| known.remove(&oldest).map(|span| row(&oldest, span)));
        let span = Span { first_s, last_s: now_s };
        let noted = Some(row(&at, span));
        known.insert(at, span);
        Some(Change { noted, forgotten })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantName, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one that makes room for another, where there is none.
fn oldest_of_too_many(known: &Known, principal: &str) -> Option<(String, Neighbourhood)> {
    let own = || known.iter().filter(|((whose, _), _)| whose == principal);
    let oldest = |((_, _), span): &(&(String, Neighbourhood), &Span)| span.last_s;
    let found = if known.len() >= EACH_TENANT {
        known.iter().min_by_key(oldest)
    } else if own().count() >= EACH_PRINCIPAL {
        own().min_by_key(oldest)
    } else {
        None
    };
    found.map(|(at, _)| at.clone())
}

impl Neighbourhood {
    /// Where an address is.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        })
    }
}

impl fmt::Display for Neighbourhood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 64 })
    }
}

/// A text that is no such network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no /24 or /64")]
pub struct BadNeighbourhood;

impl FromStr for Neighbourhood {
    type Err = BadNeighbourhood;

    fn from_str(text: &str) -> Result<Self, BadNeighbourhood> {
        let (address, _) = text.split_once('/').ok_or(BadNeighbourhood)?;
        let network = Self::of(address.parse().map_err(|_| BadNeighbourhood)?);
        if network.to_string() == text { Ok(network) } else { Err(BadNeighbourhood) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: i64 = 1_790_000_000;

    fn acme() -> TenantName {
        TenantName::parse("acme").unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_24_and_a_64_are_one_network() {
        let known = Sightings::default();
        let change = known.note(&acme(), "ana", ip("203.0.113.7"), T0).unwrap();
        assert_eq!(change.noted.as_ref().unwrap().network.to_string(), "203.0.113.0/24");
        assert_eq!(change.forgotten, None);
        let since = |who, at| known.since(&acme(), who, ip(at));
        assert_eq!((since("ana", "203.0.113.250"), since("ana", "::ffff:203.0.113.9")), (Some(T0), Some(T0)));
        assert_eq!((since("ana", "203.0.114.7"), since("bob", "203.0.113.7")), (None, None));
        let _ = known.note(&acme(), "ana", ip("2001:db8:1:2::9"), T0);
        assert_eq!((since("ana", "2001:db8:1:2:ffff::1"), since("ana", "2001:db8:1:3::9")), (Some(T0), None));
        assert_eq!(known.since(&TenantName::parse("globex").unwrap(), "ana", ip("203.0.113.7")), None);
        for text in ["203.0.113.0/24", "2001:db8:1:2::/64"] {
            assert_eq!(text.parse::<Neighbourhood>().unwrap().to_string(), text);
        }
        for text in ["", "203.0.113.0", "203.0.113.7/24", "203.0.113.0/16", "x/24", "2001:db8::1/64"] {
            assert_eq!(text.parse::<Neighbourhood>(), Err(BadNeighbourhood), "{text}");
        }
    }

    #[test]
    fn the_state_file_is_told_once_a_day_and_gives_it_all_back() {
        let known = Sightings::default();
        let first = known.note(&acme(), "ana", ip("203.0.113.7"), T0).unwrap().noted.unwrap();
        assert_eq!(known.note(&acme(), "ana", ip("203.0.113.8"), T0 + STALE_S - 1), None);
        let again = known.note(&acme(), "ana", ip("203.0.113.8"), T0 + STALE_S).unwrap().noted.unwrap();
        assert_eq!((again.first_s, again.last_s), (T0, T0 + STALE_S));
        let restored = Sightings::restore([first]);
        assert_eq!(restored.since(&acme(), "ana", ip("203.0.113.1")), Some(T0));
    }

    #[test]
    fn the_oldest_makes_room_and_never_another_principals() {
        let known = Sightings::default();
        let _ = known.note(&acme(), "bob", ip("192.0.2.1"), T0 - 1);
        for n in 0..EACH_PRINCIPAL {
            let made = known.note(&acme(), "ana", ip(&format!("10.0.{n}.1")), T0 + i64::try_from(n).unwrap());
            assert_eq!(made.unwrap().forgotten, None);
        }
        let change = known.note(&acme(), "ana", ip("10.1.0.1"), T0 + 100).unwrap();
        assert_eq!(change.forgotten.unwrap().network.to_string(), "10.0.0.0/24");
        assert_eq!(known.since(&acme(), "ana", ip("10.0.0.1")), None);
        assert_eq!(known.since(&acme(), "bob", ip("192.0.2.1")), Some(T0 - 1));
        for n in 0..EACH_TENANT {
            let _ = known.note(&acme(), &format!("p{n}"), ip("10.0.0.1"), T0 + 200);
        }
        assert_eq!(known.lock().get(&acme()).unwrap().len(), EACH_TENANT);
        assert_eq!(known.since(&acme(), "bob", ip("192.0.2.1")), None);
    }
}
