//! One set of resources → one registry: each reference resolved, each name unique, each model served.

use std::collections::HashMap;
use std::sync::Arc;

use gateway_core::name::ModelName;

use super::field::At;
use super::names::Names;
use super::object::{Object, Objects};
use super::problem::{Place, Problems};
use super::provider::Endpoints;
use super::role::Role;
use super::sources::Origin;
use super::tenant::{Compiled, Known};
use super::{api_key, certificates, model_cost, plan, provider, role, tenant, tenant_policy};
use crate::registry::{Issuer, IssuerKeys, KeyTerms, Model, Plan, Provider, Registry, TrustDomain};

/// Compiles a set. What it returns counts only when no problem was found.
pub(super) fn compile(objects: &Objects, origin: &mut Origin<'_>, problems: &Problems) -> Registry {
    let models = models(objects, problems);
    let plans = plans(objects, problems);
    let before = problems.count();
    let (providers, endpoints) = providers(objects, &models, origin, problems);
    let providers_whole =
        !objects.unread && objects.providers.iter().all(|one| one.whole) && before == problems.count();
    if providers_whole {
        served(objects, &models, &providers, problems);
    }
    let roles = roles(objects, &models, problems);
    let known = Known { plans: &plans, models: &models, roles: &roles, providers: &providers, providers_whole };
    let tenants = tenants(objects, &known, problems);
    role_owners(&roles, &tenants, problems);
    let issuers = issuers(objects, &tenants, &roles, origin, problems);
    let trust_domains = trust_domains(objects, &tenants, &models, &roles, origin, problems);
    let keys = keys(objects, &tenants, &models, &roles, problems);
    let tenant_policy::Compiled { rules, errors, cut } =
        tenant_policy::compile(objects, &tenants, &models, &roles, problems);
    Registry {
        version: origin.sources().version(),
        without_keys: String::new(),
        tenants: tenants.iter().map(|(_, _, one)| (one.tenant.name.clone(), Arc::clone(&one.tenant))).collect(),
        models: models
            .iter()
            .filter_map(|(name, _, model)| Some((ModelName::parse(name).ok()?, Arc::clone(model))))
            .collect(),
        providers: providers.iter().map(|(_, _, provider)| Arc::clone(provider)).collect(),
        endpoints: endpoints.into_vec(),
        extra_fields: providers.iter().flat_map(|(_, _, provider)| provider.extra_fields.clone()).collect(),
        keys,
        issuers,
        trust_domains,
        rules,
        errors,
        cut,
    }
}

fn models(objects: &Objects, problems: &Problems) -> Names<Arc<Model>> {
    let whole = !objects.unread && objects.models.iter().all(|object| object.whole);
    let mut resources: Names<()> = Names::new("ModelCost", true);
    let mut names = Names::new("model", whole);
    for object in &objects.models {
        let first = resources.get(&object.name.value).is_none();
        resources.declare(&object.name, Some(()), problems);
        let Some(spec) = object.spec.as_ref().filter(|_| first) else { continue };
        let model = model_cost::compile(object, spec, problems).map(Arc::new);
        for name in spec.names(object) {
            names.declare(name, model.clone(), problems);
        }
    }
    names
}

fn plans(objects: &Objects, problems: &Problems) -> Names<Arc<Plan>> {
    each(objects, "plan", &objects.plans, problems, |object, spec| {
        plan::compile(&object.name.value, spec, problems).map(Arc::new)
    })
}

fn providers(
    objects: &Objects,
    models: &Names<Arc<Model>>,
    origin: &Origin<'_>,
    problems: &Problems,
) -> (Names<Arc<Provider>>, Endpoints) {
    let mut endpoints = Endpoints::own(problems);
    for object in &objects.providers {
        endpoints.add_provider(object, problems);
    }
    let names = each(objects, "provider", &objects.providers, problems, |object, spec| {
        provider::compile(object, spec, models, origin, problems).map(Arc::new)
    });
    (names, endpoints)
}

/// Each model has a provider.
fn served(objects: &Objects, models: &Names<Arc<Model>>, providers: &Names<Arc<Provider>>, problems: &Problems) {
    for object in &objects.models {
        let Some(name) = object.spec.as_ref().and_then(|spec| spec.names(object).next()) else { continue };
        let Some(model) = models.get(&name.value) else { continue };
        if !providers.iter().any(|(_, _, provider)| provider.models.contains_key(&model.name)) {
            problems.add(name.place, format!("no provider serves model `{}`", model.name));
        }
    }
}

