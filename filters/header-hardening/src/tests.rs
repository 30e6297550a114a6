//! Plans as tables, and what holds of any plan.

use std::collections::{BTreeMap, BTreeSet};

use gateway_core::gate::Header;
use gateway_core::headers::{REMOVED, REMOVED_PREFIXES};
use proptest::prelude::*;

use super::*;

fn grant() -> Grant {
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    Grant {
        tenant: "acme".into(),
        request_id: "7f1c".into(),
        upstream_path: "/openai/v1/chat/completions".into(),
        answer_headers: vec![header("x-bulkhead-model", "gpt-4o"), header("x-ratelimit-limit-tokens", "100")],
        ..Grant::default()
    }
}

fn remove(name: &str) -> HeaderEdit<'_> {
    HeaderEdit::Remove(name)
}

fn set<'a>(name: &'a str, value: &'a str) -> HeaderEdit<'a> {
    HeaderEdit::Set(name, value.into())
}

/// What is left of these headers (each with the value `client`) once the plan is applied.
fn left<'a>(present: &[&'a str], plan: &'a [HeaderEdit<'_>]) -> BTreeMap<&'a str, &'a str> {
    let mut headers: BTreeMap<&str, &str> = present.iter().map(|name| (*name, "client")).collect();
    for edit in plan {
        match edit {
            HeaderEdit::Remove(name) => headers.remove(name),
            HeaderEdit::Set(name, value) => headers.insert(name, value),
        };
    }
    headers
}

