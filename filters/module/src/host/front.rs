//! What the root `tenant-context` alone may ask of Envoy: the client's own headers, ahead of ext_authz, where nobody has
//! put a provider's credential yet, and whether there is a client's certificate. Behind ext_authz none of this is called.

use gateway_core::wire;
use proxy_wasm::hostcalls;
use proxy_wasm::types::MapType;

use super::{logged, property};

/// All request headers as the client sent them, pseudo-headers first. `on_http_request_headers` of the root
/// `tenant-context` alone.
pub(crate) fn client_headers() -> Vec<(String, Vec<u8>)> {
    hostcalls::get_map_bytes(MapType::HttpRequestHeaders).unwrap_or_default()
}

/// Whether the client showed a certificate that Envoy took: any word but a plain no. `on_http_request_headers` of the root
/// `tenant-context` alone.
pub(crate) fn has_certificate() -> bool {
    property(&["connection", "mtls"]).is_some_and(|word| word.iter().any(|byte| *byte != 0))
}

/// Marks the stream for ext_authz's matcher, for the gate, and for the module behind them ([`wire::MARK`]).
/// `on_http_request_headers`.
pub(crate) fn mark(value: &str) {
    logged("mark", hostcalls::set_property(vec![wire::MARK], Some(value.as_bytes())));
}
