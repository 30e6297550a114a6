//! An issuer's keys as it publishes them: its metadata, which must name exactly this issuer, then the key set that it names
//! (OpenID Connect Discovery 1.0 §4.3, RFC 8414 §3.3).

use serde_json::Value;

use super::address::Network;
use super::endpoint::{Endpoint, UrlError};
use super::http::{GetError, Reader};
use crate::identity::jwt::{JwksError, KeySet};
use crate::identity::strict;

/// Why an issuer's keys were not read; for the log, for it may quote what the issuer wrote.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the issuer {0}")]
    Issuer(UrlError),
    #[error("the metadata {0}")]
    Metadata(GetError),
    #[error("the metadata is not strict JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the metadata names another issuer")]
    AnotherIssuer,
    #[error("the metadata has no `jwks_uri`")]
    NoKeys,
    #[error("the metadata's `jwks_uri` {0}")]
    KeysUrl(UrlError),
    #[error("the key set {0}")]
    Keys(GetError),
    #[error(transparent)]
    KeySet(#[from] JwksError),
}

/// Reads the keys of an issuer.
pub(super) async fn keys(reader: &Reader, issuer: &str, listed: &[Network]) -> Result<KeySet, FetchError> {
    let at = Endpoint::metadata(issuer).map_err(FetchError::Issuer)?;
    let metadata = reader.get(&at, listed).await.map_err(FetchError::Metadata)?;
    let at = keys_of(&metadata, issuer)?;
    let keys = reader.get(&at, listed).await.map_err(FetchError::Keys)?;
    Ok(KeySet::parse(&keys)?)
}

/// Where the metadata says that the keys are.
fn keys_of(metadata: &[u8], issuer: &str) -> Result<Endpoint, FetchError> {
    let metadata = strict::object(metadata)?;
    if metadata.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(FetchError::AnotherIssuer);
    }
    let url = metadata.get("jwks_uri").and_then(Value::as_str).ok_or(FetchError::NoKeys)?;
    Endpoint::parse(url).map_err(FetchError::KeysUrl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuer_is_this_one_to_the_byte() {
        let said = |issuer: &str| format!(r#"{{"issuer":{issuer},"jwks_uri":"https://id.example/keys"}}"#);
        assert!(keys_of(said(r#""https://id.example""#).as_bytes(), "https://id.example").is_ok());
        for other in [
            r#""https://id.example/""#,
            r#""https://ID.example""#,
            r#""http://id.example""#,
            r#""https://id.example:443""#,
            r#"["https://id.example"]"#,
            "null",
            r#""""#,
            r#""https://id.example ""#,
        ] {
            let error = keys_of(said(other).as_bytes(), "https://id.example").unwrap_err();
            assert!(matches!(error, FetchError::AnotherIssuer), "{other}: {error}");
        }
    }

    #[test]
    fn metadata_says_where_the_keys_are_or_is_refused() {
        for (metadata, why) in [
            (r#"{"issuer":"https://i","issuer":"https://i","jwks_uri":"https://i/"}"#, "strict JSON"),
            (r#"{"issuer":"https://i"}"#, "no `jwks_uri`"),
            (r#"{"issuer":"https://i","jwks_uri":7}"#, "no `jwks_uri`"),
            (r#"{"issuer":"https://i","jwks_uri":"/keys"}"#, "is no URL"),
            (r#"{"issuer":"https://i","jwks_uri":"file:///keys"}"#, "is no URL"),
            (r#"{"issuer":"https://i","jwks_uri":"gopher://i/keys"}"#, "neither https nor http"),
            ("<html>", "strict JSON"),
            ("[]", "strict JSON"),
            ("", "strict JSON"),
        ] {
            let error = keys_of(metadata.as_bytes(), "https://i").unwrap_err().to_string();
            assert!(error.contains(why), "{metadata}: {error}");
        }
    }
}
