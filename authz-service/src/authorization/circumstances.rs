//! What a decision reads beside who asks for what: prepared once for each request, as Cedar's context.
//!
//! A value that nobody knows is the one that satisfies no rule's demand.

use std::net::IpAddr;

use cedar_policy::{Context, RestrictedExpression};
use jiff::Timestamp;
use jiff::tz::TimeZone;

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

/// The context of one request.
#[derive(Clone, Debug)]
pub struct Circumstances(Option<Context>);

impl Login {
    /// Seconds since the login; the greatest number where nobody knows.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> i64 {
        self.at.map_or(i64::MAX, |at| now.as_second().saturating_sub(at).max(0))
    }
}

impl Circumstances {
    /// Of a request from `source` at `now`, by a tenant of this zone and a credential of this login.
    #[must_use]
    pub fn new(source: Option<IpAddr>, now: Timestamp, zone: &TimeZone, login: &Login) -> Self {
        let local = zone.to_datetime(now);
        let minute = i64::from(local.hour()) * 60 + i64::from(local.minute());
        let weekday = i64::from(local.weekday().to_monday_one_offset());
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let long = RestrictedExpression::new_long;
        let mut pairs = vec![
            ("minute", long(minute)),
            ("weekday", long(weekday)),
            ("acr", text(login.class.as_deref().unwrap_or_default())),
            ("amr", RestrictedExpression::new_set(login.methods.iter().map(|method| text(method)))),
            ("age", long(login.age(now))),
        ];
        pairs.extend(source.map(|source| ("source", RestrictedExpression::new_ip(source.to_canonical().to_string()))));
        Self(Context::from_pairs(pairs.into_iter().map(|(name, value)| (name.to_owned(), value))).ok())
    }

    /// Of no request: what does not depend on one is asked with it.
    pub(super) fn none() -> Self {
        Self::new(None, Timestamp::UNIX_EPOCH, &TimeZone::UTC, &Login::default())
    }

    /// `None`: it could not be made, and nothing is decided.
    pub(super) fn context(&self) -> Option<Context> {
        self.0.clone()
    }
}
