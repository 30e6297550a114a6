//! An OpenID provider as its clients see it: what its metadata says, and its token endpoint.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::Serializer;
use http::{HeaderValue, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{LoginError, printable};
use crate::identity::discovery::Network;
use crate::identity::discovery::endpoint::Endpoint;
use crate::identity::discovery::http::Reader;
use crate::vault::Secret;

/// A provider that has been asked what it offers (OpenID Connect Discovery 1.0, RFC 8414).
pub(crate) struct Provider {
    pub(super) issuer: String,
    metadata: Metadata,
    reader: Reader,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: Option<String>,
    pub(super) authorization_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Who asks: a client that the provider knows.
pub(crate) struct Client {
    /// `client_id`.
    pub(crate) id: String,
    /// A confidential client's secret.
    pub(crate) secret: Option<Secret>,
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// `scope`, blanks between.
    pub(crate) scope: Option<String>,
    /// `resource`: whom the token is for (RFC 8707).
    pub(crate) resource: Option<String>,
}

/// What the token endpoint gave.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Tokens {
    pub(super) access_token: String,
    #[zeroize(skip)]
    token_type: String,
    pub(super) refresh_token: Option<String>,
    #[zeroize(skip)]
    expires_in: Option<u32>,
}

/// The error of an endpoint (RFC 6749 §5.2).
#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

impl Client {
    /// Whether it can prove itself.
    pub(crate) const fn is_confidential(&self) -> bool {
        self.secret.is_some()
    }
}

impl Wanted {
    /// Adds itself to a form or a query.
    pub(super) fn add_to(&self, form: &mut Serializer<'_, String>) {
        for (name, value) in [("scope", &self.scope), ("resource", &self.resource)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
    }
}

impl Tokens {
    /// When the access token ends, as far as the provider says.
    pub(super) fn expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.expires_in.and_then(|seconds| now.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok())
    }
}

impl Provider {
    /// Reads the metadata of an issuer, which must name exactly this issuer.
    pub(crate) async fn discover(issuer: &str) -> Result<Self, LoginError> {
        let at = Endpoint::metadata(issuer).map_err(|why| LoginError::Url { url: issuer.to_owned(), why })?;
        let at = private_or_local(at, issuer)?;
        let reader = Reader::new()?;
        let text = reader.get(&at, &networks(&at)).await?;
        let metadata: Metadata = parsed("metadata", &text)?;
        if metadata.issuer != issuer {
            return Err(LoginError::AnotherIssuer(printable(&metadata.issuer)));
        }
        Ok(Self { issuer: issuer.to_owned(), metadata, reader })
    }

    /// Where people log in; nothing of it is asked for from here.
    pub(super) fn authorization_endpoint(&self) -> Result<&str, LoginError> {
        let url = self.metadata.authorization_endpoint.as_deref().ok_or(LoginError::Lacks("authorization endpoint"))?;
        endpoint(url).map(|_| url)
    }

    /// Whether its answers at the redirect name it (RFC 9207).
    pub(super) const fn says_issuer(&self) -> bool {
        self.metadata.authorization_response_iss_parameter_supported
    }

    /// Where devices ask (RFC 8628 §3.1).
    pub(super) fn device_endpoint(&self) -> Result<&str, LoginError> {
        self.metadata
            .device_authorization_endpoint
            .as_deref()
            .ok_or(LoginError::Lacks("device authorization endpoint (ask its operator, or log in with a browser)"))
    }

    /// Tokens for a client that is its own user (RFC 6749 §4.4).
    pub(crate) async fn by_client_credentials(&self, client: &Client, wanted: &Wanted) -> Result<Tokens, LoginError> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        wanted.add_to(&mut form);
        self.tokens(client, form).await
    }

    /// New tokens for a refresh token (RFC 6749 §6).
    pub(crate) async fn refreshed(
        &self,
        client: &Client,
        refresh: &str,
        wanted: &Wanted,
    ) -> Result<Tokens, LoginError> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", refresh);
        // the scope stays what was granted: asked for again it could only be refused
        Wanted { scope: None, ..wanted.clone() }.add_to(&mut form);
        self.tokens(client, form).await
    }

    /// Asks the token endpoint.
    pub(super) async fn tokens(&self, client: &Client, form: Serializer<'_, String>) -> Result<Tokens, LoginError> {
        let url = self.metadata.token_endpoint.as_deref().ok_or(LoginError::Lacks("token endpoint"))?;
        let tokens: Tokens = self.post(url, client, form).await?;
        if tokens.token_type.eq_ignore_ascii_case("bearer") { Ok(tokens) } else { Err(LoginError::NoBearer) }
    }

    /// Ends a token, where the provider offers that (RFC 7009).
    pub(crate) async fn revoke(&self, client: &Client, token: &str) -> Result<(), LoginError> {
        let Some(url) = &self.metadata.revocation_endpoint else { return Ok(()) };
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token);
        match self.answer(url, client, form).await? {
            (StatusCode::OK, _) => Ok(()),
            (status, text) => Err(refusal(status, &text)),
        }
    }

    /// Posts a form in the client's name; what is read on 200.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        client: &Client,
        form: Serializer<'_, String>,
    ) -> Result<T, LoginError> {
        match self.answer(url, client, form).await? {
            (StatusCode::OK, text) => parsed("answer", &text),
            (status, text) => Err(refusal(status, &text)),
        }
    }

    async fn answer(
        &self,
        url: &str,
        client: &Client,
        mut form: Serializer<'_, String>,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), LoginError> {
        let at = endpoint(url)?;
        let methods = self.metadata.token_endpoint_auth_methods_supported.as_deref();
        let in_form = methods.is_some_and(|all| !all.iter().any(|method| method == "client_secret_basic"));
        let mut basic = None;
        match &client.secret {
            Some(secret) if !in_form => basic = basic_credentials(&client.id, secret),
            Some(secret) => {
                let secret = String::from_utf8_lossy(secret.expose());
                form.append_pair("client_id", &client.id).append_pair("client_secret", &secret);
            }
            None => {
                form.append_pair("client_id", &client.id);
            }
        }
        let (status, text) = self.reader.post(&at, &networks(&at), form.finish(), basic).await?;
        Ok((status, Zeroizing::new(text.to_vec())))
    }
}

