//! A tenant's CA and what it issues, held against the verifier that requests are decided by.

use gateway_core::name::TenantName;
use rcgen::{CertificateParams, KeyPair, SanType};

use super::*;
use crate::admin::messages::{CertificateState, IssueCertificate, NewCertificateBody};
use crate::identity::certificate::{self, CertificateTrust, Serial};
use crate::store::CertificateCommand;

fn acme() -> TenantName {
    TenantName::parse("acme").unwrap()
}

/// The CA of acme, in acme's bundle.
async fn with_ca() -> (Administration<House>, Arc<House>) {
    let (admin, house) = house();
    let made = admin.create_authority(BY, acme(), false).await.unwrap();
    trust(&house, &made.certificate).await;
    (admin, house)
}

async fn trust(house: &House, bundle: &str) {
    fs::write(house.policies.join("acme.pem"), bundle).unwrap();
    let with = "namespaces: [acme], certificates: {trustDomain: acme.example, bundleFile: acme.pem}}";
    fs::write(house.policies.join("set.yaml"), SET.replacen("namespaces: [acme]}", with, 1)).unwrap();
    house.reload().await.unwrap();
}

fn request(key: &KeyPair) -> String {
    // What it asks for is not what it gets.
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://globex.example/admin".try_into().unwrap())];
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn asked(path: &str, ttl: &str, request: &str) -> Result<IssueCertificate, AdminError> {
    let (tenant, path) = ("acme".into(), path.into());
    NewCertificateBody { tenant, path, ttl: Some(ttl.into()), request: request.into() }.try_into()
}

/// Whom the running service takes the holder for.
fn read(house: &House, pem: &str, now: Timestamp) -> Result<String, &'static str> {
    let (registry, revoked) = (house.registry(), house.revoked.lock().unwrap().clone());
    let trust = CertificateTrust { domains: &registry.trust_domains, revoked: &revoked };
    let spelled = pem.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B");
    let read = certificate::read(&spelled, &trust, now).map_err(|error| error.reason())?;
    Ok(read.map(|holder| format!("{} {}", holder.tenant, holder.principal)).unwrap_or_default())
}

