//! What is asked about one request: its caller's roles and its circumstances once, then any endpoint or model. Most requests
//! meet no rule, and one policy says so; which rule it is that a request meets is asked of all of them, as they are written.

use std::array;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::Authorizer;
use gateway_core::name::ModelName;

use super::{Bound, Circumstances, Resource, Rule, Rules, Verdict, named};
use crate::registry::EndpointKind;

/// The questions about one request. Of several roles, whatever any of them permits is permitted, unless a rule about any of
/// them applies.
#[derive(Debug)]
pub struct Questions<'a> {
    rules: &'a Rules,
    /// `None`: one of the roles is not the tenant's, or the circumstances could not be made.
    roles: Option<Vec<&'a Bound>>,
    circumstances: Circumstances,
    /// By endpoint, once it is asked about: what the rules say; `None`: none applies.
    endpoints: [OnceCell<Option<Verdict<'a>>>; EndpointKind::ALL.len()],
}

impl<'a> Questions<'a> {
    pub(super) fn new(rules: &'a Rules, roles: &BTreeSet<Arc<str>>, circumstances: Circumstances) -> Self {
        let known = || named(roles).map(|role| rules.roles.get(role)).collect();
        let roles = circumstances.context().and_then(|_| known());
        Self { rules, roles, circumstances, endpoints: array::from_fn(|_| OnceCell::new()) }
    }

    /// Whether the endpoint may be used, before a model is known.
    #[must_use]
    pub fn endpoint(&self, endpoint: EndpointKind) -> Verdict<'a> {
        self.ruled(endpoint).unwrap_or_else(|| self.permit(endpoint, Resource::Endpoint))
    }

    /// Whether the endpoint may be used for one of the tenant's models, by its canonical name.
    #[must_use]
    pub fn model(&self, endpoint: EndpointKind, model: &ModelName) -> Verdict<'a> {
        let resource = Resource::Model(model);
        let clear = self.ruled(endpoint).is_none() && self.clear(endpoint, resource);
        if clear { self.permit(endpoint, resource) } else { self.whole(endpoint, resource) }
    }

    fn ruled(&self, endpoint: EndpointKind) -> Option<Verdict<'a>> {
        let ask = || (!self.clear(endpoint, Resource::Endpoint)).then(|| self.whole(endpoint, Resource::Endpoint));
        self.endpoints.get(endpoint as usize).map_or_else(ask, |kept| *kept.get_or_init(ask))
    }

    /// Whether no rule applies; of a model, no rule but those that its endpoint meets too.
    fn clear(&self, endpoint: EndpointKind, resource: Resource<'_>) -> bool {
        self.roles.as_ref().is_some_and(|roles| {
            roles.iter().all(|role| {
                let request =
                    || self.rules.world.request(role.policy.principal(), endpoint, resource, &self.circumstances);
                self.rules.slices.clear(role.slice, endpoint, resource, request)
            })
        })
    }

    /// What the first of the roles permits that permits it.
    fn permit(&self, endpoint: EndpointKind, resource: Resource<'_>) -> Verdict<'a> {
        let permitting = self.roles.iter().flatten().find(|role| role.policy.permits_at(endpoint, resource));
        permitting.map_or(Verdict::Nothing, |role| Verdict::Allow(role.policy.permit()))
    }

    /// The strictest of all rules that apply.
    pub(super) fn whole(&self, endpoint: EndpointKind, resource: Resource<'_>) -> Verdict<'a> {
        let Some(roles) = &self.roles else { return Verdict::Nothing };
        let mut strictest: Option<&Rule> = None;
        for role in roles {
            let Some(applying) = self.applying(role, endpoint, resource) else { return Verdict::Nothing };
            strictest = strictest.into_iter().chain(applying).max_by(|a, b| Rule::by_strictness(a, b));
        }
        strictest.map_or_else(|| self.permit(endpoint, resource), Verdict::Rule)
    }

    /// The rules that apply to a principal of one role. `None`: it could not be evaluated.
    fn applying(&self, role: &'a Bound, endpoint: EndpointKind, resource: Resource<'_>) -> Option<Vec<&'a Rule>> {
        let world = &self.rules.world;
        let request = world.request(role.policy.principal(), endpoint, resource, &self.circumstances)?;
        let response = Authorizer::new().is_authorized(&request, &role.rules, world.entities());
        let diagnostics = response.diagnostics();
        // Cedar passes over a policy that fails: a rule that fails must not be one that does not apply.
        if diagnostics.errors().next().is_some() {
            return None;
        }
        diagnostics.reason().map(|id| self.rules.rules.get(AsRef::<str>::as_ref(id))).collect()
    }
}
