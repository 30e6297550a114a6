//! `x-forwarded-client-cert` as Envoy writes it: elements with commas between, in each `Key=Value` pairs with semicolons
//! between, values that hold either in double quotes. Read only where a proxy of the mesh speaks for a client, and strictly:
//! exactly one element, and in it exactly one certificate. What else the element says is the proxy's word, and not taken.

/// Why a header is no word about one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ForwardedError(&'static str);

/// The longest header that is looked at, in bytes.
const MAX_BYTES: usize = 32 * 1024;

/// Keys that Envoy writes; each stands once in an element, but for the two that name.
const KEYS: [&str; 7] = ["By", "Hash", "Cert", "Chain", "Subject", "URI", "DNS"];

/// The certificate of the one element: PEM, URL-encoded, as `include_peer_certificate` spells it.
///
/// # Errors
/// [`ForwardedError`], for the log.
pub fn certificate(header: &str) -> Result<&str, ForwardedError> {
    if header.len() > MAX_BYTES {
        return Err(ForwardedError("xfcc: too large"));
    }
    let mut rest = header;
    let (mut certificate, mut seen) = (None, [false; KEYS.len()]);
    loop {
        let (key, behind) = rest.split_once('=').ok_or(ForwardedError("xfcc: malformed"))?;
        let known = KEYS.iter().zip(&mut seen).find(|(known, _)| **known == key);
        let (name, before) = known.ok_or(ForwardedError("xfcc: unknown key"))?;
        if *before && !matches!(*name, "URI" | "DNS" | "By") {
            return Err(ForwardedError("xfcc: a key twice"));
        }
        *before = true;
        let (value, behind) = value(behind)?;
        if *name == "Cert" {
            certificate = Some(value);
        }
        match behind.strip_prefix(';') {
            Some(next) => rest = next,
            None if behind.is_empty() => break,
            None => return Err(ForwardedError("xfcc: several elements")),
        }
    }
    let whole = |value: &&str| !value.is_empty() && !value.contains('\\');
    certificate.filter(whole).ok_or(ForwardedError("xfcc: no certificate"))
}

/// A value, without its quotes, and what stands behind it: a separator, or nothing.
fn value(text: &str) -> Result<(&str, &str), ForwardedError> {
    let malformed = ForwardedError("xfcc: malformed");
    let Some(quoted) = text.strip_prefix('"') else {
        let (plain, behind) = text.find([',', ';']).and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""));
        return if plain.contains(['"', '=', '\\', ' ']) { Err(malformed) } else { Ok((plain, behind)) };
    };
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let (inside, behind) = quoted.split_at_checked(at).ok_or(malformed)?;
                let behind = behind.strip_prefix('"').ok_or(malformed)?;
                let separated = behind.is_empty() || behind.starts_with([',', ';']);
                return if separated { Ok((inside, behind)) } else { Err(malformed) };
            }
            _ => {}
        }
    }
    Err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERT: &str = "-----BEGIN%20CERTIFICATE-----%0AAAEC%0A-----END%20CERTIFICATE-----%0A";

    #[test]
    fn the_one_certificate_of_the_one_element() {
        for header in [
            format!("Cert=\"{CERT}\""),
            format!("Cert={CERT}"),
            format!(
                "By=spiffe://mesh/edge;Hash=00ff;Cert=\"{CERT}\";Subject=\"CN=a, O=\\\"b;c\\\"\";URI=spiffe://a/b;DNS=a;DNS=b"
            ),
            format!("Hash=00ff;Chain=\"{CERT}{CERT}\";URI=spiffe://a/b;URI=spiffe://c/d;Cert=\"{CERT}\""),
            format!("Subject=\"\";Cert=\"{CERT}\""),
            format!("URI=;Cert=\"{CERT}\""),
        ] {
            assert_eq!(certificate(&header), Ok(CERT), "{header}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let one = format!("Cert=\"{CERT}\"");
        for (header, want) in [
            (String::new(), "xfcc: malformed"),
            (";".into(), "xfcc: malformed"),
            ("Hash=00;URI=spiffe://a/b".into(), "xfcc: no certificate"),
            ("Cert=\"\"".into(), "xfcc: no certificate"),
            ("Cert=".into(), "xfcc: no certificate"),
            (format!("Cert=\"{CERT}\\\"\""), "xfcc: no certificate"),
            (format!("{one},{one}"), "xfcc: several elements"),
            (format!("{one},By=a"), "xfcc: several elements"),
            (format!("{one},"), "xfcc: several elements"),
            (format!("By=a,{one}"), "xfcc: several elements"),
            (format!("{one};"), "xfcc: malformed"),
            (format!(";{one}"), "xfcc: unknown key"),
            (format!("{one};{one}"), "xfcc: a key twice"),
            (format!("Hash=a;Hash=b;{one}"), "xfcc: a key twice"),
            (format!("cert=\"{CERT}\""), "xfcc: unknown key"),
            (format!(" {one}"), "xfcc: unknown key"),
            (format!("{one} "), "xfcc: malformed"),
            (format!("{one}; Hash=a"), "xfcc: unknown key"),
            (format!("Cert=\"{CERT}"), "xfcc: malformed"),
            (format!("Cert=\"{CERT}\\\""), "xfcc: malformed"),
            (format!("Cert=\"{CERT}\"x;Hash=a"), "xfcc: malformed"),
            (format!("Cert={CERT}\";Hash=a"), "xfcc: malformed"),
            (format!("Subject=CN=a;{one}"), "xfcc: malformed"),
            (format!("Cert==;{one}"), "xfcc: malformed"),
            (format!("{one};Hash={}", "0".repeat(MAX_BYTES)), "xfcc: too large"),
        ] {
            assert_eq!(certificate(&header).map_err(|error| error.to_string()), Err(want.to_owned()), "{header}");
        }
    }
}