fn roles(objects: &Objects, models: &Names<Arc<Model>>, problems: &Problems) -> Names<Role> {
    let mut names =
        each(objects, "role", &objects.roles, problems, |object, spec| role::compile(object, spec, models, problems));
    for (name, role) in role::built_in(models) {
        names.declare_own(name, role);
    }
    names
}

fn tenants(objects: &Objects, known: &Known<'_>, problems: &Problems) -> Names<Compiled> {
    each(objects, "tenant", &objects.tenants, problems, |object, spec| tenant::compile(object, spec, known, problems))
}

fn role_owners(roles: &Names<Role>, tenants: &Names<Compiled>, problems: &Problems) {
    for owner in roles.iter().filter_map(|(_, _, role)| role.tenant()) {
        tenants.find(owner, problems);
    }
}

fn issuers(
    objects: &Objects,
    tenants: &Names<Compiled>,
    roles: &Names<Role>,
    origin: &mut Origin<'_>,
    problems: &Problems,
) -> HashMap<String, Vec<Arc<Issuer>>> {
    let mut by_url: HashMap<String, Vec<(Issuer, Place)>> = HashMap::new();
    for object in &objects.tenants {
        let Some(of) = tenants.get(&object.name.value) else { continue };
        for (issuer, place) in tenant::issuers(object, of, roles, origin, problems) {
            by_url.entry(issuer.url.clone()).or_default().push((issuer, place));
        }
    }
    for (url, trusting) in by_url.iter().filter(|(_, trusting)| trusting.len() > 1) {
        for (_, place) in trusting.iter().filter(|(issuer, _)| issuer.tenant_claim.is_none()) {
            problems.add(*place, format!("issuer `{url}` is trusted by several tenants: each needs a `tenantClaim`"));
        }
    }
    for (url, trusting) in &by_url {
        let published = |(issuer, place): &(Issuer, Place)| match &issuer.keys {
            IssuerKeys::Published(discovery) => Some((discovery.clone(), *place)),
            IssuerKeys::File(_) => None,
        };
        let mut settings = trusting.iter().filter_map(published);
        let Some((first, _)) = settings.next() else { continue };
        for (_, place) in settings.filter(|(other, _)| *other != first) {
            problems.add(
                place,
                format!("issuer `{url}` has another `discovery` at another tenant: it is asked once for all"),
            );
        }
    }
    let shared = |trusting: Vec<(Issuer, Place)>| trusting.into_iter().map(|(issuer, _)| Arc::new(issuer)).collect();
    by_url.into_iter().map(|(url, trusting)| (url, shared(trusting))).collect()
}

fn trust_domains(
    objects: &Objects,
    tenants: &Names<Compiled>,
    models: &Names<Arc<Model>>,
    roles: &Names<Role>,
    origin: &mut Origin<'_>,
    problems: &Problems,
) -> HashMap<String, Arc<TrustDomain>> {
    let known = certificates::Known { models, roles };
    let mut domains = Names::new("trust domain", false);
    for object in &objects.tenants {
        let Some(raw) = object.spec.as_ref().and_then(|spec| spec.certificates.as_ref()) else { continue };
        let Some(of) = tenants.get(&object.name.value) else { continue };
        certificates::declare(raw, of, &known, &object.folder, origin, &mut domains, problems);
    }
    domains.iter().map(|(name, _, domain)| (name.to_owned(), Arc::clone(domain))).collect()
}

fn keys(
    objects: &Objects,
    tenants: &Names<Compiled>,
    models: &Names<Arc<Model>>,
    roles: &Names<Role>,
    problems: &Problems,
) -> HashMap<String, Arc<KeyTerms>> {
    let names = each(objects, "key", &objects.keys, problems, |object, spec| {
        api_key::compile(object, spec, tenants, models, roles, problems).map(Arc::new)
    });
    names.iter().map(|(id, _, terms)| (id.to_owned(), Arc::clone(terms))).collect()
}

/// Compiles and declares the resources of one kind.
fn each<S, T>(
    all: &Objects,
    kind: &'static str,
    objects: &[Object<S>],
    problems: &Problems,
    mut compile: impl FnMut(&Object<S>, &S) -> Option<T>,
) -> Names<T> {
    let mut names = Names::new(kind, !all.unread);
    for object in objects {
        let name: &At<String> = &object.name;
        let value = object.spec.as_ref().and_then(|spec| compile(object, spec));
        names.declare(name, value, problems);
    }
    names
}
