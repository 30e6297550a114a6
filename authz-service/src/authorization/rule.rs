//! A rule of a `TenantPolicy`: whom and what it is about, when it applies, and what follows.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use gateway_core::name::ModelName;

use super::Reads;
use crate::registry::EndpointKind;

/// One rule. Each part that is absent narrows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `<policy>/<rule>`, unique within its tenant.
    pub name: String,
    /// Principals of these roles.
    pub roles: Option<BTreeSet<String>>,
    /// Requests to these endpoints.
    pub endpoints: Option<BTreeSet<EndpointKind>>,
    /// Of these models, by canonical name.
    pub models: Option<BTreeSet<ModelName>>,
    /// Of models of these GPU classes.
    pub gpu_classes: Option<BTreeSet<String>>,
    /// All of these hold.
    pub when: Vec<Condition>,
    /// What follows.
    pub then: Outcome,
}

/// What a rule asks of the circumstances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The client is in one of these networks, or nobody knows where it is.
    SourceIn(Vec<Network>),
    /// The client is in none of these networks, or nobody knows where it is.
    SourceOutside(Vec<Network>),
    /// From one minute of the tenant's day up to another; over midnight where that is not later.
    HoursIn {
        /// First minute.
        from: u16,
        /// First minute that is no longer meant.
        to: u16,
    },
    /// All other minutes.
    HoursOutside {
        /// First minute that is not meant.
        from: u16,
        /// First minute that is meant again.
        to: u16,
    },
    /// These days of the tenant's week; 1 is Monday.
    Days(BTreeSet<u8>),
}

/// What follows where a rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Refused until the login is as strong and as recent as this (RFC 9470).
    StepUp {
        /// One of these classes; none: any.
        acr: BTreeSet<String>,
        /// One of these methods (RFC 8176); none: any.
        amr: BTreeSet<String>,
        /// Not longer ago than this.
        max_age: Option<Duration>,
    },
    /// Only these models.
    Restrict {
        /// By canonical name.
        to: BTreeSet<ModelName>,
    },
    /// Refused.
    Deny,
}

/// An IPv4 or IPv6 network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no network, as `192.0.2.0/24` or `2001:db8::/32`")]
pub struct BadNetwork;

impl Rule {
    /// The stricter rule is the greater; of two alike, the one whose name comes first.
    #[must_use]
    pub fn by_strictness(a: &Self, b: &Self) -> Ordering {
        a.then.strictness().cmp(&b.then.strictness()).then_with(|| b.name.cmp(&a.name))
    }

    /// Adds what it reads.
    pub(super) fn note(&self, reads: &mut Reads) {
        for condition in &self.when {
            match condition {
                Condition::SourceIn(_) | Condition::SourceOutside(_) => reads.source = true,
                Condition::HoursIn { .. } | Condition::HoursOutside { .. } | Condition::Days(_) => reads.time = true,
            }
        }
        if let Outcome::StepUp { max_age: Some(age), .. } = self.then {
            reads.ages.insert(age);
        }
        let restricts = matches!(self.then, Outcome::Restrict { .. });
        reads.model |= restricts || self.models.is_some() || self.gpu_classes.is_some();
    }
}

impl Outcome {
    /// As the annotation has it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::StepUp { .. } => "stepUp",
            Self::Restrict { .. } => "restrict",
            Self::Deny => "deny",
        }
    }

    const fn strictness(&self) -> u8 {
        match self {
            Self::StepUp { .. } => 1,
            Self::Restrict { .. } => 2,
            Self::Deny => 3,
        }
    }
}

impl Network {
    /// Whether an address is in it; one of the other family never is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => self.agree(own.to_bits().into(), other.to_bits().into(), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => self.agree(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }

    fn agree(&self, one: u128, other: u128, bits: u8) -> bool {
        let shift = u32::from(bits.saturating_sub(self.prefix));
        one.checked_shr(shift).unwrap_or(0) == other.checked_shr(shift).unwrap_or(0)
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = text.split_once('/').ok_or(BadNetwork)?;
        let digits = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let plain = digits && (prefix.len() == 1 || !prefix.starts_with('0'));
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let prefix: u8 = prefix.parse().map_err(|_| BadNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let canonical = address.to_canonical() == address;
        if plain && canonical && prefix <= most { Ok(Self { address, prefix }) } else { Err(BadNetwork) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
