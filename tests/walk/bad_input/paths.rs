//! Request targets: unknown ones, ones that two readers would read in two ways, and authorities (security.md A11 to A24).

use bulkhead_tests::client::Shot;
use bulkhead_tests::configuration::Profile;
use bulkhead_tests::gateway::{Gateway, chat_body, envoy_minor};

use super::{By, CHAT, HOST, JSON, Row, request};

/// Targets of a POST with a good credential, and what becomes of each.
const TARGETS: &[(&str, u16, &str, By)] = &[
    ("/", 404, "not_found", By::Service),
    ("/v1", 404, "not_found", By::Service),
    ("/v1/", 404, "not_found", By::Service),
    ("/v1/chat", 404, "not_found", By::Service),
    ("/v1/chat/completions/", 404, "not_found", By::Service),
    ("/v1/chat/completionsx", 404, "not_found", By::Service),
    ("/V1/CHAT/COMPLETIONS", 404, "not_found", By::Service),
    ("/v1/completions", 404, "not_found", By::Service),
    ("/v1/embeddings", 404, "not_found", By::Service),
    ("/v1/proxy/chat/completions", 404, "not_found", By::Service),
    ("/bulkhead.v1.Gate/Sync", 404, "not_found", By::Service),
    ("/envoy.service.auth.v3.Authorization/Check", 404, "not_found", By::Service),
    ("/api/v1/tenants/acme/models/llama", 404, "not_found", By::Service),
    ("/api/v1/tenants/acme/models/llama/predict/x", 404, "not_found", By::Service),
    ("/api/v1/Tenants/acme/models/llama/predict", 404, "not_found", By::Service),
    // another tenant, also by way of a canonical spelling that Envoy finds first (A11, A14, A19)
    ("/api/v1/tenants/globex/models/llama/predict", 403, "tenant_conflict", By::Service),
    ("/api/v1/tenants/acme/../globex/models/llama/predict", 403, "tenant_conflict", By::Service),
    ("/api/v1/tenants/acme/%2e%2e/globex/models/llama/predict", 403, "tenant_conflict", By::Service),
    ("/api/v1/tenants/acme/.%2E/globex/models/llama/predict", 403, "tenant_conflict", By::Service),
    ("/api/v1/tenants/%67lobex/models/llama/predict", 403, "tenant_conflict", By::Service),
    ("/api/v1//tenants//globex/models/llama/predict", 403, "tenant_conflict", By::Service),
    ("/api/v1/tenants/acme\\..\\globex/models/llama/predict", 403, "tenant_conflict", By::Service),
    ("/api/v1/tenants/ACME/models/llama/predict", 403, "tenant_conflict", By::Service),
    // A12: escaped slashes
    ("/api/v1/tenants/acme%2fmodels/llama/predict", 400, "bad_request", By::Edge),
    ("/api/v1/tenants/acme%2Fmodels/llama/predict", 400, "bad_request", By::Edge),
    ("/api/v1/tenants/acme/..%2fglobex/models/llama/predict", 400, "bad_request", By::Edge),
    ("/api/v1/tenants/acme%5cmodels/llama/predict", 400, "bad_request", By::Edge),
    // A13, A14, A16, A17, A18: what other readers would decode again, or cut
    ("/api/v1/tenants/acme%252fglobex/models/llama/predict", 400, "bad_request", By::Service),
    ("/api/v1/tenants/acme/%252e%252e/globex/models/llama/predict", 400, "bad_request", By::Service),
    ("/api/v1/tenants/acme%25252e/models/llama/predict", 400, "bad_request", By::Service),
    ("/v1/chat/completions;x=1", 400, "bad_request", By::Service),
    ("/api/v1/tenants/acme;x=1/models/llama/predict", 400, "bad_request", By::Service),
    ("/api/v1/tenants/acme/..%3b/globex/models/llama/predict", 400, "bad_request", By::Service),
    ("/v1/chat/completions%0d%0aX-Tenant-Id:%20globex", 400, "bad_request", By::Service),
    ("/v1/chat/completions%0a", 400, "bad_request", By::Service),
    ("/v1/%c0%ae/chat/completions", 400, "bad_request", By::Service),
    ("/v1%c0%afchat/completions", 400, "bad_request", By::Service),
    ("/v1%ef%bc%8fchat/completions", 400, "bad_request", By::Service),
    ("/v1/%ef%bc%8e%ef%bc%8e/chat/completions", 400, "bad_request", By::Service),
    ("/v1%u002fchat/completions", 400, "bad_request", By::Service),
    ("/v1/chat/%zz", 400, "bad_request", By::Service),
    ("/v1/chat/completions%2", 400, "bad_request", By::Service),
    ("/v1/chat/completions%23", 400, "bad_request", By::Service),
    ("/api/v1/tenants/%d0%b0cme/models/llama/predict", 400, "bad_request", By::Service),
    ("/api/v1/tenants/ac%c2%adme/models/llama/predict", 400, "bad_request", By::Service),
    ("/v1/chat/completions?a=%zz", 400, "bad_request", By::Service),
    ("/v1/chat/completions#frag", 400, "bad_request", By::Edge),
    // A15: bytes that no target has
    ("/v1/chat/completions%00", 400, "bad_request", By::Edge),
    ("/v1/chat\t/completions", 400, "bad_request", By::Edge),
    ("/v1/chat/completions\0", 400, "bad_request", By::Edge),
    ("/v1/ch\u{e9}t/completions", 400, "bad_request", By::Edge),
    ("v1/chat/completions", 400, "bad_request", By::Edge),
    // A22: absolute form
    ("http://ai.example:99999999/v1/chat/completions", 400, "bad_request", By::Edge),
    ("https://ai.example/v1/chat/completions", 403, "refused", By::Edge), // the connection is none
    ("ftp://ai.example/v1/chat/completions", 400, "bad_request", By::Edge),
];

