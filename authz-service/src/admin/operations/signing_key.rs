//! The key of the service's own tokens: another one takes over.

use jiff::Timestamp;

use super::{Inner, Running};
use crate::admin::{AdminError, NewSigningKey, Operator};
use crate::serve::Rotation;

impl<R: Running> Inner<R> {
    pub(super) async fn rotate_signing_key(&self, by: Operator, at_once: bool) -> Result<NewSigningKey, AdminError> {
        let _one = self.running.changes().lock().await;
        let rotation = if at_once { Rotation::AtOnce } else { Rotation::Announced };
        let detail = if at_once { "at once: tokens of the keys before are not good any more" } else { "" };
        let audit = self.action(by, "signing-key.rotate", detail.to_owned());
        let made = self.running.rotate_signing_key(rotation, vec![audit]).await;
        let (id, from_ms) = made.map_err(|error| AdminError::Unavailable(error.to_string()))?;
        let from = i64::try_from(from_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        Ok(NewSigningKey { id, signs_from: from.unwrap_or(Timestamp::MAX) })
    }
}
