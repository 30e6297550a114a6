//! Certificates of two tenants, and every way for one not to prove what it says. What each is refused for is checked by
//! its reason, so that no case is refused for another's.

mod forged;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};

use super::*;

/// 2026-11-22T12:00:00Z.
const NOW: i64 = 1_795_348_800;
const DAY: i64 = 86_400;
pub(crate) const TRAIN: &str = "spiffe://acme.example/workload/train";

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// A CA, whose key signs what tests want.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// Valid from a day before until a day after [`NOW`].
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    valid(&mut params, NOW - DAY, NOW + DAY);
    params
}

fn valid(params: &mut CertificateParams, from: i64, to: i64) {
    let at = |second: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(second).unwrap());
    (params.not_before, params.not_after) = (at(from), at(to));
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(crate) fn leaf(uris: &[&str]) -> CertificateParams {
    let mut params = params("client");
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from_slice(&[0x5a, 1]));
    params
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(ca_params(name))
    }

    fn with(params: CertificateParams) -> Self {
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn intermediate(&self, params: CertificateParams) -> Self {
        Self(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate as Envoy spells it.
    pub(crate) fn issue(&self, params: &CertificateParams) -> String {
        spelled(&params.signed_by(&KeyPair::generate().unwrap(), &self.0).unwrap().pem())
    }

    /// A list of what it revoked, by serial.
    fn revoked(&self, serials: &[&[u8]], until: i64) -> String {
        let at = |second: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(second).unwrap());
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: at(NOW - 60),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: at(NOW - DAY),
            next_update: at(until),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

fn spelled(pem: &str) -> String {
    pem.bytes().fold(String::new(), |text, byte| match byte {
        b'\n' => text + "%0A",
        b' ' => text + "%20",
        b'+' => text + "%2B",
        b'=' => text + "%3D",
        b'/' => text + "%2F",
        other => text + &char::from(other).to_string(),
    })
}

fn domain(name: &str, tenant: &str, bundle: Bundle) -> (String, Arc<TrustDomain>) {
    let tenant = TenantName::parse(tenant).unwrap();
    (name.to_owned(), Arc::new(TrustDomain { name: name.to_owned(), tenant, bundle, permits: Permits::default() }))
}

pub(crate) struct World {
    pub(crate) acme: Ca,
    pub(crate) globex: Ca,
    pub(crate) domains: HashMap<String, Arc<TrustDomain>>,
    revoked: RevokedSerials,
}

impl World {
    pub(crate) fn new() -> Self {
        let (acme, globex) = (Ca::new("acme"), Ca::new("globex"));
        let domains = HashMap::from([
            domain("acme.example", "acme", Bundle::parse(&acme.pem(), None).unwrap()),
            domain("globex.example", "globex", Bundle::parse(&globex.pem(), None).unwrap()),
        ]);
        Self { acme, globex, domains, revoked: RevokedSerials::new() }
    }

    fn acme_trusts(&mut self, bundle: &str, lists: Option<&str>) {
        self.domains.extend([domain("acme.example", "acme", Bundle::parse(bundle, lists).unwrap())]);
    }

    pub(crate) fn read_at(
        &self,
        certificate: &str,
        now: Timestamp,
    ) -> Result<Option<CertificateIdentity>, &'static str> {
        let trust = CertificateTrust { domains: &self.domains, revoked: &self.revoked };
        read(certificate, &trust, now).map_err(|error| error.reason())
    }

    /// Whom it names, or why nobody believes it.
    pub(crate) fn read(&self, certificate: &str) -> Result<Option<(String, String)>, &'static str> {
        let named = self.read_at(certificate, now())?;
        Ok(named.map(|identity| (identity.tenant.to_string(), identity.principal)))
    }
}

pub(crate) fn train() -> Result<Option<(String, String)>, &'static str> {
    Ok(Some(("acme".into(), TRAIN.into())))
}

