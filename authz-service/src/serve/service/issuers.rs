//! Issuers that publish their keys: the first reading at the start, the request whose key is not there yet, and the grants of
//! tokens whose key is gone.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::headers::{self, Credential, Head};
use gateway_core::wire;

use super::Service;
use crate::identity::discovery::{KeyRing, Reading};
use crate::identity::{api_key, jwt};
use crate::registry::Registry;
use crate::serve::metrics::Metrics;
use crate::serve::revocations::Revocations;

/// How long the start waits for issuers.
const FIRST_READING: Duration = Duration::from_secs(3);

/// A ring whose readings are counted; a key that an issuer took away voids what workers hold of the tenants that trust it.
pub(super) fn ring(
    metrics: &Arc<Metrics>,
    registry: &Arc<ArcSwap<Registry>>,
    revocations: &Arc<Revocations>,
) -> Result<KeyRing, rustls::Error> {
    let (metrics, registry, revocations) = (Arc::clone(metrics), Arc::clone(registry), Arc::clone(revocations));
    KeyRing::new(Arc::new(move |issuer, reading| {
        metrics.issuer_read(reading != Reading::Failed);
        if reading == Reading::Dropped {
            let registry = registry.load();
            let trusting = registry.issuers.get(issuer).into_iter().flatten();
            trusting.for_each(|issuer| revocations.revoke(issuer.tenant.as_str(), ""));
        }
    }))
}

impl Service {
    /// Waits until issuers have answered once, for a while: a restart refuses no good token.
    pub(in crate::serve) async fn first_keys(&self) {
        self.published.first_round(FIRST_READING).await;
    }

    /// Waits a moment for the key of a token whose issuer publishes it, where it is not there; says whether it waited.
    pub(in crate::serve) async fn wait_for_key(&self, head: &Head<'_>) -> bool {
        if self.published.is_empty() {
            return false;
        }
        let Ok(checked) = headers::check(head, wire::CLAIM_HEADER) else { return false };
        let Credential::Bearer(token) = checked.credential else { return false };
        if token.starts_with(api_key::PREFIX) {
            return false;
        }
        let Some(named) = jwt::named_key(token) else { return false };
        let now = u64::try_from(self.time().as_second()).unwrap_or(0);
        self.published.wait_for(&named, now).await
    }
}
