//! The authorization code flow with PKCE: the provider's page in a browser, its answer at a port of this host.

use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::provider::{Client, Provider, Tokens, Wanted};
use super::{LoginError, printable};
use crate::vault::{Random, draw};

/// How long a person has.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the answer at the redirect must fit.
#[derive(Clone)]
struct Expected {
    state: String,
    issuer: String,
    says_issuer: bool,
}

/// Logs somebody in; `show` is given the address of the page.
pub(crate) async fn by_browser(
    provider: &Provider,
    client: &Client,
    wanted: &Wanted,
    random: &mut Random<'_>,
    show: impl FnOnce(&str),
) -> Result<Tokens, LoginError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(LoginError::Listen)?;
    let redirect = format!("http://{}/callback", listener.local_addr().map_err(LoginError::Listen)?);
    let verifier = URL_SAFE_NO_PAD.encode(*draw::<32>(random)?);
    let state = URL_SAFE_NO_PAD.encode(*draw::<16>(random)?);
    show(&page(provider.authorization_endpoint()?, client, wanted, &redirect, &verifier, &state));
    let expected = Expected { state, issuer: provider.issuer.clone(), says_issuer: provider.says_issuer() };
    let code = answer(listener, expected).await?;
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", &code)
        .append_pair("redirect_uri", &redirect)
        .append_pair("code_verifier", &verifier);
    Wanted { scope: None, ..wanted.clone() }.add_to(&mut form);
    provider.tokens(client, form).await
}

/// The address of the provider's page (RFC 6749 §4.1.1, RFC 7636 §4.3).
fn page(at: &str, client: &Client, wanted: &Wanted, redirect: &str, verifier: &str, state: &str) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let mut query = Serializer::new(String::new());
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", &client.id)
        .append_pair("redirect_uri", redirect)
        .append_pair("state", state)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    // without it the provider must not give a refresh token (OpenID Connect Core 1.0 §11)
    if wanted.scope.as_deref().is_some_and(|scope| scope.split(' ').any(|one| one == "offline_access")) {
        query.append_pair("prompt", "consent");
    }
    wanted.add_to(&mut query);
    let between = if at.contains('?') { '&' } else { '?' };
    format!("{at}{between}{}", query.finish())
}

/// Waits for the browser to come back with a code. What does not fit is answered and waited on: anybody on this host may
/// knock here.
async fn answer(listener: TcpListener, expected: Expected) -> Result<String, LoginError> {
    let (tell, mut told) = mpsc::channel(1);
    let app = Router::new().route("/callback", get(came_back)).with_state((expected, tell));
    let server = tokio::spawn(axum::serve(listener, app).into_future());
    let code = timeout(PATIENCE, told.recv()).await;
    // The page is on its way to the browser.
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.abort();
    code.ok().flatten().unwrap_or(Err(LoginError::TooLate(PATIENCE.as_secs())))
}

type Told = mpsc::Sender<Result<String, LoginError>>;

async fn came_back(State((expected, tell)): State<(Expected, Told)>, RawQuery(query): RawQuery) -> Response {
    let Some(came) = read(&expected, query.as_deref().unwrap_or_default()) else {
        return (StatusCode::BAD_REQUEST, "This is not the answer to the login that is under way.\n").into_response();
    };
    let text = match &came {
        Ok(_) => "You are logged in. You can close this page.\n",
        Err(_) => "The login failed; the terminal says why. You can close this page.\n",
    };
    let _ = tell.try_send(came);
    // The address holds a code: nobody is to be told of it.
    ([(header::REFERRER_POLICY, "no-referrer"), (header::CACHE_CONTROL, "no-store")], text).into_response()
}

/// The code in the answer, or the refusal; nothing where it answers another question (RFC 6749 §4.1.2, RFC 9207 §2.4).
fn read(expected: &Expected, query: &str) -> Option<Result<String, LoginError>> {
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let one = |wanted: &str| {
        let mut found = pairs.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_ref());
        found.next().filter(|_| found.next().is_none())
    };
    if !bool::from(one("state")?.as_bytes().ct_eq(expected.state.as_bytes())) {
        return None;
    }
    let issuer = one("iss");
    if issuer.is_some_and(|issuer| issuer != expected.issuer) || (issuer.is_none() && expected.says_issuer) {
        return None;
    }
    if let Some(error) = one("error") {
        let description = one("error_description").map(str::to_owned);
        return Some(Err(LoginError::Refused { error: printable(error), description }));
    }
    one("code").map(|code| Ok(code.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        Expected { state: "s-1".into(), issuer: "https://id.example".into(), says_issuer: true }
    }

    #[test]
    fn only_the_answer_to_this_login_is_one() {
        let iss = "iss=https%3A%2F%2Fid.example";
        let code = |query: &str| read(&expected(), query).map(|came| came.map_err(|error| error.to_string()));
        assert_eq!(code(&format!("code=c%2B1&state=s-1&{iss}")), Some(Ok("c+1".into())));
        let refused = "the provider refuses: access_denied (not you)".to_owned();
        assert_eq!(code(&format!("error=access_denied&error_description=not+you&state=s-1&{iss}")), Some(Err(refused)));
        for other in [
            String::new(),
            format!("code=c&{iss}"),
            format!("code=c&state=s-2&{iss}"),
            format!("code=c&state=s-1&state=s-1&{iss}"),
            format!("code=c&code=d&state=s-1&{iss}"),
            format!("state=s-1&{iss}"),
            "code=c&state=s-1".into(),
            "code=c&state=s-1&iss=https%3A%2F%2Fevil.example".into(),
        ] {
            assert_eq!(code(&other), None, "{other}");
        }
        let silent = Expected { says_issuer: false, ..expected() };
        assert!(matches!(read(&silent, "code=c&state=s-1"), Some(Ok(_))));
        assert!(read(&silent, "code=c&state=s-1&iss=https%3A%2F%2Fevil.example").is_none());
    }

    #[test]
    fn the_page_is_asked_for_with_a_challenge() {
        // RFC 7636 appendix B
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let client = Client { id: "cli".into(), secret: None };
        let wanted =
            Wanted { scope: Some("openid offline_access".into()), resource: Some("https://ai.example".into()) };
        assert_eq!(
            page("https://id.example/auth?p=1", &client, &wanted, "http://127.0.0.1:7/callback", verifier, "s"),
            "https://id.example/auth?p=1&response_type=code&client_id=cli\
             &redirect_uri=http%3A%2F%2F127.0.0.1%3A7%2Fcallback&state=s\
             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256\
             &prompt=consent&scope=openid+offline_access&resource=https%3A%2F%2Fai.example"
        );
    }
}