#[tokio::test]
async fn a_ca_issues_what_its_own_tenants_bundle_vouches_for() {
    let (admin, house) = with_ca().await;
    let key = KeyPair::generate().unwrap();
    let issued = admin.issue_certificate(BY, asked("/workload/train", "1h", &request(&key)).unwrap()).await.unwrap();
    assert_eq!(issued.spiffe_id, "spiffe://acme.example/workload/train");
    let now = Timestamp::now();
    let lives = issued.expires_at.duration_since(now).as_secs();
    assert!((3590..=3600).contains(&lives), "{lives}");
    assert_eq!(read(&house, &issued.certificate, now), Ok("acme spiffe://acme.example/workload/train".into()));
    assert_eq!(read(&house, &issued.certificate, issued.expires_at), Err("certificate: expired"));
    let before = now - Duration::from_secs(70);
    assert_eq!(read(&house, &issued.certificate, before), Err("certificate: not yet valid"));

    let serial = Serial::parse(&issued.serial).unwrap();
    admin.revoke_certificate(BY, acme(), serial.clone()).await.unwrap();
    assert_eq!(read(&house, &issued.certificate, Timestamp::now()), Err("certificate: revoked here"));
    admin.revoke_certificate(BY, acme(), serial).await.unwrap();
    let unknown = Serial::parse("0BAD").unwrap();
    admin.revoke_certificate(BY, acme(), unknown).await.unwrap();
    let rows = admin.list_certificates(Some(acme())).await.unwrap();
    let mut rows: Vec<_> = rows.iter().map(|row| (&*row.serial, row.state, row.spiffe_id.is_some())).collect();
    rows.sort_by_key(|row| !row.2);
    assert_eq!(rows, [(&*issued.serial, CertificateState::Revoked, true), ("bad", CertificateState::Revoked, false)]);
    let globex = TenantName::parse("globex").unwrap();
    assert!(admin.list_certificates(Some(globex)).await.unwrap().is_empty());

    let page = admin.audit(None, 100).await.unwrap();
    let text: Vec<&str> = page.records.iter().map(|record| record.get()).collect();
    let told = |code: &str, detail: &str| text.iter().any(|line| line.contains(code) && line.contains(detail));
    assert!(told("authority.create", "version 1") && told("certificate.revoke", &issued.serial), "{text:?}");
    assert!(
        told("certificate.issue", &format!("serial {}, {}, expires ", issued.serial, issued.spiffe_id)),
        "{text:?}"
    );
    assert!(!text.concat().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_new_ca_replaces_the_old_one_on_request_only() {
    let (admin, house) = with_ca().await;
    let again = admin.create_authority(BY, acme(), false).await.unwrap_err();
    assert_eq!(again.to_string(), "tenant `acme` has a CA already: `--replace` makes a new one");
    let key = KeyPair::generate().unwrap();
    let old = admin.issue_certificate(BY, asked("/a", "1h", &request(&key)).unwrap()).await.unwrap();
    let made = admin.create_authority(BY, acme(), true).await.unwrap();
    assert_eq!(made.version, 2);
    let new = admin.issue_certificate(BY, asked("/a", "1h", &request(&key)).unwrap()).await.unwrap();
    assert!(new.authority == made.certificate && old.authority != new.authority);
    let unvouched = Err("certificate: no CA of the tenant vouches for it");
    assert_eq!(read(&house, &new.certificate, Timestamp::now()), unvouched, "not in the bundle yet");
    trust(&house, &made.certificate).await;
    assert_eq!(read(&house, &new.certificate, Timestamp::now()), Ok("acme spiffe://acme.example/a".into()));
    assert_eq!(read(&house, &old.certificate, Timestamp::now()), unvouched, "no longer in it");
}

#[tokio::test]
async fn what_may_not_be_issued_is_refused_with_its_reason() {
    let (admin, _house) = with_ca().await;
    let good = request(&KeyPair::generate().unwrap());
    for ttl in ["59s", "24h1s", "25h", "0s", "-1h", "", "forever"] {
        let error = asked("/a", ttl, &good).unwrap_err().to_string();
        assert_eq!(error, format!("ttl `{ttl}` is not a duration from 1m to 24h"));
    }
    for path in
        ["", "/", "a", "a/b", "/a/", "/a//b", "/../globex", "/a%2f", "/a?b", "/a b", ".globex.example/a", "@x/a"]
    {
        let error = admin.issue_certificate(BY, asked(path, "1h", &good).unwrap()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("path `{path}` is not segments of")), "{path}: {error}");
    }
    let mut forged = good.clone();
    let middle = good.len() / 2;
    forged.replace_range(middle..=middle, if good.as_bytes()[middle] == b'A' { "B" } else { "A" });
    let weak = request(&KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap());
    let no_request = "the request is not PKCS #10 in PEM, or it is not signed by the key that it is for";
    let no_key = "the request's key is none of ECDSA P-256, ECDSA P-384 and Ed25519";
    for (request, want) in [("", no_request), ("hello", no_request), (&*forged, no_request), (&*weak, no_key)] {
        let error = admin.issue_certificate(BY, asked("/a", "1h", request).unwrap()).await.unwrap_err();
        assert_eq!((error.row().0, error.to_string()), (400, want.into()), "{request}");
    }
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let request = request(&KeyPair::generate_for(algorithm).unwrap());
        admin.issue_certificate(BY, asked("/a", "24h", &request).unwrap()).await.unwrap();
    }
    let globex = IssueCertificate { tenant: TenantName::parse("globex").unwrap(), ..asked("/a", "1h", &good).unwrap() };
    let error = admin.issue_certificate(BY, globex).await.unwrap_err().to_string();
    assert_eq!(error, "tenant `globex` has no `certificates.trustDomain`");
}

#[tokio::test]
async fn a_cas_key_opens_for_its_own_tenant_alone() {
    let (admin, house) = with_ca().await;
    let row = house.reader.authority("acme").unwrap().unwrap();
    let stolen = crate::store::AuthorityRow { tenant: "globex".into(), ..row };
    let other = admin.create_authority(BY, TenantName::parse("globex").unwrap(), true).await.unwrap();
    fs::write(house.policies.join("globex.pem"), other.certificate).unwrap();
    let stolen = crate::store::AuthorityRow { version: 3, ..stolen };
    house.store.write(Command::Certificate(Box::new(CertificateCommand::Authority(stolen)))).await.unwrap();
    let set = fs::read_to_string(house.policies.join("set.yaml")).unwrap();
    let with = "namespaces: [elsewhere], certificates: {trustDomain: globex.example, bundleFile: globex.pem}}";
    fs::write(house.policies.join("set.yaml"), set.replacen("namespaces: [elsewhere]}", with, 1)).unwrap();
    house.reload().await.unwrap();
    let good = asked("/a", "1h", &request(&KeyPair::generate().unwrap())).unwrap();
    let globex = IssueCertificate { tenant: TenantName::parse("globex").unwrap(), ..good };
    let error = admin.issue_certificate(BY, globex).await.unwrap_err().to_string();
    assert_eq!(error, "the key of tenant `globex`'s CA cannot be opened");
}
