//! Tenants, roles and issuers that do not hold together.

use super::*;

#[test]
fn tenants() {
    each_is_refused(&[
        (
            T,
            "name: acme",
            "name: root",
            &[
                "api-keys/k1.yaml:5:11: tenant `acme` does not exist, known: `root`",
                "tenants.yaml:3:18: `root` is reserved",
                "tenants.yaml:26:11: tenant `acme` does not exist, known: `root`",
            ],
        ),
        (T, "plan: small", "plan: smal", &["tenants.yaml:5:9: plan `smal` does not exist, did you mean `small`?"]),
        (
            T,
            "[llama-8b, gpt]",
            "[llama-8c, gpt]",
            &["tenants.yaml:6:12: model `llama-8c` does not exist, did you mean `llama-8b`?"],
        ),
        (
            T,
            "regions: [eu-west]",
            "regions: [eu-west, eu-wset]",
            &["tenants.yaml:7:22: region `eu-wset` has no provider, did you mean `eu-west`?"],
        ),
        (
            T,
            "regions: [eu-west]",
            "regions: []",
            &[
                "tenants.yaml:6:12: no provider in this tenant's regions serves model `llama-8b`",
                "tenants.yaml:6:22: no provider in this tenant's regions serves model `gpt`",
            ],
        ),
        (
            T,
            "Europe/Berlin",
            "Europe/Berln",
            &["tenants.yaml:8:13: `Europe/Berln` is no IANA time zone, as `Europe/Berlin`"],
        ),
        (
            T,
            "role: everything",
            "role: everythin",
            &["tenants.yaml:9:9: role `everythin` does not exist, did you mean `everything`?"],
        ),
        (T, "audiences: [bulkhead]", "audiences: []", &["tenants.yaml:13:18: `audiences` must hold at least one"]),
        (
            T,
            "maxLifetime: 1h",
            "maxLifetime: 31d",
            &["tenants.yaml:15:20: `31d` is out of range: more than 0, at most 30d"],
        ),
        (
            T,
            "tenant: acme",
            "tenant: acmee",
            &[
                "api-keys/k1.yaml:6:9: role `readers` belongs to another tenant",
                "tenants.yaml:26:11: tenant `acmee` does not exist, did you mean `acme`?",
            ],
        ),
        (
            T,
            "name: readers",
            "name: everything",
            &[
                "api-keys/k1.yaml:6:9: role `readers` does not exist, known: `auditor`, `data-scientist`, `developer`, `everything`, `member`, `platform-operator`, `service`, `tenant-admin`",
                "tenants.yaml:24:18: role `everything` is there already: tenants.yaml:19",
            ],
        ),
        (T, "models: [gpt]", "models: [gtp]", &["tenants.yaml:27:12: model `gtp` does not exist, did you mean `gpt`?"]),
        (
            T,
            "endpoints: [models, chat]",
            "endpoints: [models, chats]",
            &["tenants.yaml:28:23: unknown value `chats`, did you mean `chat`?"],
        ),
    ]);
}