/// RFC 6749 §2.3.1: each half as a form spells it, then RFC 7617.
fn basic_credentials(id: &str, secret: &Secret) -> Option<HeaderValue> {
    let half = |bytes: &[u8]| Zeroizing::new(form_urlencoded::byte_serialize(bytes).collect::<String>());
    let both = Zeroizing::new(format!("{}:{}", *half(id.as_bytes()), *half(secret.expose())));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(both.as_bytes())));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn endpoint(url: &str) -> Result<Endpoint, LoginError> {
    let at = Endpoint::parse(url).map_err(|why| LoginError::Url { url: printable(url), why })?;
    private_or_local(at, url)
}

/// Tokens go over TLS, or stay on this host.
fn private_or_local(at: Endpoint, url: &str) -> Result<Endpoint, LoginError> {
    let local = ["127.0.0.1", "::1", "localhost"].contains(&at.host.as_str());
    if at.secure || local { Ok(at) } else { Err(LoginError::Plain(printable(url))) }
}

/// Whoever logs in chooses the provider, wherever it is; without TLS it is on this host.
fn networks(at: &Endpoint) -> Vec<Network> {
    let all: [&str; 2] = if at.secure { ["0.0.0.0/0", "::/0"] } else { ["127.0.0.0/8", "::1/128"] };
    all.iter().filter_map(|network| network.parse().ok()).collect()
}

fn parsed<T: DeserializeOwned>(what: &'static str, text: &[u8]) -> Result<T, LoginError> {
    serde_json::from_slice(text).map_err(|error| LoginError::Unreadable(what, error))
}

fn refusal(status: StatusCode, text: &[u8]) -> LoginError {
    match serde_json::from_slice::<Refusal>(text) {
        Ok(Refusal { error, error_description }) => {
            LoginError::Refused { error: printable(&error), description: error_description }
        }
        Err(_) => LoginError::Status(status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_over_tls_or_stay_here() {
        for good in ["https://id.example/token", "http://127.0.0.1:8080/t", "http://[::1]/t", "http://localhost/t"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["http://id.example/token", "http://127.0.0.2/t", "http://localhost.example/t"] {
            assert!(matches!(endpoint(bad), Err(LoginError::Plain(_))), "{bad}");
        }
        assert!(matches!(endpoint("ftp://id.example/"), Err(LoginError::Url { .. })));
    }

    #[test]
    fn a_clients_halves_are_encoded_before_they_are_joined() {
        let value = basic_credentials("a:b c", &Secret::new(b"p%:+".to_vec())).unwrap();
        assert!(value.is_sensitive());
        let text = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(STANDARD.decode(text).unwrap(), b"a%3Ab+c:p%25%3A%2B");
    }

    #[test]
    fn a_refusal_says_why_on_one_line() {
        let said = refusal(StatusCode::BAD_REQUEST, br#"{"error":"invalid_grant","error_description":"a\u001bb\nc"}"#);
        assert_eq!(said.to_string(), "the provider refuses: invalid_grant (a b c)");
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, b"<html>").to_string(),
            "the provider answers with status 502 and no reason"
        );
    }
}
