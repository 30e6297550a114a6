//! The plans upstream of profile `inline`: what the front takes off a request that nobody will be asked about, and what the
//! module puts on once it has decided where the request goes.

use gateway_core::headers::{CREDENTIAL_CARRIERS, remove_upstream};
use gateway_core::wire;

use crate::{HeaderEdit, Plan};

/// Where an admitted request goes.
#[derive(Clone, Copy, Debug)]
pub struct InlineTarget<'a> {
    /// The tenant that was decided.
    pub tenant: &'a str,
    /// Value of the route header.
    pub cluster: &'a str,
    /// The provider's path; empty: unchanged.
    pub upstream_path: &'a str,
    /// The grant's handle as [`wire::GRANT_HEADER`] carries it to the last hop; none: the platform's key is used.
    pub handle: Option<&'a str>,
    /// Length of the edited body in bytes; none: it goes on as it is.
    pub length: Option<u64>,
}

/// Ahead of ext_authz, given the names of the client's headers: what the service would have removed, the credential
/// first, and the claim header with the tenant of the held grant.
#[must_use]
pub fn front_plan<'a>(present: &[&'a str], claim_header: &'a str, tenant: &'a str) -> Vec<HeaderEdit<'a>> {
    let mut plan = Plan::default();
    for name in present.iter().filter(|name| remove_upstream(name)) {
        plan.remove(name);
    }
    plan.set(claim_header, tenant);
    plan.edits()
}

/// Behind the gate, at the end of the body. Carriers of credentials go whatever was done before: what the request leaves
/// with is put in after this.
#[must_use]
pub fn inline_plan<'a>(target: &InlineTarget<'a>) -> Vec<HeaderEdit<'a>> {
    let mut plan = Plan::default();
    for name in CREDENTIAL_CARRIERS {
        plan.remove(name);
    }
    if !target.upstream_path.is_empty() {
        plan.set(":path", target.upstream_path);
    }
    plan.set(wire::ROUTE, target.cluster);
    plan.set(wire::TENANT, target.tenant);
    plan.set(wire::FAIRNESS_ID, target.tenant);
    if let Some(length) = target.length {
        plan.set("content-length", length.to_string());
    }
    if let Some(handle) = target.handle {
        plan.set(wire::GRANT_HEADER, handle);
    }
    plan.edits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<'a>(name: &'a str, value: &'a str) -> HeaderEdit<'a> {
        HeaderEdit::Set(name, value.into())
    }

    fn remove(name: &str) -> HeaderEdit<'_> {
        HeaderEdit::Remove(name)
    }

    #[test]
    fn the_front_leaves_nothing_that_the_service_would_remove() {
        let present = ["accept", "authorization", "cookie", "x-bulkhead-route", "x-request-id", "x-tenant-id"];
        let want = [remove("authorization"), remove("cookie"), remove("x-bulkhead-route"), set("x-tenant-id", "acme")];
        assert_eq!(front_plan(&present, "x-tenant-id", "acme"), want);
        assert_eq!(front_plan(&[], "x-org", "acme"), [set("x-org", "acme")]);
    }

    #[test]
    fn no_carrier_survives_and_the_length_comes_with_the_body() {
        let target =
            InlineTarget { tenant: "acme", cluster: "gpu", upstream_path: "/v1/x", handle: None, length: Some(42) };
        let want = [
            set(":path", "/v1/x"),
            remove("authorization"),
            set("content-length", "42"),
            remove("x-api-key"),
            set("x-bulkhead-route", "gpu"),
            set("x-bulkhead-tenant", "acme"),
            set("x-gateway-inference-fairness-id", "acme"),
            remove("x-goog-api-key"),
        ];
        assert_eq!(inline_plan(&target), want, "in the order of their names");
        let own = inline_plan(&InlineTarget { handle: Some("h"), length: None, upstream_path: "", ..target });
        assert!(own.contains(&set("x-bulkhead-grant", "h")));
        let changed = |name: &str| own.iter().any(|edit| matches!(edit, HeaderEdit::Set(set, _) if *set == name));
        assert!(!changed("content-length") && !changed(":path"));
    }
}
