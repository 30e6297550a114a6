//! `Role`: models and endpoints. Roles, keys and issuers narrow what their tenant may, and never widen it.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::name::ModelName;
use serde::Deserialize;

use super::field::{At, Each};
use super::names::Names;
use super::problem::Problems;
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
    permits: Permits,
}

/// Compiles a role.
pub(super) fn compile(spec: &RoleSpec, models: &Names<Arc<Model>>, problems: &Problems) -> Role {
    let permits = permits(spec.models.as_ref(), spec.endpoints.as_ref(), models, problems);
    Role { tenant: spec.tenant.clone(), permits }
}

impl Role {
    /// The one tenant that may use it.
    pub(super) fn tenant(&self) -> Option<&At<String>> {
        self.tenant.as_ref()
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
    match &role.tenant {
        Some(owner) if owner.value != tenant => {
            problems.add(wanted.place, format!("role `{}` belongs to another tenant", wanted.value));
            None
        }
        _ => Some(role.permits.clone()),
    }
}

/// What both permit.
pub(super) fn narrow(a: Permits, b: Permits) -> Permits {
    a.narrow(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_never_widens() {
        let of = |kinds: &[EndpointKind]| Permits { models: None, endpoints: Some(kinds.iter().copied().collect()) };
        let (chat, models) = (EndpointKind::Chat, EndpointKind::Models);
        assert_eq!(narrow(of(&[chat]), Permits::default()), of(&[chat]));
        assert_eq!(narrow(Permits::default(), of(&[chat])), of(&[chat]));
        assert_eq!(narrow(of(&[chat, models]), of(&[models])), of(&[models]));
        assert_eq!(narrow(of(&[chat]), of(&[models])), of(&[]));
        assert_eq!(narrow(of(&[]), Permits::default()), of(&[]));
    }
}
