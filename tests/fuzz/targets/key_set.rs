//! Key sets: whatever keys an issuer publishes, only the set that holds the signer's key verifies its token.
#![no_main]

use authz_service::identity::jwt::KeySet;
use bulkhead_fuzz::{GENUINE, NOW, PUBLIC, issuers, verify};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|jwks: &[u8]| {
    let Ok(keys) = KeySet::parse(jwks) else { return };
    let written: Value = serde_json::from_slice(jwks).unwrap();
    let written = written["keys"].as_array().unwrap();
    assert!(!format!("{keys:?}").is_empty());
    if verify(&GENUINE, &issuers(keys), NOW).is_ok() {
        assert!(written.iter().any(|key| key["x"] == **PUBLIC && key["kid"] == "k1"));
    }
});
