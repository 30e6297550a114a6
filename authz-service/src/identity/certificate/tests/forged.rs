//! Certificates that claim what nobody vouches for (`reference/security.md` A28), generated where they are a matrix.

use super::*;

const UNVOUCHED: &str = "certificate: no CA of the tenant vouches for it";

#[test]
fn no_ca_speaks_for_another_tenant() {
    let world = World::new();
    let cas = [("acme", &world.acme), ("globex", &world.globex), ("a stranger", &Ca::new("acme"))];
    let ids = ["spiffe://acme.example/a", "spiffe://globex.example/a", "spiffe://initech.example/a"];
    for (at, (who, ca)) in cas.iter().enumerate() {
        for (of, id) in ids.iter().enumerate() {
            let want = match of {
                2 => Err("certificate: unknown trust domain"),
                of if of == at => Ok(Some(((*who).to_owned(), (*id).to_owned()))),
                _ => Err(UNVOUCHED),
            };
            assert_eq!(world.read(&ca.issue(&leaf(&[id]))), want, "{who} says {id}");
        }
    }
}

#[test]
fn exactly_one_uri_and_it_is_a_spiffe_id() {
    let world = World::new();
    let (several, malformed) = ("certificate: not exactly one URI", "certificate: no SPIFFE id");
    let domain = "certificate: unknown trust domain";
    let globex = "spiffe://globex.example/a";
    for (uris, want) in [
        (&[TRAIN, globex][..], several),
        (&[TRAIN, TRAIN], several),
        (&[TRAIN, "https://acme.example"], several),
        (&["https://acme.example", TRAIN], several),
        (&[TRAIN, "spiffe://initech.example/a"], several),
        (&[globex, TRAIN], UNVOUCHED),
        (&["spiffe://initech.example/a", TRAIN], domain),
        (&["SPIFFE://acme.example/workload/train"], malformed),
        (&["spiffe://ACME.example/workload/train"], malformed),
        (&["spiffe://acme.example/workload/train/"], malformed),
        (&["spiffe://acme.example"], malformed),
        (&["spiffe://acme.example/"], malformed),
        (&["spiffe://acme.example//train"], malformed),
        (&["spiffe://acme.example/tenant/acme/../globex"], malformed),
        (&["spiffe://acme.example/%2e%2e/globex"], malformed),
        (&["spiffe://acme.example%2f@globex.example/a"], malformed),
        (&["spiffe://globex.example@acme.example/a"], malformed),
        (&["spiffe://acme.example:443/a"], malformed),
        (&["spiffe://acme.example/a?tenant=globex"], malformed),
        (&["spiffe://acme.example/a#globex"], malformed),
        (&["spiffe://acme.example\0.globex.example/a"], malformed),
        (&["spiffe://acme.example/a\0"], malformed),
        (&["spiffe://*.example/a"], malformed),
        (&["spiffe://acme.example./a"], domain),
        (&["spiffe://.acme.example/a"], domain),
        (&["spiffe://example/a"], domain),
        (&["spiffe:acme.example/a"], malformed),
    ] {
        assert_eq!(world.read(&world.acme.issue(&leaf(uris))), Err(want), "{uris:?}");
    }
}

#[test]
fn times_purposes_and_kinds() {
    let mut world = World::new();
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = leaf(&[TRAIN]);
        change(&mut params);
        params
    };
    for (what, params, want) in [
        ("expired", with(&|one| valid(one, NOW - DAY, NOW - 1)), "certificate: expired"),
        ("not yet valid", with(&|one| valid(one, NOW + 1, NOW + DAY)), "certificate: not yet valid"),
        (
            "for servers",
            with(&|one| one.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            "certificate: not for clients",
        ),
        (
            "for any purpose but clients",
            with(&|one| one.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
            "certificate: not for clients",
        ),
        ("a CA's", with(&|one| one.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "certificate: a CA's"),
    ] {
        assert_eq!(world.read(&world.acme.issue(&params)), Err(want), "{what}");
    }
    let alone = leaf(&[TRAIN]).self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert_eq!(world.read(&spelled(&alone.pem())), Err(UNVOUCHED), "self-signed");
    let own_root = spelled(&world.acme.pem());
    assert_eq!(world.read(&own_root), Ok(None), "the root itself names nobody");
    // A leaf that signs, which only a CA may.
    let signer = KeyPair::generate().unwrap();
    let between = leaf(&[TRAIN]).signed_by(&signer, &world.acme.0).unwrap();
    let issuer = rcgen::Issuer::new(leaf(&[TRAIN]), signer);
    let under = leaf(&["spiffe://acme.example/admin"]).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    assert_eq!(world.read(&spelled(&under.pem())), Err(UNVOUCHED), "under a leaf");
    assert_eq!(
        Bundle::parse(&format!("{}{}", world.acme.pem(), between.pem()), None).unwrap_err(),
        BundleError::NoCa(2)
    );
    // A root whose time is over vouches for nothing.
    let mut old = ca_params("acme");
    valid(&mut old, NOW - DAY, NOW - 1);
    let old = Ca::with(old);
    world.acme_trusts(&old.pem(), None);
    assert_eq!(world.read(&old.issue(&leaf(&[TRAIN]))), Err(UNVOUCHED), "an old root");
}

#[test]
fn no_changed_byte_is_believed() {
    let world = World::new();
    let certificate = world.acme.issue(&leaf(&[TRAIN]));
    assert_eq!(world.read(&certificate), train());
    let der = der(&certificate).unwrap().to_vec();
    for at in 0..der.len() {
        for bit in [1, 0x80] {
            let mut changed = der.clone();
            changed[at] ^= bit;
            let pem = pem_of(&changed);
            assert_ne!(world.read(&spelled(&pem)), train(), "byte {at}");
            assert!(world.read(&spelled(&pem)).is_err() || world.read(&spelled(&pem)) == Ok(None), "byte {at}");
        }
    }
}

fn pem_of(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}
