//! The way down: security headers on, fingerprints and the platform's own quotas off, the tenant's tag, limits and model.

use gateway_core::gate::{Grant, Header};
use gateway_core::wire;

use crate::{HeaderEdit, NEVER_TRAILERS, Plan};

/// Set on every answer, whatever the upstream said. Answers are one tenant's and never a page: no cache may keep them, no
/// browser may render, frame or sniff them (OWASP REST Security Cheat Sheet; RFC 6797 for the last).
const SET: &[(&str, &str)] = &[
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("strict-transport-security", "max-age=31536000"),
];

/// Taken off unless set: which server and which account answered, and what would speak for our origin.
const REMOVED: &[&str] = &[
    "alt-svc",
    "anthropic-organization-id",
    "cdn-cache-control",
    "nel",
    "openai-organization",
    "openai-processing-ms",
    "openai-project",
    "openai-version",
    "proxy-authenticate",
    "proxy-status",
    "ratelimit",
    "report-to",
    "reporting-endpoints",
    "server",
    "server-timing",
    "set-cookie",
    "surrogate-control",
    "via",
    "www-authenticate",
    "x-powered-by",
    "x-runtime",
    "x-served-by",
];

/// The same by prefix; limits of the platform's own account among them.
const REMOVED_PREFIXES: &[&str] = &[
    "access-control-",
    "anthropic-ratelimit-",
    "cf-",
    "ratelimit-",
    "x-aspnet",
    wire::RESERVED_PREFIX,
    "x-envoy-",
    "x-ratelimit-",
];

/// A refusal tells of a few limits; Envoy's clients take a hundred headers.
const MOST_REFUSAL_HEADERS: usize = 32;

/// What an answer says of its request.
#[derive(Clone, Copy, Debug)]
pub struct AnswerFacts<'a> {
    /// The tenant that was decided: the answer's tag.
    pub tenant: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// Limits, model, region.
    pub headers: &'a [Header],
}

impl<'a> From<&'a Grant> for AnswerFacts<'a> {
    fn from(grant: &'a Grant) -> Self {
        Self { tenant: &grant.tenant, request_id: &grant.request_id, headers: &grant.answer_headers }
    }
}

/// The plan downstream, given the names of the answer's headers; at most one edit a name.
///
/// The answer carries the request's id as our denials do, in place of the provider's.
#[must_use]
pub fn response_plan<'a>(facts: &AnswerFacts<'a>, present: &[&'a str]) -> Vec<HeaderEdit<'a>> {
    let mut plan = Plan::default();
    for name in present.iter().filter(|name| removed(name)) {
        plan.remove(name);
    }
    let granted = facts.headers.iter().map(|header| (header.name.as_str(), header.value.as_str()));
    for (name, value) in granted.chain([(wire::REQUEST_ID, facts.request_id)]) {
        if settable(name, value) {
            plan.set(name, value);
        }
    }
    for (name, value) in SET {
        plan.set(name, *value);
    }
    plan.set(wire::TENANT, facts.tenant);
    plan.edits()
}

/// Of the headers that a limit's refusal comes with, those that a client may be told; what frames or describes our own words
/// is not theirs to say.
#[must_use]
pub fn refusal_headers(headers: Vec<Header>) -> Vec<Header> {
    let ours = |name: &str| name == "content-type" || SET.iter().any(|(set, _)| *set == name);
    let told = headers.into_iter().filter(|header| settable(&header.name, &header.value) && !ours(&header.name));
    told.take(MOST_REFUSAL_HEADERS).collect()
}

/// Names of the answer's trailers to remove: a client may merge them into the headers (RFC 9110 §6.5.1), so what the
/// upstream may not say there it may not say behind the body either, nor contradict what is said for it.
#[must_use]
pub fn answer_trailer_removals(names: &[&str]) -> Vec<String> {
    let ours = |name: &str| {
        name == wire::REQUEST_ID || NEVER_TRAILERS.contains(&name) || SET.iter().any(|(set, _)| *set == name)
    };
    names.iter().filter(|name| removed(name) || ours(name)).map(|name| (*name).to_owned()).collect()
}

fn removed(name: &str) -> bool {
    REMOVED.contains(&name) || REMOVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Envoy writes what it is given: a line break in a value would be another header, a wrong length another answer.
fn settable(name: &str, value: &str) -> bool {
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let framing = ["connection", "content-encoding", "content-length", "transfer-encoding", "trailer", "upgrade"];
    !name.is_empty()
        && name.bytes().all(token)
        && !framing.contains(&name)
        && !value.is_empty()
        && value.bytes().all(|b| matches!(b, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_say_no_more_than_headers_may() {
        let refused = ["x-bulkhead-tenant", "set-cookie", "cache-control", "x-request-id", "content-length"];
        assert_eq!(answer_trailer_removals(&refused), refused);
        assert_eq!(answer_trailer_removals(&["grpc-status", "x-checked"]), [""; 0]);
    }

    #[test]
    fn a_refusal_says_nothing_about_its_own_framing() {
        let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
        let odd = [
            (":status", "200"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("content-type", "text/html"),
            ("cache-control", "public"),
            ("x-split", "a\r\nx-more: b"),
            ("x odd", "v"),
            ("", "v"),
        ];
        let said = odd.iter().map(|(name, value)| header(name, value)).chain([header("retry-after", "7")]).collect();
        assert_eq!(refusal_headers(said), [header("retry-after", "7")]);
        let many = (0..400).map(|number| header(&format!("x-{number}"), "v")).collect();
        assert_eq!(refusal_headers(many).len(), MOST_REFUSAL_HEADERS);
    }

    #[test]
    fn the_tables_are_lower_case_and_do_not_contradict_each_other() {
        let names = REMOVED.iter().chain(REMOVED_PREFIXES).chain(SET.iter().map(|(name, _)| name));
        for name in names {
            assert!(settable(name, "x"), "{name}");
        }
        assert!(REMOVED.is_sorted() && REMOVED_PREFIXES.is_sorted());
        assert!(SET.iter().all(|(name, value)| !removed(name) && settable(name, value)));
        for kept in [
            "content-type",
            "content-length",
            "retry-after",
            "x-request-id",
            "x-should-retry",
            "date",
            "location",
            "cfoo",
        ] {
            assert!(!removed(kept), "{kept}");
        }
    }
}
