//! What tests send through a gateway, in one line each.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use super::Gateway;
use crate::client::{self, Answer, H2, Raw, RawAnswer, Streamed};
use crate::mint::Alg;
use crate::policies::{MODEL, issuer};

/// Path of chat completions.
pub const CHAT: &str = "/v1/chat/completions";

/// A chat body that says `text` to [`MODEL`].
#[must_use]
pub fn chat_body(text: &str) -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": text}]})
}

impl Gateway {
    /// A request with any method, headers and body, on a connection of its own.
    ///
    /// # Panics
    /// The connection breaks before the answer's head, or the request cannot be written.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let answer = client::request(self.addr, self.asked(method, path, headers, body.into())).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error:#}"))
    }

    /// `POST` of JSON text.
    ///
    /// # Panics
    /// As [`Gateway::request`].
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.request("POST", path, &headers, body).await
    }

    /// `GET`.
    ///
    /// # Panics
    /// As [`Gateway::request`].
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.request("GET", path, headers, Bytes::new()).await
    }

    /// A chat completion with a tenant's API key. Sent again, up to five times, where the service took longer than
    /// Envoy waits for it: 250 ms are short on a busy machine, and nothing was sent upstream then.
    ///
    /// # Panics
    /// As [`Gateway::request`], and where the tenant has no key.
    pub async fn chat(&self, tenant: &str, body: &Value) -> Answer {
        let mut answer = Answer::default();
        for _ in 0..5 {
            answer = self.chat_once(tenant, body).await;
            if answer.code() != "service_unavailable" {
                break;
            }
        }
        answer
    }

    /// The same, sent once whatever the answer.
    ///
    /// # Panics
    /// As [`Gateway::chat`].
    pub async fn chat_once(&self, tenant: &str, body: &Value) -> Answer {
        self.post(CHAT, &[("authorization", &self.bearer(tenant))], body.to_string()).await
    }

    /// A chat completion, to be read piece by piece.
    ///
    /// # Panics
    /// As [`Gateway::chat`].
    pub async fn chat_stream(&self, tenant: &str, body: &Value) -> Streamed {
        let bearer = self.bearer(tenant);
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        for attempt in 1.. {
            let asked = self.asked("POST", CHAT, &headers, body.to_string().into());
            let streamed = client::stream(self.addr, asked).await;
            let streamed = streamed.unwrap_or_else(|error| panic!("POST {CHAT}: {error:#}"));
            if streamed.status != 503 || attempt == 5 {
                return streamed;
            }
        }
        unreachable!("the fifth attempt returns")
    }

    /// A connection for bytes.
    pub async fn connect(&self) -> Raw {
        Raw::connect(self.addr).await
    }

    /// Bytes on a connection of their own, and what came back.
    pub async fn raw(&self, bytes: &[u8]) -> RawAnswer {
        let mut connection = self.connect().await;
        connection.send(bytes).await;
        connection.answer().await
    }

    /// An HTTP/2 connection.
    ///
    /// # Panics
    /// Envoy does not take it.
    pub async fn h2(&self) -> H2 {
        H2::connect(self.addr).await.expect("an HTTP/2 connection")
    }

    /// `Bearer` and a tenant's API key.
    ///
    /// # Panics
    /// It has none.
    #[must_use]
    pub fn bearer(&self, tenant: &str) -> String {
        format!("Bearer {}", self.keys.get(tenant).unwrap_or_else(|| panic!("no key of `{tenant}`")))
    }

    /// `Bearer` and a good ES256 token of a tenant's issuer.
    #[must_use]
    pub fn jwt(&self, tenant: &str) -> String {
        format!("Bearer {}", issuer(tenant).token(Alg::Es256))
    }

    fn asked(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header("host", "ai.example");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body)).unwrap_or_else(|error| panic!("{method} {path} cannot be written: {error}"))
    }
}
