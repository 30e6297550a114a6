//! `Role`: models and endpoints, compiled to a permit. Roles, keys and issuers narrow what their tenant may, and never
//! widen it.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::name::ModelName;
use serde::Deserialize;

use super::field::{At, Each};
use super::names::Names;
use super::object::Object;
use super::problem::Problems;
use crate::authorization::{BUILT_IN, PLATFORM_OPERATOR, RolePolicy, built_in_endpoints};
use crate::registry::{EndpointKind, Model, Permits};

/// `Role.spec`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RoleSpec {
    tenant: Option<At<String>>,
    models: Option<Each<At<String>>>,
    endpoints: Option<Each<EndpointKind>>,
}

/// A compiled role.
#[derive(Clone, Debug)]
pub(super) struct Role {
    /// The one tenant that may use it.
    tenant: Option<At<String>>,
    policy: RolePolicy,
}

/// Compiles a role.
pub(super) fn compile(
    object: &Object<RoleSpec>,
    spec: &RoleSpec,
    models: &Names<Arc<Model>>,
    problems: &Problems,
) -> Option<Role> {
    let name = &object.name;
    if BUILT_IN.contains(&name.value.as_str()) {
        problems.add(name.place, format!("role `{}` is there already: it is built in", name.value));
        return None;
    }
    let wanted = permits(spec.models.as_ref(), spec.endpoints.as_ref(), models, problems);
    let policy = RolePolicy::compile(&name.value, &wanted, each_model(models));
    let policy = policy.inspect_err(|error| problems.add(name.place, format!("`{}` {error}", name.value)));
    Some(Role { tenant: spec.tenant.clone(), policy: policy.ok()? })
}

/// The roles that are there without being written.
pub(super) fn built_in(models: &Names<Arc<Model>>) -> impl Iterator<Item = (&'static str, Role)> {
    BUILT_IN.into_iter().filter_map(move |name| {
        let wanted = Permits { endpoints: Some(built_in_endpoints(name)), ..Permits::default() };
        let policy = RolePolicy::compile(name, &wanted, each_model(models)).ok()?;
        Some((name, Role { tenant: None, policy }))
    })
}

/// Each model once.
pub(super) fn each_model(models: &Names<Arc<Model>>) -> impl Iterator<Item = &Model> + Clone {
    models.iter().filter(|(name, _, model)| *name == model.name.as_str()).map(|(_, _, model)| model.as_ref())
}

impl Role {
    /// The one tenant that may use it.
    pub(super) fn tenant(&self) -> Option<&At<String>> {
        self.tenant.as_ref()
    }

    /// Whether a tenant may use it.
    pub(super) fn is_for(&self, tenant: &str) -> bool {
        self.tenant.as_ref().is_none_or(|owner| owner.value == tenant) && self.policy.name() != PLATFORM_OPERATOR
    }

    /// Its permit.
    pub(super) const fn policy(&self) -> &RolePolicy {
        &self.policy
    }
}

/// Resolves a list of models and a list of endpoints; an absent list is all.
pub(super) fn permits(
    models: Option<&Each<At<String>>>,
    endpoints: Option<&Each<EndpointKind>>,
    known: &Names<Arc<Model>>,
    problems: &Problems,
) -> Permits {
    Permits {
        models: models.map(|wanted| canonical(wanted, known, problems)),
        endpoints: endpoints.map(|kinds| kinds.0.iter().copied().collect()),
        roles: BTreeSet::new(),
    }
}

/// Names and aliases → canonical names.
pub(super) fn canonical(
    wanted: &Each<At<String>>,
    known: &Names<Arc<Model>>,
    problems: &Problems,
) -> BTreeSet<ModelName> {
    known.find_each(wanted, problems, |model, _| model.name.clone())
}

/// What a role permits to one tenant; without a role, all. `None`: the reason is among the problems.
pub(super) fn of(role: Option<&At<String>>, tenant: &str, roles: &Names<Role>, problems: &Problems) -> Option<Permits> {
    let Some(wanted) = role else { return Some(Permits::default()) };
    let role = roles.find(wanted, problems)?;
    if role.is_for(tenant) {
        return Some(role.policy.permits().clone());
    }
    let whose = if role.tenant.is_some() { "belongs to another tenant" } else { "is for principals of no tenant" };
    problems.add(wanted.place, format!("role `{}` {whose}", wanted.value));
    None
}

/// What both permit, with the roles of either.
pub(super) fn narrow(a: Permits, b: Permits) -> Permits {
    a.narrow(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_never_widens() {
        let of =
            |kinds: &[EndpointKind]| Permits { endpoints: Some(kinds.iter().copied().collect()), ..Permits::default() };
        let (chat, models) = (EndpointKind::Chat, EndpointKind::Models);
        assert_eq!(narrow(of(&[chat]), Permits::default()), of(&[chat]));
        assert_eq!(narrow(Permits::default(), of(&[chat])), of(&[chat]));
        assert_eq!(narrow(of(&[chat, models]), of(&[models])), of(&[models]));
        assert_eq!(narrow(of(&[chat]), of(&[models])), of(&[]));
        assert_eq!(narrow(of(&[]), Permits::default()), of(&[]));
    }
}
