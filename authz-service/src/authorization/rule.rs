//! A rule of a `TenantPolicy`: whom and what it is about, when it applies, and what follows.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use gateway_core::name::ModelName;

use super::Reads;
use crate::identity::discovery::Network;
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
