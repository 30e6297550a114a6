//! Issuers that publish their keys: the first reading at the start, and the request whose key is not there yet.

use std::time::Duration;

use gateway_core::headers::{self, Credential, Head};
use gateway_core::wire;

use super::Service;
use crate::identity::{api_key, jwt};

/// How long the start waits for issuers.
const FIRST_READING: Duration = Duration::from_secs(3);

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
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        self.published.wait_for(&named, now).await
    }
}