#[test]
fn issuers() {
    each_is_refused(&[
        (T, "keys/acme.json", "keys/acm.json", &["tenants.yaml:14:17: `jwksFile`: `keys/acm.json` does not exist"]),
        (
            T,
            "keys/acme.json",
            "../acme.json",
            &["tenants.yaml:14:17: `jwksFile`: `../acme.json` leads out of the directory"],
        ),
        (
            T,
            "keys/acme.json",
            "/etc/passwd",
            &["tenants.yaml:14:17: `jwksFile`: `/etc/passwd` leads out of the directory"],
        ),
        (
            T,
            "maxLifetime: 1h",
            "maxLifetime: 1h\n    - {issuer: https://id.acme.example, audiences: [b], jwksFile: keys/acme.json, tenantClaim: org}",
            &[
                "tenants.yaml:12:15: issuer `https://id.acme.example` is trusted by several tenants: each needs a `tenantClaim`",
                "tenants.yaml:16:16: issuer `https://id.acme.example` is there already",
            ],
        ),
    ]);
    let dir = Dir::whole();
    dir.write("keys/acme.json", &format!("{JWKS}{}", " ".repeat(64 * 1024)));
    assert_eq!(dir.problems(), ["tenants.yaml:14:17: `jwksFile`: `keys/acme.json` is larger than 65536 bytes"]);
    dir.write("keys/acme.json", "no");
    let problems = dir.problems();
    assert!(
        problems.len() == 1 && problems[0].starts_with("tenants.yaml:14:17: `jwksFile`: `keys/acme.json`: "),
        "{problems:?}"
    );
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
    assert_eq!(
        dir.problems(),
        [format!("keys.d/globex.yaml:12:15: {several}"), format!("tenants.yaml:12:15: {several}")]
    );
    dir.edit(T, "maxLifetime: 1h", "tenantClaim: org");
    assert_eq!(dir.problems(), [format!("keys.d/globex.yaml:12:15: {several}")]);
    dir.edit("keys.d/globex.yaml", "maxLifetime: 1h", "tenantClaim: org");
    assert_eq!(load(dir.path()).unwrap().registry.issuers["https://id.acme.example"].len(), 2);
    dir.edit("keys.d/globex.yaml", "role: everything", "role: readers");
    assert_eq!(dir.problems(), ["keys.d/globex.yaml:9:9: role `readers` belongs to another tenant"]);
}

#[test]
fn issuers_that_publish_their_keys() {
    each_is_refused(&[
        (
            T,
            "jwksFile: keys/acme.json",
            "tenantClaim: org",
            &[
                "tenants.yaml:12:15: its keys are nowhere: `jwksFile` names a file, `discovery: {}` has the issuer asked",
            ],
        ),
        (T, "maxLifetime: 1h", "discovery: {}", &["tenants.yaml:12:15: `jwksFile` and `discovery` exclude each other"]),
        (
            T,
            "issuer: https://id.acme.example\n      audiences: [bulkhead]\n      jwksFile: keys/acme.json",
            "issuer: http://id.acme.example\n      audiences: [bulkhead]\n      discovery: {}",
            &[
                "tenants.yaml:12:15: `http://id.acme.example` is not https: without it only the addresses of `privateAddresses` are asked",
            ],
        ),
        (
            T,
            "issuer: https://id.acme.example\n      audiences: [bulkhead]\n      jwksFile: keys/acme.json",
            "issuer: https://id.acme.example/?a=b\n      audiences: [bulkhead]\n      discovery: {}",
            &["tenants.yaml:12:15: `https://id.acme.example/?a=b` has a query: it cannot be asked"],
        ),
        (
            T,
            "jwksFile: keys/acme.json",
            "discovery: {refresh: 500ms, maxStale: 2d, privateAddresses: [10.0.0.1/8, any]}",
            &[
                "tenants.yaml:14:28: `500ms` is out of range: at least 1s, at most 1d",
                "tenants.yaml:14:45: `2d` is out of range: more than 0, at most 1d",
                "tenants.yaml:14:68: `10.0.0.1/8` is no block of addresses, as `10.1.0.0/16` or `::1/128`",
                "tenants.yaml:14:80: `any` is no block of addresses, as `10.1.0.0/16` or `::1/128`",
            ],
        ),
        (
            T,
            "jwksFile: keys/acme.json",
            "discovery: {refresh: 1h, maxStale: 5m}",
            &[
                "tenants.yaml:12:15: `maxStale` is shorter than `refresh`: good tokens would be refused between two readings",
            ],
        ),
        (
            T,
            "maxLifetime: 1h",
            "scopeClaim: scp",
            &["tenants.yaml:15:19: `scopeClaim` needs `scopes`, which say what a scope permits"],
        ),
        (
            T,
            "maxLifetime: 1h",
            "scopes: [{scope: a, role: readers}, {scope: a, role: everything}]",
            &["tenants.yaml:15:51: scope `a` is there already"],
        ),
        (
            T,
            "maxLifetime: 1h",
            "scopes: [{scope: a, role: readrs}]",
            &["tenants.yaml:15:33: role `readrs` does not exist, did you mean `readers`?"],
        ),
    ]);
}
