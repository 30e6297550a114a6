//! The syntax of a request's head, checked before anything is looked up: what stands twice, cannot be read, or is not
//! this gateway's to serve is refused here, for strangers and customers alike.
//!
//! Reads only: which tenant a claim names and whom a credential proves is decided later.

mod credential;
mod removed;
#[cfg(test)]
mod tests;

pub use credential::{CREDENTIAL_CARRIERS, Credential};
pub use removed::{REMOVED, REMOVED_PREFIXES, remove_upstream};

use crate::denial::{Code, Denial};
use crate::name::TenantName;
use crate::{target, wire};

/// A request's head as Envoy hands it over, undecoded.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// `:method`.
    pub method: &'a str,
    /// `:authority`.
    pub authority: &'a str,
    /// `:path`, with its query.
    pub path: &'a str,
    /// The other headers: lower-case names, raw values, each occurrence by itself.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// What a head says, once its syntax is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked<'a> {
    /// Canonical, without its query.
    pub path: &'a str,
    /// After the `?`.
    pub query: Option<&'a str>,
    /// The claim header's value: a name in form, whether or not such a tenant exists.
    pub claim: Option<&'a str>,
    /// At most one.
    pub credential: Credential<'a>,
    /// Bytes that `content-length` announces.
    pub content_length: Option<u64>,
    /// Envoy cut the body: the caller refuses with [`Code::BodyTooLarge`], whatever was left of it.
    pub partial_body: bool,
}

/// Headers that decide something and so may stand once, beside the claim header and the credential's carriers.
const ONCE: &[&str] = &[
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "x-forwarded-client-cert",
    wire::PARTIAL_BODY,
    wire::REQUEST_ID,
];

/// Checks the syntax of a head, in this order: method, target, names of headers, values, claim, credential, body's type.
///
/// # Errors
/// The first rule that does not hold, as its [`Denial`]; `param` names the header where there is one.
pub fn check<'a>(head: &Head<'a>, claim_header: &str) -> Result<Checked<'a>, Denial> {
    if !matches!(head.method, "GET" | "POST") {
        return Err(Code::MethodNotAllowed.into());
    }
    let (path, query) = target::check_path(head.path)?;
    target::check_authority(head.authority)?;
    check_names(head)?;
    for name in ONCE {
        text(head, name)?;
    }
    if text(head, "host")?.is_some_and(|host| host != head.authority) {
        return Err(Denial::new(Code::BadRequest).param("host").detail("`host` and `:authority` differ."));
    }
    let content_length = text(head, "content-length")?.map(length).transpose()?;
    let claim = claim(head, claim_header)?;
    let credential = credential::read(head, query)?;
    check_type(head)?;
    let partial_body = text(head, wire::PARTIAL_BODY)?.is_some_and(|value| value != "false");
    Ok(Checked { path, query, claim, credential, content_length, partial_body })
}

/// Names are lower-case tokens (RFC 9110 §5.6.2) without underscores, which some servers read as `-`.
fn check_names(head: &Head<'_>) -> Result<(), Denial> {
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^`|~".contains(&b);
    for (name, _) in head.headers {
        let refused = if name.is_empty() || !name.bytes().all(token) {
            "A header's name is not valid."
        } else if name.starts_with(wire::RESERVED_PREFIX) {
            "A reserved header arrived: the listener does not strip `x-bulkhead-` headers early."
        } else if matches!(*name, "expect" | "upgrade") {
            "Neither `expect` nor `upgrade` is served."
        } else {
            continue;
        };
        return Err(Denial::new(Code::BadRequest).detail(refused));
    }
    Ok(())
}

/// Every occurrence of a header.
fn values<'a>(head: &Head<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    head.headers.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// A header that may stand once.
fn once<'a>(head: &Head<'a>, name: &str) -> Result<Option<&'a [u8]>, Denial> {
    let mut found = values(head, name);
    let first = found.next();
    if found.next().is_some() {
        return Err(Denial::new(Code::DuplicateHeader).param(name));
    }
    Ok(first)
}

/// The same, read: printable ASCII, not empty, without blanks at its ends.
fn text<'a>(head: &Head<'a>, name: &str) -> Result<Option<&'a str>, Denial> {
    once(head, name)?.map(|value| printable(name, value)).transpose()
}

fn printable<'a>(name: &str, value: &'a [u8]) -> Result<&'a str, Denial> {
    let plain = !value.is_empty()
        && value.iter().all(|b| matches!(b, b' '..=b'~'))
        && value.first() != Some(&b' ')
        && value.last() != Some(&b' ');
    std::str::from_utf8(value).ok().filter(|_| plain).ok_or_else(|| malformed(name))
}

/// Digits only (RFC 9110 §8.6).
fn length(value: &str) -> Result<u64, Denial> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or_else(|| malformed("content-length"))
}

/// A comma is two values that somebody in front has joined, never a part of a name.
fn claim<'a>(head: &Head<'a>, name: &str) -> Result<Option<&'a str>, Denial> {
    let Some(value) = once(head, name)? else { return Ok(None) };
    if value.contains(&b',') {
        return Err(Denial::new(Code::DuplicateHeader).param(name));
    }
    let value = printable(name, value)?;
    TenantName::parse(value).map_err(|_| malformed(name))?;
    Ok(Some(value))
}

/// Nothing compressed; a POST is JSON in UTF-8 and says so. At the service's own endpoints a form is one too (OAuth 2, RFC
/// 6749 appendix B).
fn check_type(head: &Head<'_>) -> Result<(), Denial> {
    let encoding = text(head, "content-encoding")?;
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(Denial::new(Code::UnsupportedEncoding).param("content-encoding"));
    }
    let kind = text(head, "content-type")?;
    let form = |kind: &str| head.path.starts_with(wire::OWN_PATHS) && kind.eq_ignore_ascii_case(FORM);
    if head.method == "POST" && !kind.is_some_and(|kind| is_json(kind) || form(kind)) {
        return Err(Denial::new(Code::UnsupportedEncoding).param("content-type"));
    }
    Ok(())
}

const FORM: &str = "application/x-www-form-urlencoded";

fn is_json(kind: &str) -> bool {
    let mut parts = kind.split(';').map(|part| part.trim_matches(' '));
    let utf8 = |part: &str| ["charset=utf-8", "charset=\"utf-8\""].iter().any(|known| part.eq_ignore_ascii_case(known));
    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        && parts.next().is_none_or(utf8)
        && parts.next().is_none()
}

fn malformed(name: &str) -> Denial {
    Denial::new(Code::MalformedHeader).param(name)
}
