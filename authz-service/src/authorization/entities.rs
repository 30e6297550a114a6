//! Cedar's entities of one tenant: made when its resources are read, and never while a request waits.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression};
use gateway_core::name::ModelName;

use super::{Circumstances, CompileError, Resource, policy, refused};
use crate::registry::{EndpointKind, Model};

/// A tenant, its models, the endpoints, and a principal for each role that its credentials may have.
#[derive(Debug)]
pub(super) struct World {
    entities: Entities,
    models: HashMap<ModelName, EntityUid>,
    endpoints: HashMap<EndpointKind, Served>,
    /// By role: its principal, and the name of the policy that permits.
    principals: HashMap<String, (EntityUid, String)>,
}

/// An endpoint as a resource, and as an action.
#[derive(Debug)]
struct Served {
    resource: EntityUid,
    action: EntityUid,
}

impl World {
    pub(super) fn new<'m, 'r>(
        tenant: &str,
        models: impl Iterator<Item = &'m Model>,
        roles: impl Iterator<Item = &'r str>,
    ) -> Result<Self, CompileError> {
        let tenant = uid("Tenant", tenant)?;
        let mut all = vec![entity(tenant.clone(), [])?];
        let mut names = HashMap::new();
        for model in models {
            let (name, class) = (uid("Model", model.name.as_str())?, uid("GpuClass", &model.gpu_class)?);
            all.push(entity(name.clone(), [tenant.clone(), class])?);
            names.insert(model.name.clone(), name);
        }
        let mut endpoints = HashMap::new();
        for kind in EndpointKind::ALL {
            let (resource, action) = (uid("Endpoint", kind.name())?, uid("Action", kind.name())?);
            all.push(entity(resource.clone(), [tenant.clone()])?);
            endpoints.insert(kind, Served { resource, action });
        }
        let mut principals = HashMap::new();
        for role in roles {
            let principal = uid("Principal", role)?;
            let of = [("tenant".to_owned(), RestrictedExpression::new_entity_uid(tenant.clone()))];
            let parents = HashSet::from([uid("Role", role)?]);
            all.push(Entity::new(principal.clone(), HashMap::from(of), parents).map_err(refused)?);
            principals.insert(role.to_owned(), (principal, policy::role_id(role)));
        }
        let entities = Entities::from_entities(all, None).map_err(refused)?;
        Ok(Self { entities, models: names, endpoints, principals })
    }

    pub(super) const fn entities(&self) -> &Entities {
        &self.entities
    }

    /// The name of a role's permit, as it stands here.
    pub(super) fn name(&self, policy: &str) -> Option<&str> {
        self.principals.values().map(|(_, name)| name.as_str()).find(|name| *name == policy)
    }

    /// `None`: something in the question is not of this tenant.
    pub(super) fn request(
        &self,
        role: &str,
        endpoint: EndpointKind,
        resource: Resource<'_>,
        circumstances: &Circumstances,
    ) -> Option<Request> {
        let (principal, _) = self.principals.get(role)?;
        let served = self.endpoints.get(&endpoint)?;
        let resource = match resource {
            Resource::Endpoint => &served.resource,
            Resource::Model(name) => self.models.get(name)?,
        };
        let context = circumstances.context()?;
        Request::new(principal.clone(), served.action.clone(), resource.clone(), context, None).ok()
    }
}

fn entity<const N: usize>(uid: EntityUid, parents: [EntityUid; N]) -> Result<Entity, CompileError> {
    Entity::new(uid, HashMap::new(), HashSet::from(parents)).map_err(refused)
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, CompileError> {
    let kind: EntityTypeName = kind.parse().map_err(refused)?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}
