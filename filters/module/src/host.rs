//! The only caller of the proxy-wasm SDK. Every function names the callbacks in which it cannot fail; a host call out
//! of phase traps the VM, and some take Envoy down (ARCHITECTURE.md, "Traps of the host").
//!
//! It offers no credential header, no way to list request headers, and no request header in `on_log`: a provider's
//! credential passes by as a header, and the module never reads it. What the root `tenant-context` reads of the client
//! ahead of ext_authz is in `host/front.rs`, the calls to the service are in `host/gate.rs`.

pub(crate) mod front;
pub(crate) mod gate;

use std::time::{Duration, UNIX_EPOCH};

use header_hardening::HeaderEdit;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

/// Sets up the SDK: one root context for each root id, one stream context of each for each request.
macro_rules! start {
    () => {
        proxy_wasm::main! {{
            proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
            proxy_wasm::set_root_context(|id| Box::new($crate::root::Root::new(id)));
        }}
    };
}
pub(crate) use start;

/// Milliseconds of the host's clock. Any callback.
pub(crate) fn now_ms() -> u64 {
    let time = hostcalls::get_current_time().unwrap_or(UNIX_EPOCH);
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis()).unwrap_or(u64::MAX)
}

/// A string in the metadata that ext_authz wrote. Any stream callback, also `on_log`.
pub(crate) fn ext_authz(key: &str) -> Option<Vec<u8>> {
    property(&["metadata", "filter_metadata", gateway_core::wire::EXT_AUTHZ, key]).filter(|value| !value.is_empty())
}

