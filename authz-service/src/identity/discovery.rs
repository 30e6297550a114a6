//! The keys of issuers that publish them: read in the background, one reading of an issuer at a time, and kept in memory.
//!
//! Decisions only look at what is kept. A token whose key is not there has its issuer asked once, within
//! `unknownKeyInterval` for all such tokens together, and waits for that no longer than [`PATIENCE`]. Keys that could not
//! be read again within `maxStale` open nothing.

mod address;
pub(crate) mod endpoint;
mod fetch;
pub(crate) mod http;
mod provider;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::timeout;

use self::http::Reader;
use self::provider::{Kept, Provider};
use super::jwt::{KeySet, NamedKey};
use crate::registry::{Discovery, IssuerKeys, Registry};

pub use address::{Ends, Network, NetworkError};
pub use endpoint::UrlError;

/// The longest that a request waits for its issuer's keys: Envoy waits 250 ms for the whole decision.
pub const PATIENCE: Duration = Duration::from_millis(150);

/// Whether an issuer's metadata could be asked for: its URL is one.
///
/// # Errors
/// [`UrlError`]; `Ok(true)`: over TLS.
pub fn check_issuer(url: &str) -> Result<bool, UrlError> {
    endpoint::Endpoint::metadata(url).map(|at| at.secure)
}

/// How a reading of an issuer's keys ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The last ones stay.
    Failed,
    /// Every key that was there still is.
    Good,
    /// A key that was there is not any more: what it verified proves nothing.
    Dropped,
}

/// Told of each reading of an issuer, by its URL, once decisions see what it brought.
pub type Observe = Arc<dyn Fn(&str, Reading) + Send + Sync>;

/// The published keys of every issuer in force.
pub struct KeyRing {
    reader: Option<(Arc<Reader>, Observe)>,
    kept: ArcSwap<HashMap<String, Arc<Kept>>>,
}

impl KeyRing {
    /// With nothing in it, and no way to read anything: issuers that publish their keys open nothing.
    #[must_use]
    pub fn offline() -> Self {
        Self { reader: None, kept: ArcSwap::default() }
    }

    /// With nothing in it; reads the system's certificate authorities.
    ///
    /// # Errors
    /// The TLS library refuses its own defaults.
    pub fn new(observe: Observe) -> Result<Self, rustls::Error> {
        Ok(Self { reader: Some((Arc::new(Reader::new()?), observe)), kept: ArcSwap::default() })
    }

    /// Takes over the issuers of a registry: starts to read the new ones' keys, forgets those that are gone, and keeps what
    /// was read of the others. Within a tokio runtime.
    pub fn adopt(&self, registry: &Registry) {
        let Some((reader, observe)) = &self.reader else { return };
        let before = self.kept.load();
        let all = registry.issuers.values().flatten();
        let published = all.filter_map(|issuer| match &issuer.keys {
            IssuerKeys::Published(discovery) => Some((&issuer.url, discovery)),
            IssuerKeys::File(_) => None,
        });
        let mut after: HashMap<String, Arc<Kept>> = HashMap::new();
        for (url, discovery) in published {
            after.entry(url.clone()).or_insert_with(|| match before.get(url) {
                Some(kept) if kept.provider.settings == *discovery => Arc::clone(kept),
                other => {
                    let keys = other.and_then(|kept| kept.provider.read());
                    Arc::new(Kept::start(url, discovery.clone(), keys, Arc::clone(reader), Arc::clone(observe)))
                }
            });
        }
        self.kept.store(Arc::new(after));
    }

    /// Waits until each issuer has been asked once, or for this long.
    pub async fn first_round(&self, longest: Duration) {
        let kept = self.kept.load_full();
        let all = async {
            for kept in kept.values() {
                kept.provider.asked_once().await;
            }
        };
        if timeout(longest, all).await.is_err() {
            tracing::warn!("an issuer has not answered yet: its tokens are refused until it does");
        }
    }

    /// An issuer's keys, unless they are too old or were never read.
    pub(super) fn keys(&self, issuer: &str, now_unix: u64) -> Option<Arc<KeySet>> {
        self.kept.load().get(issuer)?.provider.keys(now_unix)
    }

    /// Waits a moment for a key that is not there, where its issuer publishes keys and may be asked for them; says whether
    /// it waited.
    pub(crate) async fn wait_for(&self, named: &NamedKey, now_unix: u64) -> bool {
        let provider = self.kept.load().get(&named.issuer).map(|kept| Arc::clone(&kept.provider));
        match provider {
            Some(provider) => wait(&provider, named.kid.as_deref(), now_unix).await,
            None => false,
        }
    }

    /// Whether no issuer publishes its keys.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.load().is_empty()
    }
}

async fn wait(provider: &Provider, kid: Option<&str>, now_unix: u64) -> bool {
    if provider.has(kid, now_unix) {
        return false;
    }
    let Some(asked) = provider.ask() else { return false };
    let there = async {
        let mut asked = asked;
        while asked.answered().await && !provider.has(kid, now_unix) {}
    };
    // In time or not: the decision says what is there by then.
    let _ = timeout(PATIENCE, there).await;
    true
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.kept.load().keys()).finish()
    }
}

/// Settings that operators need not write.
impl Default for Discovery {
    fn default() -> Self {
        Self {
            private_addresses: Vec::new(),
            refresh: Duration::from_secs(60),
            max_stale: Duration::from_secs(3600),
            unknown_key_interval: Duration::from_secs(30),
        }
    }
}
