//! Tables of heads that pass and heads that do not, and what holds of any head that passes.

mod heads;

use super::*;

type Headers = Vec<(&'static str, &'static [u8])>;

fn run<T>(
    method: &str,
    path: &str,
    headers: &[(&str, &[u8])],
    then: impl FnOnce(Result<Checked<'_>, Denial>) -> T,
) -> T {
    then(check(&Head { method, authority: "api.example", path, headers }, wire::CLAIM_HEADER))
}

/// The code of a POST with these headers beside a JSON content type.
fn post(more: &[(&str, &[u8])]) -> Option<Code> {
    let mut headers: Vec<(&str, &[u8])> = vec![("content-type", b"application/json")];
    headers.extend_from_slice(more);
    run("POST", "/v1/chat/completions", &headers, |checked| checked.err().map(|denial| denial.code))
}

fn get(path: &str) -> Option<Code> {
    run("GET", path, &[], |checked| checked.err().map(|denial| denial.code))
}

#[test]
fn a_plain_request_is_read() {
    let headers: Headers = vec![
        ("content-type", b"application/json"),
        ("content-length", b"17"),
        ("host", b"api.example"),
        ("authorization", b"bEaReR a.b-c_d~e+f/g=="),
        ("x-tenant-id", b"acme"),
        ("x-request-id", b"7f1c"),
        ("x-note", b"caf\xe9 \xff\xfe"),
        ("x-note", b"twice, and joined"),
        ("x-envoy-auth-partial-body", b"false"),
    ];
    run("POST", "/v1/chat/completions?a=1", &headers, |checked| {
        let want = Checked {
            path: "/v1/chat/completions",
            query: Some("a=1"),
            claim: Some("acme"),
            credential: Credential::Bearer("a.b-c_d~e+f/g=="),
            content_length: Some(17),
            partial_body: false,
        };
        assert_eq!(checked, Ok(want));
    });
    run("GET", "/v1/models", &[("x-goog-api-key", b"k")], |checked| {
        let checked = checked.unwrap();
        assert_eq!((checked.credential, checked.claim, checked.content_length), (Credential::ApiKey("k"), None, None));
    });
}

#[test]
fn only_get_and_post() {
    for method in ["get", "Post", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "", "GET ", "BREW"] {
        let code = run(method, "/%%%", &[], |checked| checked.unwrap_err().code);
        assert_eq!(code, Code::MethodNotAllowed, "{method:?}");
    }
}

#[test]
fn what_decides_stands_once() {
    let once =
        ["content-encoding", "content-length", "content-type", "host", "x-forwarded-client-cert", "x-request-id"];
    for name in once {
        let value: &[u8] = if name == "content-length" { b"1" } else { b"a" };
        assert_eq!(post(&[(name, value), (name, value)]), Some(Code::DuplicateHeader), "{name}");
    }
    for pair in [
        [("x-tenant-id", &b"acme"[..]), ("x-tenant-id", b"acme")],
        [("x-tenant-id", b"acme"), ("x-tenant-id", b"globex")],
    ] {
        assert_eq!(post(&pair), Some(Code::DuplicateHeader));
    }
    assert_eq!(
        post(&[("x-envoy-auth-partial-body", b"true"), ("x-envoy-auth-partial-body", b"false")]),
        Some(Code::DuplicateHeader)
    );
}

#[test]
fn what_decides_can_be_read() {
    for name in ONCE {
        for value in [&b""[..], b" a", b"a ", b"a\tb", b"\xff", b"a\xe9", b"a\0", b"a\x7f", b"a\r\nb"] {
            let alone = run("GET", "/", &[(name, value)], |checked| checked.unwrap_err());
            assert_eq!(alone, Denial::new(Code::MalformedHeader).param(*name), "{name} {value:?}");
        }
    }
}

/// `security.md` A02 to A05.
#[test]
fn a_claim_is_one_name() {
    for joined in ["acme,globex", "acme, acme", "acme,", ","] {
        assert_eq!(post(&[("x-tenant-id", joined.as_bytes())]), Some(Code::DuplicateHeader), "{joined}");
    }
    let bad: [&[u8]; 14] = [
        b"",
        b" ",
        b" acme",
        b"acme ",
        b"ac me",
        b"acme\t",
        b"Acme",
        b"acm\xe9",
        b"\xff\xfe\xc3\x28",
        b"a",
        b"root",
        b"acme\n",
        b"acme\0",
        b"-a",
    ];
    for value in bad {
        assert_eq!(post(&[("x-tenant-id", value)]), Some(Code::MalformedHeader), "{value:?}");
    }
    let other =
        Head { method: "GET", authority: "a", path: "/", headers: &[("x-org", b"acme"), ("x-tenant-id", b"!")] };
    assert_eq!(check(&other, "X-Org").unwrap().claim, Some("acme"), "the header is the operator's choice, in any case");
}

/// `security.md` A09.
#[test]
fn two_credentials_are_refused_even_when_they_agree() {
    let carriers: [(&str, &[u8]); 3] = [("authorization", b"Bearer k"), ("x-api-key", b"k"), ("x-goog-api-key", b"k")];
    for one in carriers {
        assert_eq!(post(&[one]), None);
        for two in carriers {
            assert_eq!(post(&[one, two]), Some(Code::AmbiguousCredentials), "{} {}", one.0, two.0);
        }
    }
    for (name, joined) in
        [("authorization", "Bearer a, Bearer b"), ("authorization", "Bearer a,b"), ("x-api-key", "a,a")]
    {
        assert_eq!(post(&[(name, joined.as_bytes())]), Some(Code::AmbiguousCredentials), "{joined}");
    }
}

#[test]
fn a_credential_has_the_form_of_its_carrier() {
    for value in [
        "Basic dTpw",
        "Bearer",
        "Bearer  a",
        "Bearer a b",
        "Bearer =",
        "Bearer a=b",
        "Bearer a\"",
        "token",
        "Bearer\u{7e}a",
        "k",
    ] {
        assert_eq!(post(&[("authorization", value.as_bytes())]), Some(Code::InvalidCredential), "{value}");
    }
    let garbled: [(&str, &[u8]); 6] = [
        ("authorization", b""),
        ("authorization", b"Bearer \xff"),
        ("authorization", b"Bearer "),
        ("authorization", b"Bearer\ta"),
        ("x-api-key", b"a b"),
        ("x-goog-api-key", b""),
    ];
    for (name, value) in garbled {
        assert_eq!(post(&[(name, value)]), Some(Code::MalformedHeader), "{name} {value:?}");
    }
}

#[test]
fn a_credential_in_the_query_is_refused() {
    for query in [
        "api_key=k",
        "a=1&KEY=k",
        "%61pi%2dkey=k",
        "access_token",
        "x=1;token=k",
        "aPiKey=",
        "x-api-key=a",
        "authorization=Bearer",
        "k%65y=1",
    ] {
        assert_eq!(get(&format!("/v1/models?{query}")), Some(Code::CredentialInUrl), "{query}");
    }
    for query in ["", "monkey=1", "keys=1", "a=key", "%256bey=1", "tenant=globex", "limit=2"] {
        assert_eq!(get(&format!("/v1/models?{query}")), None, "{query}");
    }
}

#[test]
fn names_are_plain_and_not_ours() {
    for name in [
        "",
        ":path",
        "X-Tenant-Id",
        "x_tenant_id",
        "x-tenant_id",
        "a b",
        "é",
        "x-bulkhead-tenant",
        "x-bulkhead-",
        "expect",
        "upgrade",
        "a:",
    ] {
        assert_eq!(post(&[(name, b"1")]), Some(Code::BadRequest), "{name:?}");
    }
    assert_eq!(post(&[("host", b"other.example")]), Some(Code::BadRequest));
}

#[test]
fn a_body_is_plain_json() {
    let cases: [(&[u8], bool); 12] = [
        (b"application/json", true),
        (b"Application/JSON; charset=UTF-8", true),
        (b"application/json;charset=\"utf-8\"", true),
        (b"application/json; charset=utf-16", false),
        (b"application/json;", false),
        (b"application/json; charset=utf-8; x=1", false),
        (b"text/plain", false),
        (b"application/json, text/plain", false),
        (b"application/jsonx", false),
        (b"application/problem+json", false),
        (b"multipart/form-data; boundary=a", false),
        (b";", false),
    ];
    for (kind, passes) in cases {
        let code = run("POST", "/v1/chat/completions", &[("content-type", kind)], |checked| checked.err());
        let want = (!passes).then(|| Denial::new(Code::UnsupportedEncoding).param("content-type"));
        assert_eq!(code, want, "{}", String::from_utf8_lossy(kind));
    }
    assert_eq!(
        run("POST", "/v1/chat/completions", &[], |checked| checked.unwrap_err().code),
        Code::UnsupportedEncoding
    );
    for (path, want) in [("/bulkhead/v1/token", None), ("/v1/chat/completions", Some(Code::UnsupportedEncoding))] {
        let form: (&str, &[u8]) = ("content-type", b"application/x-www-form-urlencoded");
        assert_eq!(run("POST", path, &[form], |checked| checked.err().map(|denial| denial.code)), want, "{path}");
    }
    for encoding in ["gzip", "br", "zstd", "deflate", "gzip,gzip", "identity;q=0", "identity, gzip", "x"] {
        assert_eq!(post(&[("content-encoding", encoding.as_bytes())]), Some(Code::UnsupportedEncoding), "{encoding}");
    }
    assert_eq!(post(&[("content-encoding", b"Identity")]), None);
}

#[test]
fn a_length_is_digits_and_a_cut_body_is_told() {
    for length in ["-1", "+1", "1,1", "1 1", "0x1", "a", "18446744073709551616", "1.0"] {
        assert_eq!(post(&[("content-length", length.as_bytes())]), Some(Code::MalformedHeader), "{length}");
    }
    for (mark, partial) in [("true", true), ("false", false), ("TRUE", true), ("1", true)] {
        let headers: [(&str, &[u8]); 2] =
            [("content-type", b"application/json"), (wire::PARTIAL_BODY, mark.as_bytes())];
        assert_eq!(run("POST", "/", &headers, |checked| checked.unwrap().partial_body), partial);
    }
}

#[test]
fn a_credential_is_not_printed() {
    for credential in [Credential::Bearer("canary"), Credential::ApiKey("canary")] {
        assert!(!format!("{credential:?}").contains("canary"));
    }
}

#[test]
fn the_lists_are_sorted_and_hold_every_carrier() {
    assert!(REMOVED.is_sorted() && REMOVED_PREFIXES.is_sorted());
    for name in
        CREDENTIAL_CARRIERS.into_iter().chain(["cookie", "x-bulkhead-route", "x-envoy-retry-on", "accept-encoding"])
    {
        assert!(remove_upstream(name), "{name}");
    }
    for name in
        ["content-type", "content-length", "traceparent", "x-request-id", "x-tenant-id", "user-agent", "", "x-gateway"]
    {
        assert!(!remove_upstream(name), "{name}");
    }
}
