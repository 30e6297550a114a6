//! Sets that do not hold together.
use super::*;

/// Breaks one place of the whole set and reads what is said about it.
fn broken(file: &str, from: &str, to: &str) -> Vec<String> {
    let dir = Dir::whole();
    dir.edit(file, from, to);
    dir.problems()
}
#[test]
fn probe() {
    for (f,a,b) in [
        ("tenants.yaml", "plan: small", "plan: smal"),
        ("tenants.yaml", "plan: small\n", "\n"),
        ("tenants.yaml", "plan: small\n", "plan:\n"),
        ("tenants.yaml", "plan: small\n", "plan: 3\n"),
        ("tenants.yaml", "plan: small\n", "plan: [a]\n"),
        ("tenants.yaml", "regions: [eu-west]\n", "regions: eu-west\n"),
        ("tenants.yaml", "regions: [eu-west]\n", "regions: [eu-wset]\n"),
        ("tenants.yaml", "  regions: [eu-west]\n", "  region: [eu-west]\n"),
        ("tenants.yaml", "kind: Tenant", "kind: Tenent"),
        ("tenants.yaml", "kind: Tenant", "kind: TenantPolicy"),
        ("tenants.yaml", "spec:\n", "spek:\n"),
        ("tenants.yaml", "spec:\n", "state: 1\nstatus: {a: 1}\nspec:\n"),
        ("a/plans.yml", "limits:", "limitz:"),
        ("a/plans.yml", "amount: 100k", "amount: 1.5"),
        ("a/plans.yml", "counts: tokens", "counts: token"),
        ("a/plans.yml", "counts: tokens, ", ""),
        ("a/plans.yml", "4, inFlight: true", "0, inFlight: 1"),
        ("models.yaml", "date: 2026-01-31", "date: 2026-02-31"),
        ("models.yaml", "meanBytesPerToken: 4", "meanBytesPerToken: -4"),
    ] { println!("{f} {a:?} -> {b:?}\n   {:#?}", broken(f,a,b)); }
}
