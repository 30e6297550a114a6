//! Every way in which a set does not hold together, with the exact lines that an operator reads.

mod keys;
mod plans;
mod prices;
mod providers;
mod rules;
mod tenants;

use super::*;

const T: &str = "tenants.yaml";
const P: &str = "a/plans.yml";
const M: &str = "models.yaml";
const S: &str = "providers.yaml";
const K: &str = "api-keys/k1.yaml";

/// File, what stands there, what is written instead, all that is said.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

fn each_is_refused(cases: &[Case]) {
    let mut wrong = String::new();
    for (file, from, to, want) in cases {
        let dir = Dir::whole();
        dir.edit(file, from, to);
        let got = dir.problems();
        if got != *want {
            wrong += &format!("{file}: {from:?} → {to:?}\n  got  {got:#?}\n  want {want:#?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn envelopes() {
    each_is_refused(&[
        (
            T,
            "v1alpha1",
            "v1",
            &["tenants.yaml:1:13: unknown apiVersion `bulkhead.dev/v1`, expected `bulkhead.dev/v1alpha1`"],
        ),
        (T, "kind: Tenant", "kind: Tenent", &["tenants.yaml:2:7: unknown kind `Tenent`, did you mean `Tenant`?"]),
        (P, "kind: Plan\n", "", &["a/plans.yml:1:1: missing field `kind`"]),
        (P, "metadata: {name: small}", "metadata: {}", &["a/plans.yml:3:11: missing field `name`"]),
        (
            P,
            "metadata: {name: small}",
            "metadata: {name: small, uid: 1}",
            &["a/plans.yml:3:25: unknown field `uid`, known: `name`, `namespace`, `labels`, `annotations`"],
        ),
        (
            P,
            "metadata: {name: small}",
            "metadata: {name: small, labels: {tier: 1}}",
            &["a/plans.yml:3:40: expected a string, found integer `1`"],
        ),
        (P, "{name: small}", "{name: small, namespace: acme-prod}", &["a/plans.yml:3:36: a `Plan` has no namespace"]),
        (
            P,
            "{name: small}",
            "{name: Small}",
            &[
                "a/plans.yml:3:18: `Small` must be 1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit",
                "tenants.yaml:5:9: plan `small` does not exist, did you mean `Small`?",
            ],
        ),
        (
            P,
            "spec:",
            "status: {observed: true}\nspec:",
            &["a/plans.yml:4:9: `status` is written by the service alone, never in a file"],
        ),
        (P, "spec:", "spek:", &["a/plans.yml:4:1: unknown field `spek`, did you mean `spec`?"]),
        (K, ", namespace: acme-prod", "", &["api-keys/k1.yaml:3:18: a `ApiKey` needs a `namespace`"]),
    ]);
}

#[test]
fn fields() {
    each_is_refused(&[
        (P, "limits:", "limitz:", &["a/plans.yml:5:3: unknown field `limitz`, did you mean `limits`?"]),
        (
            P,
            "longestStream",
            "longest_stream",
            &["a/plans.yml:10:3: unknown field `longest_stream`, did you mean `longestStream`?"],
        ),
        (
            P,
            "  longestStream: 5m",
            "  burst: 5\n  grantTTL: 10s",
            &[
                "a/plans.yml:10:3: unknown field `burst`, known: `limits`, `caps`, `reserve`, `longestStream`, `priority`, `grantTtl`, `audit`, `jobs`, `methods`",
                "a/plans.yml:11:3: unknown field `grantTTL`, did you mean `grantTtl`?",
            ],
        ),
        (T, "  plan: small\n", "", &["tenants.yaml:5:3: missing field `plan`"]),
        (T, "plan: small", "plan: 3", &["tenants.yaml:5:9: expected a string, found integer `3`"]),
        (T, "plan: small", "plan: [small]", &["tenants.yaml:5:9: expected a string, found sequence"]),
        (T, "regions: [eu-west]", "regions: eu-west", &["tenants.yaml:7:12: expected a list, found `eu-west`"]),
        (
            T,
            "models: [gpt]\n  endpoints",
            "models:\n  endpoints",
            &["tenants.yaml:27:9: expected a list, found nothing: write a value or leave the field out"],
        ),
        (
            T,
            "spec:\n  tenant: acme",
            "spec: acme\nx:",
            &[
                "tenants.yaml:25:7: expected a mapping, found `acme`",
                "tenants.yaml:26:1: unknown field `x`, known: `apiVersion`, `kind`, `metadata`, `spec`, `status`",
            ],
        ),
        (T, "plan: small", "plan: small\n  plan: large", &["tenants.yaml:6:3: field `plan` is written twice"]),
        (
            T,
            "plan: small",
            "plan: &p small",
            &["tenants.yaml:5:12: anchors and aliases are not accepted: what is written is what holds"],
        ),
    ]);
}

#[test]
fn a_misspelled_field_hides_nothing() {
    let dir = Dir::whole();
    dir.edit(T, "plan: small", "plan: smal");
    dir.edit(T, "regions: [eu-west]", "regionz: [eu-wset, eu-west]\n  region: 3");
    dir.edit(M, "meanBytesPerToken: 4", "meanBytesPerTokens: 0");
    assert_eq!(
        dir.problems(),
        [
            "models.yaml:12:3: unknown field `meanBytesPerTokens`, did you mean `meanBytesPerToken`?",
            "models.yaml:12:23: `0` is out of range: 1 to 64",
            "tenants.yaml:5:9: plan `smal` does not exist, did you mean `small`?",
            "tenants.yaml:7:3: unknown field `regionz`, did you mean `regions`?",
            "tenants.yaml:7:13: region `eu-wset` has no provider, did you mean `eu-west`?",
            "tenants.yaml:8:3: unknown field `region`, did you mean `regions`?",
        ]
    );
}

#[test]
fn all_of_it_is_told_at_once() {
    let dir = Dir::whole();
    dir.edit(T, "plan: small\n", "plan: 3\n  state: Actve\n  colour: red\n");
    dir.edit(T, "timeZone: Europe/Berlin", "timeZone: [x]");
    dir.edit(P, "counts: gpuTime, scope: tenant", "counts: gpu, scope: tenants");
    dir.edit(P, "amount: 4,", "amount: 4.5,");
    dir.edit(M, "input: 120", "input: -1");
    dir.edit(S, "region: eu-west", "region: EU");
    dir.write("broken.yaml", "a: [\n");
    assert_eq!(
        dir.problems(),
        [
            "a/plans.yml:6:31: unknown value `gpu`, known: `gpuTime`, `tokens`, `microUsd`, `requests`",
            "a/plans.yml:6:43: unknown value `tenants`, did you mean `tenant`?",
            "a/plans.yml:8:61: `4.5` is no count: write an integer, with k, M, G (thousands) or Ki, Mi, Gi (1024s) after it",
            "broken.yaml:1:4: not valid YAML: unclosed bracket '['",
            "models.yaml:9:29: `-1` is no count: write an integer, with k, M, G (thousands) or Ki, Mi, Gi (1024s) after it",
            "providers.yaml:7:11: `EU` must be 1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit",
            "tenants.yaml:5:9: expected a string, found integer `3`",
            "tenants.yaml:6:10: unknown value `Actve`, did you mean `Active`?",
            "tenants.yaml:7:3: unknown field `colour`, known: `plan`, `state`, `models`, `regions`, `timeZone`, `role`, `namespaces`, `issuers`, `keys`, `certificates`",
            "tenants.yaml:10:13: expected a string, found sequence",
        ]
    );
}

#[test]
fn directories() {
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().display();
    assert_eq!(lines(load(empty.path())), [format!("{path}: holds no resource: no *.yaml or *.yml file")]);
    assert_eq!(lines(load(&empty.path().join("no"))), [format!("{path}/no: does not exist")]);
    let dir = Dir::whole();
    fs::write(dir.path().join("latin.yaml"), b"a: \xe9").unwrap();
    dir.write("big.yaml", &"# x\n".repeat(300_000));
    assert_eq!(dir.problems(), ["big.yaml: is larger than 1048576 bytes", "latin.yaml: is not UTF-8"]);
}
