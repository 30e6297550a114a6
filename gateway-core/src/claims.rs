//! Claims: the places of a request that name a tenant or a model, and the rule that all of them agree.
//!
//! Nothing in here knows which tenants exist: a claim is compared with the tenant that the credential decided, so that
//! "not yours" and "does not exist" are one answer.

mod template;
mod token;

pub use template::{PathClaims, PathTemplate, TemplateError};
pub use token::{MAX_TOKEN_BYTES, token_agrees};

use crate::denial::{Code, Denial};
use crate::name::TenantName;

/// Compares what the path and the claim header say with the tenant that was decided, byte for byte.
///
/// # Errors
/// [`Code::MalformedHeader`] when the header's value is no name at all; [`Code::TenantConflict`] when either names
/// another tenant, whether or not that one exists (a text in the path that is no name included).
pub fn agree_tenant(decided: &TenantName, path: Option<&str>, header: Option<&str>) -> Result<(), Denial> {
    if header.is_some_and(|name| name != decided.as_str() && TenantName::parse(name).is_err()) {
        return Err(Denial::new(Code::MalformedHeader).detail("The claim header's value is not a tenant's name."));
    }
    for (claim, place) in [(path, "path"), (header, "claim header")] {
        if claim.is_some_and(|name| name != decided.as_str()) {
            let detail = format!("The {place} names another tenant than the credential.");
            return Err(Denial::new(Code::TenantConflict).param(place).detail(detail));
        }
    }
    Ok(())
}

/// Compares what the places of one request say of its tenant with each other, byte for byte, before any credential is
/// looked at: a request that contradicts itself is nobody's. Each claim comes with the name of its place.
///
/// # Errors
/// [`Code::TenantConflict`], naming the first place that says another thing than those before it.
pub fn agree(claims: &[(&str, Option<&str>)]) -> Result<(), Denial> {
    let mut said = claims.iter().filter_map(|(place, claim)| Some((place, (*claim)?)));
    let Some((first, tenant)) = said.next() else { return Ok(()) };
    match said.find(|(_, other)| *other != tenant) {
        Some((place, _)) => {
            let detail = format!("The {first} and the {place} name different tenants.");
            Err(Denial::new(Code::TenantConflict).param(*place).detail(detail))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denial::Words;

    #[test]
    fn claims_that_contradict_each_other_are_nobodys() {
        let said = |claims: &[Option<&'static str>]| {
            let places = ["path", "claim header", "token"];
            let claims: Vec<_> = places.into_iter().zip(claims.iter().copied()).collect();
            agree(&claims).err().map(|denial| (denial.code, denial.param.unwrap_or_default()))
        };
        for agreed in [
            &[][..],
            &[None, None, None],
            &[Some("acme"), None, None],
            &[None, None, Some("acme")],
            &[Some("acme"), None, Some("acme")],
            &[Some("acme"), Some("acme"), Some("acme")],
        ] {
            assert_eq!(said(agreed), None, "{agreed:?}");
        }
        for (claims, place) in [
            ([Some("acme"), Some("globex"), None], "claim header"),
            ([Some("acme"), Some("Acme"), Some("acme")], "claim header"),
            ([Some("acme"), Some("acme"), Some("acme ")], "token"),
            ([None, Some("acme"), Some("")], "token"),
            ([Some(""), None, Some("acme")], "token"),
        ] {
            assert_eq!(said(&claims), Some((Code::TenantConflict, place.to_owned())), "{claims:?}");
        }
        let denial = agree(&[("path", Some("acme")), ("claim header", Some("globex"))]).unwrap_err();
        let shown = String::from_utf8(Words::default().body(&denial, "r")).unwrap();
        assert!(!shown.contains("globex") && !shown.contains("acme"), "{shown}");
    }

    #[test]
    fn every_claim_that_is_present_agrees() {
        let acme = TenantName::parse("acme").unwrap();
        let code = |path, header| agree_tenant(&acme, path, header).err().map(|denial| denial.code);
        for (path, header) in [(None, None), (Some("acme"), None), (None, Some("acme")), (Some("acme"), Some("acme"))] {
            assert_eq!(code(path, header), None, "{path:?} {header:?}");
        }
        for other in ["globex", "nobody", "acme-", "Acme", "ACME", "acme ", "acm", "acmee", "", "root", "аcme"] {
            for header in [None, Some("acme"), Some("globex")] {
                assert_eq!(code(Some(other), header), Some(Code::TenantConflict), "{other:?}");
            }
        }
        assert_eq!(code(None, Some("globex")), Some(Code::TenantConflict));
        assert_eq!(code(Some("acme"), Some("globex")), Some(Code::TenantConflict));
        for malformed in ["", "Acme", "acme,globex", "a b", "root"] {
            assert_eq!(code(Some("globex"), Some(malformed)), Some(Code::MalformedHeader), "{malformed:?}");
        }
    }

    #[test]
    fn a_conflict_does_not_say_whose_name_it_read() {
        let acme = TenantName::parse("acme").unwrap();
        let known = agree_tenant(&acme, Some("globex"), None).unwrap_err();
        assert_eq!(known, agree_tenant(&acme, Some("nobody"), None).unwrap_err());
        assert!(!String::from_utf8(Words::default().body(&known, "r")).unwrap().contains("globex"));
    }
}
