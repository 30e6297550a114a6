//! Every way in which a set does not hold together, with the exact lines that an operator reads.

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
        (T, "v1alpha1", "v1", &["tenants.yaml:1:13: unknown apiVersion `bulkhead.dev/v1`, expected `bulkhead.dev/v1alpha1`"]),
        (T, "kind: Tenant", "kind: Tenent", &["tenants.yaml:2:7: unknown kind `Tenent`, did you mean `Tenant`?"]),
        (P, "kind: Plan", "kind: TenantPolicy", &[
            "a/plans.yml:2:7: kind `TenantPolicy` is not served by this version yet",
            "tenants.yaml:5:9: plan `small` does not exist",
        ]),
        (P, "kind: Plan\n", "", &["a/plans.yml:1:1: missing field `kind`"]),
        (P, "metadata: {name: small}", "metadata: {}", &["a/plans.yml:3:11: missing field `name`"]),
        (P, "metadata: {name: small}", "metadata: {name: small, uid: 1}", &[
            "a/plans.yml:3:25: unknown field `uid`, known: `name`, `namespace`, `labels`, `annotations`",
        ]),
        (P, "metadata: {name: small}", "metadata: {name: small, labels: {tier: 1}}", &[
            "a/plans.yml:3:40: expected a string, found integer `1`",
        ]),
        (P, "{name: small}", "{name: small, namespace: acme-prod}", &["a/plans.yml:3:36: a `Plan` has no namespace"]),
        (P, "{name: small}", "{name: Small}", &[
            "a/plans.yml:3:18: `Small` must be 1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit",
            "tenants.yaml:5:9: plan `small` does not exist, did you mean `Small`?",
        ]),
        (P, "spec:", "status: {observed: true}\nspec:", &[
            "a/plans.yml:4:9: `status` is written by the service alone, never in a file",
        ]),
        (P, "spec:", "spek:", &["a/plans.yml:4:1: unknown field `spek`, did you mean `spec`?"]),
        (K, ", namespace: acme-prod", "", &["api-keys/k1.yaml:3:18: a `ApiKey` needs a `namespace`"]),
    ]);
}

#[test]
fn fields() {
    each_is_refused(&[
        (P, "limits:", "limitz:", &["a/plans.yml:5:3: unknown field `limitz`, did you mean `limits`?"]),
        (P, "longestStream", "longest_stream", &[
            "a/plans.yml:10:3: unknown field `longest_stream`, did you mean `longestStream`?",
        ]),
        (P, "  longestStream: 5m", "  audit: strict\n  grantTtl: 10s", &[
            "a/plans.yml:10:3: unknown field `audit`, known: `limits`, `caps`, `reserve`, `longestStream`, `priority`",
            "a/plans.yml:11:3: unknown field `grantTtl`, known: `limits`, `caps`, `reserve`, `longestStream`, `priority`",
        ]),
        (T, "  plan: small\n", "", &["tenants.yaml:5:3: missing field `plan`"]),
        (T, "plan: small", "plan: 3", &["tenants.yaml:5:9: expected a string, found integer `3`"]),
        (T, "plan: small", "plan: [small]", &["tenants.yaml:5:9: expected a string, found sequence"]),
        (T, "regions: [eu-west]", "regions: eu-west", &["tenants.yaml:7:12: expected a list, found `eu-west`"]),
        (T, "models: [gpt]\n  endpoints", "models:\n  endpoints", &[
            "tenants.yaml:27:9: expected a list, found nothing: write a value or leave the field out",
        ]),
        (T, "spec:\n  tenant: acme", "spec: acme\nx:", &[
            "tenants.yaml:25:7: expected a mapping, found `acme`",
            "tenants.yaml:26:1: unknown field `x`, known: `apiVersion`, `kind`, `metadata`, `spec`, `status`",
        ]),
        (T, "plan: small", "plan: small\n  plan: large", &["tenants.yaml:6:3: field `plan` is written twice"]),
        (T, "plan: small", "plan: &p small", &[
            "tenants.yaml:5:12: anchors and aliases are not accepted: what is written is what holds",
        ]),
    ]);
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
            "tenants.yaml:7:3: unknown field `colour`, known: `plan`, `state`, `models`, `regions`, `timeZone`, `role`, `namespaces`, `issuers`",
            "tenants.yaml:10:13: expected a string, found sequence",
        ]
    );
}

