//! Certificates: any bytes as a client's certificate, as a bundle, as `x-forwarded-client-cert` and as a SPIFFE id. Nobody is
//! let in: no CA of the one tenant has signed any of them for this time.
#![no_main]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use authz_service::identity::certificate::{self, Bundle, CertificateTrust, RevokedSerials, Serial};
use authz_service::identity::forwarded;
use authz_service::identity::spiffe::SpiffeId;
use authz_service::registry::{Permits, TrustDomain};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_fuzz::{NOW, TENANT};
use gateway_core::denial::Code;
use gateway_core::name::TenantName;
use libfuzzer_sys::fuzz_target;

/// The root of a CA whose key is gone; `seeds/certificate/leaf` is signed by it, and its time is over by [`NOW`].
const ROOT: &str = include_str!("../seeds/certificate/bundle");

static DOMAINS: LazyLock<HashMap<String, Arc<TrustDomain>>> = LazyLock::new(|| {
    let name = "acme.example".to_owned();
    let bundle = Bundle::parse(ROOT, None).unwrap();
    let tenant = TenantName::parse(TENANT).unwrap();
    HashMap::from([(name.clone(), Arc::new(TrustDomain { name, tenant, bundle, permits: Permits::default() }))])
});

fuzz_target!(|data: &[u8]| {
    let now = jiff::Timestamp::from_second(NOW as i64).unwrap();
    let trust = CertificateTrust { domains: &DOMAINS, revoked: &RevokedSerials::new() };
    let refused = |text: &str| match certificate::read(text, &trust, now) {
        Ok(named) => assert!(named.is_none()),
        Err(error) => assert_eq!(error.code(), Code::InvalidCredential),
    };
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(data));
    refused(&pem.replace('+', "%2B"));
    let _ = Bundle::parse(&pem, None);
    let list = format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", STANDARD.encode(data));
    let _ = Bundle::parse(ROOT, Some(&list));
    let Ok(text) = std::str::from_utf8(data) else { return };
    refused(text);
    let _ = Bundle::parse(text, Some(text));
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!((id.as_str(), text.split('/').nth(2)), (text, Some(id.trust_domain())));
    }
    if let Some(serial) = Serial::parse(text) {
        assert_eq!(Serial::parse(serial.as_str()).unwrap_or(serial.clone()), serial);
    }
    if let Ok(forwarded) = forwarded::certificate(text) {
        refused(forwarded);
        assert!(text.contains(forwarded) && text.contains("Cert="));
        for more in [format!("{text},{text}"), format!("{text},"), format!("{text};Cert=\"x\""), format!("{text} ")] {
            assert!(forwarded::certificate(&more).is_err());
        }
    }
});