#[test]
fn the_thumbprint_is_of_the_der_form() {
    let pem = "-----BEGIN%20CERTIFICATE-----%0AAAEC%2Bw%3D%3D%0A-----END%20CERTIFICATE-----%0A";
    let expected = URL_SAFE_NO_PAD.encode(Sha256::digest([0, 1, 2, 0xfb]));
    assert_eq!(thumbprint(pem), Some(expected));
    let long = format!("{pem}{}", "%0A".repeat(MAX_BYTES / 3));
    for none in [
        "",
        "%",
        "%2",
        "%zz",
        "AAEC",
        "-----BEGIN%20CERTIFICATE-----%0A",
        "-----BEGIN%20PRIVATE%20KEY-----%0AAAEC%0A-----END%20PRIVATE%20KEY-----%0A",
        &format!("{pem}{pem}"),
        &long,
    ] {
        assert_eq!(thumbprint(none), None, "{none}");
    }
}

#[test]
fn a_certificate_is_who_its_tenants_ca_says() {
    let world = World::new();
    assert_eq!(world.read(&world.acme.issue(&leaf(&[TRAIN]))), train());
    let globex = world.globex.issue(&leaf(&["spiffe://globex.example/a"]));
    assert_eq!(world.read(&globex), Ok(Some(("globex".into(), "spiffe://globex.example/a".into()))));
    // Another name beside the one URI claims nothing; without a purpose it is for all of them.
    let mut beside = leaf(&[TRAIN]);
    beside.subject_alt_names.push(SanType::DnsName("train.acme.example".try_into().unwrap()));
    beside.extended_key_usages.clear();
    assert_eq!(world.read(&world.acme.issue(&beside)), train());
    let expires = world.read_at(&world.acme.issue(&leaf(&[TRAIN])), now()).unwrap().unwrap().expires_at;
    assert_eq!(expires.as_second(), NOW + DAY + 1, "`notAfter` is its last second");
}

#[test]
fn one_that_names_nobody_is_told_apart() {
    let world = World::new();
    let mut names = leaf(&[]);
    names.subject_alt_names.push(SanType::DnsName("spiffe.acme.example".try_into().unwrap()));
    for (what, params) in [
        ("no name", leaf(&[])),
        ("a host", names),
        ("another scheme", leaf(&["https://acme.example/workload/train"])),
        ("no scheme", leaf(&["acme.example/a"])),
    ] {
        assert_eq!(world.read(&world.acme.issue(&params)), Ok(None), "{what}");
    }
}

#[test]
fn the_bundle_decides_and_time_and_revocation_are_looked_at_each_time() {
    let mut world = World::new();
    let certificate = world.acme.issue(&leaf(&[TRAIN]));
    let at = |world: &World, second: i64| {
        let read = world.read_at(&certificate, Timestamp::from_second(second).unwrap());
        read.map(|named| named.is_some())
    };
    // Remembered by then.
    for _ in 0..2 {
        assert_eq!(at(&world, NOW - DAY - 1), Err("certificate: not yet valid"));
        assert_eq!((at(&world, NOW - DAY), at(&world, NOW), at(&world, NOW + DAY)), (Ok(true), Ok(true), Ok(true)));
        assert_eq!(at(&world, NOW + DAY + 1), Err("certificate: expired"));
    }
    world.revoked.insert((TenantName::parse("globex").unwrap(), Serial::parse("5a01").unwrap()));
    assert_eq!(at(&world, NOW), Ok(true), "another tenant's");
    world.revoked.insert((TenantName::parse("acme").unwrap(), Serial::parse("5A:01").unwrap()));
    assert_eq!(at(&world, NOW), Err("certificate: revoked here"));
}

