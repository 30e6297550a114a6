//! The root `gateway`: a stream's grant, and the request compared with it: what the service decided upon must be what is
//! here now.
//!
//! The MAC is the service's to check when the grant comes back; what is trusted here is the place: only Envoy's ext_authz
//! filter can write the metadata that the grant is read from.

#[cfg(test)]
mod tests;

use gateway_core::denial::{Code, Denial};
use gateway_core::gate::{Grant, SignedGrant};
use gateway_core::name::TenantName;
use gateway_core::{target, wire};
use prost::Message as _;
use prost::bytes::Bytes;

use crate::revocations::{FRESH_MS, Revocations, Standing};

/// What the module sees at the request's headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival<'a> {
    /// Metadata [`wire::DECISION`].
    pub decision: Option<&'a [u8]>,
    /// Metadata [`wire::GRANT`].
    pub grant: Option<&'a [u8]>,
    /// `:method`.
    pub method: &'a [u8],
    /// `:authority`.
    pub authority: &'a [u8],
    /// `:path`, with its query: behind ext_authz the one claim that is still in the client's words.
    pub path: &'a [u8],
    /// The claim header as it stands now: the service has overwritten it with the tenant that it decided.
    pub claim: Option<&'a [u8]>,
    /// How often the claim header stands in the request.
    pub claims_seen: usize,
    /// Milliseconds of a clock that [`Held::expired`] is asked with too.
    pub now_ms: u64,
}

/// A body that arrives within so many milliseconds of its headers arrives with them.
pub const QUICK_MS: u64 = 500;

/// Names the rule: a request becomes a [`Held`] grant or a [`Denial`], and there is no third.
#[derive(Clone, Copy, Debug)]
pub struct TenantContext;

/// A grant whose request has been compared with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// For exactly one tenant.
    pub grant: Grant,
    /// The serialized [`SignedGrant`], for settlements.
    pub signed: Bytes,
    /// When it was received, in milliseconds of the caller's clock.
    pub received_ms: u64,
}

impl TenantContext {
    /// Reads the grant and compares the request with it.
    ///
    /// # Errors
    /// [`Code::NotAdmitted`] without a grant that fits, with a detail that says why and what to look at;
    /// [`Code::TenantConflict`] where the claim header names another tenant, or stands twice.
    pub fn admit(input: &Arrival<'_>) -> Result<Held, Denial> {
        let (signed, grant) = read(input)?;
        let held = Held { grant, signed: signed.encode_to_vec().into(), received_ms: input.now_ms };
        held.decided_upon(input.method, input.authority, input.path)?;
        agree(input, &held.grant)?;
        if held.expired(input.now_ms) { Err(not_admitted("The grant has no lifetime.")) } else { Ok(held) }
    }
}

impl Held {
    /// Compares a request with the one that was decided upon, byte for byte.
    ///
    /// # Errors
    /// [`Code::NotAdmitted`] when the method, the authority or the path is another one, or empty.
    pub fn decided_upon(&self, method: &[u8], authority: &[u8], path: &[u8]) -> Result<(), Denial> {
        same("method", method, &self.grant.method)?;
        same("authority", authority, &self.grant.authority)?;
        self.decided_upon_path(path)
    }

    /// The same for the path alone: what may still have changed where the rest was compared a filter earlier.
    ///
    /// # Errors
    /// [`Code::NotAdmitted`] when the path is another one, or empty.
    pub fn decided_upon_path(&self, path: &[u8]) -> Result<(), Denial> {
        same("path", path, &self.grant.path)
    }

    /// Whether a request that was let in at its headers, at `arrived_ms`, may still go on, now that its body is complete: a
    /// slow body does not outlive its credential. One that took no longer than [`QUICK_MS`] is decided as it came. For the
    /// others what is known must be at most [`FRESH_MS`] old: by the grant, or by a `Sync`.
    ///
    /// # Errors
    /// [`Code::NotAdmitted`] once the grant has expired; [`Code::InvalidCredential`] when the credential was revoked
    /// meanwhile; [`Code::ServiceUnavailable`] when nobody can say any more whether it was.
    pub fn still_good(&self, revocations: &mut Revocations, arrived_ms: u64, now_ms: u64) -> Result<(), Denial> {
        if now_ms.checked_sub(arrived_ms).is_some_and(|took| took <= QUICK_MS) {
            return Ok(());
        }
        if self.expired(now_ms) {
            return Err(not_admitted("The grant expired while the request arrived."));
        }
        let unsure = Denial::new(Code::ServiceUnavailable);
        match revocations.standing(&self.grant) {
            Standing::Revoked => {
                Err(Denial::new(Code::InvalidCredential).detail("It was revoked while the request arrived."))
            }
            Standing::Unknown => Err(unsure.detail("The grant is older than what the worker knows of revocations.")),
            Standing::Good if revocations.fresh(now_ms) || now_ms.saturating_sub(self.received_ms) <= FRESH_MS => {
                Ok(())
            }
            Standing::Good => Err(unsure.detail("The worker has not heard of revocations for too long.")),
        }
    }

