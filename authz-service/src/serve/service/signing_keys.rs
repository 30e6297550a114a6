//! The service's own signing keys: opened at the start, made at the first use, rotated by operators. A key signs only once
//! the state file has it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Service;
use crate::identity::jwt::own::{Own, SigningKey, SigningKeyError, SigningKeys};
use crate::store::{Command, SigningKeyRow, WriteError};
use crate::vault::{Kek, RandomError, SealError, Sealed, TokenKey, draw, system_random};

/// A new key is published this long before it signs: longer than anybody keeps the key set.
const AHEAD: Duration = Duration::from_secs(5 * 60);

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub enum NewSigningKeyError {
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It is no key.
    #[error(transparent)]
    Key(#[from] SigningKeyError),
    /// It cannot be kept.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// When a new key takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Once everybody has had time to read it; tokens of the old one are good until they expire.
    Announced,
    /// Now; tokens of the old ones are not good any more.
    AtOnce,
}

/// The service as an issuer, with the keys that the state file has.
pub(super) fn restored(url: &str, rows: Vec<SigningKeyRow>, kek: &Kek) -> Own {
    let keys = rows.into_iter().fold(SigningKeys::default(), |keys, row| {
        let opened = Sealed::from_bytes(&row.sealed).and_then(|sealed| TokenKey::open(kek, &row.id, &sealed));
        let key = opened.ok().and_then(|pair| signing_key(&row, pair).ok());
        let Some(key) = key else {
            tracing::error!(key = row.id, "a signing key cannot be opened: its tokens are refused");
            return keys;
        };
        keys.with(key)
    });
    Own::new(url.to_owned(), keys)
}

fn signing_key(row: &SigningKeyRow, pair: TokenKey) -> Result<SigningKey, SigningKeyError> {
    SigningKey::new(&row.id, pair, row.signs_from_ms / 1000, row.withdrawn_ms.map(|ms| ms / 1000))
}

impl Service {
    /// The service as an issuer.
    pub(in crate::serve) fn own(&self) -> arc_swap::Guard<Arc<Own>> {
        self.own.load()
    }

    /// The same, with a key that signs now: the first one is made here.
    pub(in crate::serve) async fn own_signing(&self) -> Result<Arc<Own>, NewSigningKeyError> {
        let _one = self.making_key.lock().await;
        let at = self.now().unix_ms;
        if self.own.load().keys().signing(at / 1000).is_none() {
            self.keep_new_key(at, false, Vec::new()).await?;
            tracing::info!("the first signing key is made");
        }
        Ok(self.own.load_full())
    }

    /// Makes a new signing key; `with` is written in the same commit. Its id, and since when it signs (milliseconds since
    /// 1970).
    ///
    /// # Errors
    /// [`NewSigningKeyError`]; nothing has changed.
    pub(in crate::serve) async fn rotate_signing_key(
        &self,
        rotation: Rotation,
        with: Vec<Command>,
    ) -> Result<(String, u64), NewSigningKeyError> {
        let _one = self.making_key.lock().await;
        let at = self.now().unix_ms;
        let first = self.own.load().keys().signing(at / 1000).is_none();
        let ahead = if first || rotation == Rotation::AtOnce { Duration::ZERO } else { AHEAD };
        let from = at.saturating_add(u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX));
        let id = self.keep_new_key(from, rotation == Rotation::AtOnce, with).await?;
        if rotation == Rotation::AtOnce {
            // Workers may hold grants by tokens of the old keys.
            self.revocations.revoke_all();
        }
        Ok((id, from))
    }

    async fn keep_new_key(
        &self,
        signs_from_ms: u64,
        alone: bool,
        mut with: Vec<Command>,
    ) -> Result<String, NewSigningKeyError> {
        let id = URL_SAFE_NO_PAD.encode(draw::<12>(&mut system_random)?.as_slice());
        let pair = TokenKey::generate()?;
        let sealed = pair.seal(&self.kek, &id, &mut system_random)?.to_bytes();
        let row = SigningKeyRow { id, signs_from_ms, withdrawn_ms: None, sealed };
        let key = signing_key(&row, pair)?;
        if alone {
            with.push(Command::SigningKeysWithdraw { at_ms: signs_from_ms });
        }
        let id = row.id.clone();
        with.push(Command::SigningKeyPut(row));
        self.write(Command::Batch(with)).await?;
        self.own.rcu(|own| {
            let keys = if alone { own.keys().withdrawn(signs_from_ms / 1000) } else { own.keys().clone() };
            Own::new(own.url().to_owned(), keys.with(key.clone()))
        });
        Ok(id)
    }
}
