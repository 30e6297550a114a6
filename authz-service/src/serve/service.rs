//! The service's state: what operators wrote, what happened, and the keys; shared by every listener.
//!
//! The registry is swapped whole; keys and sealed provider keys are copies of what the state file holds, changed only
//! after the state file has the change.

mod changed;
mod issuers;
mod jobs;
mod key_use;
mod own_keys;
mod record;
mod running;
mod signing;
mod signing_keys;
mod sources;
mod start;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_core::denial::Denial;
use gateway_core::wire;

use self::jobs::JobBook;
pub(super) use self::jobs::StartedJob;
pub(super) use self::own_keys::{OwnKey, OwnKeys};
pub(super) use self::record::of_grant;
pub use self::signing_keys::{NewSigningKeyError, Rotation};
pub use self::start::StartError;
use self::start::{first_set, key_record, own_key, revoked, terms_of};
use super::mesh::Mesh;
use super::metrics::{Metrics, Phase, Readiness};
use super::revocations::Revocations;
use super::watch;
use crate::cli::ServeOptions;
use crate::decide::{self, Arrival, Decision, Grounds};
use crate::identity::api_key::Keys;
use crate::identity::certificate::RevokedSerials;
use crate::identity::discovery::KeyRing;
use crate::identity::jwt::own::Own;
use crate::identity::last_used::LastUsed;
use crate::ledger::{GrantId, Ledger, Now, Reservation};
use crate::registry::Registry;
use crate::resource::{self, Problem};
use crate::sightings::Sightings;
use crate::store::{Command, Reader, Store, StoreOptions, WriteError};
use crate::throttle::Throttle;
use crate::vault::{self, GrantKey, Kek, RandomError};

/// Says what time it is. Only tests have another one than [`wall_clock`].
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// The system's clock.
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(jiff::Timestamp::now)
}

/// Everything that listeners share.
pub struct Service {
    registry: Arc<ArcSwap<Registry>>,
    pub(super) keys: ArcSwap<Keys>,
    pub(super) own_keys: ArcSwap<OwnKeys>,
    pub(super) revoked_certificates: ArcSwap<RevokedSerials>,
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
    sightings: Sightings,
    mesh: Option<Arc<Mesh>>,
    pub(super) published: KeyRing,
    last_used: LastUsed,
    /// Held by whoever changes keys or policies.
    changes: tokio::sync::Mutex<()>,
    own: ArcSwap<Own>,
    making_key: tokio::sync::Mutex<()>,
    jobs: ArcSwap<JobBook>,
    changing_jobs: tokio::sync::Mutex<()>,
    clock: Clock,
}

impl Service {
    /// Opens the state file, reads the resources, takes over what was outstanding.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(options: &ServeOptions, clock: Clock) -> Result<Arc<Self>, StartError> {
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
        let now = ledger_time(clock());
        ledger.restore(now, &restored.windows, outstanding)?;
        ledger.restore_leases(now, restored.leases);
        let first = Command::KeepSources {
            version: loaded.registry.version.clone(),
            bytes: loaded.sources.to_bytes().map_err(StartError::Sources)?,
        };
        let registry = Arc::new(ArcSwap::from_pointee(loaded.registry));
        let revocations = Arc::new(Revocations::new(restored.epoch));
        let own = signing_keys::restored(&options.issuer, restored.signing_keys, &kek);
        let published = issuers::ring(&metrics, &registry, &revocations)?;
        let last_used = restored.keys.iter().filter_map(|key| Some((key.id.clone(), key.used_ms?)));
        let last_used = LastUsed::kept_as(last_used);
        let service = Self {
            registry,
            keys: ArcSwap::from_pointee(restored.keys.iter().filter_map(key_record).collect()),
            revoked_certificates: ArcSwap::from_pointee(restored.revoked.iter().filter_map(revoked).collect()),
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
            mesh: options.mesh.as_ref().map(Mesh::load).transpose()?,
            throttle: Throttle::new(options.failed_logins_per_minute),
            sightings: Sightings::restore(restored.sightings),
            published,
            last_used,
            changes: tokio::sync::Mutex::default(),
            own: ArcSwap::from_pointee(own),
            making_key: tokio::sync::Mutex::default(),
            jobs: ArcSwap::from_pointee(restored.jobs.into_iter().filter_map(jobs::restored).collect()),
            changing_jobs: tokio::sync::Mutex::default(),
            clock,
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

    /// Now.
    pub(super) fn time(&self) -> jiff::Timestamp {
        (self.clock)()
    }

    /// Now, for the ledger.
    pub(super) fn now(&self) -> Now {
        ledger_time(self.time())
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
        let (registry, keys, own, jobs) = (self.registry(), self.keys.load(), self.own.load(), self.jobs.load());
        decide(&Grounds {
            registry: &registry,
            keys: &keys,
            revoked_certificates: &self.revoked_certificates.load(),
            published: &self.published,
            vault: self,
            own: &own,
            jobs: &jobs,
            ledger: &self.ledger,
            sightings: &self.sightings,
            claim_header: wire::CLAIM_HEADER,
        })
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
        if self.ledger.undo(self.now(), id) {
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

    /// The mesh in front of the proxies.
    pub(super) fn mesh(&self) -> Option<Arc<Mesh>> {
        self.mesh.clone()
    }

    /// The certificate of a request's client, where it or a peer of the mesh shows one; empty without.
    ///
    /// # Errors
    /// A peer of the mesh does not say which.
    pub(super) fn certificate_of_client<'a>(
        &self,
        shown: &'a str,
        headers: &[(&str, &'a [u8])],
        now: jiff::Timestamp,
    ) -> Result<&'a str, Denial> {
        let Some(mesh) = &self.mesh else { return Ok(shown) };
        mesh.certificate_of_client(shown, headers, now)
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
        let now = self.now();
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
            self.forget_jobs(self.time());
        }
    }

    fn count_resources(&self) {
        let registry = self.registry();
        for (kind, count) in [
            ("Tenant", registry.tenants.len()),
            ("Provider", registry.providers.len()),
            ("ApiKey", registry.keys.len()),
            ("Issuer", registry.issuers.len()),
            ("TrustDomain", registry.trust_domains.len()),
        ] {
            self.metrics.resources(kind, count);
        }
    }
}

/// An instant, for the ledger.
fn ledger_time(now: jiff::Timestamp) -> Now {
    Now { unix_ms: u64::try_from(now.as_millisecond()).unwrap_or(0) }
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