    /// Whether the request may no longer start upstream. A clock that went backwards is no reason to go on.
    #[must_use]
    pub fn expired(&self, now_ms: u64) -> bool {
        now_ms.checked_sub(self.received_ms).is_none_or(|age| age >= u64::from(self.grant.lifetime_ms))
    }

    /// Checks the tenant's tag on an answer, given every value of [`wire::TENANT`] in it: none is an upstream that does
    /// not tag.
    ///
    /// # Errors
    /// [`Code::TenantMismatch`] unless there is none or exactly one that names this tenant.
    pub fn answer_tag(&self, values: &[&[u8]]) -> Result<(), Denial> {
        answer_tag(&self.grant.tenant, values)
    }

    /// The signed grant as [`wire::GRANT_HEADER`] carries it to the service's data endpoints.
    ///
    /// # Errors
    /// [`Code::Internal`] when [`Held::signed`] is not a signed grant.
    pub fn text(&self) -> Result<String, Denial> {
        let signed = SignedGrant::decode(self.signed.clone()).map_err(|_| Denial::new(Code::Internal))?;
        Ok(wire::encode_grant(&signed))
    }
}

/// The same, given the tenant that was decided.
///
/// # Errors
/// [`Code::TenantMismatch`] unless there is no tag or exactly one that names this tenant.
pub fn answer_tag(tenant: &str, values: &[&[u8]]) -> Result<(), Denial> {
    match values {
        [] => Ok(()),
        [one] if *one == tenant.as_bytes() => Ok(()),
        _ => Err(Denial::new(Code::TenantMismatch).detail("The answer is tagged for another tenant.")),
    }
}

/// The grant from the metadata, whole and for one tenant.
fn read(input: &Arrival<'_>) -> Result<(SignedGrant, Grant), Denial> {
    let text = match (input.decision, input.grant) {
        (_, None | Some([])) => {
            return Err(not_admitted(
                "No grant: is the module placed after ext_authz, and does ext_authz ask the service?",
            ));
        }
        (Some(decision), Some(text)) if decision == wire::DECISION_ALLOW.as_bytes() => text,
        _ => {
            return Err(not_admitted(
                "The service did not allow this request, and the gate let it pass: is it in place?",
            ));
        }
    };
    let unreadable = "The grant cannot be read: are module and service of the same version?";
    let (signed, grant) = wire::decode_grant(text).map_err(|_| not_admitted(unreadable))?;
    let target_ok = grant.upstream_path.is_empty() || target::check_path(&grant.upstream_path).is_ok();
    if signed.mac.len() != 32 || TenantName::parse(&grant.tenant).is_err() || !target_ok {
        return Err(not_admitted(unreadable));
    }
    Ok((signed, grant))
}

/// The claim header must stand once and name the tenant that was decided.
fn agree(input: &Arrival<'_>, grant: &Grant) -> Result<(), Denial> {
    match (input.claims_seen, input.claim) {
        (1, Some(claim)) if claim == grant.tenant.as_bytes() => Ok(()),
        (0, _) | (_, None) => {
            Err(not_admitted("The service did not write the claim header: do module and service name the same one?"))
        }
        _ => {
            Err(Denial::new(Code::TenantConflict).detail("The claim header does not name the tenant that was decided."))
        }
    }
}

fn same(what: &str, now: &[u8], then: &str) -> Result<(), Denial> {
    if !now.is_empty() && now == then.as_bytes() {
        return Ok(());
    }
    Err(not_admitted(&format!("The {what} is not the one that was decided upon: does a filter change it on the way?")))
}

fn not_admitted(detail: &str) -> Denial {
    Denial::new(Code::NotAdmitted).detail(detail)
}
