//! Grants as they travel: signed by the service, and recognised by it alone.

use gateway_core::gate::{Grant, SignedGrant};
use gateway_core::wire;
use prost::Message as _;

use super::Service;

impl Service {
    /// A grant as it travels: signed.
    pub(in crate::serve) fn sign(&self, grant: &Grant) -> String {
        wire::encode_grant(&self.signed(grant))
    }

    /// The grant with its handle: the same grant, signed by itself, without what only the module reads.
    pub(in crate::serve) fn with_handle(&self, grant: Grant) -> Grant {
        let Grant { terms, words, edits, answer_headers, models, .. } = grant;
        let bare =
            Grant { terms: None, words: None, edits: None, answer_headers: Vec::new(), models: Vec::new(), ..grant };
        let handle = self.signed(&bare).encode_to_vec().into();
        Grant { terms, words, edits, answer_headers, models, handle, ..bare }
    }

    fn signed(&self, grant: &Grant) -> SignedGrant {
        let bytes = grant.encode_to_vec();
        let mac = self.grant_key.sign(&bytes).to_vec();
        SignedGrant { grant: bytes.into(), mac: mac.into() }
    }

    /// A grant that came back, if it is ours.
    pub(in crate::serve) fn verify(&self, text: &[u8]) -> Option<Grant> {
        let (signed, grant) = wire::decode_grant(text).ok()?;
        self.is_ours(&signed).then_some(grant)
    }

    /// A signed grant that came back in a settlement, if it is ours.
    pub(in crate::serve) fn verify_signed(&self, bytes: &[u8]) -> Option<Grant> {
        let signed = SignedGrant::decode(bytes).ok().filter(|signed| self.is_ours(signed))?;
        Grant::decode(signed.grant).ok()
    }

    fn is_ours(&self, signed: &SignedGrant) -> bool {
        self.grant_key.verify(&signed.grant, &signed.mac)
    }
}
