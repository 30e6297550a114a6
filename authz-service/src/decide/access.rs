//! What the rules of a tenant say of one request: the answers of `authorization`, as denials, challenges and times.
//!
//! Where a tenant has no rules, nothing is asked and nothing changes.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::time::Duration;

use gateway_core::admission::Refused;
use gateway_core::denial::{Code, Denial};
use gateway_core::name::ModelName;

use super::{Arrival, Field, Stop};
use crate::authorization::{Circumstances, Outcome, Reads, Resource, Rule, Rules, Verdict};
use crate::identity::Identity;
use crate::registry::{EndpointKind, Registry, Tenant};

/// One caller's request, to be held against its tenant's rules.
pub(super) struct Access<'a> {
    registry: &'a Registry,
    identity: &'a Identity,
    rules: Option<Asked<'a>>,
}

struct Asked<'a> {
    rules: &'a Rules,
    reads: Option<Reads>,
    circumstances: Circumstances,
    now: jiff::Timestamp,
    /// The answer for chat where models are not told apart: it holds for each of them.
    chat: OnceCell<Verdict<'a>>,
}

impl<'a> Access<'a> {
    pub(super) fn new(registry: &'a Registry, identity: &'a Identity, tenant: &Tenant, arrival: &Arrival<'_>) -> Self {
        let rules = registry.rules.get(&tenant.name).map(|rules| Asked {
            rules,
            reads: rules.reads(&identity.permits.roles),
            circumstances: Circumstances::new(arrival.source, arrival.now, &tenant.time_zone, &identity.login),
            now: arrival.now,
            chat: OnceCell::new(),
        });
        Self { registry, identity, rules }
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
        let ask = || asked.rules.ask(roles, endpoint, Resource::Endpoint, &asked.circumstances);
        match if endpoint == EndpointKind::Chat { *asked.chat.get_or_init(ask) } else { ask() } {
            Verdict::Allow(by) => Ok(by.to_owned()),
            Verdict::Rule(rule) => Err(stop(rule)),
            Verdict::Nothing => Err(Code::EndpointNotAllowed.into()),
        }
    }

    /// Whether chat may use one of the tenant's models.
    pub(super) fn to(&self, model: &ModelName) -> Result<(), Stop> {
        let not_allowed = || Denial::new(Code::ModelNotAllowed).param("model");
        match self.chat(model) {
            None | Some(Verdict::Allow(_)) => Ok(()),
            Some(Verdict::Nothing) => Err(not_allowed().into()),
            Some(Verdict::Rule(rule)) => Err(match &rule.then {
                Outcome::StepUp { .. } => stop(rule),
                Outcome::Restrict { .. } | Outcome::Deny => {
                    Stop::from(not_allowed().detail(format!("Rule `{}` says so.", rule.name)))
                }
            }),
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

    /// The rule's own words for a model that admission refused because of it.
    pub(super) fn why(&self, refused: &Refused) -> Option<Stop> {
        let model = refused.model.as_ref().filter(|_| refused.denial.code == Code::ModelNotAllowed)?;
        let permits = self.identity.permits.models.as_ref();
        if permits.is_some_and(|permitted| !permitted.contains(model)) { None } else { self.to(model).err() }
    }

    /// How long the answers hold for requests alike.
    pub(super) fn good_for(&self) -> Duration {
        let Some(asked) = &self.rules else { return Duration::MAX };
        let Some(reads) = &asked.reads else { return Duration::ZERO };
        if reads.time || reads.source {
            return Duration::ZERO;
        }
        let age = u64::try_from(self.identity.login.age(asked.now)).unwrap_or(u64::MAX);
        // An age beyond a bound stays beyond it; one within has this long to go, less the second that it is rounded by.
        let within = reads.ages.iter().map(Duration::as_secs).filter(|most| age <= *most);
        within.map(|most| Duration::from_secs(most.saturating_sub(age))).min().unwrap_or(Duration::MAX)
    }

    fn chat(&self, model: &ModelName) -> Option<Verdict<'_>> {
        let asked = self.rules.as_ref()?;
        let roles = &self.identity.permits.roles;
        let ask = |resource| asked.rules.ask(roles, EndpointKind::Chat, resource, &asked.circumstances);
        if asked.reads.as_ref().is_some_and(|reads| !reads.model) {
            return Some(*asked.chat.get_or_init(|| ask(Resource::Endpoint)));
        }
        Some(ask(Resource::Model(model)))
    }
}

/// The refusal by a rule, before a model is known.
fn stop(rule: &Rule) -> Stop {
    let detail = format!("Rule `{}` says so.", rule.name);
    match &rule.then {
        Outcome::StepUp { .. } => Stop {
            denial: Denial::new(Code::StepUpRequired).detail(format!("Rule `{}` asks for it.", rule.name)),
            headers: vec![Field::new("www-authenticate", challenge(&rule.then))],
        },
        Outcome::Restrict { .. } | Outcome::Deny => Denial::new(Code::PolicyDenied).detail(detail).into(),
    }
}

/// The challenge of RFC 9470 §3. It knows no parameter for methods: they are said in words.
fn challenge(then: &Outcome) -> String {
    let mut text = "Bearer error=\"insufficient_user_authentication\"".to_owned();
    let Outcome::StepUp { acr, amr, max_age } = then else { return text };
    let joined = |words: &std::collections::BTreeSet<String>, between: &str| {
        words.iter().map(String::as_str).collect::<Vec<_>>().join(between)
    };
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
