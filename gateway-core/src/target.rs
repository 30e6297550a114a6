//! The request target: one spelling of a path, or a refusal. What is decided upon, routed and audited is this text,
//! byte for byte; nothing in here decodes, folds or repairs, because a second reader may repair differently.

#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;

use crate::denial::{Code, Denial};

/// The longest path with its query, in bytes.
pub const MAX_TARGET_BYTES: usize = 8192;
/// The longest authority: a DNS name (RFC 1035), a colon and a port.
const MAX_AUTHORITY_BYTES: usize = 253 + 6;

/// The path and the query of a canonical `:path`.
///
/// Stricter than RFC 3986: no percent-encoding in the path (no endpoint needs it, and each decoder reads it in its own
/// way), no `//`, no `.` or `..` segment, no `;`, `\` or `#`.
///
/// # Errors
/// [`Code::UriTooLong`] over [`MAX_TARGET_BYTES`], else [`Code::BadRequest`].
pub fn check_path(path_and_query: &str) -> Result<(&str, Option<&str>), Denial> {
    if path_and_query.len() > MAX_TARGET_BYTES {
        return Err(Code::UriTooLong.into());
    }
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    if !is_canonical(path) {
        return Err(bad("The path is not canonical: plain characters, no `%`, `//`, `.`, `..`, `;` or `\\`."));
    }
    if !query.is_none_or(is_query) {
        return Err(bad("The query is not valid."));
    }
    Ok((path, query))
}

/// Checks an authority: one host, or one bracketed IPv6 address, and at most one port from 1 to 65535.
///
/// # Errors
/// [`Code::BadRequest`].
pub fn check_authority(authority: &str) -> Result<(), Denial> {
    if is_authority(authority) { Ok(()) } else { Err(bad("The authority is not one host with at most one port.")) }
}

fn is_canonical(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let last = rest.split('/').count().saturating_sub(1);
    rest.bytes().all(is_path_byte)
        && rest.split('/').enumerate().all(|(at, part)| match part {
            // one slash at the end is a spelling of its own; two are not
            "" => at == last,
            "." | ".." => false,
            _ => true,
        })
}

/// `pchar` of RFC 3986 without `%` and `;`, and the slash.
const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'')
        || matches!(byte, b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

fn is_query(query: &str) -> bool {
    let mut bytes = query.bytes();
    while let Some(byte) = bytes.next() {
        let ok = match byte {
            b'%' => hex(bytes.next()) && hex(bytes.next()),
            b'#' => false,
            _ => byte.is_ascii_graphic(),
        };
        if !ok {
            return false;
        }
    }
    true
}

fn hex(byte: Option<u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_hexdigit())
}

fn is_authority(authority: &str) -> bool {
    if authority.len() > MAX_AUTHORITY_BYTES {
        return false;
    }
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<Ipv6Addr>().is_ok() && port_ok;
    }
    match authority.split_once(':') {
        Some((host, port)) => is_host(host) && is_port(port),
        None => is_host(authority),
    }
}

/// Labels of letters, digits, `-` and `_`; one dot at the end is the root's.
fn is_host(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    host.split('.').all(label)
}

fn is_port(port: &str) -> bool {
    port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn bad(detail: &str) -> Denial {
    Denial::new(Code::BadRequest).detail(detail)
}
