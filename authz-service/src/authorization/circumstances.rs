//! What a decision reads beside who asks for what: prepared once for each request, as Cedar's context.
//!
//! A value that nobody knows is the one that satisfies no rule's demand.

use std::net::IpAddr;

use cedar_policy::{Context, RestrictedExpression};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::rule::{Outcome, SpendBound};
use super::source::Source;

/// Seconds of a network that is not known: younger than any.
const UNKNOWN: i64 = -1;

/// What a credential says of its holder's login (RFC 9470 §6, RFC 8176).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// `acr`
    pub class: Option<String>,
    /// `amr`
    pub methods: Vec<String>,
    /// `auth_time`, Unix seconds.
    pub at: Option<i64>,
}

/// What is found of one request.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The client's address as its proxy trusts it.
    pub source: Option<IpAddr>,
    /// When.
    pub now: Timestamp,
    /// The tenant's zone.
    pub zone: &'a TimeZone,
    /// How its holder logged in.
    pub login: &'a Login,
    /// The bounds that are passed, of those that rules are about.
    pub over: &'a [&'a SpendBound],
    /// Since when its principal is known where it comes from, Unix seconds.
    pub known_since: Option<i64>,
}

/// The context of one request.
#[derive(Clone, Debug)]
pub struct Circumstances(Option<Context>);

impl Login {
    /// Seconds since the login; the greatest number where nobody knows.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> i64 {
        self.at.map_or(i64::MAX, |at| now.as_second().saturating_sub(at).max(0))
    }

    /// Whether it is as strong and as recent as an outcome asks for; other outcomes ask for nothing.
    #[must_use]
    pub fn meets(&self, then: &Outcome, now: Timestamp) -> bool {
        let Outcome::StepUp { acr, amr, max_age } = then else { return true };
        let class = acr.is_empty() || self.class.as_ref().is_some_and(|class| acr.contains(class));
        let method = amr.is_empty() || self.methods.iter().any(|method| amr.contains(method));
        let recent = max_age.is_none_or(|most| u64::try_from(self.age(now)).is_ok_and(|age| age <= most.as_secs()));
        class && method && recent
    }
}

impl Circumstances {
    /// Of what is found of a request.
    #[must_use]
    pub fn new(found: &Found<'_>) -> Self {
        let Found { source, now, zone, login, over, known_since } = *found;
        let known = known_since.map_or(UNKNOWN, |since| now.as_second().saturating_sub(since).max(0));
        let local = zone.to_datetime(now);
        let minute = i64::from(local.hour()) * 60 + i64::from(local.minute());
        let weekday = i64::from(local.weekday().to_monday_one_offset());
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let long = RestrictedExpression::new_long;
        let Source { source, source6 } = Source::new(source);
        let mut pairs = vec![
            ("source", long(source)),
            ("minute", long(minute)),
            ("weekday", long(weekday)),
            ("acr", text(login.class.as_deref().unwrap_or_default())),
            ("amr", RestrictedExpression::new_set(login.methods.iter().map(|method| text(method)))),
            ("age", long(login.age(now))),
            ("over", RestrictedExpression::new_set(over.iter().map(|bound| text(&bound.id())))),
            ("known", long(known)),
        ];
        if let Some((high, low)) = source6 {
            let halves = [("high", long(high)), ("low", long(low))].map(|(name, half)| (name.to_owned(), half));
            let Ok(address) = RestrictedExpression::new_record(halves) else { return Self(None) };
            pairs.push(("source6", address));
        }
        Self(Context::from_pairs(pairs.into_iter().map(|(name, value)| (name.to_owned(), value))).ok())
    }

    /// Of no request: what does not depend on one is asked with it.
    pub(super) fn none() -> Self {
        let login = Login::default();
        let (now, zone) = (Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        Self::new(&Found { source: None, now, zone, login: &login, over: &[], known_since: None })
    }

    /// `None`: it could not be made, and nothing is decided.
    pub(super) const fn context(&self) -> Option<&Context> {
        self.0.as_ref()
    }

    /// Of which nothing is known, not even that it is not.
    #[cfg(test)]
    pub(super) fn blank() -> Self {
        Self(Some(Context::empty()))
    }
}