#[test]
fn plans() {
    each_is_refused(&[
        (P, "amount: 100k", "amount: 1.5", &[
            "a/plans.yml:7:71: `1.5` is no count: write an integer, with k, M, G (thousands) or Ki, Mi, Gi (1024s) after it",
        ]),
        (P, "amount: 100k", "amount: 0", &["a/plans.yml:7:71: `0` is out of range: at least 1"]),
        (P, "amount: 2h", "amount: 1.5h", &[
            "a/plans.yml:6:63: `1.5h` is no duration: write an integer with one unit of ms, s, m, h, d after it",
        ]),
        (P, "amount: 100k", "amount: 9223372036854775808", &["a/plans.yml:7:71: `9223372036854775808` is too large"]),
        (P, "scope: tenant, ", "", &["a/plans.yml:6:14: limit `gpu-day`: missing field `scope`"]),
        (P, "name: tokens-minute", "name: gpu-day", &["a/plans.yml:7:14: limit `gpu-day` is there already"]),
        (P, "window: day", "window: day, rate: 1m", &[
            "a/plans.yml:6:14: limit `gpu-day`: write exactly one of `window`, `rate` and `inFlight`",
        ]),
        (P, ", window: day", "", &[
            "a/plans.yml:6:14: limit `gpu-day`: write exactly one of `window`, `rate` and `inFlight`",
        ]),
        (P, "window: day", "rate: 1m", &[
            "a/plans.yml:6:14: limit `gpu-day`: `rate` goes with `counts: tokens` or `counts: requests` only",
        ]),
        (P, "window: day", "inFlight: true", &["a/plans.yml:6:14: limit `gpu-day`: `inFlight` goes with `counts: requests` only"]),
        (P, "inFlight: true", "inFlight: false", &["a/plans.yml:8:74: `inFlight` can only be `true`: leave it out"]),
        (P, "window: day", "window: week", &[
            "a/plans.yml:6:75: unknown value `week`, known: `minute`, `hour`, `day`, `month`",
        ]),
        (P, "rate: 1m", "rate: 0s", &["a/plans.yml:7:83: `0s` is out of range: more than 0, at most 1d"]),
        (P, "outputTokens: 4k", "outputTokens: 0", &["a/plans.yml:9:24: `0` is out of range: 1 to 4294967295"]),
        (P, "promptTokens: 32Ki", "promptTokens: 1, bodyBytes: 5Mi", &[
            "a/plans.yml:9:56: `5Mi` is out of range: 1 to 4194304",
        ]),
        (P, "promptTokens: 32Ki", "promptTokens: 1, choices: 0", &["a/plans.yml:9:54: `0` is out of range: 1 to 128"]),
        (P, "longestStream: 5m", "longestStream: 300", &[
            "a/plans.yml:10:18: `300` is no duration: write an integer with one unit of ms, s, m, h, d after it",
        ]),
        (P, "longestStream: 5m", "priority: 101", &["a/plans.yml:10:13: `101` is out of range: 0 to 100"]),
        (P, "longestStream: 5m", "reserve: bounds", &["a/plans.yml:10:12: unknown value `bounds`, did you mean `bound`?"]),
    ]);
}

