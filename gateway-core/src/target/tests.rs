//! Targets that pass and targets that do not: `security.md` A11 to A24.

use proptest::prelude::*;

use super::*;

fn code(path: &str) -> Option<Code> {
    check_path(path).err().map(|denial| denial.code)
}

#[test]
fn canonical_paths_pass_and_split_at_the_query() {
    assert_eq!(check_path("/v1/chat/completions").unwrap(), ("/v1/chat/completions", None));
    assert_eq!(check_path("/v1/models?a=%2F&b=?").unwrap(), ("/v1/models", Some("a=%2F&b=?")));
    for good in ["/", "/a/", "/a?", "/a.b/..c/...", "/ft:gpt-4o:acme", "/a~b!$&'()*+,=:@", "/a?tenant=globex"] {
        assert_eq!(code(good), None, "{good}");
    }
}

/// `security.md` A11 to A20.
#[test]
fn every_other_spelling_is_refused() {
    let bad = [
        "",
        "v1",
        "*",
        "http://a/v1",
        "//a",
        "/a//b",
        "/a//",
        "/t/acme/../globex",
        "/./",
        "/a/.",
        "/..",
        "/a/..",
        "/%2e%2e",
        "/%2E",
        "/.%2e",
        "/a%2fb",
        "/a%5cb",
        "/..%2f",
        "/a\\b",
        "/..\\",
        "/%252f",
        "/%25252e",
        "/a;x=1",
        "/..;/globex",
        "/..%3b/",
        "/%00",
        "/a\0",
        "/a\t",
        "/a b",
        "/%0d%0aX-Tenant:%20globex",
        "/a\r\nb",
        "/%c0%ae",
        "/%ef%bc%8f",
        "/%u002f",
        "/%zz",
        "/%2",
        "/a#frag",
        "/%23",
        "/%74/%61cme",
        "/аcme",
        "/a\u{200b}",
        "/a\u{7f}",
        "/a<b",
        "/{tenant}",
        "/a|b",
        "/a?b#c",
        "/a?%",
        "/a?%2",
        "/a?%zz",
        "/a?é",
        "/a?b c",
        "/a?\n",
        "/a%",
    ];
    for path in bad {
        assert_eq!(code(path), Some(Code::BadRequest), "{path:?}");
    }
}

#[test]
fn the_length_is_bounded_before_anything_else() {
    let longest = format!("/{}", "a".repeat(MAX_TARGET_BYTES - 1));
    assert_eq!(code(&longest), None);
    assert_eq!(code(&format!("{longest}a")), Some(Code::UriTooLong));
    assert_eq!(code(&"%".repeat(MAX_TARGET_BYTES + 1)), Some(Code::UriTooLong));
}

/// `security.md` A22 and A24.
#[test]
fn an_authority_is_one_host_and_one_port() {
    for good in [
        "a",
        "api.acme.example",
        "API.acme.example.",
        "127.0.0.1:10000",
        "[::1]",
        "[2001:db8::1]:443",
        "my_gateway:65535",
    ] {
        assert_eq!(check_authority(good), Ok(()), "{good}");
    }
    let bad = [
        "",
        ".",
        ":80",
        "a:",
        "a:0",
        "a:65536",
        "a:99999999",
        "a:+80",
        "a:80:80",
        "a,b",
        "a b",
        "a\tb",
        "u@a",
        "u:p@a",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        "a..b",
        ".a",
        "аcme.example",
        "[::1",
        "[::1]80",
        "[::1]:",
        "[a]",
        "::1",
        "a%2eb",
        "[]",
        "a\0",
    ];
    for authority in bad {
        assert_eq!(check_authority(authority).unwrap_err().code, Code::BadRequest, "{authority:?}");
    }
    assert!(check_authority(&"a".repeat(MAX_AUTHORITY_BYTES + 1)).is_err());
}

proptest! {
    /// Whatever passes is already what any reader makes of it: normalising and decoding change nothing.
    #[test]
    fn what_passes_has_one_reading(text in "/?([a-z./%;\\\\#?&= 25efEF\\PC]{0,24})") {
        if let Ok((path, query)) = check_path(&text) {
            prop_assert_eq!(query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")), text.as_str());
            prop_assert!(path.starts_with('/') && path.is_ascii());
            prop_assert!(!path.contains("//") && !path.contains(['%', ';', '\\', '#', '?', ' ']));
            prop_assert!(path.split('/').all(|part| part != "." && part != ".."));
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC*", bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = check_authority(&text);
        let _ = check_path(&String::from_utf8_lossy(&bytes));
        let with_user = format!("user@{text}");
        prop_assert!(check_authority(&with_user).is_err());
    }
}
