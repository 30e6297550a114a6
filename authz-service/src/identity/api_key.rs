//! API keys: `bh_<id>_<secret><checksum>`. The text is shown once and never kept; the store holds its SHA-256.
//!
//! The checksum (GitHub's scheme: CRC-32 in base62) turns typing errors and guesses away before any look-up. It is no
//! proof of anything: only the hash is.

mod record;
mod spelling;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Bound;

use aws_lc_rs::digest;
use gateway_core::name::TenantName;
use jiff::{SignedDuration, Timestamp};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

pub use self::record::{Chain, KeyRecord, Rotated};
use self::spelling::{BASE36, BASE62, CHECKSUM, ID, SECRET, base62, checksum, new_id};
use super::CredentialError;
use crate::identity::discovery::Network;
use crate::registry::{KeyTerms, Limit, Permits};
use crate::vault::{Random, RandomError, draw};

/// How every key starts: tells it from a token in `Authorization: Bearer`.
pub const PREFIX: &str = "bh_";
/// No key outlives this, whatever its resource says.
pub const MAX_AGE: SignedDuration = SignedDuration::from_hours(72);

/// Bytes of a text behind its prefix.
const LENGTH: usize = ID + 1 + SECRET + CHECKSUM;

/// The whole text of a key: wiped when dropped, never shown by `Debug`.
#[derive(Clone)]
pub struct ApiKeyText(Zeroizing<String>);

/// A key that was just made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Key id, public: 12 characters of a-z and 0-9. The store refuses an id that it has; make another key then.
    pub id: String,
    /// What its holder sends; to be shown once.
    pub text: ApiKeyText,
    /// What the store keeps.
    pub hash: KeyHash,
}

/// A text that has a key's form; whether the key exists is [`check`]'s to say.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Key id.
    pub id: String,
    /// Of the whole text.
    pub hash: KeyHash,
}

/// SHA-256 of a key's whole text. 256 random bits need no slow hash. Compared in constant time.
#[derive(Clone)]
pub struct KeyHash([u8; 32]);

/// A verified key and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyIdentity {
    /// Key id.
    pub id: String,
    /// Whose.
    pub tenant: TenantName,
    /// What it may use.
    pub permits: Permits,
    /// Its own limits.
    pub limits: Vec<Limit>,
    /// The first key of its chain, whose counters it counts in.
    pub chain: String,
    /// It may be used from some places only.
    pub placed: bool,
    /// Not valid from this instant on: its resource's, or the greatest age.
    pub expires_at: Timestamp,
}

impl NewKey {
    /// Makes a key of 256 random bits.
    ///
    /// # Errors
    /// [`RandomError`] when the source fails, answers zeros, or is stuck.
    pub fn generate(random: &mut Random<'_>) -> Result<Self, RandomError> {
        Self::generate_as(PREFIX, None, random)
    }

    /// The same for another kind of credential that is spelled so, with another prefix; with this id, or a new one.
    pub(super) fn generate_as(prefix: &str, id: Option<&str>, random: &mut Random<'_>) -> Result<Self, RandomError> {
        let id = id.map_or_else(|| new_id(random), |id| Ok(id.to_owned()))?;
        let secret = base62::<SECRET>(draw::<32>(random)?.as_slice());
        let mut text = Zeroizing::new(String::with_capacity(prefix.len().saturating_add(LENGTH)));
        text.push_str(prefix);
        text.push_str(&id);
        text.push('_');
        text.extend(secret.iter().map(|digit| char::from(*digit)));
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.iter().map(|digit| char::from(*digit)));
        let hash = KeyHash::of(&text);
        Ok(Self { id, text: ApiKeyText(text), hash })
    }
}

impl ApiKeyText {
    /// Reads a presented text: length, prefix, alphabets and checksum, before anything is looked up.
    ///
    /// # Errors
    /// [`CredentialError`] when no key looks like that.
    pub fn parse(text: &str) -> Result<Parsed, CredentialError> {
        Self::parse_as(PREFIX, text)
    }

    /// The same for another kind of credential that is spelled so, with another prefix.
    pub(super) fn parse_as(prefix: &str, text: &str) -> Result<Parsed, CredentialError> {
        let malformed = CredentialError::invalid("api key: malformed");
        let id_and_rest = text.strip_prefix(prefix).filter(|rest| rest.len() == LENGTH).ok_or(malformed)?;
        let (id, rest) = id_and_rest.split_at_checked(ID).ok_or(malformed)?;
        let digits = rest.strip_prefix('_').ok_or(malformed)?;
        if !id.bytes().all(|byte| BASE36.contains(&byte)) || !digits.bytes().all(|byte| BASE62.contains(&byte)) {
            return Err(malformed);
        }
        let (body, sum) = text.as_bytes().split_last_chunk::<CHECKSUM>().ok_or(malformed)?;
        if checksum(body) != *sum {
            return Err(CredentialError::invalid("api key: checksum"));
        }
        Ok(Parsed { id: id.to_owned(), hash: KeyHash::of(text) })
    }