#[test]
fn models() {
    each_is_refused(&[
        (M, "aliases: [llama-8b]", "aliases: [llama-8b, gpt]", &[
            "models.yaml:18:18: model `gpt` is there already: models.yaml:6",
            "providers.yaml:15:14: model `meta-llama/Llama-3.1-8B-Instruct` is there already",
        ]),
        (M, "name: gpt", "name: llama-8b", &[
            "api-keys/k1.yaml:7:12: model `gpt` does not exist, known: `llama-8b`, `meta-llama/Llama-3.1-8B-Instruct`",
            "models.yaml:18:18: ModelCost `llama-8b` is there already: models.yaml:3",
            "providers.yaml:15:14: model `gpt` does not exist, known: `llama-8b`, `meta-llama/Llama-3.1-8B-Instruct`",
            "tenants.yaml:6:22: model `gpt` does not exist, known: `llama-8b`, `meta-llama/Llama-3.1-8B-Instruct`",
            "tenants.yaml:27:12: model `gpt` does not exist, known: `llama-8b`, `meta-llama/Llama-3.1-8B-Instruct`",
        ]),
        (M, "model: meta-llama/Llama-3.1-8B-Instruct", "model: /x", &[
            "models.yaml:5:10: `/x` is no model name: must be 1 to 128 characters of A-Z, a-z, 0-9 and ._:/-, starting and ending with a letter or digit",
        ]),
        (M, "gpuWeightPermille: 1000", "gpuWeightPermille: 0", &["models.yaml:8:22: `0` is out of range: 1 to 1000000"]),
        (M, "minBytesPerToken: 1", "minBytesPerToken: 0", &["models.yaml:11:21: `0` is out of range: 1 to 64"]),
        (M, "minBytesPerToken: 1", "minBytesPerToken: 5", &["models.yaml:12:22: `4` is less than `minBytesPerToken`, which is `5`"]),
        (M, "microUsdFixed: 5", "microUsdFixed: $5", &[
            "models.yaml:25:18: `$5` is no count: write an integer, with k, M, G (thousands) or Ki, Mi, Gi (1024s) after it",
        ]),
        (M, "mediaTokens: 1500", "mediaTokens: 0", &["models.yaml:28:16: `0` is out of range: 1 to 1000000"]),
        (M, "date: 2026-01-31", "date: 2026-02-31", &["models.yaml:14:9: `2026-02-31` is no date: write YYYY-MM-DD"]),
        (M, "date: 2026-01-31", "date: 20260131", &["models.yaml:14:9: expected a string, found integer `20260131`"]),
        (M, "source: a test", "source: ' '", &["models.yaml:13:11: `source` must be 1 to 1024 bytes: where the numbers are from"]),
        (M, "  source: a test\n", "", &["models.yaml:5:3: missing field `source`"]),
        (M, "input: 120, ", "", &["models.yaml:9:21: missing field `input`"]),
        (M, "gpuClass: l4", "gpuClass: L4", &[
            "models.yaml:7:13: `L4` must be 1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit",
        ]),
    ]);
}

#[test]
fn providers() {
    each_is_refused(&[
        (S, "dialect: openai", "dialect: opnai", &["providers.yaml:5:12: unknown value `opnai`, did you mean `openai`?"]),
        (S, "credential: x-api-key", "credential: basic", &[
            "providers.yaml:8:15: unknown value `basic`, known: `bearer`, `x-api-key`, `x-goog-api-key`",
        ]),
        (S, "cluster: house", "cluster: 'a b'", &[
            "providers.yaml:6:12: `a b` must be 1 to 256 visible ASCII characters without quotes, commas and backslashes",
        ]),
        (S, "name: gpt", "name: gtp", &[
            "providers.yaml:15:14: model `gtp` does not exist, did you mean `gpt`?",
        ]),
        (S, "name: gpt", "name: llama-8b", &[
            "providers.yaml:15:14: model `meta-llama/Llama-3.1-8B-Instruct` is there already",
        ]),
        (S, "    - {name: gpt}\n", "", &[
            "models.yaml:18:18: no provider serves model `gpt`",
            "tenants.yaml:6:22: no provider in this tenant's regions serves model `gpt`",
        ]),
        (S, "upstreamPath: /openai/v1/chat/completions", "upstreamPath: /a/../b", &[
            "providers.yaml:12:17: `/a/../b` is no canonical path without a query",
        ]),
        (S, "upstreamPath: /openai/v1/chat/completions", "upstreamPath: /a?b=c", &[
            "providers.yaml:12:17: `/a?b=c` is no canonical path without a query",
        ]),
        (S, "extraFields: [top_k]", "paths: ['/v1/{models}']", &[
            "providers.yaml:11:11: `/v1/{models}` is no path template: unknown placeholder `{models}`: a whole segment may be `{tenant}` or `{model}`",
        ]),
        (S, "extraFields: [top_k]", "paths: [/v1/models]", &[
            "providers.yaml:11:11: path `/v1/models` and path `/v1/models` (the service's own) match the same requests with different claims",
        ]),
        (S, "extraFields: [top_k]", "paths: ['/t/{tenant}/chat', '/t/acme/{model}']", &[
            "providers.yaml:11:31: path `/t/acme/{model}` and path `/t/{tenant}/chat` (providers.yaml:11) match the same requests with different claims",
        ]),
        (S, "outputLimitField: max_tokens", "outputLimitField: maxTokens", &[
            "providers.yaml:10:21: unknown value `maxTokens`, did you mean `max_tokens`?",
        ]),
    ]);
}

