//! Sends one request at a time through the gateway and remembers what came of it. Judges two things by itself: a refused
//! request reaches no provider, an admitted one exactly one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bulkhead_tests::client::{self, Answer};
use bulkhead_tests::gateway::Service;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::page::Page;
use crate::providers::{Arrived, Providers};
use crate::stack::Stack;
use crate::tenants::{Issuers, Keys};

/// Path of chat completions.
pub(crate) const CHAT: &str = "/v1/chat/completions";
/// How often a request is sent when the service does not answer Envoy in time.
const TRIES: u32 = 5;

/// Where the story is played.
pub(crate) struct Stage<'a> {
    pub(crate) page: Page,
    pub(crate) keys: &'a Keys,
    pub(crate) issuers: &'a mut Issuers,
    pub(crate) service: &'a Service,
    /// Tokens in and out, by tenant, as the providers counted them.
    pub(crate) counted: BTreeMap<String, (u64, u64)>,
    /// What reached the providers with the last request.
    pub(crate) arrived: Vec<Arrived>,
    gateway: SocketAddr,
    providers: &'a Providers,
}

/// What a client sends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Asked {
    /// `POST` of JSON to chat completions.
    pub(crate) fn chat(body: &Value) -> Self {
        Self::post(CHAT, body)
    }

    /// `POST` of JSON.
    pub(crate) fn post(path: &str, body: &Value) -> Self {
        let asked = Self { method: "POST", path: path.into(), body: body.to_string().into(), ..Self::default() };
        asked.with("content-type", "application/json")
    }

    /// `GET`.
    pub(crate) fn get(path: &str) -> Self {
        Self { method: "GET", path: path.into(), ..Self::default() }
    }

    /// With a header.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a bearer credential.
    pub(crate) fn bearer(self, credential: &str) -> Self {
        self.with("authorization", format!("Bearer {credential}"))
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let request = Request::builder().method(self.method).uri(&self.path).header("host", "ai.example");
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        request.body(Full::new(self.body.clone())).expect("a request")
    }
}

/// A chat body.
pub(crate) fn says(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

impl<'a> Stage<'a> {
    pub(crate) fn new(stack: &'a Stack, keys: &'a Keys, issuers: &'a mut Issuers) -> Self {
        Self {
            page: Page::new(),
            keys,
            issuers,
            service: stack.service(),
            counted: BTreeMap::new(),
            arrived: Vec::new(),
            gateway: stack.gateway(),
            providers: stack.providers(),
        }
    }

    /// Sends a request, and makes it a row of the page. `expected` is `200`, or a status and a code.
    pub(crate) async fn row(&mut self, who: &str, what: &str, expected: &str, asked: &Asked) -> Answer {
        let answer = self.send(asked).await;
        let got = self.outcome(asked, &answer);
        self.page.row(who, what, expected, &got);
        if expected != got && answer.status >= 400 {
            println!("        {}", answer.text());
        }
        answer
    }

    /// Sends a request, again where the service had no time to answer Envoy: nothing has left for a provider then.
    pub(crate) async fn send(&mut self, asked: &Asked) -> Answer {
        for _ in 1..TRIES {
            let answer = self.send_once(asked).await;
            if answer.code() != "service_unavailable" {
                return answer;
            }
            self.page.again += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.send_once(asked).await
    }

    /// Sends a request.
    pub(crate) async fn send_once(&mut self, asked: &Asked) -> Answer {
        self.providers.forget().await;
        let answer = client::request(self.gateway, asked.request()).await.expect("an answer of Envoy");
        self.arrived = self.providers.arrived().await;
        self.count(&answer);
        answer
    }

    /// What the last request was like when it reached its provider.
    pub(crate) fn last(&self) -> Arrived {
        self.arrived.last().cloned().unwrap_or_default()
    }

    /// Status and code; and how many providers saw the request, if that is wrong.
    pub(crate) fn outcome(&self, asked: &Asked, answer: &Answer) -> String {
        let code = answer.code();
        let said = if code.is_empty() { answer.status.to_string() } else { format!("{} {code}", answer.status) };
        let served_by_a_provider = answer.status < 400 && asked.method == "POST";
        let (due, saw) = (usize::from(served_by_a_provider), self.arrived.len());
        if saw == due { said } else { format!("{said}, but the providers saw it {saw} times") }
    }

    fn count(&mut self, answer: &Answer) {
        let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { return };
        let said = |name: &str| body["usage"][name].as_u64();
        if let (Some(input), Some(output)) = (said("prompt_tokens"), said("completion_tokens")) {
            self.add_tokens(input, output);
        }
    }

    /// Tokens of the last request.
    pub(crate) fn add_tokens(&mut self, input: u64, output: u64) {
        let sum = self.counted.entry(self.last().header("x-bulkhead-tenant")).or_default();
        *sum = (sum.0 + input, sum.1 + output);
    }
}
