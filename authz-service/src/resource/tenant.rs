//! `Tenant`: plan, state, models, regions, and who may speak for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::name::TenantName;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::field::{At, Each};
use super::issuer::{self, RawIssuer};
use super::names::Names;
use super::object::Object;
use super::problem::{Place, Problems, nearest};
use super::role::{self, Role};
use super::sources::Origin;
use crate::registry::{Issuer, Model, Permits, Plan, Provider, Tenant, TenantState};

/// `Tenant.spec`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct TenantSpec {
    plan: At<String>,
    state: Option<RawState>,
    models: Each<At<String>>,
    regions: Each<At<String>>,
    time_zone: Option<At<String>>,
    role: Option<At<String>>,
    namespaces: Option<Each<At<String>>>,
    issuers: Option<Each<RawIssuer>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum RawState {
    Active,
    Restricted,
    Isolated,
    Offboarding,
}

/// A compiled tenant and what its keys and issuers need of it.
#[derive(Debug)]
pub(super) struct Compiled {
    /// The tenant.
    pub(super) tenant: Arc<Tenant>,
    /// Namespaces whose resources may name it.
    pub(super) namespaces: BTreeSet<String>,
    /// What its default role permits.
    pub(super) permits: Permits,
}

impl Compiled {
    /// Only the namespaces that the tenant lists may hold resources of its.
    pub(super) fn permitted_namespace(&self, tenant: &At<String>, namespace: Option<&At<String>>, problems: &Problems) {
        let Some(namespace) = namespace else { return };
        if !self.namespaces.contains(&namespace.value) {
            let message = format!("tenant `{}` does not list namespace `{}`", tenant.value, namespace.value);
            problems.add(namespace.place, message);
        }
    }
}

/// What tenants refer to.
pub(super) struct Known<'a> {
    pub(super) plans: &'a Names<Arc<Plan>>,
    pub(super) models: &'a Names<Arc<Model>>,
    pub(super) roles: &'a Names<Role>,
    pub(super) providers: &'a Names<Arc<Provider>>,
    /// Whether every provider compiled: a target that is missing is missing for good.
    pub(super) providers_whole: bool,
}

/// Compiles a tenant.
pub(super) fn compile(
    object: &Object<TenantSpec>,
    spec: &TenantSpec,
    known: &Known<'_>,
    problems: &Problems,
) -> Option<Compiled> {
    let name = TenantName::parse(&object.name.value);
    let name =
        name.inspect_err(|error| problems.add(object.name.place, format!("`{}` {error}", object.name.value))).ok();
    let plan = known.plans.find(&spec.plan, problems);
    let time_zone = spec.time_zone.as_ref().map_or(Some(TimeZone::UTC), |zone| time_zone(zone, problems));
    let namespaces = spec.namespaces.iter().flat_map(|namespaces| &namespaces.0);
    let namespaces = namespaces.filter_map(|namespace| namespace.label(problems).map(str::to_owned)).collect();
    let permits = role::of(spec.role.as_ref(), &object.name.value, known.roles, problems);
    let regions = regions(spec, known, problems);
    targets(spec, &regions, known, problems);
    let tenant = Tenant {
        name: name?,
        state: match spec.state {
            None | Some(RawState::Active) => TenantState::Active,
            Some(RawState::Restricted) => TenantState::Restricted,
            Some(RawState::Isolated) => TenantState::Isolated,
            Some(RawState::Offboarding) => TenantState::Offboarding,
        },
        plan: Arc::clone(plan?),
        models: role::canonical(&spec.models, known.models, problems),
        regions,
        time_zone: time_zone?,
    };
    Some(Compiled { tenant: Arc::new(tenant), namespaces, permits: permits? })
}

fn time_zone(zone: &At<String>, problems: &Problems) -> Option<TimeZone> {
    let unknown = |_: &_| {
        let message = format!("`{}` is no IANA time zone, as `Europe/Berlin`", zone.value);
        problems.add(zone.place, message);
    };
    TimeZone::get(&zone.value).inspect_err(unknown).ok()
}

/// A region without a provider is a slip of the pen.
fn regions(spec: &TenantSpec, known: &Known<'_>, problems: &Problems) -> BTreeSet<String> {
    let served: BTreeSet<&str> = known.providers.iter().map(|(_, _, provider)| provider.region.as_str()).collect();
    for region in &spec.regions.0 {
        if known.providers_whole && !served.contains(region.value.as_str()) {
            let hint = nearest(&region.value, served.iter().copied());
            problems.add(region.place, format!("region `{}` has no provider{hint}", region.value));
        }
    }
    spec.regions.0.iter().map(|region| region.value.clone()).collect()
}

/// Each allowed model has a provider in an allowed region.
fn targets(spec: &TenantSpec, regions: &BTreeSet<String>, known: &Known<'_>, problems: &Problems) {
    for wanted in &spec.models.0 {
        let Some(model) = known.models.find(wanted, problems) else { continue };
        let serves =
            |provider: &Provider| regions.contains(&provider.region) && provider.models.contains_key(&model.name);
        if known.providers_whole && !known.providers.iter().any(|(_, _, provider)| serves(provider)) {
            let message = format!("no provider in this tenant's regions serves model `{}`", wanted.value);
            problems.add(wanted.place, message);
        }
    }
}

/// Compiles the issuers of a tenant; each with its place.
pub(super) fn issuers(
    object: &Object<TenantSpec>,
    of: &Compiled,
    roles: &Names<Role>,
    origin: &mut Origin<'_>,
    problems: &Problems,
) -> Vec<(Issuer, Place)> {
    let raws = object.spec.as_ref().and_then(|spec| spec.issuers.as_ref()).map(|issuers| issuers.0.as_slice());
    issuer::compile(raws.unwrap_or_default(), of, roles, &object.folder, origin, problems)
}
