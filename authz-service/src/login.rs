//! People and pipelines log in at their tenant's own OpenID provider: authorization code with PKCE on a loopback redirect
//! (RFC 6749, 7636, 8252), the device flow where there is no browser (RFC 8628), client credentials where there is nobody.
//!
//! The client's side alone: what the tokens open is decided where requests arrive. Tokens are kept in one private file and
//! shown by nobody but `bulkhead token`.

mod browser;
mod device;
mod kept;
mod provider;

use jiff::{SignedDuration, Timestamp};

use crate::identity::discovery::endpoint::UrlError;
use crate::identity::discovery::http::GetError;
use crate::vault::{PrivateFileError, RandomError};

pub(crate) use browser::by_browser;
pub(crate) use device::{Pending, by_device};
pub(crate) use kept::{Kept, KeptFile, client};
pub(crate) use provider::{Provider, Wanted};

/// A token that ends within this long is renewed before it is handed out.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_secs(30);

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("`{url}` {why}")]
    Url { url: String, why: UrlError },
    #[error("`{0}` is plain http: a token would go over the network for all to read")]
    Plain(String),
    #[error("the provider: {0}")]
    Http(#[from] GetError),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the provider's {0} cannot be read: {1}")]
    Unreadable(&'static str, serde_json::Error),
    #[error("the provider's metadata names another issuer, `{0}`")]
    AnotherIssuer(String),
    #[error("the provider has no {0}")]
    Lacks(&'static str),
    #[error("the provider refuses: {error}{}", described(.description))]
    Refused { error: String, description: Option<String> },
    #[error("the provider answers with status {0} and no reason")]
    Status(u16),
    #[error("the answer is no bearer token")]
    NoBearer,
    #[error("nobody logged in within {0} s")]
    TooLate(u64),
    #[error("cannot listen on the loopback address: {0}")]
    Listen(std::io::Error),
    #[error(transparent)]
    Random(#[from] RandomError),
    #[error("`{path}` {why}")]
    File { path: String, why: PrivateFileError },
    #[error("`{path}` cannot be written: {why}")]
    Write { path: String, why: std::io::Error },
    #[error("nobody is logged in: run `bulkhead login` first (`{0}` is not there)")]
    Nobody(String),
    #[error("the login has ended: run `bulkhead login` again")]
    Ended,
}

/// What a provider wrote, as a terminal may show it.
fn described(description: &Option<String>) -> String {
    description.as_deref().map(|text| format!(" ({})", printable(text))).unwrap_or_default()
}

/// A foreign text on one line, bounded, without control characters.
fn printable(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An access token that is good for a while: the kept one, or a renewed one, which is kept from then on.
pub(crate) async fn access_token(file: &KeptFile, now: Timestamp) -> Result<Kept, LoginError> {
    let _alone = file.lock()?;
    let kept = file.read()?;
    if kept.lasts(now, RENEW_BEFORE) {
        return Ok(kept);
    }
    let provider = Provider::discover(&kept.issuer).await?;
    let client = kept.client()?;
    let tokens = match kept.refresh_token() {
        Some(refresh) => provider.refreshed(&client, refresh, &kept.wanted()).await,
        None if client.is_confidential() => provider.by_client_credentials(&client, &kept.wanted()).await,
        None => return Err(LoginError::Ended),
    };
    let tokens = match tokens {
        Err(LoginError::Refused { error, .. }) if error == "invalid_grant" => return Err(LoginError::Ended),
        other => other?,
    };
    let kept = kept.renewed(tokens, now);
    file.write(&kept)?;
    Ok(kept)
}
