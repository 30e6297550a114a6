//! A URL that keys are read from: `https`, or `http` to addresses that an operator listed; no user, no fragment.

use http::Uri;

/// Where the provider's metadata lies, behind its issuer URL (OpenID Connect Discovery 1.0 §4.1).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Over TLS.
    pub(crate) secure: bool,
    /// Name or address, without brackets.
    pub(crate) host: String,
    /// Port, also where it is the scheme's own.
    pub(crate) port: u16,
    /// Host and port as they were written, for the header `host`.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) target: String,
}

/// Why a URL is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL with a host.
    #[error("is no URL with a host")]
    Malformed,
    /// Neither `https` nor `http`.
    #[error("is neither https nor http")]
    Scheme,
    /// Something that a server would never see, or that names a user.
    #[error("has a user or a fragment")]
    Parts,
    /// An issuer with a query.
    #[error("has a query")]
    Query,
}

impl Endpoint {
    /// Takes a URL apart.
    pub(crate) fn parse(url: &str) -> Result<Self, UrlError> {
        if url.contains('#') {
            return Err(UrlError::Parts);
        }
        let uri: Uri = url.parse().map_err(|_| UrlError::Malformed)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(UrlError::Scheme),
            None => return Err(UrlError::Malformed),
        };
        let authority = uri.authority().ok_or(UrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Parts);
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let after = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match after.strip_prefix(':') {
            None => Some(if secure { 443 } else { 80 }),
            Some(_) => authority.port_u16().filter(|port| *port > 0),
        };
        if host.is_empty() {
            return Err(UrlError::Malformed);
        }
        Ok(Self {
            secure,
            host: host.to_owned(),
            port: port.ok_or(UrlError::Malformed)?,
            authority: authority.as_str().to_owned(),
            target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        })
    }

    /// Where the metadata of this issuer lies.
    pub(crate) fn metadata(issuer: &str) -> Result<Self, UrlError> {
        if issuer.contains('?') {
            return Err(UrlError::Query);
        }
        Self::parse(&format!("{}{WELL_KNOWN}", issuer.strip_suffix('/').unwrap_or(issuer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parts = |url: &str| {
            let Endpoint { secure, host, port, authority, target } = Endpoint::parse(url).unwrap();
            (secure, host, port, authority, target)
        };
        let expected = (true, "id.acme.example".into(), 443, "id.acme.example".into(), "/keys?v=1".into());
        assert_eq!(parts("https://id.acme.example/keys?v=1"), expected);
        assert_eq!(parts("http://[::1]:8080"), (false, "::1".into(), 8080, "[::1]:8080".into(), "/".into()));
        for (url, error) in [
            ("https://user@id.example/", UrlError::Parts),
            ("https://id.example/#keys", UrlError::Parts),
            ("ftp://id.example/", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Malformed),
            ("id.example", UrlError::Malformed),
            ("/keys", UrlError::Malformed),
            ("https://", UrlError::Malformed),
            ("https://id.example:0/", UrlError::Malformed),
            ("https://id.example:99999/", UrlError::Malformed),
            ("https://id.example:/", UrlError::Malformed),
            ("https://id example/", UrlError::Malformed),
            ("", UrlError::Malformed),
        ] {
            assert_eq!(Endpoint::parse(url), Err(error), "{url}");
        }
    }

    #[test]
    fn metadata_lies_behind_the_issuer() {
        for (issuer, target) in [
            ("https://id.example", "/.well-known/openid-configuration"),
            ("https://id.example/", "/.well-known/openid-configuration"),
            ("https://id.example/realms/acme", "/realms/acme/.well-known/openid-configuration"),
        ] {
            assert_eq!(Endpoint::metadata(issuer).unwrap().target, target);
        }
        assert_eq!(Endpoint::metadata("https://id.example/?tenant=acme"), Err(UrlError::Query));
    }
}
