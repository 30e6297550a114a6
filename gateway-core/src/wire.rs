//! Every fact that crosses a process boundary, spelled once: header names, metadata keys, words, limits of size.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;

use crate::gate::{Grant, SignedGrant};

/// Metadata namespace that every ext_authz filter writes, whatever the instance is called.
pub const EXT_AUTHZ: &str = "envoy.filters.http.ext_authz";
/// Metadata key: the service's word to the gate.
pub const DECISION: &str = "bulkhead_decision";
/// The one value of [`DECISION`] that the gate lets through.
pub const DECISION_ALLOW: &str = "allow-v1";
/// Value of [`DECISION`] on a refusal.
pub const DECISION_DENY: &str = "deny-v1";
/// Metadata key: the grant, as [`encode_grant`] spells it.
pub const GRANT: &str = "bulkhead_grant";
/// Metadata key: the id of the service's own denial, so that `on_log` does not report it again.
pub const DENIAL: &str = "bulkhead_denial";
/// Metadata keys for Envoy's access log.
pub const LOG_TENANT: &str = "bulkhead_tenant";
/// See [`LOG_TENANT`].
pub const LOG_MODEL: &str = "bulkhead_model";
/// See [`LOG_TENANT`].
pub const LOG_CODE: &str = "bulkhead_code";

/// Prefix of the headers that only Bulkhead writes; a client's are removed before anything reads them.
pub const RESERVED_PREFIX: &str = "x-bulkhead-";
/// Names the Envoy cluster that the request goes to; the route table matches on it.
pub const ROUTE: &str = "x-bulkhead-route";
/// The tenant that was decided: on the request to the upstream, and the tag of its answer.
pub const TENANT: &str = "x-bulkhead-tenant";
/// The model that was decided, on the answer.
pub const MODEL: &str = "x-bulkhead-model";
/// The region that was decided, on the answer.
pub const REGION: &str = "x-bulkhead-region";
/// The grant on a data endpoint, from the module to the service.
pub const GRANT_HEADER: &str = "x-bulkhead-grant";
/// Fairness id of the Gateway API inference extension.
pub const FAIRNESS_ID: &str = "x-gateway-inference-fairness-id";
/// The claim header unless configured otherwise.
pub const CLAIM_HEADER: &str = "x-tenant-id";
/// Envoy's request id.
pub const REQUEST_ID: &str = "x-request-id";
/// Envoy's mark of a body that it cut (`mesh.md` §0.1 fact 5); it overwrites a client's.
pub const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";

/// Filter state by which the root `tenant-context` marks a request, as `set_property` names it (Envoy: `wasm.bh_grant`).
pub const MARK: &str = "bh_grant";
/// Value of [`MARK`] on a request that has a held grant, before the stream's number: Envoy skips ext_authz, the gate
/// lets it through.
pub const MARK_HELD: &str = "held-v1:";
/// Value of [`MARK`] on a request that the service is to be asked about.
pub const MARK_ASK: &str = "ask-v1:";
/// Value of [`MARK`] on a request that was refused ahead of ext_authz.
pub const MARK_REFUSED: &str = "refused-v1:";
/// Filter state by which the module says whose key a request leaves with (Envoy: `wasm.bh_last_hop`).
pub const LAST_HOP: &str = "bh_last_hop";
/// Value of [`LAST_HOP`]: the tenant's own key, for which the last hop asks the service.
pub const LAST_HOP_OWN: &str = "own";
/// The one value of [`LAST_HOP`] that skips the last hop: the platform's key, put in by Envoy.
pub const LAST_HOP_PLATFORM: &str = "platform";
/// Metadata key: the last hop's word to its gate, and its one value that passes.
pub const LAST_HOP_DONE: &str = "bulkhead_last_hop";
/// See [`LAST_HOP_DONE`].
pub const LAST_HOP_DONE_WORD: &str = "done-v1";

/// gRPC metadata key that tells the kinds of Check apart; absent: profile `portable`.
pub const ROOM: &str = "x-bulkhead-room";
/// Value of [`ROOM`]: headers only, the module admits (profile `inline`).
pub const ROOM_INLINE: &str = "inline";
/// Value of [`ROOM`]: the last hop, which puts in a tenant's own key.
pub const ROOM_LAST_HOP: &str = "last-hop";

/// gRPC metadata key that carries the proxy's id in ext_authz and in the Gate.
pub const PROXY: &str = "x-bulkhead-proxy";
/// gRPC metadata key of ext_authz: the client's address as Envoy trusts it (`xff_num_trusted_hops`). The Check's own
/// `source.address` is the direct peer, which behind a load balancer is the load balancer.
pub const SOURCE: &str = "x-bulkhead-source";
/// Envoy cluster of the service, where the module calls the Gate and data endpoints are routed.
pub const SERVICE_CLUSTER: &str = "bulkhead-service";

/// The greatest request body, in bytes: the same number in Envoy's configuration, here and in the service.
pub const MAX_BODY_BYTES: u64 = 4 * 1024 * 1024;
/// Under these paths the service answers clients itself, beside a provider's `/v1/models`: never a provider's.
pub const OWN_PATHS: &str = "/bulkhead/v1/";
/// The greatest body that a data endpoint reads, in bytes.
pub const MAX_DATA_BODY_BYTES: usize = 64 * 1024;
/// The greatest number of requests that one `Lease` asks for, over all of its asks.
pub const MAX_NEEDS: usize = 2048;
/// The greatest encoded grant that is read, in bytes.
pub const MAX_GRANT_BYTES: usize = 64 * 1024;

/// Why a text is no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the grant cannot be read")]
pub struct BadGrant;

/// Spells a signed grant as metadata and headers carry it.
#[must_use]
pub fn encode_grant(signed: &SignedGrant) -> String {
    URL_SAFE_NO_PAD.encode(signed.encode_to_vec())
}

/// Reads a signed grant; the MAC is the service's to check.
///
/// # Errors
/// [`BadGrant`] when it is too long, not base64url, or not a grant for exactly one tenant.
pub fn decode_grant(text: &[u8]) -> Result<(SignedGrant, Grant), BadGrant> {
    if text.len() > MAX_GRANT_BYTES {
        return Err(BadGrant);
    }
    let raw = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadGrant)?;
    let signed = SignedGrant::decode(raw.as_slice()).map_err(|_| BadGrant)?;
    let grant = Grant::decode(signed.grant.clone()).map_err(|_| BadGrant)?;
    let whole = grant.id.len() == 16 && !grant.tenant.is_empty() && !grant.method.is_empty() && !grant.path.is_empty();
    if whole { Ok((signed, grant)) } else { Err(BadGrant) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            id: vec![7; 16].into(),
            tenant: "acme".into(),
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            ..Grant::default()
        }
    }

    fn encoded(grant: &Grant) -> String {
        encode_grant(&SignedGrant { grant: grant.encode_to_vec().into(), mac: vec![1; 32].into() })
    }

    #[test]
    fn a_grant_survives_the_wire() {
        let (signed, back) = decode_grant(encoded(&grant()).as_bytes()).unwrap();
        assert_eq!(back, grant());
        assert_eq!(signed.mac.as_ref(), [1; 32]);
    }

    #[test]
    fn no_default_is_a_grant() {
        let nameless = Grant { tenant: String::new(), ..grant() };
        for bad in
            [String::new(), "!".into(), encoded(&Grant::default()), encoded(&nameless), "A".repeat(MAX_GRANT_BYTES + 1)]
        {
            assert_eq!(decode_grant(bad.as_bytes()).unwrap_err(), BadGrant);
        }
    }
}
