//! `ApiKey`: what one key may do and until when. The hash is in the store; the key itself is nowhere.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::field::{At, Each};
use super::names::Names;
use super::object::Object;
use super::plan::{self, Owner, RawLimit};
use super::problem::Problems;
use super::role::{self, Role};
use super::tenant::Compiled;
use crate::registry::{EndpointKind, KeyTerms, Limit, Model};

/// `ApiKey.spec`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct ApiKeySpec {
    tenant: At<String>,
    role: Option<At<String>>,
    models: Option<Each<At<String>>>,
    endpoints: Option<Each<EndpointKind>>,
    limits: Option<Each<RawLimit>>,
    created_at: At<String>,
    expires_at: At<String>,
}

/// A key lives at most this long.
pub const LONGEST: Duration = Duration::from_secs(72 * 3600);

/// Compiles a key.
pub(super) fn compile(
    object: &Object<ApiKeySpec>,
    spec: &ApiKeySpec,
    tenants: &Names<Compiled>,
    models: &Names<Arc<Model>>,
    roles: &Names<Role>,
    problems: &Problems,
) -> Option<KeyTerms> {
    let own = role::permits(spec.models.as_ref(), spec.endpoints.as_ref(), models, problems);
    let limits = spec.limits.as_ref().map(|raw| plan::limits(raw, Owner::Key, problems)).unwrap_or_default();
    let expires_at = lifetime(spec, problems);
    let of = tenants.find(&spec.tenant, problems)?;
    of.permitted_namespace(&spec.tenant, object.namespace.as_ref(), problems);
    beside_plan(spec, &limits, of, problems);
    let role = match &spec.role {
        None => of.permits.clone(),
        role => role::of(role.as_ref(), &spec.tenant.value, roles, problems)?,
    };
    Some(KeyTerms {
        id: object.name.value.clone(),
        tenant: of.tenant.name.clone(),
        permits: role::narrow(role, own),
        limits,
        expires_at: expires_at?,
    })
}

fn lifetime(spec: &ApiKeySpec, problems: &Problems) -> Option<Timestamp> {
    let instant = |at: &At<String>| {
        let refuse = |_: &_| {
            let message = format!("`{}` is no RFC 3339 instant, as `2026-01-31T12:00:00Z`", at.value);
            problems.add(at.place, message);
        };
        at.value.parse::<Timestamp>().inspect_err(refuse).ok()
    };
    let (created, expires) = (instant(&spec.created_at), instant(&spec.expires_at));
    let (created, expires) = (created?, expires?);
    let lifetime = Duration::try_from(expires.duration_since(created)).unwrap_or_default();
    if lifetime.is_zero() || lifetime > LONGEST {
        problems.add(spec.expires_at.place, "`expiresAt` must be after `createdAt`, and at most 72h after it");
        return None;
    }
    Some(expires)
}

/// Answers and reports name limits by name alone: a key's must differ from its plan's.
fn beside_plan(spec: &ApiKeySpec, limits: &[Limit], of: &Compiled, problems: &Problems) {
    for limit in limits {
        if of.tenant.plan.limits.iter().any(|other| other.name == limit.name) {
            let message = format!("plan `{}` has a limit `{}` already", of.tenant.plan.name, limit.name);
            problems
                .add(spec.limits.as_ref().map_or(spec.tenant.place, |raw| plan::place_of(raw, &limit.name)), message);
        }
    }
}