    /// The text, to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyText(..)")
    }
}

impl KeyHash {
    /// Hashes a key's whole text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }

    /// The hash of no text: stands in for a record that does not exist, so that the same work is done.
    #[must_use]
    pub const fn dummy() -> Self {
        Self([0; 32])
    }

    /// From the store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For the store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other).into()
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// What the store keeps of keys, in the order of their ids. In a hash table a look-up that misses touches less memory than
/// one that hits, and its time tells strangers which ids there are; here both end at a record.
pub type Keys = BTreeMap<String, KeyRecord>;

/// The record under an id, or the one nearest to it: [`check`] tells them apart, when it has compared the secret.
#[must_use]
pub fn nearest<'a>(keys: &'a Keys, id: &str) -> Option<&'a KeyRecord> {
    let bounds = (Bound::Included(id), Bound::Unbounded);
    let next = keys.range::<str, _>(bounds).next().or_else(|| keys.last_key_value());
    next.map(|(_, record)| record)
}

/// Decides a presented key by what the store (`record`: the [`nearest`]) and the resources (`terms`) hold under its id:
/// both must, for the same tenant. The secret is compared whoever's the record is, and before anything else is told apart.
///
/// # Errors
/// [`CredentialError`]: unknown, wrong secret, revoked, expired and used from elsewhere are one to strangers; the reason is
/// for the log.
pub fn check<'a>(
    parsed: &Parsed,
    record: Option<&KeyRecord>,
    terms: impl FnOnce() -> Option<&'a KeyTerms>,
    source: Option<IpAddr>,
    now: Timestamp,
) -> Result<KeyIdentity, CredentialError> {
    let dummy = KeyHash::dummy();
    let genuine = parsed.hash.matches(record.map_or(&dummy, |record| &record.hash));
    let record = record.filter(|record| record.id == parsed.id).ok_or(CredentialError::invalid("api key: unknown"))?;
    if !bool::from(genuine) {
        return Err(CredentialError::invalid("api key: wrong secret"));
    }
    let terms = in_force(record, terms(), now)?;
    may_come_from(terms, source)?;
    Ok(KeyIdentity {
        id: record.id.clone(),
        tenant: record.tenant.clone(),
        permits: terms.permits.clone(),
        limits: terms.limits.clone(),
        chain: record.chain.id.clone(),
        placed: terms.sources.is_some(),
        expires_at: ends_at(record, terms),
    })
}

/// From where on a key is not valid, to the second and whatever its resource says: its expiry, its tenant's greatest age,
/// the end of the overlap once it was rotated, and the greatest age of its chain; the earliest of them.
#[must_use]
pub fn ends_at(record: &KeyRecord, terms: &KeyTerms) -> Timestamp {
    let after = |since: Timestamp, age: SignedDuration| since.checked_add(age).unwrap_or(Timestamp::MAX);
    let oldest = after(record.created_at, terms.ages.key.min(MAX_AGE));
    let chain = after(record.chain.began_at, terms.ages.chain);
    let rotated = record.rotated.as_ref().map_or(Timestamp::MAX, |rotated| rotated.until);
    terms.expires_at.min(oldest).min(chain).min(rotated)
}

/// A key that names places is good at none when nobody says where it is used.
///
/// # Errors
/// [`CredentialError`]: it is used from elsewhere.
pub(super) fn may_come_from(terms: &KeyTerms, source: Option<IpAddr>) -> Result<(), CredentialError> {
    let holds = |listed: &Vec<Network>| source.is_some_and(|source| listed.iter().any(|network| network.holds(source)));
    let here = terms.sources.as_ref().is_none_or(holds);
    if here { Ok(()) } else { Err(CredentialError::invalid("api key: used from elsewhere")) }
}

/// Whether a key that was proved holds at `now`: by what the store (`record`) and the resources (`terms`) say.
///
/// # Errors
/// [`CredentialError`]: revoked, expired, without a resource, or another tenant's.
pub fn in_force<'a>(
    record: &KeyRecord,
    terms: Option<&'a KeyTerms>,
    now: Timestamp,
) -> Result<&'a KeyTerms, CredentialError> {
    let terms = unrevoked(record, terms)?;
    if now >= ends_at(record, terms) { Err(CredentialError::invalid("api key: expired")) } else { Ok(terms) }
}

/// Whether a key that was proved is not revoked and still has its resource, whenever it expires.
///
/// # Errors
/// [`CredentialError`]: revoked, without a resource, or another tenant's.
pub fn unrevoked<'a>(record: &KeyRecord, terms: Option<&'a KeyTerms>) -> Result<&'a KeyTerms, CredentialError> {
    if record.revoked_at.is_some() {
        return Err(CredentialError::invalid("api key: revoked"));
    }
    let terms = terms.ok_or(CredentialError::invalid("api key: no resource"))?;
    if terms.id != record.id || terms.tenant != record.tenant {
        return Err(CredentialError::invalid("api key: the resource is another tenant's"));
    }
    Ok(terms)
}

#[cfg(test)]
mod tests;