#[test]
fn what_the_ca_revoked_is_refused_and_so_is_all_once_its_list_is_old() {
    let mut world = World::new();
    let certificate = world.acme.issue(&leaf(&[TRAIN]));
    let mut other = leaf(&[TRAIN]);
    other.serial_number = Some(SerialNumber::from_slice(&[7]));
    let other = world.acme.issue(&other);
    let (pem, list) = (world.acme.pem(), world.acme.revoked(&[&[0x5a, 1]], NOW + 60));
    world.acme_trusts(&pem, Some(&list));
    assert_eq!(world.read(&certificate), Err("certificate: revoked"));
    assert_eq!(world.read(&other), train());
    let later = Timestamp::from_second(NOW + 61).unwrap();
    assert_eq!(world.read_at(&other, later).unwrap_err(), "certificate: the revocation list is too old");
    // A list of another CA says nothing of this one, and one that another CA signed is none.
    let foreign = Ca::new("acme").revoked(&[&[9]], NOW + 60);
    world.acme_trusts(&pem, Some(&foreign));
    assert!(world.read(&other).is_err());
    let stranger = world.globex.revoked(&[&[9]], NOW + 60);
    world.acme_trusts(&pem, Some(&stranger));
    assert_eq!(world.read(&other), Err("certificate: its CA has no revocation list"));
}

#[test]
fn an_intermediate_leads_from_a_leaf_to_its_root() {
    let mut world = World::new();
    let intermediate = world.acme.intermediate(ca_params("acme intermediate"));
    let certificate = intermediate.issue(&leaf(&[TRAIN]));
    assert_eq!(world.read(&certificate), Err("certificate: no CA of the tenant vouches for it"), "not in the bundle");
    let (root, between) = (world.acme.pem(), intermediate.pem());
    world.acme_trusts(&format!("{between}{root}"), None);
    assert_eq!(world.read(&certificate), train());
    assert_eq!(Bundle::parse(&between, None).unwrap_err(), BundleError::NoRoot);
    let mut late = ca_params("acme intermediate");
    valid(&mut late, NOW - DAY, NOW + 10);
    let late = world.acme.intermediate(late);
    let certificate = late.issue(&leaf(&[TRAIN]));
    let both = format!("{}{root}", late.pem());
    world.acme_trusts(&both, None);
    let at = |second| world.read_at(&certificate, Timestamp::from_second(second).unwrap()).map(|named| named.is_some());
    assert_eq!((at(NOW + 10), at(NOW + 11)), (Ok(true), Err("certificate: expired")), "remembered no longer");
}

#[test]
fn a_bundle_holds_cas_and_nothing_else() {
    let world = World::new();
    let own = KeyPair::generate().unwrap();
    let leaf_pem = leaf(&[TRAIN]).self_signed(&own).unwrap().pem();
    let endless = "-----BEGIN X509 CRL-----\nAAEC\n-----END X509 CRL-----\n";
    for (cas, lists, want) in [
        ("", None, BundleError::Empty("certificate")),
        ("hello", None, BundleError::Empty("certificate")),
        (&*leaf_pem, None, BundleError::NoCa(1)),
        (&*format!("{}{leaf_pem}", world.acme.pem()), None, BundleError::NoCa(2)),
        (&*world.acme.pem().repeat(65), None, BundleError::TooMany),
        (
            "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n",
            None,
            BundleError::Unreadable("certificate", 1),
        ),
        (&*world.acme.pem(), Some(""), BundleError::Empty("revocation list")),
        (&*world.acme.pem(), Some(endless), BundleError::Unreadable("revocation list", 1)),
    ] {
        assert_eq!(Bundle::parse(cas, lists).unwrap_err(), want);
    }
}

#[test]
fn serials_have_one_spelling() {
    let digits = |text: &str| Serial::parse(text).map(|serial| serial.as_str().to_owned());
    assert_eq!(digits("00:5A:01"), Some("5a01".into()));
    assert_eq!((Serial::of(&[0, 0x5a, 1]), Serial::of(&[0x0a])), (Serial("5a01".into()), Serial("a".into())));
    for bad in ["", ":", "5g", "0x5a", "5a 01", &"5".repeat(65)] {
        assert_eq!(digits(bad), None, "{bad:?}");
    }
}
