//! Cedar's entities of one tenant: made when its resources are read, and never while a request waits.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression};
use gateway_core::name::ModelName;

use super::{Circumstances, CompileError, Resource, refused};
use crate::registry::{EndpointKind, Model};

/// A tenant, its models, the endpoints, and the principals of the roles that its credentials may have.
#[derive(Debug)]
pub(super) struct World {
    entities: Entities,
    models: HashMap<ModelName, EntityUid>,
}

/// The same for every tenant; `None` only if Cedar refused our own words.
static ENDPOINTS: LazyLock<Option<HashMap<EndpointKind, Served>>> = LazyLock::new(|| {
    let of = |kind: EndpointKind| {
        Ok((kind, Served { resource: uid("Endpoint", kind.name())?, action: uid("Action", kind.name())? }))
    };
    EndpointKind::ALL.into_iter().map(of).collect::<Result<_, CompileError>>().ok()
});

/// An endpoint as a resource, and as an action.
#[derive(Debug)]
struct Served {
    resource: EntityUid,
    action: EntityUid,
}

impl World {
    pub(super) fn new<'m, 'p>(
        tenant: &str,
        models: impl Iterator<Item = &'m Model>,
        principals: impl Iterator<Item = &'p EntityUid>,
    ) -> Result<Self, CompileError> {
        let tenant = uid("Tenant", tenant)?;
        let mut all = vec![entity(tenant.clone(), [])?];
        let mut names = HashMap::new();
        for model in models {
            let (name, class) = (uid("Model", model.name.as_str())?, uid("GpuClass", &model.gpu_class)?);
            all.push(entity(name.clone(), [tenant.clone(), class])?);
            names.insert(model.name.clone(), name);
        }
        for served in ENDPOINTS.iter().flat_map(HashMap::values) {
            all.push(entity(served.resource.clone(), [tenant.clone()])?);
        }
        for principal in principals {
            let of = [("tenant".to_owned(), RestrictedExpression::new_entity_uid(tenant.clone()))];
            let parents = HashSet::from([uid("Role", principal.id().unescaped())?]);
            all.push(Entity::new(principal.clone(), HashMap::from(of), parents).map_err(refused)?);
        }
        let entities = Entities::from_entities(all, None).map_err(refused)?;
        Ok(Self { entities, models: names })
    }

    pub(super) const fn entities(&self) -> &Entities {
        &self.entities
    }

    /// `None`: something in the question is not of this tenant.
    pub(super) fn request(
        &self,
        principal: &EntityUid,
        endpoint: EndpointKind,
        resource: Resource<'_>,
        circumstances: &Circumstances,
    ) -> Option<Request> {
        let served = ENDPOINTS.as_ref()?.get(&endpoint)?;
        let resource = match resource {
            Resource::Endpoint => &served.resource,
            Resource::Model(name) => self.models.get(name)?,
        };
        let context = circumstances.context()?.clone();
        Request::new(principal.clone(), served.action.clone(), resource.clone(), context, None).ok()
    }
}

/// A principal of a role.
pub(super) fn principal(role: &str) -> Result<EntityUid, CompileError> {
    uid("Principal", role)
}

fn entity<const N: usize>(uid: EntityUid, parents: [EntityUid; N]) -> Result<Entity, CompileError> {
    Entity::new(uid, HashMap::new(), HashSet::from(parents)).map_err(refused)
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, CompileError> {
    let kind: EntityTypeName = kind.parse().map_err(refused)?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}
