//! A tenant's trust domain: what it compiles to, and every way to write it wrong.

use gateway_core::name::{ModelName, TenantName};

use super::*;
use crate::identity::certificate::tests::{Ca, leaf};
use crate::registry::EndpointKind;

const GLOBEX: &str = "\
apiVersion: bulkhead.dev/v1alpha1
kind: Tenant
metadata: {name: globex}
spec:
  plan: small
  models: [gpt]
  regions: [eu-west]
  certificates:
    trustDomain: globex.example
    bundleFile: certificates/globex.pem
";

/// The whole set, and both tenants with a CA.
fn certified() -> (Dir, Ca) {
    let (dir, acme) = (Dir::whole(), Ca::new("acme"));
    let with = "  issuers:\n";
    let certificates = "  certificates:\n    trustDomain: acme.example\n    bundleFile: certificates/acme.pem\n";
    dir.edit("tenants.yaml", with, &format!("{certificates}{with}"));
    dir.write("certificates/acme.pem", &acme.pem());
    dir.write("certificates/globex.pem", &Ca::new("globex").pem());
    dir.write("globex.yaml", GLOBEX);
    (dir, acme)
}

#[test]
fn a_trust_domain_is_one_tenants_and_is_kept() {
    let (dir, acme) = certified();
    let Loaded { registry, sources } = load(dir.path()).unwrap();
    let domain = &registry.trust_domains["acme.example"];
    assert_eq!((domain.name.as_str(), domain.tenant.as_str()), ("acme.example", "acme"));
    assert_eq!(registry.trust_domains["globex.example"].tenant, TenantName::parse("globex").unwrap());
    assert_eq!((&domain.permits.models, &domain.permits.endpoints), (&None, &None));
    for file in ["tenants.yaml", "globex.yaml", "certificates/acme.pem", "certificates/globex.pem"] {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    let again = from_sources(&Sources::from_bytes(&sources.to_bytes().unwrap()).unwrap(), dir.path()).unwrap();
    assert_eq!(again.registry.version, registry.version);
    assert_eq!(again.registry.trust_domains.len(), 2);

    let (dir, _) = certified();
    let before = load(dir.path()).unwrap().registry.version;
    dir.write("certificates/acme.pem", &format!("{}{}", acme.pem(), Ca::new("acme").pem()));
    assert_ne!(load(dir.path()).unwrap().registry.version, before, "a bundle is part of the version");
}

#[test]
fn a_role_and_lists_narrow_it() {
    let (dir, _) = certified();
    dir.edit("tenants.yaml", "acme.pem\n", "acme.pem\n    role: readers\n    endpoints: [chat]\n");
    let Loaded { registry, .. } = load(dir.path()).unwrap();
    let permits = &registry.trust_domains["acme.example"].permits;
    assert_eq!(permits.models, Some([ModelName::parse("gpt").unwrap()].into()));
    assert_eq!(permits.endpoints, Some([EndpointKind::Chat].into()));
}

#[test]
fn what_is_wrong_stands_at_its_place() {
    let (_, stray) = certified();
    let leaf = stray.issue(&leaf(&["spiffe://acme.example/a"])).replace("%0A", "\n").replace("%20", " ");
    let leaf = leaf.replace("%2B", "+").replace("%3D", "=").replace("%2F", "/");
    for (file, from, to, want) in [
        (
            "globex.yaml",
            "globex.example",
            "acme.example",
            &["tenants.yaml:12:18: trust domain `acme.example` is there already: globex.yaml:9"][..],
        ),
        (
            "globex.yaml",
            "globex.example",
            "Globex.example",
            &[
                "globex.yaml:9:18: `Globex.example` is no SPIFFE trust domain: 1 to 255 of a-z, 0-9, `.`, `-` and `_`, without scheme and path",
            ],
        ),
        (
            "globex.yaml",
            "globex.example",
            "spiffe://globex.example",
            &[
                "globex.yaml:9:18: `spiffe://globex.example` is no SPIFFE trust domain: 1 to 255 of a-z, 0-9, `.`, `-` and `_`, without scheme and path",
            ],
        ),
        (
            "globex.yaml",
            "globex.pem",
            "acme.pem",
            &[
                "tenants.yaml:13:17: `bundleFile`: `certificates/acme.pem` holds a root of tenant `globex`'s too: a CA speaks for one tenant",
            ],
        ),
        (
            "globex.yaml",
            "globex.pem",
            "none.pem",
            &["globex.yaml:10:17: `bundleFile`: `certificates/none.pem` does not exist"],
        ),
        (
            "globex.yaml",
            "certificates/globex.pem",
            "../globex.pem",
            &["globex.yaml:10:17: `bundleFile`: `../globex.pem` leads out of the directory"],
        ),
        (
            "certificates/globex.pem",
            "BEGIN CERTIFICATE",
            "BEGIN NOTHING",
            &["globex.yaml:10:17: `bundleFile`: `certificates/globex.pem` certificate 1 cannot be read"],
        ),
        (
            "certificates/globex.pem",
            "-----BEGIN",
            &*format!("{leaf}-----BEGIN"),
            &["globex.yaml:10:17: `bundleFile`: `certificates/globex.pem` certificate 1 is no CA's"],
        ),
        (
            "globex.yaml",
            "globex.pem\n",
            "globex.pem\n    revocationsFile: certificates/globex.pem\n",
            &["globex.yaml:11:22: `revocationsFile`: `certificates/globex.pem` holds no revocation list in PEM"],
        ),
        (
            "globex.yaml",
            "bundleFile:",
            "bundle:",
            &[
                "globex.yaml:9:5: missing field `bundleFile`",
                "globex.yaml:10:5: unknown field `bundle`, known: `trustDomain`, `bundleFile`, `revocationsFile`, `role`, `models`, `endpoints`",
            ],
        ),
        (
            "globex.yaml",
            "globex.pem\n",
            "globex.pem\n    role: reeders\n",
            &["globex.yaml:11:11: role `reeders` does not exist, did you mean `readers`?"],
        ),
    ] {
        let (dir, _) = certified();
        dir.edit(file, from, to);
        assert_eq!(dir.problems(), want, "{file}: {to}");
    }
}
