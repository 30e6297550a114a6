//! Who may do what, and under which circumstances: roles and rules as operators wrote them, compiled to Cedar.
//!
//! Cedar text is no input: `policy` writes each policy as Cedar's JSON, with names and numbers as values, and one schema
//! holds for all of them. What roles permit does not depend on the request: it is asked once, when they are written. Rules
//! do, and are asked for each request, over entities that are prepared. Never reads a clock, and what cannot be
//! evaluated is refused.

mod circumstances;
mod entities;
mod policy;
mod role;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cedar_policy::{Authorizer, Decision, PolicySet, Schema, ValidationMode, Validator};
use gateway_core::name::{ModelName, TenantName};

use self::entities::World;
use crate::registry::{EndpointKind, Model};

pub use circumstances::{Circumstances, Login};
pub use role::{BUILT_IN, MEMBER, PLATFORM_OPERATOR, RolePolicy, built_in_endpoints};
pub use rule::{Condition, Outcome, Rule};

/// The most rules of one tenant: each is evaluated for each request.
pub const MOST_RULES: usize = 64;

/// One schema for every policy; `None` only if the text beside this file is no schema.
static SCHEMA: LazyLock<Option<Schema>> = LazyLock::new(|| {
    let actions: Vec<_> = EndpointKind::ALL.iter().map(|kind| format!("\"{}\"", kind.name())).collect();
    let what = "principal: [Principal], resource: [Endpoint, Model], context: Circumstances";
    let actions = format!("action {} appliesTo {{ {what} }};", actions.join(", "));
    let types = include_str!("authorization/schema.cedarschema");
    Schema::from_cedarschema_str(&format!("{types}{actions}")).ok().map(|(schema, _)| schema)
});

/// The rules of one tenant, compiled: for each role its permit and the rules that can meet its principals.
#[derive(Debug)]
pub struct Rules {
    world: World,
    slices: HashMap<Arc<str>, Slice>,
    rules: HashMap<String, Rule>,
}

/// What is evaluated for the principals of one role.
#[derive(Debug)]
struct Slice {
    policies: PolicySet,
    reads: Reads,
}

