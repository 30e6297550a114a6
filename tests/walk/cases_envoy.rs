//! `tests/cases/` through a real Envoy, the real module and the real service: the same expectations as the pure filters, and
//! beyond them the same bytes, fields and charges as they.

use bulkhead_tests::cases::{Case, Pure, Real};
use bulkhead_tests::configuration::{Profile, patient};
use bulkhead_tests::gateway::Gateway;

/// Runs a case both ways; what differs.
async fn run(gateway: &Gateway, case: &Case) -> Vec<String> {
    let (pure, real) = (Pure::new(case), Real::new(gateway, case).await);
    let mut found = Vec::new();
    for (number, exchange) in case.exchanges.iter().enumerate() {
        let at = format!("{} {}", case.name, number + 1);
        let (mut filters, envoy) = (pure.exchange(exchange), real.exchange(exchange).await);
        let expected = exchange.expected(gateway.profile);
        found.extend(expected.differs(exchange, &envoy).into_iter().map(|one| format!("{at}: {one}")));
        if gateway.profile == Profile::Inline {
            filters.recorded = envoy.recorded.clone(); // `Pure` is portable: who refused, and what was known then, may differ
        }
        // where the case itself says that the profiles differ, there is nothing to be alike
        let unlike = if exchange.is_alike_in_both() { filters.unlike(&envoy) } else { Vec::new() };
        found.extend(unlike.into_iter().map(|one| format!("{at}: filters and Envoy differ in {one}")));
        println!("{:4} {at}", if found.iter().any(|one| one.starts_with(&at)) { "FAIL" } else { "ok" });
    }
    if !gateway.is_whole().await {
        found.push(format!("{}: the module or Envoy did not survive", case.name));
    }
    found
}

#[tokio::test]
async fn every_case_through_envoy_as_through_the_filters() {
    let gateway = Gateway::builder().envoy(|text| patient(&text, "5s")).start().await;
    let mut found = Vec::new();
    for case in Case::all().iter().filter(|case| case.policy.is_empty()) {
        found.extend(run(&gateway, case).await);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn cases_with_policies_of_their_own() {
    let mut found = Vec::new();
    for case in Case::all().iter().filter(|case| !case.policy.is_empty()) {
        let gateway =
            Gateway::builder().policies(|set| case.change(set)).envoy(|text| patient(&text, "5s")).start().await;
        found.extend(run(&gateway, case).await);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