/// Envoy's response code details. `on_log`.
pub(crate) fn code_details() -> String {
    property(&["response", "code_details"]).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

/// Envoy's response flags as a bit mask. `on_log`.
pub(crate) fn response_flags() -> u64 {
    property(&["response", "flags"]).and_then(|raw| raw.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// The status that the client got. `on_log`.
pub(crate) fn response_code() -> Option<u32> {
    let raw: [u8; 8] = property(&["response", "code"])?.try_into().ok()?;
    u32::try_from(u64::from_le_bytes(raw)).ok().filter(|status| *status != 0)
}

/// Envoy's request id. `on_http_request_headers` and `on_log`: in between Envoy says none.
pub(crate) fn request_id() -> String {
    property(&["request", "id"]).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

/// The mark that the root `tenant-context` left on this stream. Any stream callback, also `on_log`.
pub(crate) fn mark() -> Option<Vec<u8>> {
    property(&[gateway_core::wire::MARK])
}

/// Says whose key the request leaves with: under the platform's Envoy skips the last hop and puts the key in. Said of every
/// request, so that no other filter's word stands. Any request callback before the request goes on.
pub(crate) fn leaves_with_own_key(own: bool) {
    let word = if own { gateway_core::wire::LAST_HOP_OWN } else { gateway_core::wire::LAST_HOP_PLATFORM };
    logged("last hop", hostcalls::set_property(vec![gateway_core::wire::LAST_HOP], Some(word.as_bytes())));
}

/// Which of the module's root ids this context is. `on_configure`.
pub(crate) fn root_id() -> String {
    property(&["plugin_root_id"]).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

/// Request headers that the module may read: what a grant is compared with.
#[derive(Clone, Copy)]
pub(crate) enum Read<'a> {
    Method,
    Authority,
    Path,
    /// The claim header: the configuration refuses a name under `x-bulkhead-` and one that carries a credential.
    Claim(&'a str),
}

/// Request headers that the module removes without looking whether they are there: it cannot list what is there without
/// reading the provider's credential. The service has removed them already where it was asked.
pub(crate) const REQUEST_REMOVALS: &[&str] = &[
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-client-cert",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    gateway_core::wire::GRANT_HEADER,
];

/// One request header. `on_http_request_headers` alone.
pub(crate) fn request_header(which: Read<'_>) -> Option<Vec<u8>> {
    let name = match which {
        Read::Method => ":method",
        Read::Authority => ":authority",
        Read::Path => ":path",
        Read::Claim(name) => name,
    };
    hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, name).ok().flatten()
}

/// Sets a request header, whatever it was. `on_http_request_headers`; behind it only while that callback's Pause holds the
/// headers (`allow_on_headers_stop_iteration`), in the body's and the trailers' callbacks.
pub(crate) fn set_request_header(name: &str, value: &str) {
    logged("set request header", hostcalls::set_map_value(MapType::HttpRequestHeaders, name, Some(value)));
}

/// Removes a request header, if it is there. As [`set_request_header`].
fn remove_request_header(name: &str) {
    logged("remove request header", hostcalls::remove_map_value(MapType::HttpRequestHeaders, name));
}

/// Request headers as planned. As [`set_request_header`].
pub(crate) fn edit_request_headers(plan: Vec<HeaderEdit<'_>>) {
    for edit in plan {
        match edit {
            HeaderEdit::Set(name, value) => set_request_header(name, &value),
            HeaderEdit::Remove(name) => remove_request_header(name),
        }
    }
}

/// The body as held so far. `on_http_request_body`, `on_http_request_trailers`.
pub(crate) fn request_body() -> Vec<u8> {
    hostcalls::get_buffer(BufferType::HttpRequestBody, 0, usize::MAX).ok().flatten().unwrap_or_default()
}

/// Replaces the whole held body; its length was announced at the headers. `on_http_request_body`,
/// `on_http_request_trailers`: never from a gRPC callback (`mesh.md` §0.1 fact 1).
pub(crate) fn replace_request_body(body: &[u8]) {
    logged("replace request body", hostcalls::set_buffer(BufferType::HttpRequestBody, 0, usize::MAX, body));
}

/// Removes a request trailer. `on_http_request_trailers` alone.
pub(crate) fn remove_request_trailer(name: &str) {
    logged("remove request trailer", hostcalls::remove_map_value(MapType::HttpRequestTrailers, name));
}

/// Names of the request trailers. `on_http_request_trailers` alone.
pub(crate) fn request_trailer_names() -> Vec<String> {
    names(hostcalls::get_map_bytes(MapType::HttpRequestTrailers).unwrap_or_default())
}

/// All response headers. `on_http_response_headers` alone.
pub(crate) fn response_headers() -> Vec<(String, Vec<u8>)> {
    hostcalls::get_map_bytes(MapType::HttpResponseHeaders).unwrap_or_default()
}

/// Puts other response headers in the place of all that are there, the status among them. `on_http_response_headers` alone.
pub(crate) fn replace_response_headers(headers: Vec<(&str, &[u8])>) {
    logged("replace response headers", hostcalls::set_map_bytes(MapType::HttpResponseHeaders, headers));
}

/// The chunk at hand. `on_http_response_body` alone.
pub(crate) fn response_chunk(size: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::HttpResponseBody, 0, size).ok().flatten().unwrap_or_default()
}

/// Replaces the chunk at hand. `on_http_response_body` alone.
pub(crate) fn replace_response_chunk(size: usize, chunk: &[u8]) {
    logged("replace response chunk", hostcalls::set_buffer(BufferType::HttpResponseBody, 0, size, chunk));
}

/// Names of the response trailers. `on_http_response_trailers` alone.
pub(crate) fn response_trailer_names() -> Vec<String> {
    names(hostcalls::get_map_bytes(MapType::HttpResponseTrailers).unwrap_or_default())
}

/// Removes a response trailer. `on_http_response_trailers` alone.
pub(crate) fn remove_response_trailer(name: &str) {
    logged("remove response trailer", hostcalls::remove_map_value(MapType::HttpResponseTrailers, name));
}

/// Answers the client in place of the upstream, with `more` headers. Request callbacks, `on_http_response_headers`, and
/// [`gate::on_stream`] for a stream whose request is held; the callback that
/// did it returns Pause and nothing ever resumes the stream (`mesh.md` §0.1 fact 4).
fn answer(status: u16, body: &[u8], more: &[(&str, &str)]) {
    let mut headers = vec![("content-type", "application/json"), ("cache-control", "no-store")];
    headers.extend_from_slice(more);
    logged("answer", hostcalls::send_http_response(u32::from(status), headers, Some(body)));
}

/// The same with a denial, whose body is at hand; a 401 says what it asks for.
pub(crate) fn refuse(denial: &gateway_core::denial::Denial, body: &[u8], more: &[(&str, &str)]) {
    let challenge = denial.challenge().map(|challenge| ("www-authenticate", challenge));
    let more: Vec<_> = more.iter().copied().chain(challenge).collect();
    answer(denial.code.row().status, body, &more);
}

/// The module's configuration. `on_configure` alone.
pub(crate) fn configuration(size: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size).ok().flatten().unwrap_or_default()
}

/// Calls `on_tick` of this root context this often. `on_configure`.
pub(crate) fn tick_every(period_ms: u64) {
    logged("set tick", hostcalls::set_tick_period(Duration::from_millis(period_ms)));
}

fn names(map: Vec<(String, Vec<u8>)>) -> Vec<String> {
    map.into_iter().map(|(name, _)| name).collect()
}

fn logged(what: &str, result: Result<(), proxy_wasm::types::Status>) {
    if let Err(status) = result {
        log::warn!("{what}: {status:?}");
    }
}
