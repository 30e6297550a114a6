//! One issuer: its keys as they were last read, and the one task that reads them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::fetch;
use super::http::Reader;
use super::{Observe, Reading};
use crate::identity::jwt::KeySet;
use crate::registry::Discovery;
use crate::vault;

/// How soon an issuer that failed is asked again, at the latest.
const RETRY: Duration = Duration::from_secs(5);

/// Keys and when they were read.
pub(super) struct Read {
    keys: Arc<KeySet>,
    at_unix: u64,
}

/// What is known of one issuer.
pub(super) struct Provider {
    url: String,
    pub(super) settings: Discovery,
    read: ArcSwapOption<Read>,
    /// How often it was asked, with whatever outcome.
    readings: watch::Sender<u64>,
    wanted: Notify,
    wishes: Mutex<Wishes>,
}

#[derive(Default)]
struct Wishes {
    /// When a key that was not there last had the issuer asked.
    at: Option<Instant>,
    /// The number of the last reading that is under way or asked for.
    last: u64,
}

/// A provider and its task, which ends with it.
pub(super) struct Kept {
    pub(super) provider: Arc<Provider>,
    task: JoinHandle<()>,
}

/// A reading that was asked for or is under way.
pub(super) struct Asked {
    readings: watch::Receiver<u64>,
    /// The number of the last reading that could bring the key.
    last: u64,
}

impl Kept {
    /// Starts to read; `keys` are what is known already.
    pub(super) fn start(
        url: &str,
        settings: Discovery,
        keys: Option<Arc<Read>>,
        reader: Arc<Reader>,
        observe: Observe,
    ) -> Self {
        let provider = Arc::new(Provider {
            url: url.to_owned(),
            settings,
            read: ArcSwapOption::new(keys),
            readings: watch::Sender::new(0),
            wanted: Notify::new(),
            wishes: Mutex::default(),
        });
        let task = tokio::spawn(read_on(Arc::clone(&provider), reader, observe));
        Self { provider, task }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    /// What was last read, however old.
    pub(super) fn read(&self) -> Option<Arc<Read>> {
        self.read.load_full()
    }

    /// The keys, unless they are too old or were never read.
    pub(super) fn keys(&self, now_unix: u64) -> Option<Arc<KeySet>> {
        let read = self.read.load_full()?;
        let fresh = now_unix.saturating_sub(read.at_unix) <= self.settings.max_stale.as_secs();
        fresh.then(|| Arc::clone(&read.keys))
    }

    /// Whether a token that names this key could be verified.
    pub(super) fn has(&self, kid: Option<&str>, now_unix: u64) -> bool {
        self.keys(now_unix).is_some_and(|keys| keys.find(kid).is_some())
    }

    /// Has the keys read again, unless somebody had within `unknownKeyInterval`. `None`: and nobody is reading them either.
    pub(super) fn ask(&self) -> Option<Asked> {
        let mut wishes = self.wishes();
        let readings = self.readings.subscribe();
        let done = *readings.borrow();
        if wishes.at.is_none_or(|at| at.elapsed() >= self.settings.unknown_key_interval) {
            // One that is under way may have begun too early to bring the key: another one follows it.
            *wishes = Wishes { at: Some(Instant::now()), last: wishes.last.max(done).saturating_add(1) };
            self.wanted.notify_one();
        }
        (wishes.last > done).then_some(Asked { readings, last: wishes.last })
    }

    /// Keys that were just read.
    fn take(&self, keys: KeySet) -> Reading {
        let keys = Arc::new(keys);
        let before = self.read.swap(Some(Arc::new(Read { keys: Arc::clone(&keys), at_unix: now_unix() })));
        if before.is_none_or(|before| before.keys.is_within(&keys)) { Reading::Good } else { Reading::Dropped }
    }

    /// Another reading begins.
    fn begin(&self) {
        let mut wishes = self.wishes();
        wishes.last = wishes.last.max(self.readings.borrow().saturating_add(1));
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of the first reading.
    pub(super) async fn asked_once(&self) {
        // The sender lives as long as this.
        let _ = self.readings.subscribe().wait_for(|readings| *readings > 0).await;
    }
}

impl Asked {
    /// Waits for the next reading to end; false once none is left that could bring anything.
    pub(super) async fn answered(&mut self) -> bool {
        *self.readings.borrow_and_update() < self.last && self.readings.changed().await.is_ok()
    }
}

/// Reads an issuer's keys for as long as somebody trusts it.
async fn read_on(provider: Arc<Provider>, reader: Arc<Reader>, observe: Observe) {
    loop {
        provider.begin();
        let keys = fetch::keys(&reader, &provider.url, &provider.settings.private_addresses).await;
        let (reading, pause) = match keys {
            Ok(keys) => {
                tracing::debug!(issuer = provider.url, ?keys, "an issuer's keys were read");
                (provider.take(keys), provider.settings.refresh)
            }
            Err(error) => {
                tracing::warn!(issuer = provider.url, %error, "an issuer's keys cannot be read, the last ones stay");
                (Reading::Failed, provider.settings.refresh.min(RETRY))
            }
        };
        observe(&provider.url, reading);
        provider.readings.send_modify(|readings| *readings = readings.saturating_add(1));
        tokio::select! {
            () = tokio::time::sleep(scattered(pause)) => {}
            () = provider.wanted.notified() => {}
        }
    }
}

/// Up to a tenth less, so that many services do not ask at once.
fn scattered(pause: Duration) -> Duration {
    let mut byte = [0];
    let less = if vault::system_random(&mut byte).is_ok() { u32::from(byte[0]) } else { 0 };
    pause.saturating_sub(pause.saturating_mul(less) / 2560)
}

fn now_unix() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}
