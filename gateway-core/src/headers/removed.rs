//! The client's headers that never go upstream, in one place for the service (`CheckResponse.headers_to_remove`) and the
//! module. The claim header is not one of them: it is overwritten with the tenant that was decided.

/// Exact names, sorted.
pub const REMOVED: &[&str] = &[
    "accept-encoding", // the meter reads plain answers
    "api-key",
    "authorization",
    "baggage",
    "cookie",
    "forwarded",
    "openai-organization",
    "openai-project",
    "proxy-authorization",
    "true-client-ip",
    "x-api-key",
    "x-client-ip",
    "x-forwarded-client-cert",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-goog-api-key",
    "x-goog-user-project",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// Prefixes, sorted: ours, Envoy's, and those that steer gateways further on.
pub const REMOVED_PREFIXES: &[&str] = &["x-ai-eg-", "x-bulkhead-", "x-envoy-", "x-gateway-", "x-portkey-"];

/// Whether a request header of the client, by its lower-case name, is kept from the upstream.
#[must_use]
pub fn remove_upstream(name: &str) -> bool {
    REMOVED.binary_search(&name).is_ok() || REMOVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
