//! The service's state: what operators wrote, what happened, and the keys; shared by every listener.
//!
//! The registry is swapped whole; keys and sealed provider keys are copies of what the state file holds, changed only
//! after the state file has the change.

mod changed;
mod issuers;
mod key_use;
mod running;
mod signing;
mod sources;
mod start;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_core::denial::{Code, Denial};
use gateway_core::name::TenantName;
use gateway_core::price::PricesError;
use gateway_core::wire;

use self::start::{first_set, key_record, own_key, terms_of};
use super::metrics::{Metrics, Phase, Readiness};
use super::revocations::Revocations;
use super::watch;
use crate::cli::ServeOptions;
use crate::decide::{self, Allow, Arrival, Decision, Deny, Grounds};
use crate::identity::api_key::KeyRecord;
use crate::identity::discovery::KeyRing;
use crate::identity::last_used::LastUsed;
use crate::ledger::{BadKey, GrantId, Ledger, Now, Reservation};
use crate::registry::Registry;
use crate::resource::{self, BadSources, Problem};
use crate::store::{self, AuditRecord, Command, Reader, Store, StoreError, StoreOptions, WriteError};
use crate::throttle::Throttle;
use crate::vault::{self, GrantKey, Kek, KekError, RandomError, Sealed, Secret};

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The resources are too large to keep.
    #[error(transparent)]
    Sources(BadSources),
    /// What the state file holds.
    #[error(transparent)]
    Ledger(#[from] BadKey),
    /// The price of a reservation that a former version made.
    #[error(transparent)]
    Price(#[from] PricesError),
    /// The key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The TLS library.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The resources, and there is no last good set.
    #[error("the policies are refused and there is no last good set:\n{}", lines(.0))]
    Policies(Vec<Problem>),
    /// The last good set no longer loads either.
    #[error("the policies are refused, and so is the last good set:\n{}", lines(.0))]
    LastGood(Vec<Problem>),
}

/// A sealed provider key of a tenant, as the state file has it.
#[derive(Clone)]
pub(super) struct OwnKey {
    pub(super) key_id: String,
    pub(super) version: u64,
    pub(super) sealed: Vec<u8>,
}

/// Sealed provider keys by tenant and provider.
pub(super) type OwnKeys = HashMap<(TenantName, String), OwnKey>;

/// Everything that listeners share.
pub struct Service {
    registry: Arc<ArcSwap<Registry>>,
    pub(super) keys: ArcSwap<HashMap<String, KeyRecord>>,
    pub(super) own_keys: ArcSwap<OwnKeys>,
    pub(super) ledger: Ledger,
    pub(super) revocations: Arc<Revocations>,
    pub(super) store: Store,
    pub(super) kek: Kek,
    grant_key: GrantKey,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    policies: PathBuf,
    reader: Arc<Reader>,
    reloading: tokio::sync::Mutex<()>,
    throttle: Throttle,
    published: KeyRing,
    last_used: LastUsed,
    /// Held by whoever changes keys or policies.
    changes: tokio::sync::Mutex<()>,
}

impl Service {
    /// Opens the state file, reads the resources, takes over what was outstanding.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(options: &ServeOptions) -> Result<Arc<Self>, StartError> {
        let kek = Kek::from_file(&options.kek_file)?;
        let metrics = Arc::new(Metrics::new());
        let observed = Arc::clone(&metrics);
        let observe = Arc::new(move |records, took| observed.committed(records, took));
        let (store, restored) = Store::open_with(&options.state, StoreOptions { observe, ..StoreOptions::default() })?;
        let loaded = first_set(options, &restored, &metrics)?;
        let reader = Arc::new(store.reader()?);
        let grant_key = GrantKey::derive(&kek, restored.salt.expose());
        let ledger = Ledger::default();
        let terms =
            |reservation: Reservation| terms_of(&loaded.registry, &reservation).map(|terms| (reservation, terms));
        let outstanding = restored.outstanding.into_iter().map(terms).collect::<Result<Vec<_>, _>>()?;
        ledger.restore(now(), &restored.windows, outstanding)?;
        ledger.restore_leases(now(), restored.leases);
        let first = Command::KeepSources {
            version: loaded.registry.version.clone(),
            bytes: loaded.sources.to_bytes().map_err(StartError::Sources)?,
        };
        let registry = Arc::new(ArcSwap::from_pointee(loaded.registry));
        let revocations = Arc::new(Revocations::new(restored.epoch));
        let published = issuers::ring(&metrics, &registry, &revocations)?;
        let last_used = restored.keys.iter().filter_map(|key| Some((key.id.clone(), key.used_ms?)));
        let last_used = LastUsed::kept_as(last_used);
        let service = Self {
            registry,
            keys: ArcSwap::from_pointee(restored.keys.iter().filter_map(key_record).collect()),
            own_keys: ArcSwap::from_pointee(restored.vault.into_iter().filter_map(own_key).collect()),
            ledger,
            revocations,
            store,
            kek,
            grant_key,
            metrics,
            readiness: Arc::new(Readiness::new()),
            policies: options.policies.clone(),
            reader,
            reloading: tokio::sync::Mutex::default(),
            throttle: Throttle::new(options.failed_logins_per_minute),
            published,
            last_used,
            changes: tokio::sync::Mutex::default(),
        };
        service.published.adopt(&service.registry());
        service.count_resources();
        service.submit(first);
        Ok(Arc::new(service))
    }

    /// What operators wrote, as it stands now.
    pub fn registry(&self) -> arc_swap::Guard<Arc<Registry>> {
        self.registry.load()
    }

    pub(super) const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) const fn readiness(&self) -> &Arc<Readiness> {
        &self.readiness
    }

    /// Moves to another phase of its life.
    pub(super) fn enter(&self, phase: Phase) {
        self.readiness.set(phase);
    }

    /// Decides one request; see [`decide::decide`].
    pub(super) fn decide(&self, arrival: &Arrival<'_>) -> Decision {
        self.on_grounds(|grounds| decide::decide(grounds, arrival))
    }

    /// Decides the head of one request; see [`decide::decide_head`].
    pub(super) fn decide_head(&self, arrival: &Arrival<'_>) -> Decision {
        // First of all: a change that comes in between is not seen, and its revocation voids the grant.
        let epoch = self.revocations.epoch();
        self.on_grounds(|grounds| decide::decide_head(grounds, arrival, epoch))
    }

    /// What is decided on what stands now.
    pub(super) fn on_grounds<T>(&self, decide: impl FnOnce(&Grounds<'_>) -> T) -> T {
        let (registry, keys) = (self.registry(), self.keys.load());
        decide(&Grounds {
            registry: &registry,
            keys: &keys,
            published: &self.published,
            vault: self,
            ledger: &self.ledger,
            claim_header: wire::CLAIM_HEADER,
        })
    }

    /// Makes an allowance durable: its audit record and its reservation, in one commit. Where the module admits, it is
    /// the record of a grant; each request under it has its own.
    pub(super) async fn record_allow(&self, arrival: &Arrival<'_>, allow: &Allow) -> Result<(), WriteError> {
        let head = allow.grant.terms.is_some();
        let record = AuditRecord {
            decision: if head { store::Decision::Grant } else { store::Decision::Allow },
            grant_id: (head || allow.reservation.is_some()).then_some(arrival.grant_id),
            reserved: allow.reservation.is_some().then_some(allow.facts.reserved),
            detail: allow.facts.policy.clone(),
            ..self.record(arrival, &allow.facts)
        };
        self.write(Command::Decision(Box::new(record), allow.reservation.clone().map(Box::new))).await
    }

    /// Makes a refusal's audit record durable.
    pub(super) async fn record_deny(&self, arrival: &Arrival<'_>, deny: &Deny) -> Result<(), WriteError> {
        let row = deny.denial.code.row();
        let record = AuditRecord {
            decision: store::Decision::Deny,
            code: row.code.to_owned(),
            status: row.status,
            detail: deny.denial.detail.clone().unwrap_or_default(),
            ..self.record(arrival, &deny.facts)
        };
        self.write(Command::Decision(Box::new(record), None)).await
    }

    fn record(&self, arrival: &Arrival<'_>, facts: &crate::decide::Facts) -> AuditRecord {
        let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
        AuditRecord {
            at_ms: u64::try_from(arrival.now.as_millisecond()).unwrap_or(0),
            request_id: arrival.request_id.to_owned(),
            tenant: name(facts.tenant.as_ref().map(TenantName::as_str)),
            principal: facts.principal.clone(),
            key_id: name(facts.key_id.as_deref()),
            credential: facts.method.to_owned(),
            policy_version: facts.policy_version.clone(),
            method: arrival.head.method.to_owned(),
            path: facts.path.clone(),
            model: name(facts.model.as_ref().map(|model| model.as_str())),
            provider: facts.provider.clone(),
            region: facts.region.clone(),
            proxy: arrival.proxy.to_owned(),
            ..AuditRecord::default()
        }
    }

    /// Writes and waits; a state file that fails makes the service not ready, one that works makes it ready again.
    pub(super) async fn write(&self, command: Command) -> Result<(), WriteError> {
        let written = self.store.write(command).await;
        match &written {
            Ok(()) if self.readiness.phase() == Phase::StateFailing => self.enter(Phase::Ready),
            Ok(()) | Err(WriteError::Conflict(_) | WriteError::Busy) => {}
            Err(error) => {
                tracing::error!(%error, "the state file cannot be written");
                self.enter(Phase::StateFailing);
            }
        }
        written
    }

    /// A request whose answer never left: nothing stays reserved.
    pub(super) fn undo(&self, id: GrantId) {
        if self.ledger.undo(now(), id) {
            self.submit(Command::Undo { grant_id: id, answered: false });
        }
    }

    /// Queues a write that nobody waits for. Lost, it leaves a reservation in the state file that a restart turns into
    /// spend: never understated.
    pub(super) fn submit(&self, command: Command) {
        match self.store.submit(command) {
            Ok(receipt) => drop(receipt),
            Err(error) => tracing::warn!(%error, "a correction did not reach the state file"),
        }
    }

    /// Reads the resources again: all of them or none. The last good set stays in force, and in the state file. Says
    /// whether anything changed.
    ///
    /// # Errors
    /// All problems of the set that is refused; they are logged too.
    pub async fn reload(&self) -> Result<bool, Vec<Problem>> {
        self.take_resources().await.inspect_err(|problems| self.tell_refused(problems))
    }

    /// [`Self::reload`] that leaves it to the caller to tell what was refused.
    pub(super) async fn take_resources(&self) -> Result<bool, Vec<Problem>> {
        let _one = self.reloading.lock().await;
        let directory = self.policies.clone();
        let loaded = tokio::task::spawn_blocking(move || resource::load(&directory)).await;
        let stopped = |error: tokio::task::JoinError| {
            vec![Problem { file: ".".to_owned(), line: 0, column: 0, message: format!("reading was stopped: {error}") }]
        };
        let loaded = loaded.map_err(stopped).and_then(|loaded| loaded);
        self.metrics.reloaded(loaded.is_ok());
        let loaded = loaded?;
        let changed = self.registry().version != loaded.registry.version;
        let version = loaded.registry.version.clone();
        self.published.adopt(&loaded.registry);
        let after = Arc::new(loaded.registry);
        let before = self.registry.swap(Arc::clone(&after));
        self.count_resources();
        if changed {
            self.void_changed(&before, &after);
            tracing::info!(version, "policies loaded");
            self.keep_sources(version, &loaded.sources).await;
        }
        Ok(changed)
    }

    /// Logs a set that is refused.
    pub(super) fn tell_refused(&self, problems: &[Problem]) {
        let version = self.registry().version.clone();
        tracing::error!(version, problems = lines(problems), "the policies are refused, the last good set stays");
    }

    /// Where resources come from: their directory, and the credential files that it does not show.
    pub(super) fn resource_files(&self) -> Vec<PathBuf> {
        let registry = self.registry();
        let named = registry.providers.iter().filter_map(|provider| provider.credential_file.as_ref());
        let apart = named.filter(|file| !watch::sees(&self.policies, file)).cloned();
        std::iter::once(self.policies.clone()).chain(apart).collect()
    }

    /// Once a second: reservations whose stream is over become spend.
    pub(super) async fn keep_house(&self) {
        let now = now();
        self.record_refused_sources(now).await;
        let spent = self.ledger.expire(now);
        self.metrics.reservations(self.ledger.outstanding());
        for expired in spent {
            let command = Command::Spend { grant_id: expired.id, charge: expired.charge, at_ms: now.unix_ms };
            if self.write(command).await.is_ok() {
                self.ledger.confirm(expired.id);
            }
        }
        self.expire_leases(now).await;
        if (now.unix_ms / 1000).is_multiple_of(5) {
            self.keep_last_used().await;
        }
        if (now.unix_ms / 1000).is_multiple_of(60) {
            self.submit(Command::Prune { now_ms: now.unix_ms });
        }
    }

    fn count_resources(&self) {
        let registry = self.registry();
        for (kind, count) in [
            ("Tenant", registry.tenants.len()),
            ("Provider", registry.providers.len()),
            ("ApiKey", registry.keys.len()),
            ("Issuer", registry.issuers.len()),
        ] {
            self.metrics.resources(kind, count);
        }
    }
}

