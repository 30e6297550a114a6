//! Credentials: any text as a token and as an API key, and any two lines as header and payload of a token with a right
//! signature. Nobody gets in but the holder of the one genuine token, and who was signed for what is asked of claims.
#![no_main]

use authz_service::identity::api_key::{ApiKeyText, KeyHash, PREFIX};
use authz_service::identity::jwt::LEEWAY;
use bulkhead_fuzz::{AUDIENCE, GENUINE, ISSUER, ISSUERS, NOW, TENANT, signed, verify};
use gateway_core::denial::Code;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        match verify(text, &ISSUERS, NOW) {
            Ok(_) => assert_eq!(text, *GENUINE),
            // Another kind is for the holders of genuine tokens.
            Err(error) => assert_eq!(error.code(), Code::InvalidCredential),
        }
        if let Ok(key) = ApiKeyText::parse(text) {
            assert_eq!(text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).unwrap().0, key.id);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
            assert_eq!(key.hash, KeyHash::of(text));
        }
    }
    let header_end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, payload) = (&data[..header_end], data.get(header_end + 1..).unwrap_or_default());
    match verify(&signed(header, payload), &ISSUERS, NOW) {
        Ok(identity) => {
            let header: Value = serde_json::from_slice(header).unwrap();
            let claims: Value = serde_json::from_slice(payload).unwrap();
            assert!(matches!(header["alg"].as_str(), Some("EdDSA" | "Ed25519")) && header.get("crit").is_none());
            assert_eq!(
                (identity.tenant.as_str(), &claims["tenant"], &claims["iss"]),
                (TENANT, &TENANT.into(), &ISSUER.into())
            );
            assert_eq!(claims["sub"], Value::from(identity.principal));
            let ours = |audience: &Value| audience == AUDIENCE;
            assert!(ours(&claims["aud"]) || claims["aud"].as_array().is_some_and(|all| all.iter().any(ours)));
            assert!(identity.expires_at + LEEWAY > NOW);
        }
        Err(error) => assert!(matches!(error.code(), Code::InvalidCredential | Code::TenantConflict)),
    }
});
