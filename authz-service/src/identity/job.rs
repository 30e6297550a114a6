//! Job credentials: `bhj_<job>_<secret><checksum>`, spelled like API keys and kept as SHA-256 hashes alone. A job outlives
//! the credential that started it; its own lives for a short time, and is renewed by itself until the job's end.
//!
//! What a job may use is what the one who started it may use now. Its own end, a revocation, a revoked key, an issuer that is
//! not trusted any more, or a tenant that is not active end it.

#[cfg(test)]
mod tests;

use std::time::Duration;

use gateway_core::name::TenantName;
use jiff::{SignedDuration, Timestamp};

use super::api_key::{ApiKeyText, KeyHash, NewKey, Parsed};
use super::party::Acting;
use super::{CredentialError, CredentialKind, Identity, Party, Standing, certificate};
use crate::authorization::Login;
use crate::registry::{EndpointKind, Jobs};
use crate::vault::{Random, RandomError};

/// How every job credential starts.
pub const PREFIX: &str = "bhj_";
/// Before the name of a job, where it stands among those who act.
const ACTOR: &str = "job:";
/// The former credential is good for this long after a renewal: for requests under way, and for an answer that got lost.
pub const OVERLAP: SignedDuration = SignedDuration::from_mins(5);

/// A job, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// Its id: 12 characters of a-z and 0-9.
    pub id: String,
    /// Whose.
    pub tenant: TenantName,
    /// What its owner calls it ([`is_name`]).
    pub name: String,
    /// Who started it.
    pub party: Party,
    /// SHA-256 of the certificate that must stand beside its credential (RFC 8705 §3.1), where the first one was bound.
    pub certificate: Option<String>,
    /// How the one who started it had logged in; no renewal makes that any younger.
    pub login: Login,
    /// When it was started.
    pub started_at: Timestamp,
    /// It is over from this instant on, whatever is renewed.
    pub ends_at: Timestamp,
    /// When it was revoked; never undone.
    pub revoked_at: Option<Timestamp>,
    /// The credential that was made last.
    pub current: Issued,
    /// The one before it.
    pub former: Option<Issued>,
}

/// A credential that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Of its text.
    pub hash: KeyHash,
    /// Not good from this instant on.
    pub expires_at: Timestamp,
}

/// Which of a job's two credentials was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The one that was made last.
    Current,
    /// The one before.
    Former,
}

/// A wish for a job.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// Whose.
    pub tenant: &'a TenantName,
    /// What it is to be called.
    pub name: &'a str,
    /// How long it may run.
    pub max: Duration,
    /// Who starts it.
    pub party: &'a Party,
    /// SHA-256 of the certificate that the starter's credential was bound to.
    pub certificate: Option<String>,
    /// What the starter's credential said of its login.
    pub login: Login,
}

/// 1 to 63 of `a-z`, `0-9`, `-`, `.` and `_`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    (1..=63).contains(&text.len()) && text.bytes().all(plain)
}

/// A presented text's job and hash, before anything is looked up.
///
/// # Errors
/// [`CredentialError`] when no job credential looks like that.
pub fn parse(text: &str) -> Result<Parsed, CredentialError> {
    ApiKeyText::parse_as(PREFIX, text)
}

