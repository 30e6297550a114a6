//! The last hop of profile `inline`: a request that the module has admitted leaves with its tenant's own key of the
//! provider that it goes to.
//!
//! Believes the grant's handle, which only the service can make, and reads from it whose request this is. Never hands
//! out the platform's key, and what it does not understand it denies.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use gateway_core::denial::{Code, Denial};
use gateway_core::gate::Grant;
use gateway_core::name::TenantName;
use gateway_core::wire;

use super::Service;
use super::check::fields;
use super::wording::{carried, header, passed, refused};
use crate::decide::OwnKeys;
use crate::registry::{Provider, Registry};

/// The answer: the provider's credential in its header, or a refusal.
pub(super) fn answer(service: &Service, http: &HttpRequest) -> CheckResponse {
    let headers = fields(http);
    let request_id = one(&headers, wire::REQUEST_ID).and_then(|id| std::str::from_utf8(id).ok()).unwrap_or_default();
    let now_ms = u64::try_from(service.time().as_millisecond()).unwrap_or(u64::MAX);
    let grant = one(&headers, wire::GRANT_HEADER).and_then(|text| service.verify(text));
    let route = one(&headers, wire::ROUTE).and_then(|route| std::str::from_utf8(route).ok());
    let revoked = |key_id: &str| service.keys.load().get(key_id).is_none_or(|record| record.revoked_at.is_some());
    let ask = Ask { grant: grant.as_ref(), route, method: &http.method, now_ms };
    let response = key(&service.registry(), service, revoked, &ask);
    response.unwrap_or_else(|denial| {
        tracing::warn!(request_id, code = denial.code.row().code, why = denial.detail, "last hop refused");
        let mut response = refused(&denial, &[], request_id);
        if let Some(metadata) = &mut response.dynamic_metadata {
            // Whose request it is has been said, and is not known here.
            metadata.fields.remove(wire::LOG_TENANT);
        }
        response
    })
}

/// What a request says at its last hop.
struct Ask<'a> {
    /// Its handle, if it is ours.
    grant: Option<&'a Grant>,
    /// The cluster that it goes to.
    route: Option<&'a str>,
    method: &'a str,
    now_ms: u64,
}

fn key(
    registry: &Registry,
    vault: &impl OwnKeys,
    revoked: impl Fn(&str) -> bool,
    ask: &Ask<'_>,
) -> Result<CheckResponse, Denial> {
    let odd = |why: &str| Denial::new(Code::NotAdmitted).detail(why);
    let grant = ask.grant.ok_or_else(|| odd("no grant of ours"))?;
    let route = ask.route.ok_or_else(|| odd("no route"))?;
    let most = u64::from(grant.lifetime_ms).saturating_add(u64::from(grant.hold_ms));
    let fresh = ask.now_ms.checked_sub(grant.issued_at_ms).is_some_and(|age| age <= most);
    if grant.data_endpoint || grant.scope_set.is_empty() || grant.method != ask.method || !fresh {
        return Err(odd("the grant is for another request, or too old"));
    }
    if !grant.key_id.is_empty() && revoked(&grant.key_id) {
        return Err(Code::InvalidCredential.into());
    }
    let tenant = TenantName::parse(&grant.tenant).map_err(|_| odd("the grant names no tenant"))?;
    let provider = reachable(registry, &tenant, route, vault)?;
    let secret = vault.own_key(&tenant, &provider.name)?.ok_or_else(|| odd("the tenant has no key of its own"))?;
    let (name, value) = carried(provider.credential, secret.expose());
    let words = BTreeMap::from([(wire::LAST_HOP_DONE, wire::LAST_HOP_DONE_WORD)]);
    Ok(passed(vec![header(name, &value)], vec![wire::GRANT_HEADER.to_owned()], words))
}

/// The one provider behind the cluster that serves the tenant a model in an allowed region, and has a key of the
/// tenant's. Two of them, and nobody knows whose key it is to be.
fn reachable<'a>(
    registry: &'a Registry,
    name: &TenantName,
    cluster: &str,
    vault: &impl OwnKeys,
) -> Result<&'a Provider, Denial> {
    let odd = |why: &str| Denial::new(Code::NotAdmitted).detail(why);
    let tenant = registry.active(name)?;
    let targets = tenant.models.iter().filter_map(|model| registry.target(tenant, model));
    let mut found: Option<&Provider> = None;
    for (provider, _) in targets.filter(|(provider, _)| provider.cluster == cluster) {
        if !vault.has_own_key(name, &provider.name) {
            continue;
        }
        if found.is_some_and(|other| other.name != provider.name) {
            return Err(odd("two providers with keys of the tenant's share the cluster"));
        }
        found = Some(provider);
    }
    found.ok_or_else(|| odd("no provider of the tenant's with a key of its own is behind the cluster"))
}

/// A header that stands exactly once.
fn one<'a>(headers: &[(&str, &'a [u8])], wanted: &str) -> Option<&'a [u8]> {
    let mut found = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value);
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests;
