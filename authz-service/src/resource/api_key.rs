//! `ApiKey`: what one key may do and until when. The hash is in the store; the key itself is nowhere.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::field::{At, Each};
use super::names::Names;
use super::object::Object;
use super::plan::{self, Owner, RawLimit};
use super::problem::Problems;
use super::role::{self, Role};
use super::tenant::Compiled;
use crate::identity::discovery::{Network, NetworkError};
use crate::registry::{EndpointKind, KeyTerms, Limit, Model, WrittenKey};

/// `ApiKey.spec`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct ApiKeySpec {
    tenant: At<String>,
    role: Option<At<String>>,
    models: Option<Each<At<String>>>,
    endpoints: Option<Each<EndpointKind>>,
    limits: Option<Each<RawLimit>>,
    sources: Option<Each<At<String>>>,
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
    let sources = spec.sources.as_ref().map(|listed| networks(listed, problems));
    let lifetime = lifetime(spec, problems);
    let of = tenants.find(&spec.tenant, problems)?;
    of.permitted_namespace(&spec.tenant, object.namespace.as_ref(), problems);
    beside_plan(spec, &limits, of, problems);
    let role = match &spec.role {
        None => of.permits.clone(),
        role => role::of(role.as_ref(), &spec.tenant.value, roles, problems)?,
    };
    let (lifetime, expires_at) = lifetime?;
    let written = WrittenKey {
        namespace: object.namespace.as_ref().map(|namespace| namespace.value.clone()).unwrap_or_default(),
        role: spec.role.as_ref().map(|role| role.value.clone()),
        models: own.models.clone(),
        endpoints: own.endpoints.clone(),
        lifetime,
    };
    Some(KeyTerms {
        id: object.name.value.clone(),
        tenant: of.tenant.name.clone(),
        permits: role::narrow(role, own),
        limits,
        sources,
        expires_at,
        ages: of.tenant.key_ages,
        written,
    })
}

/// A list without an entry that holds is nowhere, not anywhere.
fn networks(listed: &Each<At<String>>, problems: &Problems) -> Vec<Network> {
    let read = |text: &At<String>| {
        let refuse = |error: &NetworkError| problems.add(text.place, format!("`{}` {error}", text.value));
        text.value.parse().inspect_err(refuse).ok()
    };
    listed.0.iter().filter_map(read).collect()
}

/// How long the key lives, and when that ends.
fn lifetime(spec: &ApiKeySpec, problems: &Problems) -> Option<(SignedDuration, Timestamp)> {
    let instant = |at: &At<String>| {
        let refuse = |_: &_| {
            let message = format!("`{}` is no RFC 3339 instant, as `2026-01-31T12:00:00Z`", at.value);
            problems.add(at.place, message);
        };
        at.value.parse::<Timestamp>().inspect_err(refuse).ok()
    };
    let (created, expires) = (instant(&spec.created_at), instant(&spec.expires_at));
    let (created, expires) = (created?, expires?);
    let span = expires.duration_since(created);
    let lifetime = Duration::try_from(span).unwrap_or_default();
    if lifetime.is_zero() || lifetime > LONGEST {
        problems.add(spec.expires_at.place, "`expiresAt` must be after `createdAt`, and at most 72h after it");
        return None;
    }
    Some((span, expires))
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