impl JobRecord {
    /// A new job and its first credential, to be shown once; the plan's `terms` bound both.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn start(
        start: &Start<'_>,
        terms: &Jobs,
        now: Timestamp,
        random: &mut Random<'_>,
    ) -> Result<(Self, ApiKeyText), RandomError> {
        let key = NewKey::generate_as(PREFIX, None, random)?;
        let ends_at = after(now, start.max.min(terms.longest));
        let record = Self {
            id: key.id,
            tenant: start.tenant.clone(),
            name: start.name.to_owned(),
            party: start.party.clone(),
            certificate: start.certificate.clone(),
            login: start.login.clone(),
            started_at: now,
            ends_at,
            revoked_at: None,
            current: Issued { hash: key.hash, expires_at: after(now, terms.renew_every).min(ends_at) },
            former: None,
        };
        Ok((record, key.text))
    }

    /// The job with another credential, to be shown once. The one that was current stays good for an overlap; renewed with
    /// the former one, as who has lost an answer does, the lost one is void.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn renew(
        &self,
        shown: Shown,
        terms: &Jobs,
        now: Timestamp,
        random: &mut Random<'_>,
    ) -> Result<(Self, ApiKeyText), RandomError> {
        let key = NewKey::generate_as(PREFIX, Some(&self.id), random)?;
        let former = match shown {
            Shown::Current => {
                let until = now.checked_add(OVERLAP).unwrap_or(now);
                Some(Issued { expires_at: self.current.expires_at.min(until), ..self.current.clone() })
            }
            Shown::Former => self.former.clone(),
        };
        let current = Issued { hash: key.hash, expires_at: after(now, terms.renew_every).min(self.ends_at) };
        Ok((Self { current, former, ..self.clone() }, key.text))
    }

    /// Whether it runs at `now`, as far as itself is concerned.
    #[must_use]
    pub fn runs(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.ends_at
    }

    /// Its name among those who act: with it, a tenant's log tells one run from another.
    #[must_use]
    pub fn actor(&self) -> String {
        format!("{ACTOR}{}/{}", self.name, self.id)
    }
}

/// Decides a presented credential by what is kept of its job. Both hashes are compared whether there is a job or not, and
/// before anything else is told apart.
///
/// # Errors
/// [`CredentialError`], one kind to strangers; the reason is for the log.
pub fn check<'a>(
    parsed: &Parsed,
    record: Option<&'a JobRecord>,
    presented: &str,
    now: Timestamp,
) -> Result<(&'a JobRecord, Shown, Timestamp), CredentialError> {
    let dummy = KeyHash::dummy();
    let current = record.map_or(&dummy, |job| &job.current.hash) == &parsed.hash;
    let former = record.and_then(|job| job.former.as_ref());
    let is_former = former.map_or(&dummy, |issued| &issued.hash) == &parsed.hash;
    let record = record.ok_or(CredentialError::invalid("job: unknown"))?;
    let (shown, issued) = match former {
        _ if current => (Shown::Current, &record.current),
        Some(issued) if is_former => (Shown::Former, issued),
        _ => return Err(CredentialError::invalid("job: wrong secret")),
    };
    if !record.runs(now) {
        return Err(CredentialError::invalid("job: revoked or over"));
    }
    if now >= issued.expires_at {
        return Err(CredentialError::invalid("job: the credential has expired"));
    }
    if record.certificate.is_some() && record.certificate != certificate::thumbprint(presented) {
        return Err(CredentialError::invalid("job: bound to a certificate that was not shown"));
    }
    Ok((record, shown, issued.expires_at))
}

impl Identity {
    /// Whom a job's credential proves, to this endpoint: who started it, through the job.
    ///
    /// # Errors
    /// [`CredentialError`] once who started it is not good any more.
    pub fn of_job(
        job: &JobRecord,
        shown: Shown,
        expires_at: Timestamp,
        standing: &Standing<'_>,
        endpoint: EndpointKind,
    ) -> Result<Self, CredentialError> {
        let key = Acting::of(&job.party, &job.tenant, standing)?;
        // a key that has expired meanwhile is no reason to stop what it started
        let (permits, limits) = match &key {
            Some(key) => (key.terms.permits.clone(), key.terms.limits.clone()),
            None => (job.party.permits(&job.tenant, standing, endpoint)?, Vec::new()),
        };
        Ok(Self {
            tenant: job.tenant.clone(),
            principal: key.as_ref().map_or_else(|| job.party.name.clone(), Acting::principal),
            permits,
            limits,
            certificate_bound: job.certificate.is_some(),
            bound: job.certificate.is_some() || key.as_ref().is_some_and(|key| key.placed),
            chain: key.as_ref().map(|key| key.chain.clone()),
            key_id: key.map(|key| key.id),
            expires_at,
            ends_at: job.ends_at,
            login: job.login.clone(),
            kind: CredentialKind::Job,
            origin: job.party.origin.clone(),
            actors: vec![Party { name: job.actor(), origin: None }],
            job: Some((job.id.clone(), shown)),
        })
    }
}

fn after(now: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| now.checked_add(span).ok()).unwrap_or(now)
}
