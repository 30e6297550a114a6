//! Headers, methods, upgrades and queries that no decision may read.

use bulkhead_tests::gateway::{Gateway, chat_body};
use bulkhead_tests::mint::Alg;
use bulkhead_tests::policies::issuer;

use super::{By, CHAT, HOST, JSON, Row, request};

pub fn rows(gateway: &Gateway) -> Vec<Row> {
    let body = chat_body("hi").to_string();
    let mut rows = Vec::new();
    let mut add = |what: &str, line: &str, headers: &[u8], status, code, by| {
        // written by hand: a header's value here need not be text
        let head = request(gateway, line, "", &[]);
        let head = String::from_utf8(head).expect("text").replace("content-length: 0\r\n\r\n", "");
        let length = if line.starts_with("POST") {
            format!("content-length: {}\r\n\r\n{body}", body.len())
        } else {
            "\r\n".into()
        };
        let bytes = [head.as_bytes(), headers, length.as_bytes()].concat();
        rows.push(Row { what: what.to_owned(), bytes, status, code, by });
    };
    let post = format!("POST {CHAT}");
    let json = |header: &[u8]| [JSON.as_bytes(), header, b"\r\n"].concat();
    for (header, code) in [
        (b"x-tenant-id: acm\xe9".as_slice(), "malformed_header"),
        (b"x-tenant-id: \xff\xfe\xc3\x28", "malformed_header"),
        (b"x-tenant-id: a", "malformed_header"),
        (b"x-tenant-id: acme\r\n globex", "malformed_header"),
        (b"x-tenant-id: acme\rX-Role: admin", "malformed_header"),
        (b"x-tenant-id: acme\nx-tenant-id: globex", "duplicate_header"),
        (b"x-tenant-id: acme\r\nX-Tenant-Id: acme", "duplicate_header"),
        (b"x-api-key: bh_\xff", "ambiguous_credentials"),
    ] {
        add(&String::from_utf8_lossy(header), &post, &json(header), 400, code, By::Service);
    }
    for header in [
        b"x_tenant_id: acme".as_slice(),
        b"x-tenant_id: acme",
        b"x-tenant-id: acme\0",
        b"x-tenant-id: acme\x7f",
        b"x-tenant-id : acme",
        b"x tenant: acme",
        b"content-length: 5",
        b"content-length: +3",
        b"transfer-encoding: chunked",
        b"transfer-encoding: gzip",
    ] {
        add(&String::from_utf8_lossy(header), &post, &json(header), 400, "bad_request", By::Edge);
    }
    let many: String = (0..101).map(|number| format!("x-h{number}: 1\r\n")).collect();
    add("101 headers", &post, &json(many.trim_end().as_bytes()), 431, "headers_too_large", By::Edge);
    let long = format!("x-long: {}", "x".repeat(33 * 1024));
    add("a header of 33 KiB", &post, &json(long.as_bytes()), 431, "headers_too_large", By::Edge);

    for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "GET", "PROPFIND"] {
        add(method, &format!("{method} {CHAT}"), HOST.as_bytes(), 405, "method_not_allowed", By::Service);
    }
    add("POST of the models", "POST /v1/models", JSON.as_bytes(), 405, "method_not_allowed", By::Service);
    add("a method in lower case", &format!("post {CHAT}"), HOST.as_bytes(), 400, "bad_request", By::Edge);
    let twice = json(b"content-type: application/json");
    add("a content type twice, which Envoy joins", &post, &twice, 415, "unsupported_encoding", By::Service);
    add(
        "a websocket",
        "GET /v1/models",
        &[HOST, "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: eA==\r\n"].concat().into_bytes(),
        403,
        "refused",
        By::Edge,
    );

    for query in [
        "api_key=x",
        "api-key=x",
        "apikey=x",
        "key=x",
        "access_token=x",
        "token=x",
        "authorization=Bearer%20x",
        "x-api-key=x",
        "a=b&API_KEY=x",
        "a=b;key=x",
        "%6bey=x",
        "ke%79",
        "x-goog-api-key=x",
    ] {
        let what = format!("a credential in the query: {query}");
        add(&what, &format!("{post}?{query}"), JSON.as_bytes(), 401, "credential_in_url", By::Service);
    }
    rows.extend(tenants(gateway, &body));
    rows
}

/// Tenants that nobody has, and credentials that nobody made.
fn tenants(gateway: &Gateway, body: &str) -> Vec<Row> {
    let acme = issuer("acme");
    let mut claims = acme.claims();
    claims["tenant"] = "nobody".into();
    let stranger = bulkhead_tests::mint::Issuer::new("https://id.nobody.example", "nobody");
    let one = |what: &str, headers: String, status, code| {
        let head = format!("POST {CHAT} HTTP/1.1\r\n{JSON}{headers}content-length: {}\r\n\r\n{body}", body.len());
        Row { what: what.to_owned(), bytes: head.into_bytes(), status, code, by: By::Service }
    };
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    let good = gateway.bearer("acme");
    vec![
        one(
            "a token for a tenant that nobody has",
            bearer(&acme.token_with(Alg::Es256, &claims)),
            403,
            "tenant_conflict",
        ),
        one("a token of an issuer that nobody trusts", bearer(&stranger.token(Alg::Es256)), 401, "invalid_credential"),
        one(
            "a claim of a tenant that nobody has",
            format!("authorization: {good}\r\nx-tenant-id: nobody\r\n"),
            403,
            "tenant_conflict",
        ),
        one("no credential", String::new(), 401, "missing_credential"),
        one("an empty credential", "authorization: \r\n".into(), 400, "malformed_header"),
        one("a basic credential", "authorization: Basic YTpi\r\n".into(), 401, "invalid_credential"),
        one("a bearer without a token", "authorization: Bearer\r\n".into(), 401, "invalid_credential"),
        one("a key of another make", "x-api-key: sk-proj-123\r\n".into(), 401, "invalid_credential"),
        one(
            "two credentials that agree",
            format!("authorization: {good}\r\nx-api-key: {}\r\n", &good["Bearer ".len()..]),
            400,
            "ambiguous_credentials",
        ),
    ]
}
