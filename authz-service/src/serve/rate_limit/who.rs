//! A proxy's words for a subject, found in the registry: for a charge as much as there is, for an admission everything.

use std::sync::Arc;

use gateway_core::denial::{Code, Denial};
use gateway_core::name::ModelName;

use super::ask::Named;
use crate::identity::api_key;
use crate::ledger::Subject;
use crate::registry::{KeyTerms, Limit, Registry, Scope, Tenant, Watch};
use crate::serve::Service;

/// Stands for the model in a charge that names none.
const UNNAMED: &str = "unnamed";

/// A subject in the registry's words.
pub(super) struct Who<'a> {
    pub(super) tenant: &'a Tenant,
    principal: &'a str,
    /// The first key of the named key's chain.
    key: Option<String>,
    key_limits: &'a [Limit],
    watched: &'a [Watch],
    model: ModelName,
}

impl<'a> Who<'a> {
    /// For a charge: what was used is charged, whatever became of the tenant, the key or the model since.
    pub(super) fn chargeable(registry: &'a Registry, service: &Service, named: &'a Named) -> Result<Self, Denial> {
        let unknown = || Denial::new(Code::InvalidCredential).detail(format!("no tenant `{}`", named.tenant));
        let tenant = registry.tenants.get(&named.tenant).ok_or_else(unknown)?;
        let terms = named.key.as_ref().and_then(|key| registry.keys.get(key)).filter(|key| key.tenant == named.tenant);
        let model = named.model.as_ref().map(|name| registry.models.get(name).map_or(name, |model| &model.name));
        let unnamed = || ModelName::parse(UNNAMED).map_err(|_| Denial::from(Code::Internal));
        Ok(Self {
            tenant,
            principal: named.principal.as_deref().unwrap_or_default(),
            key: named.key.as_ref().map(|key| chain(service, key)),
            key_limits: terms.map_or(&[], |terms: &Arc<KeyTerms>| terms.limits.as_slice()),
            watched: registry.watched(&named.tenant),
            model: model.cloned().map_or_else(unnamed, Ok)?,
        })
    }

    /// For an admission: everything that is named is good, and everything that a limit asks for is named.
    pub(super) fn admissible(registry: &'a Registry, service: &Service, named: &'a Named) -> Result<Self, Denial> {
        let who = Self::chargeable(registry, service, named)?;
        registry.active(&named.tenant)?;
        if named.model.is_some() && !who.tenant.models.contains(&who.model) {
            return Err(Denial::new(Code::ModelNotFound).param("model"));
        }
        if let Some(key) = &named.key {
            let keys = service.keys.load();
            let terms = registry.keys.get(key).filter(|terms| terms.tenant == named.tenant).map(AsRef::as_ref);
            let record = keys.get(key).filter(|record| record.tenant == named.tenant);
            let now = service.time();
            if record.is_none_or(|record| api_key::in_force(record, terms, now).is_err()) {
                return Err(
                    Denial::new(Code::InvalidCredential).detail(format!("key `{}` is not valid", key.escape_debug()))
                );
            }
        }
        let missing = |limit: &&Limit| match limit.scope {
            Scope::Tenant => false,
            Scope::Principal => named.principal.is_none(),
            Scope::Key => named.key.is_none() && named.principal.is_none(),
            Scope::Model => named.model.is_none(),
        };
        match who.tenant.plan.limits.iter().chain(who.key_limits).find(missing) {
            Some(limit) => Err(Denial::new(Code::Internal).detail(format!(
                "limit `{}` counts per {:?}, which the descriptor does not name",
                limit.name, limit.scope
            ))),
            None => Ok(who),
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            tenant: &self.tenant.name,
            time_zone: &self.tenant.time_zone,
            principal: self.principal,
            key_id: self.key.as_deref(),
            model: &self.model,
            limits: &self.tenant.plan.limits,
            key_limits: self.key_limits,
            watched: self.watched,
            longest_stream: self.tenant.plan.longest_stream,
        }
    }
}

/// The first key of a key's chain, in whose counters it counts; one that nobody knows counts by itself.
fn chain(service: &Service, key: &str) -> String {
    service.keys.load().get(key).map_or(key, |record| record.chain.id.as_str()).to_owned()
}
