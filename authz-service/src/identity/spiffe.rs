//! SPIFFE ids (SPIFFE-ID §2): `spiffe://`, a trust domain, a path. Read byte by byte and compared byte by byte: nothing is
//! decoded, folded or normalised, so that each id has one spelling.

use std::str::FromStr;

/// The longest id, in bytes (SPIFFE-ID §2.3).
const MAX_BYTES: usize = 2048;
/// The longest trust domain, in bytes.
const MAX_DOMAIN_BYTES: usize = 255;
const SCHEME: &str = "spiffe://";

/// A workload's id: its path is not empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: String,
    /// Bytes of the trust domain.
    domain: usize,
}

/// A text that is no SPIFFE id of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SPIFFE id is `spiffe://`, a trust domain and a path, as in `spiffe://example.org/ns/edge/sa/envoy`")]
pub struct SpiffeIdError;

impl SpiffeId {
    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..SCHEME.len().saturating_add(self.domain)).unwrap_or_default()
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let (domain, path) = text.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).ok_or(SpiffeIdError)?;
        let of_path = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let segment = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(of_path);
        if text.len() > MAX_BYTES || !is_trust_domain(domain) || !path.split('/').all(segment) {
            return Err(SpiffeIdError);
        }
        Ok(Self { text: text.to_owned(), domain: domain.len() })
    }
}

/// Whether a text is a trust domain (SPIFFE-ID §2.1): lower case, no port, no user.
#[must_use]
pub fn is_trust_domain(text: &str) -> bool {
    let of_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=MAX_DOMAIN_BYTES).contains(&text.len()) && text.bytes().all(of_domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id: SpiffeId = "spiffe://acme.example/workload/Train-1_b.c".parse().unwrap();
        assert_eq!((id.trust_domain(), id.as_str()), ("acme.example", "spiffe://acme.example/workload/Train-1_b.c"));
        let long = |bytes: usize| format!("spiffe://a/{}", "p".repeat(bytes - 11));
        assert!(long(MAX_BYTES).parse::<SpiffeId>().is_ok() && long(MAX_BYTES + 1).parse::<SpiffeId>().is_err());
        for bad in [
            "",
            "spiffe:",
            "spiffe://",
            "acme.example/a",
            "https://acme.example/a",
            "SPIFFE://acme.example/a",
            "Spiffe://acme.example/a",
            "spiffe://acme.example",
            "spiffe://acme.example/",
            "spiffe:///a",
            "spiffe://Acme.example/a",
            "spiffe://acme.example:443/a",
            "spiffe://user@acme.example/a",
            "spiffe://acme%2eexample/a",
            "spiffe://*/a",
            "spiffe://acme.example/a/",
            "spiffe://acme.example//a",
            "spiffe://acme.example/./a",
            "spiffe://acme.example/tenant/acme/../globex",
            "spiffe://acme.example/a%2fb",
            "spiffe://acme.example/*",
            "spiffe://acme.example/a?b",
            "spiffe://acme.example/a#b",
            "spiffe://acme.example/a b",
            "spiffe://acme.example/a\0",
            "spiffe://acme.example\0.globex.example/a",
            "spiffe://acme.example/ä",
            " spiffe://acme.example/a",
            "spiffe://acme.example/a\n",
        ] {
            assert_eq!(bad.parse::<SpiffeId>(), Err(SpiffeIdError), "{bad:?}");
        }
    }
}
