//! The clients' certificates of a `Tenant`: its SPIFFE trust domain, the CAs that vouch in it, and what they revoked.

use std::sync::Arc;

use serde::Deserialize;

use super::field::{At, Each};
use super::names::Names;
use super::problem::Problems;
use super::role::{self, Role};
use super::sources::Origin;
use super::tenant::Compiled;
use crate::identity::certificate::Bundle;
use crate::identity::spiffe::is_trust_domain;
use crate::registry::{EndpointKind, Model, Permits, TrustDomain};

/// `Tenant.spec.certificates`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RawCertificates {
    trust_domain: At<String>,
    bundle_file: At<String>,
    revocations_file: Option<At<String>>,
    role: Option<At<String>>,
    models: Option<Each<At<String>>>,
    endpoints: Option<Each<EndpointKind>>,
}

/// What a tenant's certificates refer to.
pub(super) struct Known<'a> {
    pub(super) models: &'a Names<Arc<Model>>,
    pub(super) roles: &'a Names<Role>,
}

/// Declares the trust domain of a tenant that lies in `folder`. No other tenant has it.
pub(super) fn declare(
    raw: &RawCertificates,
    of: &Compiled,
    known: &Known<'_>,
    folder: &str,
    origin: &mut Origin<'_>,
    domains: &mut Names<Arc<TrustDomain>>,
    problems: &Problems,
) {
    let compiled = compile(raw, of, known, folder, origin, problems);
    let shared = |domain: &TrustDomain| {
        domains
            .iter()
            .find(|(_, _, other)| domain.tenant != other.tenant && domain.bundle.shares_root_with(&other.bundle))
    };
    if let Some((_, _, other)) = compiled.as_ref().and_then(shared) {
        let message = format!("holds a root of tenant `{}`'s too: a CA speaks for one tenant", other.tenant);
        problems.add(raw.bundle_file.place, format!("`bundleFile`: `{}` {message}", raw.bundle_file.value));
    }
    domains.declare(&raw.trust_domain, compiled.map(Arc::new), problems);
}

fn compile(
    raw: &RawCertificates,
    of: &Compiled,
    known: &Known<'_>,
    folder: &str,
    origin: &mut Origin<'_>,
    problems: &Problems,
) -> Option<TrustDomain> {
    let name = trust_domain(&raw.trust_domain, problems);
    let bundle = bundle(raw, folder, origin, problems);
    let own = role::permits(raw.models.as_ref(), raw.endpoints.as_ref(), known.models, problems);
    let permits: Option<Permits> = match &raw.role {
        None => Some(of.permits.clone()),
        role => role::of(role.as_ref(), of.tenant.name.as_str(), known.roles, problems),
    };
    Some(TrustDomain {
        name: name?.to_owned(),
        tenant: of.tenant.name.clone(),
        bundle: bundle?,
        permits: role::narrow(permits?, own),
    })
}

fn trust_domain<'a>(name: &'a At<String>, problems: &Problems) -> Option<&'a str> {
    if is_trust_domain(&name.value) {
        return Some(&name.value);
    }
    let rule = "is no SPIFFE trust domain: 1 to 255 of a-z, 0-9, `.`, `-` and `_`, without scheme and path";
    problems.add(name.place, format!("`{}` {rule}", name.value));
    None
}

fn bundle(raw: &RawCertificates, folder: &str, origin: &mut Origin<'_>, problems: &Problems) -> Option<Bundle> {
    let mut read = |file: &At<String>, field: &str| {
        let text = origin.pem(folder, &file.value);
        text.inspect_err(|message| problems.add(file.place, format!("`{field}`: {message}"))).ok()
    };
    let cas = read(&raw.bundle_file, "bundleFile");
    let lists = raw.revocations_file.as_ref().map(|file| read(file, "revocationsFile"));
    let cas = cas?;
    let lists = match lists {
        None => None,
        Some(text) => Some(text?),
    };
    let add = |place, field: &str, file: &str, error: &dyn std::fmt::Display| {
        problems.add(place, format!("`{field}`: `{file}` {error}"));
    };
    // Apart, so that each problem stands at its file.
    Bundle::parse(&cas, None)
        .inspect_err(|error| add(raw.bundle_file.place, "bundleFile", &raw.bundle_file.value, error))
        .ok()?;
    let whole = Bundle::parse(&cas, lists.as_deref());
    whole
        .inspect_err(|error| {
            let Some(file) = &raw.revocations_file else { return };
            add(file.place, "revocationsFile", &file.value, error);
        })
        .ok()
}