#[test]
fn credential_files() {
    let said = |prepare: fn(&Dir)| {
        let dir = Dir::whole();
        prepare(&dir);
        let problems = dir.problems();
        assert!(problems.len() == 1 && !problems[0].contains("sk-house"), "{problems:?}");
        problems[0].strip_prefix("providers.yaml:9:19: `credentialFile`: `house.key` ").unwrap().to_owned()
    };
    assert_eq!(said(|dir| dir.mode("house.key", 0o640)), "has mode 0640; it must be 0600 or stricter");
    assert_eq!(said(|dir| dir.write("house.key", "")), "is empty");
    let visible = "must hold visible ASCII characters and at most one newline after them";
    for text in ["\n", "sk-house \n", "sk-house\n\n", "sk-house\r\n", "sk-hoüse\n", "sk-house\0"] {
        let dir = Dir::whole();
        dir.write("house.key", text);
        assert_eq!(dir.problems(), [format!("providers.yaml:9:19: `credentialFile`: `house.key` {visible}")], "{text:?}");
    }
    assert!(said(|dir| fs::remove_file(dir.path().join("house.key")).unwrap()).starts_with("cannot be read: "));
    let dir = Dir::whole();
    let elsewhere = Dir::whole();
    dir.edit(S, "house.key", elsewhere.path().join("house.key").to_str().unwrap());
    assert_eq!(dir.problems(), Vec::<String>::new(), "an absolute path");
}

#[test]
fn tenants() {
    each_is_refused(&[
        (T, "name: acme", "name: root", &[
            "api-keys/k1.yaml:5:11: tenant `acme` does not exist, known: `root`",
            "tenants.yaml:3:18: `root` is reserved",
            "tenants.yaml:26:11: tenant `acme` does not exist, known: `root`",
        ]),
        (T, "plan: small", "plan: smal", &["tenants.yaml:5:9: plan `smal` does not exist, did you mean `small`?"]),
        (T, "[llama-8b, gpt]", "[llama-8c, gpt]", &[
            "tenants.yaml:6:12: model `llama-8c` does not exist, did you mean `llama-8b`?",
        ]),
        (T, "regions: [eu-west]", "regions: [eu-west, eu-wset]", &[
            "tenants.yaml:7:22: region `eu-wset` has no provider, did you mean `eu-west`?",
        ]),
        (T, "regions: [eu-west]", "regions: []", &[
            "tenants.yaml:6:12: no provider in this tenant's regions serves model `llama-8b`",
            "tenants.yaml:6:22: no provider in this tenant's regions serves model `gpt`",
        ]),
        (T, "Europe/Berlin", "Europe/Berln", &["tenants.yaml:8:13: `Europe/Berln` is no IANA time zone, as `Europe/Berlin`"]),
        (T, "role: everything", "role: everythin", &["tenants.yaml:9:9: role `everythin` does not exist, did you mean `everything`?"]),
        (T, "audiences: [bulkhead]", "audiences: []", &["tenants.yaml:13:18: `audiences` must hold at least one"]),
        (T, "maxLifetime: 1h", "maxLifetime: 31d", &["tenants.yaml:15:20: `31d` is out of range: more than 0, at most 30d"]),
        (T, "tenant: acme", "tenant: acmee", &[
            "api-keys/k1.yaml:6:9: role `readers` belongs to another tenant",
            "tenants.yaml:26:11: tenant `acmee` does not exist, did you mean `acme`?",
        ]),
        (T, "name: readers", "name: everything", &[
            "api-keys/k1.yaml:6:9: role `readers` does not exist, known: `everything`",
            "tenants.yaml:24:18: role `everything` is there already: tenants.yaml:19",
        ]),
        (T, "models: [gpt]", "models: [gtp]", &["tenants.yaml:27:12: model `gtp` does not exist, did you mean `gpt`?"]),
        (T, "endpoints: [models, chat]", "endpoints: [models, chats]", &[
            "tenants.yaml:28:23: unknown value `chats`, did you mean `chat`?",
        ]),
    ]);
}

