//! Which rules can meet which question, settled when resources are read: by role, endpoint and model, as bits. What is left
//! for a request are the circumstances of those rules. Never names the rule that applies, and never permits what a role
//! does not.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, Entities, PolicySet, Request};
use gateway_core::name::ModelName;

use super::rule::Rule;
use super::{CompileError, MOST_RULES, Resource, SharedPolicies, policy, refused};
use crate::registry::{EndpointKind, Model};

/// Some of a tenant's rules: a bit for each, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slice(u64);

/// A tenant's rules by what they are about.
#[derive(Debug)]
pub(super) struct Slices {
    endpoints: [Slice; EndpointKind::ALL.len()],
    models: HashMap<ModelName, Slice>,
    /// Those that tell models apart: they meet no endpoint as such.
    telling: Slice,
    /// By the slices that questions can lead to: the permit of where none of the slice's rules applies.
    clear: HashMap<Slice, Arc<PolicySet>>,
}

impl Slice {
    /// Those that `meets` picks.
    pub(super) fn of(rules: &[Rule], meets: impl Fn(&Rule) -> bool) -> Self {
        Self(rules.iter().rev().fold(0, |slice, rule| slice << 1 | u64::from(meets(rule))))
    }

    /// Its own of what all rules have, in their order.
    pub(super) fn pick<T>(self, all: &[T]) -> impl Iterator<Item = &T> {
        all.iter().enumerate().filter(move |(place, _)| self.0 >> place & 1 == 1).map(|(_, one)| one)
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl Slices {
    /// Of a tenant's rules and models, for roles that meet these slices.
    pub(super) fn new<'m>(
        rules: &[Rule],
        models: impl Iterator<Item = &'m Model>,
        roles: &[Slice],
        shared: &mut SharedPolicies,
    ) -> Result<Self, CompileError> {
        if rules.len() > MOST_RULES {
            return Err(refused(format_args!("more than {MOST_RULES} rules")));
        }
        let at = |kind| Slice::of(rules, |rule| rule.endpoints.as_ref().is_none_or(|kinds| kinds.contains(&kind)));
        let mut slices = Self {
            endpoints: EndpointKind::ALL.map(at),
            models: models.map(|model| (model.name.clone(), Slice::of(rules, |rule| rule.is_for(model)))).collect(),
            telling: Slice::of(rules, Rule::tells_models_apart),
            clear: HashMap::new(),
        };
        for slice in slices.met(roles) {
            slices.clear.insert(slice, policy::clear(slice.pick(rules), shared)?);
        }
        Ok(slices)
    }

    /// Every slice that some question leads to and that has rules.
    fn met(&self, roles: &[Slice]) -> HashSet<Slice> {
        let resources = || std::iter::once(Resource::Endpoint).chain(self.models.keys().map(Resource::Model));
        let at = |role: Slice, kind| resources().filter_map(move |resource| self.meeting(role, kind, resource));
        let of = |role: &Slice| EndpointKind::ALL.map(|kind| at(*role, kind)).into_iter().flatten();
        roles.iter().flat_map(of).filter(|slice| slice.0 != 0).collect()
    }

    /// Whether no rule applies to a question by a role that meets `role`: of a model only those are asked that are not
    /// asked of its endpoint. `false` where it could not be evaluated, or nothing is known of the resource.
    pub(super) fn clear(
        &self,
        role: Slice,
        endpoint: EndpointKind,
        resource: Resource<'_>,
        request: impl FnOnce() -> Option<Request>,
    ) -> bool {
        let Some(slice) = self.meeting(role, endpoint, resource) else { return false };
        if slice.0 == 0 {
            return true;
        }
        let (Some(policies), Some(request)) = (self.clear.get(&slice), request()) else { return false };
        let response = Authorizer::new().is_authorized(&request, policies, &Entities::empty());
        response.decision() == Decision::Allow && response.diagnostics().errors().next().is_none()
    }

    fn meeting(&self, role: Slice, endpoint: EndpointKind, resource: Resource<'_>) -> Option<Slice> {
        let met = role.and(*self.endpoints.get(endpoint as usize)?);
        match resource {
            Resource::Endpoint => Some(met.without(self.telling)),
            Resource::Model(model) => Some(met.and(self.telling).and(*self.models.get(model)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{models, named, rule};
    use super::super::{Condition, Outcome};
    use super::*;

    #[test]
    fn a_question_meets_only_rules_that_are_about_it() {
        let deny = |name| rule(name, Outcome::Deny);
        let rules = [
            deny("p/all"),
            Rule { endpoints: Some([EndpointKind::Chat].into()), ..deny("p/chat") },
            Rule { models: Some([named("big")].into()), ..deny("p/big") },
            Rule { gpu_classes: Some(["l4".into()].into()), ..deny("p/l4") },
            rule("p/small", Outcome::Restrict { to: [named("small")].into() }),
            Rule { when: vec![Condition::Days([1].into())], ..deny("p/days") },
        ];
        let (all, one) = (Slice::of(&rules, |_| true), Slice::of(&rules, |rule| rule.name != "p/all"));
        let mut shared = SharedPolicies::default();
        let mut slices = || Slices::new(&rules, models()[..3].iter(), &[all, one], &mut shared).unwrap();
        let (slices, another) = (slices(), slices());
        let names = |slice: Slice| slice.pick(&rules).map(|rule| &*rule.name).collect::<Vec<_>>();
        let met = |role, kind, model: Option<&str>| {
            let model = model.map(named);
            slices.meeting(role, kind, model.as_ref().map_or(Resource::Endpoint, Resource::Model)).map(names)
        };
        let (chat, list) = (EndpointKind::Chat, EndpointKind::Models);
        assert_eq!(met(all, chat, None), Some(vec!["p/all", "p/chat", "p/days"]));
        assert_eq!(met(one, list, None), Some(vec!["p/days"]));
        assert_eq!(met(all, chat, Some("big")), Some(vec!["p/big", "p/small"]));
        assert_eq!(met(one, list, Some("mid")), Some(vec!["p/l4", "p/small"]));
        assert_eq!(met(all, chat, Some("small")), Some(vec!["p/l4"]));
        assert_eq!(met(all, chat, Some("other/own")), None, "another tenant's");
        // Four of endpoints, three of models: what several questions share is there once.
        assert_eq!(slices.clear.len(), 7);
        let alike = |(slice, policies): (&Slice, &Arc<PolicySet>)| Arc::ptr_eq(policies, &another.clear[slice]);
        assert!(slices.clear.iter().all(alike), "another tenant has them too");
    }

    #[test]
    fn more_rules_than_bits_are_refused() {
        let rules =
            |count: usize| -> Vec<Rule> { (0..count).map(|n| rule(&format!("p/{n}"), Outcome::Deny)).collect() };
        let most = rules(MOST_RULES);
        assert_eq!(Slice::of(&most, |_| true).pick(&most).count(), MOST_RULES);
        let mut shared = SharedPolicies::default();
        assert!(Slices::new(&rules(MOST_RULES + 1), models().iter(), &[], &mut shared).is_err());
    }
}
