//! The root `tenant-context`, ahead of ext_authz: reads the client's own words, refuses what contradicts itself, and finds
//! the held grant of a request that is alike in every input.
//!
//! Decides nothing in a client's favour by itself: without a held grant the service is asked, and what cannot be read
//! here (a token that is none, a path that no template matches) is the service's to refuse.

#[cfg(test)]
mod tests;

use std::fmt;
use std::rc::Rc;

use gateway_core::claims::{PathTemplate, token_agrees};
use gateway_core::denial::{Code, Denial};
use gateway_core::headers::{self, Checked, Credential, Head};

use crate::held::{HeldGrant, HeldGrants};
use crate::request_key::Inputs;
use crate::revocations::Revocations;

pub use crate::request_key::RequestKey;

/// Where clients claim a tenant, from the module's configuration.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Name of the claim header, lower case.
    pub claim_header: String,
    /// Paths that name a tenant.
    pub path_templates: Vec<PathTemplate>,
    /// Members of a token that name a tenant, as the tenants' issuers spell it.
    pub tenant_claims: Vec<String>,
}

/// Names the rule.
#[derive(Clone, Copy, Debug)]
pub struct Front;

/// What becomes of a request ahead of ext_authz.
pub enum FrontStep<T> {
    /// It contradicts itself, or cannot be read.
    Refuse(Denial),
    /// The service is to be asked; its grant may be held under this key.
    Ask(RequestKey),
    /// It goes on with this grant.
    Held(Rc<HeldGrant<T>>),
}

impl Front {
    /// Reads one head. `certified`: its connection shows a client's certificate, which the service reads and no key of a
    /// held grant holds. Milliseconds are of the clock that grants are received by.
    pub fn arrive<T>(
        rules: &Rules,
        head: &Head<'_>,
        certified: bool,
        held: &mut HeldGrants<T>,
        revocations: &mut Revocations,
        now_ms: u64,
    ) -> FrontStep<T> {
        let (checked, claim) = match check(rules, head) {
            Ok(read) => read,
            Err(denial) => return FrontStep::Refuse(denial),
        };
        let inputs = Inputs::of(head, &rules.claim_header);
        // Whom a connection proves, alone or beside a credential, the service says each time.
        let alike = !certified && checked.credential != Credential::None;
        let found = if alike { held.find(&inputs, revocations, now_ms) } else { None };
        if let Some(found) = found.filter(|found| is_for(found, head, claim)) {
            return FrontStep::Held(found);
        }
        // What a held grant answers for has been compared with its token by the service.
        match agree_token(rules, &checked, claim) {
            Ok(()) => FrontStep::Ask(inputs.key()),
            Err(denial) => FrontStep::Refuse(denial),
        }
    }
}

impl<T> fmt::Debug for FrontStep<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse(denial) => f.debug_tuple("Refuse").field(denial).finish(),
            Self::Ask(key) => f.debug_tuple("Ask").field(key).finish(),
            Self::Held(held) => f.debug_tuple("Held").field(&held.held.grant.tenant).finish(),
        }
    }
}

/// The tenant that a request claims in its own words, and where.
#[derive(Clone, Copy)]
struct Claim<'a> {
    tenant: &'a str,
    place: &'static str,
}

fn check<'a>(rules: &Rules, head: &Head<'a>) -> Result<(Checked<'a>, Option<Claim<'a>>), Denial> {
    let checked = headers::check(head, &rules.claim_header)?;
    if checked.partial_body {
        return Err(Code::BodyTooLarge.into());
    }
    let header = checked.claim.map(|tenant| Claim { tenant, place: "claim header" });
    let mut claim = header;
    let paths = rules.path_templates.iter().filter_map(|template| template.matches(checked.path)?.tenant);
    for tenant in paths {
        if header.is_some_and(|header| header.tenant != tenant) {
            let detail = "The path and the claim header name two tenants.";
            return Err(Denial::new(Code::TenantConflict).param("claim header").detail(detail));
        }
        claim = Some(Claim { tenant, place: "path" });
    }
    Ok((checked, claim))
}

/// The tenant that a bearer token names, signed by nobody yet, must not be another one.
fn agree_token(rules: &Rules, checked: &Checked<'_>, claim: Option<Claim<'_>>) -> Result<(), Denial> {
    let (Credential::Bearer(token), Some(claim)) = (checked.credential, claim) else { return Ok(()) };
    if token_agrees(token, &rules.tenant_claims, claim.tenant) == Some(false) {
        let detail = format!("The {} names another tenant than the credential.", claim.place);
        return Err(Denial::new(Code::TenantConflict).param(claim.place).detail(detail));
    }
    Ok(())
}

/// The key says so already; a grant that was kept under another request's key would be told here.
fn is_for<T>(found: &HeldGrant<T>, head: &Head<'_>, claim: Option<Claim<'_>>) -> bool {
    let same = found.held.decided_upon(head.method.as_bytes(), head.authority.as_bytes(), head.path.as_bytes());
    same.is_ok() && claim.is_none_or(|claim| claim.tenant == found.held.grant.tenant)
}
