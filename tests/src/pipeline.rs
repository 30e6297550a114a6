//! Three services of one tenant, one behind the other: each exchanges the token that it is sent for one of its own (RFC 8693),
//! by its own API key, and goes on with that. The last one asks the model. What `examples/pipeline` shows.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Router, routing};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::client::{self, Answer};
use crate::gateway::{CHAT, Gateway};

/// Path of the exchange.
pub const TOKEN: &str = "/bulkhead/v1/token";
/// The services, in the order in which a request passes them.
pub const SERVICES: [&str; 3] = ["front", "search", "answer"];
const FORM: &str = "application/x-www-form-urlencoded";

/// The three, running; they end with the test's runtime.
#[derive(Debug)]
pub struct Pipeline {
    /// Where a user's request goes.
    pub entry: SocketAddr,
    /// Their API keys' ids, in order.
    pub keys: Vec<String>,
    hops: Hops,
}

/// One exchange as the service saw it.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Which service.
    pub service: &'static str,
    /// Claims of the token that it got.
    pub claims: Value,
}

type Hops = Arc<Mutex<Vec<Hop>>>;

#[derive(Clone)]
struct Service {
    name: &'static str,
    key: String,
    gateway: SocketAddr,
    next: Option<SocketAddr>,
    hops: Hops,
}

/// The form of RFC 8693 §2.1 for a JWT; `more` goes behind it as it is.
#[must_use]
pub fn form(subject: &str, more: &str) -> String {
    let urn = "urn%3Aietf%3Aparams%3Aoauth";
    format!(
        "grant_type={urn}%3Agrant-type%3Atoken-exchange&subject_token={subject}&subject_token_type={urn}%3Atoken-type%3Ajwt{more}"
    )
}

/// What a token says; nobody verifies it here.
///
/// # Panics
/// It is none.
#[must_use]
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    serde_json::from_slice(&payload.unwrap_or_else(|| panic!("no token: {token}"))).expect("JSON")
}

impl Pipeline {
    /// Starts the services of a tenant, each with an API key of its own.
    ///
    /// # Panics
    /// One does not start.
    pub async fn start(gateway: &Gateway, tenant: &str) -> Self {
        let hops = Hops::default();
        let (mut next, mut keys) = (None, Vec::new());
        for name in SERVICES.into_iter().rev() {
            let key = gateway.service().create_key(tenant, &[]).await;
            keys.insert(0, key.split('_').nth(1).expect("an id").to_owned());
            let service = Service { name, key, gateway: gateway.addr, next, hops: Arc::clone(&hops) };
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            next = Some(listener.local_addr().expect("its address"));
            let router = Router::new().route("/", routing::post(serve)).with_state(service);
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        Self { entry: next.expect("the first service"), keys, hops }
    }

    /// A user's request to the first service.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn ask(&self, token: &str, question: &str) -> Answer {
        let asked = post(self.entry, "/", token, "text/plain", question.to_owned());
        client::request(self.entry, asked).await.expect("an answer")
    }

    /// The exchanges so far.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn hops(&self) -> Vec<Hop> {
        self.hops.lock().expect("the hops").clone()
    }
}

/// What each service does, whoever asks it with whatever token: the gateway says whether that is good.
async fn serve(State(service): State<Service>, headers: HeaderMap, question: String) -> (StatusCode, Bytes) {
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(token) = bearer else { return (StatusCode::UNAUTHORIZED, Bytes::new()) };
    let asked = post(service.gateway, TOKEN, &service.key, FORM, form(token, ""));
    let exchanged = client::request(service.gateway, asked).await.expect("the gateway answers");
    let Some(own) = exchanged_token(&exchanged) else { return passed(exchanged) };
    service.hops.lock().expect("the hops").push(Hop { service: service.name, claims: claims(&own) });
    let (addr, asked) = match service.next {
        Some(next) => (next, post(next, "/", &own, "text/plain", question)),
        None => {
            let body = json!({"model": "llama-3.1-8b", "messages": [{"role": "user", "content": question}]});
            (service.gateway, post(service.gateway, CHAT, &own, "application/json", body.to_string()))
        }
    };
    passed(client::request(addr, asked).await.expect("the next one answers"))
}

/// The token of a good answer.
fn exchanged_token(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    body["access_token"].as_str().filter(|_| answer.status == 200).map(ToOwned::to_owned)
}

fn passed(answer: Answer) -> (StatusCode, Bytes) {
    (StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY), answer.body.into())
}

fn post(host: SocketAddr, path: &str, bearer: &str, kind: &str, body: String) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", host.to_string())
        .header("authorization", format!("Bearer {bearer}"))
        .header("content-type", kind)
        .body(Full::new(body.into()))
        .expect("a request")
}
