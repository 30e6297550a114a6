//! Who may do what, and under which circumstances: roles and rules as operators wrote them, compiled to Cedar.
//!
//! Cedar text is no input: `policy` writes each policy as Cedar's JSON, with names and numbers as values, and one schema
//! holds for all of them. What roles permit does not depend on the request: it is asked once, when they are written. Rules
//! do: a request is asked about those that can meet it (`slice`). Never reads a clock, and what cannot be evaluated is
//! refused.

mod circumstances;
mod entities;
mod policy;
mod questions;
mod role;
mod rule;
mod slice;
mod source;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cedar_policy::{PolicySet, Schema, ValidationMode, Validator};
use gateway_core::name::{ModelName, TenantName};

use self::entities::World;
use self::slice::{Slice, Slices};
use crate::registry::{EndpointKind, Model, Watch};

pub use circumstances::{Circumstances, Found, Login};
pub use policy::SharedPolicies;
pub use questions::Questions;
pub use role::{BUILT_IN, MEMBER, PLATFORM_OPERATOR, RolePolicy, built_in_endpoints};
pub use rule::{Condition, Outcome, Rule, SpendBound};

/// The most rules of one tenant: each that can meet a request is evaluated for it, and has a bit of a number.
pub const MOST_RULES: usize = 64;

/// One schema for every policy; `None` only if the text beside this file is no schema.
static VALIDATOR: LazyLock<Option<Validator>> = LazyLock::new(|| {
    let actions: Vec<_> = EndpointKind::ALL.iter().map(|kind| format!("\"{}\"", kind.name())).collect();
    let what = "principal: [Principal], resource: [Endpoint, Model], context: Circumstances";
    let actions = format!("action {} appliesTo {{ {what} }};", actions.join(", "));
    let types = include_str!("authorization/schema.cedarschema");
    Schema::from_cedarschema_str(&format!("{types}{actions}")).ok().map(|(schema, _)| Validator::new(schema))
});

/// The rules of one tenant, compiled for the roles that its credentials may have.
#[derive(Debug)]
pub struct Rules {
    world: World,
    roles: HashMap<Arc<str>, Bound>,
    slices: Slices,
    rules: HashMap<String, Rule>,
    watched: Vec<Watch>,
}

/// A role, and the rules that can meet its principals.
#[derive(Debug)]
struct Bound {
    policy: RolePolicy,
    slice: Slice,
    /// Its rules as they are written; roles that meet the same have the same.
    rules: Arc<PolicySet>,
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
    /// Bounds of spend.
    pub spend: BTreeSet<SpendBound>,
    /// Which networks the principal is known from.
    pub networks: bool,
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
    /// Compiles the rules of a tenant with the roles that its credentials may have; `shared` is the same for all tenants.
    ///
    /// # Errors
    /// [`CompileError`] for a policy that Cedar or the schema refuses.
    pub fn compile<'a>(
        tenant: &TenantName,
        models: impl Iterator<Item = &'a Model>,
        roles: &[&RolePolicy],
        rules: Vec<Rule>,
        shared: &mut SharedPolicies,
    ) -> Result<Self, CompileError> {
        let models: Vec<&Model> = models.collect();
        let world = World::new(tenant.as_str(), models.iter().copied(), roles.iter().map(|role| role.principal()))?;
        let policies: Vec<_> = rules.iter().map(policy::rule).collect::<Result<_, _>>()?;
        validate(&PolicySet::from_policies(policies.iter().cloned()).map_err(refused)?)?;
        let mut written: HashMap<Slice, Arc<PolicySet>> = HashMap::new();
        let bind = |role: &&RolePolicy| {
            let slice = Slice::of(&rules, |rule| rule.roles.as_ref().is_none_or(|roles| roles.contains(role.name())));
            let own = match written.entry(slice) {
                Entry::Occupied(entry) => Arc::clone(entry.get()),
                Entry::Vacant(entry) => {
                    let own = PolicySet::from_policies(slice.pick(&policies).cloned()).map_err(refused)?;
                    Arc::clone(entry.insert(Arc::new(own)))
                }
            };
            let mut reads = Reads::default();
            slice.pick(&rules).for_each(|rule| rule.note(&mut reads));
            Ok((Arc::clone(role.shared_name()), Bound { policy: RolePolicy::clone(role), slice, rules: own, reads }))
        };
        let roles: HashMap<Arc<str>, Bound> = roles.iter().map(bind).collect::<Result<_, CompileError>>()?;
        let slices: Vec<Slice> = roles.values().map(|role| role.slice).collect();
        let slices = Slices::new(&rules, models.into_iter(), &slices, shared)?;
        let bounds = roles.values().flat_map(|role| &role.reads.spend);
        let watched: BTreeSet<Watch> = bounds.map(|bound| bound.watch).collect();
        let rules = rules.into_iter().map(|rule| (rule.name.clone(), rule)).collect();
        Ok(Self { world, roles, slices, rules, watched: watched.into_iter().collect() })
    }

    /// What a decision about a principal of these roles may read; `None` where there is no such role.
    #[must_use]
    pub fn reads(&self, roles: &BTreeSet<Arc<str>>) -> Option<Reads> {
        named(roles).try_fold(Reads::default(), |mut all, role| {
            let Reads { time, source, ages, spend, networks } = &self.roles.get(role)?.reads;
            all.ages.extend(ages);
            all.spend.extend(spend.iter().cloned());
            Some(Reads { time: all.time | time, source: all.source | source, networks: all.networks | networks, ..all })
        })
    }

    /// What is counted for bounds of spend.
    #[must_use]
    pub fn watched(&self) -> &[Watch] {
        &self.watched
    }

    /// Whether a request that is let through makes its network known: its login is as good as every rule on new networks
    /// asks for, whatever else such a rule is about. A request that a rule happened not to be about must not open the way
    /// to those that it is about.
    #[must_use]
    pub fn introduces(&self, roles: &BTreeSet<Arc<str>>, login: &Login, now: jiff::Timestamp) -> bool {
        let meets = |rule: &&Rule| match &rule.roles {
            None => true,
            Some(about) => named(roles).any(|role| about.contains(role)),
        };
        let mut about = self.rules.values().filter(|rule| rule.reads_networks()).filter(meets).peekable();
        about.peek().is_some() && about.all(|rule| login.meets(&rule.then, now))
    }

    /// What may be asked about a request of a principal of these roles.
    #[must_use]
    pub fn questions(&self, roles: &BTreeSet<Arc<str>>, circumstances: Circumstances) -> Questions<'_> {
        Questions::new(self, roles, circumstances)
    }
}

/// A principal of no role is a member.
fn named(roles: &BTreeSet<Arc<str>>) -> impl Iterator<Item = &str> {
    let member = roles.is_empty().then_some(MEMBER);
    roles.iter().map(AsRef::as_ref).chain(member)
}

/// Strict validation against the one schema.
fn validate(policies: &PolicySet) -> Result<(), CompileError> {
    let validator = VALIDATOR.as_ref().ok_or_else(|| CompileError("there is none".to_owned()))?;
    let result = validator.validate(policies, ValidationMode::Strict);
    match result.validation_errors().next() {
        None => Ok(()),
        Some(error) => Err(refused(error)),
    }
}

fn refused(error: impl std::fmt::Display) -> CompileError {
    CompileError(error.to_string())
}
