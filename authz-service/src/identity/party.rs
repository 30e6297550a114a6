//! Those who stand behind a credential that the service made, each by name: whenever it is shown, what they may use is
//! looked up, and what all of them may is what it permits.

use std::net::IpAddr;

use gateway_core::name::TenantName;
use jiff::Timestamp;

use super::api_key::{self, KeyRecord, Keys};
use super::{CredentialError, CredentialKind, Identity, KEY_PRINCIPAL, instant};
use crate::authorization::MEMBER;
use crate::identity::jwt::LEEWAY;
use crate::identity::jwt::own::Exchanged;
use crate::registry::{EndpointKind, KeyTerms, Permits, Registry};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Its principal.
    pub name: String,
    /// Where its token came from; none: it is an API key.
    pub origin: Option<Origin>,
}

/// What the holder of a token may use is looked up by this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Exact URL of its issuer.
    pub issuer: String,
    /// Its scopes, those that the issuer's entry named.
    pub scopes: Vec<String>,
}

/// What stands now.
#[derive(Clone, Copy)]
pub struct Standing<'a> {
    /// What operators wrote.
    pub registry: &'a Registry,
    /// What the store keeps of API keys, by key id.
    pub keys: &'a Keys,
    /// From where the credential is shown, as far as the proxy says.
    pub source: Option<IpAddr>,
    /// Now.
    pub now: Timestamp,
}

/// The API key of the party that shows a credential: what holds for the key holds for what it obtained.
pub(super) struct Acting<'a> {
    /// Its id.
    pub(super) id: String,
    /// The first key of its chain: a rotation makes nobody else of its holder.
    pub(super) chain: String,
    /// It is good at certain places alone.
    pub(super) placed: bool,
    /// What its resource says.
    pub(super) terms: &'a KeyTerms,
}

impl<'a> Acting<'a> {
    /// Of a party that is one, at a place where the key is good.
    ///
    /// # Errors
    /// [`CredentialError`]: the key is revoked, gone, or used from elsewhere.
    pub(super) fn of(
        party: &Party,
        tenant: &TenantName,
        standing: &Standing<'a>,
    ) -> Result<Option<Self>, CredentialError> {
        let Some(id) = party.key_id() else { return Ok(None) };
        let (record, terms) = party.key(tenant, standing)?;
        api_key::may_come_from(terms, standing.source)?;
        let (id, chain) = (id.to_owned(), record.chain.id.clone());
        Ok(Some(Self { id, chain, placed: terms.sources.is_some(), terms }))
    }

    /// Whom it stands for.
    pub(super) fn principal(&self) -> String {
        format!("{KEY_PRINCIPAL}{}", self.chain)
    }
}

impl Party {
    /// The id of the API key that it is.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        if self.origin.is_some() { None } else { self.name.strip_prefix(KEY_PRINCIPAL) }
    }

    /// What it may use of this tenant's at an endpoint, now.
    ///
    /// # Errors
    /// [`CredentialError`]: its key is revoked or expired, or the tenant does not trust its issuer any more.
    pub fn permits(
        &self,
        tenant: &TenantName,
        standing: &Standing<'_>,
        endpoint: EndpointKind,
    ) -> Result<Permits, CredentialError> {
        let Some(origin) = &self.origin else {
            let key = self.key(tenant, standing)?;
            api_key::in_force(key.0, Some(key.1), standing.now)?;
            return Ok(key.1.permits.clone());
        };
        let trusting = standing.registry.issuers.get(&origin.issuer);
        let issuer = trusting.into_iter().flatten().find(|issuer| issuer.tenant == *tenant);
        let issuer = issuer.ok_or(CredentialError::invalid("party: its issuer is not trusted any more"))?;
        Ok(issuer.permits_at(origin.scopes.iter().map(String::as_str), endpoint))
    }

    /// The API key that it is, not revoked.
    fn key<'a>(
        &self,
        tenant: &TenantName,
        standing: &Standing<'a>,
    ) -> Result<(&'a KeyRecord, &'a KeyTerms), CredentialError> {
        let gone = CredentialError::invalid("party: its key is gone");
        let id = self.key_id().ok_or(gone)?;
        let record = standing.keys.get(id).filter(|record| record.tenant == *tenant).ok_or(gone)?;
        Ok((record, api_key::unrevoked(record, standing.registry.keys.get(id).map(AsRef::as_ref))?))
    }
}

impl Exchanged {
    /// What all who stand behind it may use at an endpoint, within its scope.
    ///
    /// # Errors
    /// [`CredentialError`] as soon as one of them is not good any more.
    pub fn permits(&self, standing: &Standing<'_>, endpoint: EndpointKind) -> Result<Permits, CredentialError> {
        let parties = std::iter::once(&self.subject).chain(&self.actors);
        let mut permits = parties.map(|party| party.permits(&self.tenant, standing, endpoint));
        permits.try_fold(self.scope.clone(), |all, one| {
            let mut one = one?;
            if one.roles.is_empty() {
                one.roles.insert(MEMBER.into());
            }
            Ok(all.narrow(one))
        })
    }
}

impl Identity {
    /// Whom an exchanged token proves, to this endpoint: its subject, through the last who acted, who is the one that
    /// sends it.
    ///
    /// # Errors
    /// [`CredentialError`] as soon as one in the chain is not good any more.
    pub fn exchanged(
        token: Exchanged,
        standing: &Standing<'_>,
        endpoint: EndpointKind,
    ) -> Result<Self, CredentialError> {
        let permits = token.permits(standing, endpoint)?;
        let actor = token.actors.first();
        let key = actor.map(|actor| Acting::of(actor, &token.tenant, standing)).transpose()?.flatten();
        Ok(Self {
            limits: key.as_ref().map(|key| key.terms.limits.clone()).unwrap_or_default(),
            chain: key.as_ref().map(|key| key.chain.clone()),
            tenant: token.tenant,
            principal: token.subject.name,
            permits,
            certificate_bound: token.certificate.is_some(),
            bound: token.certificate.is_some() || key.as_ref().is_some_and(|key| key.placed),
            key_id: key.map(|key| key.id),
            expires_at: instant(token.expires_at),
            ends_at: instant(token.expires_at.saturating_add(LEEWAY)),
            login: token.login,
            kind: CredentialKind::Exchange,
            origin: token.subject.origin,
            actors: token.actors,
            job: None,
        })
    }
}
