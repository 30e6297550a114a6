//! `tests/cases/` through the decision function and the filters, without wasm, Envoy or a network.

use bulkhead_tests::cases::{Case, Pure};

#[test]
fn every_case_through_the_pure_filters() {
    let mut failed = Vec::new();
    for case in Case::all() {
        let pure = Pure::new(&case);
        for (number, exchange) in case.exchanges.iter().enumerate() {
            let seen = pure.exchange(exchange);
            let differs = exchange.expect.differs(exchange, &seen);
            let verdict = if differs.is_empty() { "ok" } else { "FAIL" };
            println!("{verdict:4} {} {}", case.name, number + 1);
            failed.extend(differs.into_iter().map(|one| format!("{} {}: {one}", case.name, number + 1)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn there_are_cases_of_every_kind() {
    let cases = Case::all();
    assert!(cases.len() >= 20, "{}", cases.len());
    let exchanges = || cases.iter().flat_map(|case| &case.exchanges);
    let codes: std::collections::BTreeSet<_> = exchanges().filter_map(|one| one.expect.code.clone()).collect();
    assert!(codes.len() >= 15, "{codes:?}");
    assert!(exchanges().filter(|one| one.expect.charge.is_some()).count() >= 15);
    for one in exchanges() {
        assert_eq!(one.upstream.is_some(), one.expect.upstream.is_some(), "{} {}", one.request.path, one.expect.status);
    }
}