/// The wall clock, for the ledger.
pub(super) fn now() -> Now {
    Now { unix_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0) }
}

/// An id for a grant: the time in its first 48 bits (milliseconds, as RFC 9562's version 7 orders ids), 80 random bits
/// behind it. Ordered, so that the state file's indexes grow at their end.
pub(super) fn grant_id(now: jiff::Timestamp) -> Result<GrantId, RandomError> {
    let mut id = [0; 16];
    vault::system_random(&mut id)?;
    let time = u64::try_from(now.as_millisecond()).unwrap_or(0).to_be_bytes();
    id.iter_mut().zip(time.iter().skip(2)).for_each(|(byte, of_time)| *byte = *of_time);
    Ok(GrantId(id))
}

pub(super) fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl decide::OwnKeys for Service {
    fn has_own_key(&self, tenant: &TenantName, provider: &str) -> bool {
        let keys = self.own_keys.load();
        !keys.is_empty() && keys.contains_key(&(tenant.clone(), provider.to_owned()))
    }

    fn own_key(&self, tenant: &TenantName, provider: &str) -> Result<Option<Secret>, Denial> {
        let keys = self.own_keys.load();
        if keys.is_empty() {
            return Ok(None);
        }
        let Some(own) = keys.get(&(tenant.clone(), provider.to_owned())) else { return Ok(None) };
        let opened = u32::try_from(own.version).ok().and_then(|version| {
            let sealed = Sealed::from_bytes(&own.sealed).ok()?;
            vault::open(&self.kek, &sealed, tenant, provider, &own.key_id, version).ok()
        });
        opened.map(Some).ok_or_else(|| {
            tracing::error!(tenant = %tenant, provider, "a tenant's provider key cannot be opened");
            Denial::new(Code::Internal).detail("The stored key of this provider cannot be opened.")
        })
    }
}