fn edited<'a>(plan: &'a [HeaderEdit<'_>]) -> Vec<&'a str> {
    plan.iter().map(HeaderEdit::name).collect()
}

#[test]
fn a_request_goes_up_with_our_words_only() {
    let present = [
        ":method",
        ":path",
        "authorization",
        "content-length",
        "content-type",
        "cookie",
        "traceparent",
        "x-api-key",
        "x-bulkhead-grant",
        "x-bulkhead-route",
        "x-bulkhead-tenant",
        "x-envoy-auth-partial-body",
        "x-gateway-destination-endpoint",
        "x-gateway-inference-fairness-id",
        "x-http-method-override",
        "x-request-id",
        "x-tenant-id",
    ];
    let want = vec![
        set(":path", "/openai/v1/chat/completions"),
        remove("cookie"),
        remove("x-bulkhead-grant"),
        set("x-bulkhead-tenant", "acme"),
        remove("x-envoy-auth-partial-body"),
        remove("x-gateway-destination-endpoint"),
        set("x-gateway-inference-fairness-id", "acme"),
        remove("x-http-method-override"),
    ];
    assert_eq!(request_plan(&grant(), "text", &present), want);
}

#[test]
fn a_data_endpoint_gets_the_grant_and_no_credential() {
    let grant = Grant { data_endpoint: true, upstream_path: String::new(), ..grant() };
    let want = vec![
        remove("authorization"),
        set("x-bulkhead-grant", "text"),
        set("x-bulkhead-tenant", "acme"),
        set("x-gateway-inference-fairness-id", "acme"),
    ];
    assert_eq!(request_plan(&grant, "text", &[":path", "authorization", "x-bulkhead-grant"]), want);
}

#[test]
fn an_answer_comes_down_hardened() {
    let present = [
        "content-type",
        "server",
        "set-cookie",
        "x-envoy-upstream-service-time",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-limit-requests",
        "cf-ray",
        "access-control-allow-origin",
        "x-bulkhead-region",
        "x-bulkhead-tenant",
        "cache-control",
        "retry-after",
        "x-request-id",
    ];
    let granted = grant();
    let plan = response_plan(&(&granted).into(), &present);
    let want = BTreeMap::from([
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("content-type", "client"),
        ("referrer-policy", "no-referrer"),
        ("retry-after", "client"),
        ("strict-transport-security", "max-age=31536000"),
        ("x-bulkhead-model", "gpt-4o"),
        ("x-bulkhead-tenant", "acme"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-ratelimit-limit-tokens", "100"),
        ("x-request-id", "7f1c"),
    ]);
    assert_eq!(left(&present, &plan), want);
}

#[test]
fn a_grant_cannot_split_or_soften_an_answer() {
    let bad = [
        ("", "x"),
        (":status", "200"),
        ("x-a\r\nb", "x"),
        ("x-a", "b\r\nset-cookie: c"),
        ("x-a", ""),
        ("X-A", "b"),
        ("x-a", "é"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
        ("x-frame-options", "ALLOWALL"),
        ("x-bulkhead-tenant", "globex"),
    ];
    let answer_headers = bad.map(|(name, value)| Header { name: name.into(), value: value.into() }).to_vec();
    let (bad, none) = (Grant { answer_headers, ..grant() }, Grant { answer_headers: vec![], ..grant() });
    assert_eq!(response_plan(&(&bad).into(), &[]), response_plan(&(&none).into(), &[]));
}

#[test]
fn trailers_repeat_no_claim_and_no_credential() {
    let names = [
        "authorization",
        "checksum",
        "grpc-status",
        "x-bulkhead-tenant",
        "x-envoy-retry-on",
        "x-org",
        "x-tenant-id",
        "cookie",
        "x_bulkhead-tenant",
        "content-length",
    ];
    let removed = trailer_removals(&names, "X-Org");
    let expected = ["authorization", "x-bulkhead-tenant", "x-envoy-retry-on", "x-org", "cookie", "x_bulkhead-tenant"];
    assert_eq!(removed, [expected.as_slice(), &["content-length"]].concat());
    assert_eq!(trailer_removals(&["x-tenant-id"], wire::CLAIM_HEADER), ["x-tenant-id"]);
}

fn any_names() -> impl Strategy<Value = Vec<String>> {
    let exact = proptest::sample::select(REMOVED).prop_map(str::to_owned);
    let prefixed = (proptest::sample::select(REMOVED_PREFIXES), "[a-z-]{0,8}")
        .prop_map(|(prefix, rest)| format!("{prefix}{rest}"));
    let ours = proptest::sample::select(
        &[wire::ROUTE, wire::TENANT, wire::GRANT_HEADER, wire::FAIRNESS_ID, "server", "via", "cf-ray"][..],
    );
    let name = prop_oneof![exact, prefixed, ours.prop_map(str::to_owned), "[a-z-]{1,12}"];
    proptest::collection::vec(name, 0..16)
}

proptest! {
    /// The whole map says what the edits say one by one, and leaves the rest as it was.
    #[test]
    fn a_plan_applied_at_once_is_the_plan(names in any_names()) {
        let headers: Vec<_> = names.iter().enumerate().map(|(at, name)| (name.clone(), vec![at as u8])).collect();
        let present: Vec<&str> = names.iter().map(String::as_str).collect();
        let granted = grant();
        let plan = response_plan(&(&granted).into(), &present);
        let mut one_by_one: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        for edit in &plan {
            one_by_one.retain(|(name, _)| *name != edit.name());
            if let HeaderEdit::Set(name, value) = edit {
                one_by_one.push((name, value.as_bytes()));
            }
        }
        prop_assert_eq!(applied(&plan, &headers), one_by_one);
    }

    /// Nothing that is kept from the upstream passes but what the service or the plan itself wrote.
    #[test]
    fn no_request_header_slips_through(names in any_names(), data_endpoint: bool) {
        let present: Vec<&str> = names.iter().map(String::as_str).collect();
        let granted = Grant { data_endpoint, ..grant() };
let plan = request_plan(&granted, "text", &present);
        let unique: BTreeSet<&str> = edited(&plan).into_iter().collect();
        prop_assert_eq!(unique.len(), plan.len(), "one edit a name");
        for (name, value) in left(&present, &plan) {
            let left = name == wire::ROUTE || (!data_endpoint && CREDENTIAL_CARRIERS.contains(&name));
            prop_assert!(value != "client" || left || !remove_upstream(name), "{}", name);
            prop_assert!(name != wire::GRANT_HEADER || data_endpoint);
        }
    }

    #[test]
    fn no_answer_names_another_tenant_or_server(names in any_names()) {
        let present: Vec<&str> = names.iter().map(String::as_str).collect();
        let granted = grant();
let plan = response_plan(&(&granted).into(), &present);
        let headers = left(&present, &plan);
        prop_assert_eq!(headers.get(wire::TENANT), Some(&"acme"));
        for (name, value) in headers {
            let foreign = name.starts_with(wire::RESERVED_PREFIX) || name.starts_with("x-envoy-") || ["server", "via"].contains(&name);
            prop_assert!(value != "client" || !foreign, "{}", name);
        }
    }
}