#[test]
fn issuers() {
    each_is_refused(&[
        (T, "keys/acme.json", "keys/acm.json", &["tenants.yaml:14:17: `jwksFile`: `keys/acm.json` does not exist"]),
        (T, "keys/acme.json", "../acme.json", &["tenants.yaml:14:17: `jwksFile`: `../acme.json` leads out of the directory"]),
        (T, "keys/acme.json", "/etc/passwd", &["tenants.yaml:14:17: `jwksFile`: `/etc/passwd` leads out of the directory"]),
        (T, "maxLifetime: 1h", "maxLifetime: 1h\n    - {issuer: https://id.acme.example, audiences: [b], jwksFile: keys/acme.json, tenantClaim: org}", &[
            "tenants.yaml:12:15: issuer `https://id.acme.example` is trusted by several tenants: each needs a `tenantClaim`",
            "tenants.yaml:16:16: issuer `https://id.acme.example` is there already",
        ]),
    ]);
    let dir = Dir::whole();
    dir.write("keys/acme.json", &format!("{JWKS}{}", " ".repeat(64 * 1024)));
    assert_eq!(dir.problems(), ["tenants.yaml:14:17: `jwksFile`: `keys/acme.json` is larger than 65536 bytes"]);
    dir.write("keys/acme.json", "no");
    let problems = dir.problems();
    assert!(problems.len() == 1 && problems[0].starts_with("tenants.yaml:14:17: `jwksFile`: `keys/acme.json`: "), "{problems:?}");
    fs::remove_file(dir.path().join("keys/acme.json")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("keys/acme.json")).unwrap();
    assert_eq!(dir.problems(), ["tenants.yaml:14:17: `jwksFile`: `keys/acme.json` leads out of the directory"]);
}

#[test]
fn an_issuer_of_several_tenants_needs_a_claim_on_each() {
    let dir = Dir::whole();
    let second = TENANTS.replacen("name: acme", "name: globex", 1).replacen("acme-prod", "globex-prod", 1);
    let (second, _) = second.split_once("---").unwrap();
    dir.write("keys.d/globex.yaml", &second.replace("keys/acme.json", "../keys/acme.json"));
    let several = "issuer `https://id.acme.example` is trusted by several tenants: each needs a `tenantClaim`";
    assert_eq!(dir.problems(), [format!("keys.d/globex.yaml:12:15: {several}"), format!("tenants.yaml:12:15: {several}")]);
    dir.edit(T, "maxLifetime: 1h", "tenantClaim: org");
    assert_eq!(dir.problems(), [format!("keys.d/globex.yaml:12:15: {several}")]);
    dir.edit("keys.d/globex.yaml", "maxLifetime: 1h", "tenantClaim: org");
    assert_eq!(load(dir.path()).unwrap().registry.issuers["https://id.acme.example"].len(), 2);
    dir.edit("keys.d/globex.yaml", "role: everything", "role: readers");
    assert_eq!(dir.problems(), ["keys.d/globex.yaml:9:9: role `readers` belongs to another tenant"]);
}

#[test]
fn keys() {
    each_is_refused(&[
        (K, "tenant: acme", "tenant: acne", &["api-keys/k1.yaml:5:11: tenant `acne` does not exist, did you mean `acme`?"]),
        (K, "namespace: acme-prod", "namespace: acme-dev", &[
            "api-keys/k1.yaml:3:43: tenant `acme` does not list namespace `acme-dev`",
        ]),
        (K, "role: readers", "role: reader", &["api-keys/k1.yaml:6:9: role `reader` does not exist, did you mean `readers`?"]),
        (K, "models: [gpt, llama-8b]", "models: [gpt, llama]", &["api-keys/k1.yaml:7:17: model `llama` does not exist, known: `gpt`, `llama-8b`, `meta-llama/Llama-3.1-8B-Instruct`"]),
        (K, "name: key-day", "name: gpu-day", &["api-keys/k1.yaml:8:19: plan `small` has a limit `gpu-day` already"]),
        (K, "window: day}", "window: day, scope: tenant}", &[
            "api-keys/k1.yaml:8:78: the limits of a key count that key: `scope` can only be `key`",
        ]),
        (K, "  expiresAt: 2026-02-02T12:00:00Z\n", "", &["api-keys/k1.yaml:5:3: missing field `expiresAt`"]),
        (K, "2026-02-02T12:00:00Z", "2026-02-02", &[
            "api-keys/k1.yaml:10:14: `2026-02-02` is no RFC 3339 instant, as `2026-01-31T12:00:00Z`",
        ]),
        (K, "2026-02-02T12:00:00Z", "2026-02-03T12:00:01Z", &[
            "api-keys/k1.yaml:10:14: `expiresAt` must be after `createdAt`, and at most 72h after it",
        ]),
        (K, "2026-02-02T12:00:00Z", "2026-01-31T12:00:00Z", &[
            "api-keys/k1.yaml:10:14: `expiresAt` must be after `createdAt`, and at most 72h after it",
        ]),
    ]);
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