/// Which inputs beside the request's own claims a decision may have read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The time of day.
    pub time: bool,
    /// Where the request came from.
    pub source: bool,
    /// Ages of the login at which it changes.
    pub ages: BTreeSet<Duration>,
    /// Which model is asked for: the answer for an endpoint is not the answer for its models.
    pub model: bool,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// The endpoint as such, before a model is known.
    Endpoint,
    /// One of the tenant's models, by its canonical name.
    Model(&'a ModelName),
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Permitted, by this policy.
    Allow(&'a str),
    /// This rule applies, the strictest of those that do.
    Rule(&'a Rule),
    /// Nothing permits it, or it could not be evaluated.
    Nothing,
}

/// Why rules do not compile. Nothing that an operator can write leads here: names and bounds are checked before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("does not fit the schema of policies: {0}")]
pub struct CompileError(String);

impl Rules {
    /// Compiles the rules of a tenant with the roles that its credentials may have.
    ///
    /// # Errors
    /// [`CompileError`] for a policy that Cedar or the schema refuses.
    pub fn compile<'a>(
        tenant: &TenantName,
        models: impl Iterator<Item = &'a Model>,
        roles: &[&RolePolicy],
        rules: Vec<Rule>,
    ) -> Result<Self, CompileError> {
        let world = World::new(tenant.as_str(), models, roles.iter().map(|role| role.name()))?;
        let written: Vec<_> = rules.iter().map(|rule| Ok((rule, policy::rule(rule)?))).collect::<Result<_, _>>()?;
        let mut slices = HashMap::new();
        for role in roles {
            let meets = |rule: &Rule| rule.roles.as_ref().is_none_or(|roles| roles.contains(role.name()));
            let mut reads = Reads::default();
            let mut policies = PolicySet::new();
            if let Some(policy) = role.policy() {
                policies.add(policy.clone()).map_err(refused)?;
            }
            for (rule, policy) in written.iter().filter(|(rule, _)| meets(rule)) {
                rule.note(&mut reads);
                policies.add(policy.clone()).map_err(refused)?;
            }
            reads.model |= role.permits().models.is_some();
            validate(&policies)?;
            slices.insert(Arc::from(role.name()), Slice { policies, reads });
        }
        let rules = rules.into_iter().map(|rule| (rule.name.clone(), rule)).collect();
        Ok(Self { world, slices, rules })
    }

    /// What a decision about a principal of these roles may read; `None` where there is no such role.
    #[must_use]
    pub fn reads(&self, roles: &BTreeSet<Arc<str>>) -> Option<Reads> {
        named(roles).try_fold(Reads::default(), |mut all, role| {
            let Reads { time, source, ages, model } = &self.slices.get(role)?.reads;
            all.ages.extend(ages);
            Some(Reads { time: all.time | time, source: all.source | source, ages: all.ages, model: all.model | model })
        })
    }

    /// Decides one question about a principal of these roles: whatever any of them permits, unless a rule about any of
    /// them applies.
    #[must_use]
    pub fn ask(
        &self,
        roles: &BTreeSet<Arc<str>>,
        endpoint: EndpointKind,
        resource: Resource<'_>,
        circumstances: &Circumstances,
    ) -> Verdict<'_> {
        let mut verdict = Verdict::Nothing;
        for role in named(roles) {
            let Some(next) = self.ask_one(role, endpoint, resource, circumstances) else { return Verdict::Nothing };
            verdict = match (verdict, next) {
                (Verdict::Rule(a), Verdict::Rule(b)) => {
                    Verdict::Rule(std::cmp::max_by(a, b, |a, b| Rule::by_strictness(a, b)))
                }
                (one @ Verdict::Rule(_), _) | (_, one @ Verdict::Rule(_)) => one,
                (one @ Verdict::Allow(_), _) | (Verdict::Nothing, one) => one,
            };
        }
        verdict
    }

    /// `None`: it could not be evaluated.
    fn ask_one(
        &self,
        role: &str,
        endpoint: EndpointKind,
        resource: Resource<'_>,
        circumstances: &Circumstances,
    ) -> Option<Verdict<'_>> {
        let slice = self.slices.get(role)?;
        let request = self.world.request(role, endpoint, resource, circumstances)?;
        let response = Authorizer::new().is_authorized(&request, &slice.policies, self.world.entities());
        let diagnostics = response.diagnostics();
        // Cedar passes over a policy that fails: a rule that fails must not be one that does not apply.
        if diagnostics.errors().next().is_some() {
            return None;
        }
        match response.decision() {
            Decision::Allow => {
                let by = diagnostics.reason().next().and_then(|id| self.world.name(id.as_ref()));
                by.map(Verdict::Allow)
            }
            Decision::Deny => {
                let applying = diagnostics.reason().filter_map(|id| self.rules.get(AsRef::<str>::as_ref(id)));
                Some(applying.max_by(|a, b| Rule::by_strictness(a, b)).map_or(Verdict::Nothing, Verdict::Rule))
            }
        }
    }
}

/// A principal of no role is a member.
fn named(roles: &BTreeSet<Arc<str>>) -> impl Iterator<Item = &str> {
    let member = roles.is_empty().then_some(MEMBER);
    roles.iter().map(AsRef::as_ref).chain(member)
}

/// Strict validation against the one schema.
fn validate(policies: &PolicySet) -> Result<(), CompileError> {
    let schema = SCHEMA.clone().ok_or_else(|| CompileError("there is none".to_owned()))?;
    let result = Validator::new(schema).validate(policies, ValidationMode::Strict);
    match result.validation_errors().next() {
        None => Ok(()),
        Some(error) => Err(refused(error)),
    }
}

fn refused(error: impl std::fmt::Display) -> CompileError {
    CompileError(error.to_string())
}
