//! Who asks: one credential, one tenant, and every claim held against it.
//!
//! A certificate alone is a credential. Beside a bearer credential it is a claim: where it names somebody, that must be
//! proven and of the same tenant. One that names nobody only holds what is bound to it.

use std::sync::Arc;

use gateway_core::claims::{PathClaims, agree_tenant};
use gateway_core::denial::{Code, Denial};
use gateway_core::headers::{Checked, Credential};

use super::{Arrival, Grounds};
use crate::identity::api_key::{self, ApiKeyText};
use crate::identity::certificate::{self, CertificateIdentity, CertificateTrust};
use crate::identity::job;
use crate::identity::jwt::{self, Proof, Trust};
use crate::identity::{CredentialError, CredentialKind, Identity, Standing};
use crate::registry::{EndpointKind, Method, Registry, Tenant};

/// Whom the credential proves, to this endpoint.
pub(super) fn identify(
    grounds: &Grounds<'_>,
    arrival: &Arrival<'_>,
    checked: &Checked<'_>,
    endpoint: EndpointKind,
) -> Result<Identity, Denial> {
    let shown = !arrival.certificate.is_empty();
    let identity = match checked.credential {
        Credential::None if shown => {
            let nobody = CredentialError::invalid("certificate: names nobody");
            by_certificate(grounds, arrival).and_then(|holder| holder.map(Identity::from).ok_or(nobody))
        }
        Credential::None => return Err(Code::MissingCredential.into()),
        Credential::ApiKey(text) | Credential::Bearer(text) if text.starts_with(job::PREFIX) => {
            by_job(grounds, text, arrival, endpoint)
        }
        Credential::ApiKey(text) => by_key(grounds, text, arrival),
        Credential::Bearer(text) if text.starts_with(api_key::PREFIX) => by_key(grounds, text, arrival),
        Credential::Bearer(text) => {
            let now = u64::try_from(arrival.now.as_second()).unwrap_or(0);
            let (issuers, published) = (&grounds.registry.issuers, grounds.published);
            let trust = Trust { issuers, published, certificate: arrival.certificate, endpoint };
            jwt::prove(text, &trust, grounds.own, now).and_then(|proof| match proof {
                Proof::Issued(token) => Ok(token.into()),
                Proof::Own(token) => Identity::exchanged(token, &standing(grounds, arrival), endpoint),
            })
        }
    };
    let refused = |error: CredentialError| Denial::new(error.code()).detail(error.reason());
    let identity = identity.map_err(refused)?;
    if !shown || checked.credential == Credential::None {
        return Ok(identity);
    }
    match by_certificate(grounds, arrival).map_err(refused)? {
        Some(holder) if holder.tenant != identity.tenant => {
            Err(Denial::new(Code::TenantConflict).detail("The certificate names another tenant than the credential."))
        }
        // Another connection may show another certificate.
        _ => Ok(Identity { bound: true, ..identity }),
    }
}

fn by_certificate(
    grounds: &Grounds<'_>,
    arrival: &Arrival<'_>,
) -> Result<Option<CertificateIdentity>, CredentialError> {
    let trust = CertificateTrust { domains: &grounds.registry.trust_domains, revoked: grounds.revoked_certificates };
    certificate::read(arrival.certificate, &trust, arrival.now)
}

fn by_key(grounds: &Grounds<'_>, text: &str, arrival: &Arrival<'_>) -> Result<Identity, CredentialError> {
    let parsed = ApiKeyText::parse(text)?;
    let record = api_key::nearest(grounds.keys, &parsed.id);
    let terms = || grounds.registry.keys.get(&parsed.id).map(AsRef::as_ref);
    api_key::check(&parsed, record, terms, arrival.source, arrival.now).map(Identity::from)
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
    Identity::of_job(job, shown, expires_at, &standing(grounds, arrival), endpoint)
}

fn standing<'a>(grounds: &Grounds<'a>, arrival: &Arrival<'_>) -> Standing<'a> {
    Standing { registry: grounds.registry, keys: grounds.keys, source: arrival.source, now: arrival.now }
}

/// The tenant of the credential, where it is active and every claim names it.
pub(super) fn tenant<'a>(
    registry: &'a Registry,
    identity: &Identity,
    checked: &Checked<'_>,
    claims: &PathClaims<'_>,
) -> Result<&'a Arc<Tenant>, Denial> {
    agree_tenant(&identity.tenant, claims.tenant, checked.claim)?;
    let tenant = registry.active(&identity.tenant)?;
    if tenant.plan.methods.contains(&method(identity)) {
        return Ok(tenant);
    }
    Err(Denial::new(Code::CredentialNotAllowed).detail(format!("Plan `{}` says so.", tenant.plan.name)))
}

/// What a plan calls the credential; what was obtained by one is of its kind.
fn method(identity: &Identity) -> Method {
    match identity.kind {
        CredentialKind::Certificate => Method::Certificates,
        CredentialKind::ApiKey => Method::Keys,
        CredentialKind::Job if identity.origin.is_none() => Method::Keys,
        CredentialKind::Jwt | CredentialKind::Exchange | CredentialKind::Job => Method::Tokens,
    }
}