/// Parameters of a segment that is dots: 1.36.4 leaves it to the service, 1.40.0 reads it as `..` (both run).
fn dots_with_a_parameter() -> (&'static str, u16, &'static str, By) {
    let target = "/api/v1/tenants/acme/..;/globex/models/llama/predict";
    if envoy_minor() < 40 {
        (target, 400, "bad_request", By::Service)
    } else {
        (target, 403, "tenant_conflict", By::Service)
    }
}

/// Every target.
fn targets() -> Vec<(&'static str, u16, &'static str, By)> {
    TARGETS.iter().copied().chain([dots_with_a_parameter()]).collect()
}

/// `Host` headers (A24).
const HOSTS: &[(&str, By)] = &[
    ("", By::Edge),
    ("host: \r\n", By::Service),
    ("host: ai.example\r\nhost: ai.example\r\n", By::Service),
    ("host: ai.example, evil.example\r\n", By::Edge),
    ("host: user@ai.example\r\n", By::Service),
    ("host: ai.example:99999999\r\n", By::Service),
    ("host: ai.example:\r\n", By::Service),
    ("host: ai example\r\n", By::Edge),
    ("host: ai.example/x\r\n", By::Edge),
    ("host: ai..example\r\n", By::Service),
    ("host: \u{430}i.example\r\n", By::Edge),
];

pub fn rows(gateway: &Gateway) -> Vec<Row> {
    let body = chat_body("hi").to_string();
    let row = |what: String, line: &str, headers: &str, status, code, by| {
        let bytes = request(gateway, line, headers, if line.starts_with("POST") { body.as_bytes() } else { b"" });
        Row { what, bytes, status, code, by }
    };
    let mut rows: Vec<Row> = targets()
        .iter()
        .map(|(target, status, code, by)| {
            row((*target).to_owned(), &format!("POST {target}"), JSON, *status, code, *by)
        })
        .collect();
    for (host, by) in HOSTS {
        let headers = format!("content-type: application/json\r\n{host}");
        rows.push(row(format!("{host:?}"), &format!("POST {CHAT}"), &headers, 400, "bad_request", *by));
    }
    let long = format!("POST {CHAT}?a={}", "x".repeat(8_193 - CHAT.len() - 3));
    rows.push(row("a target of 8,193 bytes".into(), &long, JSON, 414, "uri_too_long", By::Service));
    let forged = format!("{JSON}x-request-id: forged\r\n");
    rows.push(row("a chosen id".into(), "POST /v1/chat%2fcompletions", &forged, 400, "bad_request", By::Edge));
    // it has no path: `inline` refuses it ahead of the chain's gate
    let (status, code) = match Profile::under_test() {
        Profile::Inline => (400, "bad_request"),
        Profile::Portable => (403, "not_admitted"),
    };
    rows.push(row("CONNECT".into(), "CONNECT ai.example:443", HOST, status, code, By::Chain));
    rows.push(row("OPTIONS *".into(), "OPTIONS *", HOST, 403, "refused", By::Edge));
    rows
}

/// The same targets over HTTP/2, as far as a client library lets them be written: those that reach the service.
pub fn over_http2(gateway: &Gateway) -> Vec<(Shot, u16, &'static str)> {
    let body = chat_body("hi").to_string();
    let shot = |target: &str| {
        let shot = Shot::post(target, body.clone()).header("authorization", gateway.bearer("acme"));
        Shot { http2: true, ..shot }
    };
    let reached = targets().into_iter().filter(|(target, .., by)| {
        let written = format!("http://ai.example{target}").parse::<http::Uri>();
        *by == By::Service && written.is_ok_and(|uri| uri.path_and_query().is_some_and(|path| path == *target))
    });
    reached.map(|(target, status, code, _)| (shot(target), status, code)).collect()
}
