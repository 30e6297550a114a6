//! Heads, as `METHOD path authority` and lines of `name: value`: what passes has one reading, at most one credential,
//! and a claim that is a name.
#![no_main]

use bulkhead_fuzz::head;
use gateway_core::claims::agree_tenant;
use gateway_core::headers::{CREDENTIAL_CARRIERS, Credential, Head, check};
use gateway_core::name::TenantName;
use gateway_core::target::{MAX_TARGET_BYTES, check_authority, check_path};
use gateway_core::wire::{CLAIM_HEADER, RESERVED_PREFIX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    head(data, |head| {
        if check(head, CLAIM_HEADER).is_ok() {
            assert_unambiguous(head);
        }
    });
});

fn assert_unambiguous(head: &Head<'_>) {
    let checked = check(head, CLAIM_HEADER).unwrap();
    assert!(matches!(head.method, "GET" | "POST"));
    assert_eq!(check_path(head.path), Ok((checked.path, checked.query)));
    assert_eq!(check_authority(head.authority), Ok(()));
    assert!(head.path.len() <= MAX_TARGET_BYTES && checked.path.starts_with('/'));
    assert!(!checked.path.contains("//") && !checked.path.contains(['%', ';', '\\', '#', '?', ' ', '{', '}']));
    assert!(checked.path.bytes().all(|b| b.is_ascii_graphic()));
    assert!(checked.path.split('/').all(|segment| segment != "." && segment != ".."));
    assert!(head.headers.iter().all(|(name, _)| !name.starts_with(RESERVED_PREFIX) && !name.contains('_')));

    let carried: Vec<&[u8]> =
        head.headers.iter().filter(|(name, _)| CREDENTIAL_CARRIERS.contains(name)).map(|(_, value)| *value).collect();
    match checked.credential {
        Credential::None => assert!(carried.is_empty()),
        Credential::Bearer(secret) | Credential::ApiKey(secret) => {
            assert!(carried.len() == 1 && carried[0].ends_with(secret.as_bytes()));
            assert!(!secret.is_empty() && secret.bytes().all(|b| b.is_ascii_graphic() && b != b','));
        }
    }
    let claims: Vec<&[u8]> =
        head.headers.iter().filter(|(name, _)| *name == CLAIM_HEADER).map(|(_, value)| *value).collect();
    match checked.claim {
        None => assert!(claims.is_empty()),
        Some(claim) => {
            assert_eq!(claims, [claim.as_bytes()]);
            let tenant = TenantName::parse(claim).unwrap();
            assert_eq!(agree_tenant(&tenant, None, Some(claim)), Ok(()));
            assert!(agree_tenant(&TenantName::parse("not-this-one").unwrap(), None, Some(claim)).is_err());
        }
    }
}
