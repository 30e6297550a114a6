//! `ID` or `ID=SPIFFE_ID`: a proxy that may ask, and what its certificate must say.

use std::str::FromStr;

use crate::identity::spiffe::{SpiffeId, SpiffeIdError};

/// A proxy that may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedProxy {
    /// Its id, as its calls' metadata gives it.
    pub id: String,
    /// Its SPIFFE id (SPIFFE-ID §2); without one it may not come over TLS.
    pub spiffe_id: Option<String>,
}

/// Why a text lists no proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListedProxyError {
    /// The id.
    #[error("a proxy's id has 1 to 128 visible ASCII characters, none of them `=` or `,`")]
    Id,
    /// The SPIFFE id.
    #[error(transparent)]
    SpiffeId(#[from] SpiffeIdError),
}

const MAX_ID_BYTES: usize = 128;

impl FromStr for ListedProxy {
    type Err = ListedProxyError;

    fn from_str(text: &str) -> Result<Self, ListedProxyError> {
        let (id, spiffe_id) = match text.split_once('=') {
            Some((id, spiffe_id)) => (id, Some(spiffe_id)),
            None => (text, None),
        };
        let good = |byte: u8| byte.is_ascii_graphic() && byte != b'=' && byte != b',';
        if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(good) {
            return Err(ListedProxyError::Id);
        }
        let spiffe_id = spiffe_id.map(|text| text.parse::<SpiffeId>()).transpose()?;
        Ok(Self { id: id.to_owned(), spiffe_id: spiffe_id.map(|id| id.as_str().to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_id_and_perhaps_a_spiffe_id() {
        let listed = |id: &str, spiffe: Option<&str>| ListedProxy { id: id.into(), spiffe_id: spiffe.map(Into::into) };
        assert_eq!("edge-1".parse(), Ok(listed("edge-1", None)));
        let id = "spiffe://example.org/ns/edge/sa/envoy";
        assert_eq!(format!("edge-1={id}").parse(), Ok(listed("edge-1", Some(id))));
        for bad in ["", "=spiffe://a/b", "a b", "a,b", "ä"] {
            assert_eq!(bad.parse::<ListedProxy>(), Err(ListedProxyError::Id), "{bad:?}");
        }
        for bad in [
            "",
            "example.org/a",
            "https://example.org/a",
            "spiffe://example.org",
            "spiffe:///a",
            "spiffe://Example.org/a",
            "spiffe://example.org/",
            "spiffe://example.org/a//b",
            "spiffe://example.org/../a",
            "spiffe://example.org/a?b",
            "spiffe://example.org:1/a",
        ] {
            assert_eq!(
                format!("a={bad}").parse::<ListedProxy>(),
                Err(ListedProxyError::SpiffeId(SpiffeIdError)),
                "{bad:?}"
            );
        }
    }
}
