//! Roles: a permit each, and what it answers to every question that can be asked before a request is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, EntityUid, PolicySet};

use super::entities::World;
use super::{Circumstances, CompileError, Resource, entities, policy, refused, validate};
use crate::registry::{EndpointKind, Model, Permits};

/// The role of a credential that names none: all that its tenant may.
pub const MEMBER: &str = "member";
/// The platform's own people: principals of no tenant.
pub const PLATFORM_OPERATOR: &str = "platform-operator";

const TENANT_ADMIN: &str = "tenant-admin";
const DEVELOPER: &str = "developer";
const DATA_SCIENTIST: &str = "data-scientist";
const AUDITOR: &str = "auditor";
const SERVICE: &str = "service";

/// Roles that are there without being written. Each permits all models of its tenant.
pub const BUILT_IN: [&str; 7] = [MEMBER, TENANT_ADMIN, DEVELOPER, DATA_SCIENTIST, AUDITOR, SERVICE, PLATFORM_OPERATOR];

/// The endpoints that a built-in role permits.
#[must_use]
pub fn built_in_endpoints(role: &str) -> BTreeSet<EndpointKind> {
    EndpointKind::ALL
        .into_iter()
        .filter(|kind| [MEMBER, TENANT_ADMIN].contains(&role) || users(*kind).contains(&role))
        .collect()
}

/// Who may use an endpoint, beside members and tenant admins, who may use all.
const fn users(endpoint: EndpointKind) -> &'static [&'static str] {
    match endpoint {
        EndpointKind::Chat => &[DEVELOPER, DATA_SCIENTIST, SERVICE],
        EndpointKind::Token => &[DEVELOPER, SERVICE],
        EndpointKind::Job | EndpointKind::JobRenewal => &[DEVELOPER, DATA_SCIENTIST, SERVICE],
        EndpointKind::Models => &[DEVELOPER, DATA_SCIENTIST, AUDITOR],
        // Whoever has a key exchanges it: a rotation opens nothing that the key does not.
        EndpointKind::Rotate => &[DEVELOPER, DATA_SCIENTIST, AUDITOR, SERVICE],
    }
}

/// A role, compiled.
#[derive(Clone, Debug)]
pub struct RolePolicy {
    name: Arc<str>,
    permit: Arc<str>,
    permits: Arc<Permits>,
    principal: Arc<EntityUid>,
}

impl RolePolicy {
    /// Compiles a role that permits this much of what its tenant may, and asks it about every endpoint and model that
    /// there is.
    ///
    /// # Errors
    /// [`CompileError`] for a policy that Cedar or the schema refuses.
    pub fn compile<'a>(
        name: &str,
        wanted: &Permits,
        models: impl Iterator<Item = &'a Model> + Clone,
    ) -> Result<Self, CompileError> {
        let mut policies = PolicySet::new();
        if let Some(policy) = policy::role(name, wanted)? {
            policies.add(policy).map_err(refused)?;
        }
        validate(&policies)?;
        // A tenant that may use all of them stands for any: its name is no tenant's.
        let principal = entities::principal(name)?;
        let world = World::new("*", models.clone(), [&principal].into_iter())?;
        let circumstances = Circumstances::none();
        let permitted = |endpoint, resource: Resource<'_>| {
            let request = world.request(&principal, endpoint, resource, &circumstances);
            request.is_some_and(|request| {
                let response = Authorizer::new().is_authorized(&request, &policies, world.entities());
                response.decision() == Decision::Allow && response.diagnostics().errors().next().is_none()
            })
        };
        let endpoints: BTreeSet<EndpointKind> =
            EndpointKind::ALL.into_iter().filter(|kind| permitted(*kind, Resource::Endpoint)).collect();
        let usable = |model: &Model| endpoints.iter().any(|kind| permitted(*kind, Resource::Model(&model.name)));
        let named = || models.filter(|model| usable(model)).map(|model| model.name.clone()).collect();
        let permits = Permits {
            models: wanted.models.as_ref().map(|_| named()),
            endpoints: wanted.endpoints.as_ref().map(|_| endpoints.clone()),
            roles: BTreeSet::from([Arc::from(name)]),
        };
        let (permit, permits) = (Arc::from(policy::role_id(name)), Arc::new(permits));
        Ok(Self { name: Arc::from(name), permit, permits, principal: Arc::new(principal) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it permits, whatever the circumstances.
    #[must_use]
    pub fn permits(&self) -> &Permits {
        &self.permits
    }

    /// The name of its permit in decisions.
    pub(super) fn permit(&self) -> &str {
        &self.permit
    }

    /// Its principal in questions.
    pub(super) fn principal(&self) -> &EntityUid {
        &self.principal
    }

    /// Whether it permits this, of what its tenant may.
    pub(super) fn permits_at(&self, endpoint: EndpointKind, resource: Resource<'_>) -> bool {
        let model = match resource {
            Resource::Endpoint => true,
            Resource::Model(name) => self.permits.models.as_ref().is_none_or(|models| models.contains(name)),
        };
        model && self.permits.endpoints.as_ref().is_none_or(|kinds| kinds.contains(&endpoint))
    }
}
