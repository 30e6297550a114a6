//! The issuers of a `Tenant`: whose tokens speak for it, where their keys are, and what their scopes permit.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::field::{At, Each};
use super::names::Names;
use super::problem::{Place, Problems};
use super::quantity::Quantity;
use super::role::{self, Role};
use super::sources::Origin;
use super::tenant::Compiled;
use crate::identity::discovery::{self, Network};
use crate::identity::jwt::KeySet;
use crate::registry::{Discovery, Issuer, IssuerKeys, Permits, Scopes};

/// One of `Tenant.spec.issuers`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RawIssuer {
    issuer: At<String>,
    audiences: At<Each<At<String>>>,
    jwks_file: Option<At<String>>,
    discovery: Option<RawDiscovery>,
    tenant_claim: Option<At<String>>,
    max_lifetime: Option<At<Quantity>>,
    role: Option<At<String>>,
    scope_claim: Option<At<String>>,
    scopes: Option<Each<RawScope>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct RawDiscovery {
    private_addresses: Option<Each<At<String>>>,
    refresh: Option<At<Quantity>>,
    max_stale: Option<At<Quantity>>,
    unknown_key_interval: Option<At<Quantity>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct RawScope {
    scope: At<String>,
    role: At<String>,
}

const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The claim that RFC 8693 and RFC 9068 name.
const SCOPE: &str = "scope";

/// Compiles the issuers of a tenant that lies in `folder`; each with its place.
pub(super) fn compile(
    raws: &[RawIssuer],
    of: &Compiled,
    roles: &Names<Role>,
    folder: &str,
    origin: &mut Origin<'_>,
    problems: &Problems,
) -> Vec<(Issuer, Place)> {
    let mut seen = BTreeSet::new();
    let mut issuers = Vec::new();
    for raw in raws {
        if !seen.insert(raw.issuer.value.as_str()) {
            problems.add(raw.issuer.place, format!("issuer `{}` is there already", raw.issuer.value));
        }
        let keys = keys(raw, folder, origin, problems);
        let compiled = issuer(raw, of, keys, roles, problems);
        issuers.extend(compiled.map(|issuer| (issuer, raw.issuer.place)));
    }
    issuers
}

fn issuer(
    raw: &RawIssuer,
    of: &Compiled,
    keys: Option<IssuerKeys>,
    roles: &Names<Role>,
    problems: &Problems,
) -> Option<Issuer> {
    let url = raw.issuer.visible(512, problems);
    if raw.audiences.value.0.is_empty() {
        problems.add(raw.audiences.place, "`audiences` must hold at least one");
    }
    let audiences = raw.audiences.value.0.iter();
    let audiences = audiences.filter_map(|audience| audience.visible(512, problems).map(str::to_owned)).collect();
    let tenant_claim = raw.tenant_claim.as_ref().map(|claim| claim.visible(128, problems).map(str::to_owned));
    let max_lifetime =
        raw.max_lifetime.as_ref().map_or(Some(MAX_LIFETIME), |longest| longest.duration_to(30, problems));
    let permits = match &raw.role {
        None => Some(of.permits.clone()),
        role => role::of(role.as_ref(), of.tenant.name.as_str(), roles, problems),
    };
    let scopes = scopes(raw, of, permits.as_ref(), roles, problems);
    Some(Issuer {
        url: url?.to_owned(),
        tenant: of.tenant.name.clone(),
        audiences,
        tenant_claim: match tenant_claim {
            None => None,
            Some(claim) => Some(claim?),
        },
        max_lifetime: max_lifetime?,
        keys: keys?,
        permits: permits?,
        scopes: scopes?,
    })
}

/// `Some(None)`: there are none; `None`: the reason is among the problems.
fn scopes(
    raw: &RawIssuer,
    of: &Compiled,
    within: Option<&Permits>,
    roles: &Names<Role>,
    problems: &Problems,
) -> Option<Option<Scopes>> {
    let Some(listed) = &raw.scopes else {
        let Some(claim) = &raw.scope_claim else { return Some(None) };
        problems.add(claim.place, "`scopeClaim` needs `scopes`, which say what a scope permits");
        return None;
    };
    let claim = raw.scope_claim.as_ref().map_or(Some(SCOPE), |claim| claim.visible(128, problems))?.to_owned();
    let mut permits = HashMap::new();
    for RawScope { scope, role } in &listed.0 {
        let permitted = role::of(Some(role), of.tenant.name.as_str(), roles, problems)?;
        let name = scope.visible(128, problems)?.to_owned();
        if permits.insert(name, role::narrow(within?.clone(), permitted)).is_some() {
            problems.add(scope.place, format!("scope `{}` is there already", scope.value));
        }
    }
    Some(Some(Scopes { claim, permits }))
}

/// Exactly one of a file and the issuer's own publication.
fn keys(raw: &RawIssuer, folder: &str, origin: &mut Origin<'_>, problems: &Problems) -> Option<IssuerKeys> {
    match (&raw.jwks_file, &raw.discovery) {
        (Some(file), None) => file_keys(file, folder, origin, problems).map(|keys| IssuerKeys::File(Arc::new(keys))),
        (None, Some(discovery)) => published(&raw.issuer, discovery, problems).map(IssuerKeys::Published),
        (file, _) => {
            let message = match file {
                Some(_) => "`jwksFile` and `discovery` exclude each other",
                None => "its keys are nowhere: `jwksFile` names a file, `discovery: {}` has the issuer asked",
            };
            problems.add(raw.issuer.place, message);
            None
        }
    }
}

fn file_keys(file: &At<String>, folder: &str, origin: &mut Origin<'_>, problems: &Problems) -> Option<KeySet> {
    let parse = |text: String| KeySet::parse(text.as_bytes()).map_err(|error| format!("`{}`: {error}", file.value));
    let keys = origin.jwks(folder, &file.value).and_then(parse);
    keys.inspect_err(|message| problems.add(file.place, format!("`jwksFile`: {message}"))).ok()
}

fn published(issuer: &At<String>, raw: &RawDiscovery, problems: &Problems) -> Option<Discovery> {
    let defaults = Discovery::default();
    let time = |written: Option<&At<Quantity>>, default: Duration| match written {
        None => Some(default),
        Some(written) => seconds(written, problems),
    };
    let refresh = time(raw.refresh.as_ref(), defaults.refresh);
    let max_stale = time(raw.max_stale.as_ref(), defaults.max_stale);
    let unknown_key_interval = time(raw.unknown_key_interval.as_ref(), defaults.unknown_key_interval);
    let mut private_addresses = Vec::new();
    for block in raw.private_addresses.iter().flat_map(|blocks| &blocks.0) {
        match block.value.parse::<Network>() {
            Ok(network) => private_addresses.push(network),
            Err(error) => problems.add(block.place, format!("`{}` {error}", block.value)),
        }
    }
    match discovery::check_issuer(&issuer.value) {
        Ok(false) if raw.private_addresses.is_none() => {
            let message = "is not https: without it only the addresses of `privateAddresses` are asked";
            problems.add(issuer.place, format!("`{}` {message}", issuer.value));
        }
        Ok(_) => {}
        Err(error) => problems.add(issuer.place, format!("`{}` {error}: it cannot be asked", issuer.value)),
    }
    let discovery = Discovery {
        private_addresses,
        refresh: refresh?,
        max_stale: max_stale?,
        unknown_key_interval: unknown_key_interval?,
    };
    if discovery.max_stale < discovery.refresh {
        let message = "`maxStale` is shorter than `refresh`: good tokens would be refused between two readings";
        problems.add(issuer.place, message);
    }
    Some(discovery)
}

/// A duration of 1 s to 1 d.
fn seconds(written: &At<Quantity>, problems: &Problems) -> Option<Duration> {
    let duration = written.duration_to(1, problems)?;
    if duration < Duration::from_secs(1) {
        problems.add(written.place, format!("`{}` is out of range: at least 1s, at most 1d", written.value));
        return None;
    }
    Some(duration)
}
