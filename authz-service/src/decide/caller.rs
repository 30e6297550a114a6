//! Who asks: one credential, one tenant, and every claim held against it.

use std::sync::Arc;

use gateway_core::claims::{PathClaims, agree_tenant};
use gateway_core::denial::{Code, Denial};
use gateway_core::headers::{Checked, Credential};

use super::{Arrival, Grounds};
use crate::identity::api_key::{self, ApiKeyText};
use crate::identity::job;
use crate::identity::jwt::{self, Proof, Trust};
use crate::identity::{CredentialError, Identity, Standing};
use crate::registry::{EndpointKind, Registry, Tenant};

/// Whom the credential proves, to this endpoint.
pub(super) fn identify(
    grounds: &Grounds<'_>,
    arrival: &Arrival<'_>,
    checked: &Checked<'_>,
    endpoint: EndpointKind,
) -> Result<Identity, Denial> {
    let identity = match checked.credential {
        Credential::None => return Err(Code::MissingCredential.into()),
        Credential::ApiKey(text) | Credential::Bearer(text) if text.starts_with(job::PREFIX) => {
            by_job(grounds, text, arrival, endpoint)
        }
        Credential::ApiKey(text) => by_key(grounds, text, arrival.now),
        Credential::Bearer(text) if text.starts_with(api_key::PREFIX) => by_key(grounds, text, arrival.now),
        Credential::Bearer(text) => {
            let now = u64::try_from(arrival.now.as_second()).unwrap_or(0);
            let (issuers, published) = (&grounds.registry.issuers, grounds.published);
            let trust = Trust { issuers, published, certificate: arrival.certificate, endpoint };
            jwt::prove(text, &trust, grounds.own, now).and_then(|proof| match proof {
                Proof::Issued(token) => Ok(token.into()),
                Proof::Own(token) => Identity::exchanged(token, &standing(grounds, arrival.now), endpoint),
            })
        }
    };
    identity.map_err(|error| Denial::new(error.code()).detail(error.reason()))
}

fn by_key(grounds: &Grounds<'_>, text: &str, now: jiff::Timestamp) -> Result<Identity, CredentialError> {
    let parsed = ApiKeyText::parse(text)?;
    let (record, terms) = (grounds.keys.get(&parsed.id), grounds.registry.keys.get(&parsed.id));
    api_key::check(&parsed, record, terms.map(AsRef::as_ref), now).map(Identity::from)
}

fn by_job(
    grounds: &Grounds<'_>,
    text: &str,
    arrival: &Arrival<'_>,
    endpoint: EndpointKind,
) -> Result<Identity, CredentialError> {
    let parsed = job::parse(text)?;
    let record = grounds.jobs.get(&parsed.id).map(AsRef::as_ref);
    let (job, shown, expires_at) = job::check(&parsed, record, arrival.certificate, arrival.now)?;
    Identity::of_job(job, shown, expires_at, &standing(grounds, arrival.now), endpoint)
}

fn standing<'a>(grounds: &Grounds<'a>, now: jiff::Timestamp) -> Standing<'a> {
    Standing { registry: grounds.registry, keys: grounds.keys, now }
}

/// The tenant of the credential, where it is active and every claim names it.
pub(super) fn tenant<'a>(
    registry: &'a Registry,
    identity: &Identity,
    checked: &Checked<'_>,
    claims: &PathClaims<'_>,
) -> Result<&'a Arc<Tenant>, Denial> {
    agree_tenant(&identity.tenant, claims.tenant, checked.claim)?;
    Ok(registry.active(&identity.tenant)?)
}
