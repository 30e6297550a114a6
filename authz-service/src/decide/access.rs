//! What the rules of a tenant say of one request: the answers of `authorization`, as denials, challenges and times.
//!
//! Where a tenant has no rules, nothing is asked and nothing changes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use gateway_core::admission::not_allowed;
use gateway_core::denial::{Code, Denial};
use gateway_core::name::ModelName;

use super::{Arrival, Grounds, Stop};
use crate::authorization::{Circumstances, Found, Outcome, Questions, Reads, Rule, Rules, SpendBound, Verdict};
use crate::identity::Identity;
use crate::ledger::Now;
use crate::registry::{EndpointKind, Registry, Tenant};

/// One caller's request, to be held against its tenant's rules.
pub(super) struct Access<'a> {
    registry: &'a Registry,
    identity: &'a Identity,
    rules: Option<Asked<'a>>,
}

struct Asked<'a> {
    rules: &'a Rules,
    questions: Questions<'a>,
    reads: Option<Reads>,
    now: jiff::Timestamp,
}

impl<'a> Access<'a> {
    pub(super) fn new(grounds: &Grounds<'a>, identity: &'a Identity, tenant: &Tenant, arrival: &Arrival<'_>) -> Self {
        let registry = grounds.registry;
        let rules = registry.rules.get(&tenant.name).map(|rules| {
            let reads = rules.reads(&identity.permits.roles);
            let circumstances = circumstances(grounds, identity, tenant, arrival, reads.as_ref());
            let questions = rules.questions(&identity.permits.roles, circumstances);
            Asked { rules, questions, reads, now: arrival.now }
        });
        Self { registry, identity, rules }
    }

    /// Whether the request, let through, makes its network known.
    pub(super) fn introduces(&self) -> bool {
        self.rules
            .as_ref()
            .is_some_and(|asked| asked.rules.introduces(&self.identity.permits.roles, &self.identity.login, asked.now))
    }

    pub(super) const fn registry(&self) -> &'a Registry {
        self.registry
    }

    /// Whether the endpoint may be used, and by which policy.
    pub(super) fn at(&self, endpoint: EndpointKind) -> Result<String, Stop> {
        let roles = &self.identity.permits.roles;
        let Some(asked) = &self.rules else {
            return Ok(roles.iter().map(|role| format!("role/{role}")).collect::<Vec<_>>().join(" "));
        };
        match asked.questions.endpoint(endpoint) {
            Verdict::Allow(by) => Ok(by.to_owned()),
            Verdict::Rule(rule) => Err(denial(rule, Code::PolicyDenied.into()).into()),
            Verdict::Nothing => Err(Code::EndpointNotAllowed.into()),
        }
    }

    /// Whether chat may use one of the tenant's models.
    pub(super) fn to(&self, model: &ModelName) -> Result<(), Denial> {
        match self.chat(model) {
            None | Some(Verdict::Allow(_)) => Ok(()),
            Some(Verdict::Nothing) => Err(not_allowed()),
            Some(Verdict::Rule(rule)) => Err(denial(rule, not_allowed())),
        }
    }

    /// Whether the list of models has it.
    pub(super) fn shows(&self, model: &ModelName) -> bool {
        match self.chat(model) {
            None | Some(Verdict::Allow(_)) => true,
            Some(Verdict::Rule(rule)) => matches!(rule.then, Outcome::StepUp { .. }),
            Some(Verdict::Nothing) => false,
        }
    }

    /// How long the answers hold for requests alike.
    pub(super) fn good_for(&self) -> Duration {
        let Some(asked) = &self.rules else { return Duration::MAX };
        let Some(reads) = &asked.reads else { return Duration::ZERO };
        if reads.time || reads.source || reads.networks || !reads.spend.is_empty() {
            return Duration::ZERO;
        }
        let age = u64::try_from(self.identity.login.age(asked.now)).unwrap_or(u64::MAX);
        // An age beyond a bound stays beyond it; one within has this long to go, less the second that it is rounded by.
        let within = reads.ages.iter().map(Duration::as_secs).filter(|most| age <= *most);
        within.map(|most| Duration::from_secs(most.saturating_sub(age))).min().unwrap_or(Duration::MAX)
    }

    fn chat(&self, model: &ModelName) -> Option<Verdict<'a>> {
        Some(self.rules.as_ref()?.questions.model(EndpointKind::Chat, model))
    }
}

/// What rules read of a request, and no more than that.
fn circumstances(
    grounds: &Grounds<'_>,
    identity: &Identity,
    tenant: &Tenant,
    arrival: &Arrival<'_>,
    reads: Option<&Reads>,
) -> Circumstances {
    let now = Now { unix_ms: u64::try_from(arrival.now.as_millisecond()).unwrap_or(0) };
    let passed = |bound: &&SpendBound| {
        let (name, zone) = (&tenant.name, &tenant.time_zone);
        grounds.ledger.spent(now, &bound.watch, name, zone, &identity.principal) > bound.amount
    };
    let over: Vec<&SpendBound> = reads.into_iter().flat_map(|reads| &reads.spend).filter(passed).collect();
    let source = arrival.source.filter(|_| reads.is_some_and(|reads| reads.networks));
    let known_since = source.and_then(|at| grounds.sightings.since(&tenant.name, &identity.principal, at));
    Circumstances::new(&Found {
        source: arrival.source,
        now: arrival.now,
        zone: &tenant.time_zone,
        login: &identity.login,
        over: &over,
        known_since,
    })
}

/// The refusal by a rule: a challenge, or `otherwise`.
fn denial(rule: &Rule, otherwise: Denial) -> Denial {
    let refused = match &rule.then {
        Outcome::StepUp { acr, amr, max_age } => Denial {
            challenge: Some(challenge(acr, amr, *max_age).into()),
            ..Denial::new(Code::StepUpRequired).detail(format!("Rule `{}` asks for it.", rule.name))
        },
        Outcome::Restrict { .. } | Outcome::Deny => otherwise.detail(format!("Rule `{}` says so.", rule.name)),
    };
    let conditions = rule.conditions();
    Denial { why: (!conditions.is_empty()).then(|| conditions.into()), ..refused }
}

/// The challenge of RFC 9470 §3. It knows no parameter for methods: they are said in words.
fn challenge(acr: &BTreeSet<String>, amr: &BTreeSet<String>, max_age: Option<Duration>) -> String {
    let mut text = "Bearer error=\"insufficient_user_authentication\"".to_owned();
    let joined =
        |words: &BTreeSet<String>, between: &str| words.iter().map(String::as_str).collect::<Vec<_>>().join(between);
    let how = if amr.is_empty() { String::new() } else { format!(" by {}", joined(amr, " or ")) };
    // Writing to a string does not fail.
    let _ = write!(text, ", error_description=\"A stronger or more recent login{how} is required\"");
    if !acr.is_empty() {
        let _ = write!(text, ", acr_values=\"{}\"", joined(acr, " "));
    }
    if let Some(age) = max_age {
        let _ = write!(text, ", max_age=\"{}\"", age.as_secs());
    }
    text
}
