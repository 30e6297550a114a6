//! A rule of a `TenantPolicy`: whom and what it is about, when it applies, and what follows.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use gateway_core::name::ModelName;

use super::Reads;
use crate::identity::discovery::Network;
use crate::registry::{Counts, EndpointKind, Model, Watch};

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
    /// More is spent, or reserved, than this.
    SpendOver(SpendBound),
    /// The principal's first request that was let through from its network, an IPv4 /24 or an IPv6 /64, is not as long
    /// ago as this, or there was none.
    NetworkNewFor(Duration),
}

/// A bound of spend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpendBound {
    /// What is counted.
    pub watch: Watch,
    /// In its unit.
    pub amount: u64,
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
                Condition::SpendOver(bound) => {
                    reads.spend.insert(bound.clone());
                }
                Condition::NetworkNewFor(_) => reads.networks = true,
            }
        }
        if let Outcome::StepUp { max_age: Some(age), .. } = self.then {
            reads.ages.insert(age);
        }
    }

    /// Whether it is about some models and not about others, and so about no endpoint as such.
    pub(super) const fn tells_models_apart(&self) -> bool {
        self.models.is_some() || self.gpu_classes.is_some() || matches!(self.then, Outcome::Restrict { .. })
    }

    /// Whether it can apply to a model.
    pub(super) fn is_for(&self, model: &Model) -> bool {
        let listed = self.models.as_ref().is_none_or(|models| models.contains(&model.name));
        let of_class = self.gpu_classes.as_ref().is_none_or(|classes| classes.contains(&model.gpu_class));
        let barred = !matches!(&self.then, Outcome::Restrict { to } if to.contains(&model.name));
        listed && of_class && barred
    }
}

impl Rule {
    /// Its conditions in words, for the log; empty where it has none.
    #[must_use]
    pub fn conditions(&self) -> String {
        self.when.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    }

    /// Whether it is about networks that are new.
    pub(super) fn reads_networks(&self) -> bool {
        self.when.iter().any(|condition| matches!(condition, Condition::NetworkNewFor(_)))
    }
}

impl SpendBound {
    /// As the context names it.
    #[must_use]
    pub fn id(&self) -> String {
        let Watch { counts, each_principal, window } = self.watch;
        let whose = if each_principal { "principal" } else { "tenant" };
        format!("{whose} {counts:?} {window:?} {}", self.amount)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let list = |networks: &[Network]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::SourceIn(networks) => write!(f, "source in {}", list(networks)),
            Self::SourceOutside(networks) => write!(f, "source outside {}", list(networks)),
            Self::HoursIn { from, to } => write!(f, "hours in {}-{}", time(*from), time(*to)),
            Self::HoursOutside { from, to } => write!(f, "hours outside {}-{}", time(*from), time(*to)),
            Self::Days(days) => {
                let names = days.iter().filter_map(|day| DAYS.get(usize::from(*day).checked_sub(1)?).copied());
                write!(f, "on {}", names.collect::<Vec<_>>().join(", "))
            }
            Self::SpendOver(SpendBound { watch, amount }) => {
                let whose = if watch.each_principal { "principal's" } else { "tenant's" };
                let (window, unit) = (format!("{:?}", watch.window).to_lowercase(), unit(watch.counts));
                write!(f, "the {whose} spend of this {window} over {amount} {unit}")
            }
            Self::NetworkNewFor(span) => write!(f, "network new for {} s", span.as_secs()),
        }
    }
}

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

const fn unit(counts: Counts) -> &'static str {
    match counts {
        Counts::GpuMs => "GPU-ms",
        Counts::Tokens => "tokens",
        Counts::MicroUsd => "micro-US-dollars",
        Counts::Requests => "requests",
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
