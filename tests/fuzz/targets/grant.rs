//! Grants: the text as it stands in the metadata, and the same bytes behind a right base64url, so that the message is
//! reached too. What is read names one tenant, and spells itself again.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_core::wire::{MAX_GRANT_BYTES, decode_grant, encode_grant};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    read(data);
    read(URL_SAFE_NO_PAD.encode(data).as_bytes());
});

fn read(text: &[u8]) {
    let Ok((signed, grant)) = decode_grant(text) else { return };
    assert!(text.len() <= MAX_GRANT_BYTES);
    assert!(grant.id.len() == 16 && !grant.tenant.is_empty() && !grant.method.is_empty() && !grant.path.is_empty());
    let again = encode_grant(&signed);
    if again.len() <= MAX_GRANT_BYTES {
        assert_eq!(decode_grant(again.as_bytes()), Ok((signed, grant)));
    }
}
