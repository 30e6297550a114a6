//! A case through a real Envoy, the real module and the real service; the upstream answers as the case's file says.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Case, Charged, Exchange, Observed, Recorded, Sent};
use crate::books::{is_refusal, is_request};
use crate::eventually;
use crate::gateway::Gateway;
use crate::mint::Alg;
use crate::policies::issuer;
use crate::upstream::{Scripted, Seen};

/// A gateway and one case's credentials.
pub struct Real<'a> {
    gateway: &'a Gateway,
    credentials: BTreeMap<String, String>,
}

impl<'a> Real<'a> {
    /// Mints the case's credentials.
    ///
    /// # Panics
    /// The service makes no such key.
    pub async fn new(gateway: &'a Gateway, case: &Case) -> Self {
        let mut credentials = BTreeMap::new();
        for name in case.credentials() {
            let words: Vec<&str> = name.split(' ').collect();
            let text = match words[..] {
                ["jwt", tenant] => issuer(tenant).token(Alg::Es256),
                ["key", tenant] if gateway.keys.contains_key(tenant) => gateway.keys[tenant].clone(),
                ["key", tenant, ref more @ ..] => gateway.service().create_key(tenant, more).await,
                _ => panic!("no credential is called `{name}`"),
            };
            credentials.insert(name, text);
        }
        Self { gateway, credentials }
    }

    /// Runs one exchange and waits until it is settled.
    ///
    /// # Panics
    /// The connection breaks, or the audit never says what came of it.
    pub async fn exchange(&self, exchange: &Exchange) -> Observed {
        let request = &exchange.request;
        let script = exchange.upstream.as_ref().map(|answer| Scripted {
            status: answer.status,
            headers: answer.headers.clone(),
            body: answer.body.clone().into(),
        });
        for upstream in [&self.gateway.upstream, &self.gateway.upstream_2] {
            upstream.clear();
            upstream.script(script.clone());
        }
        let mut headers = request.signed(&self.credentials);
        headers.push(("host".into(), request.authority.clone()));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = self.gateway.request(&request.method, &request.path, &headers, request.body.clone()).await;
        assert!(answer.complete, "{answer:?}");
        let line = self.line(answer.header("x-request-id").expect("a request id")).await;
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        Observed {
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
            sent: self.sent(),
            recorded: Recorded {
                decision: if is_refusal(&line) { "deny".into() } else { text("decision") },
                code: text("code"),
                tenant: text("tenant"),
                model: text("model"),
                provider: text("provider"),
            },
            charged: (!line["charged"].is_null()).then(|| Charged::of_line(&line)),
        }
    }

    /// The request's one audit line, settled where there is something to settle.
    async fn line(&self, request_id: &str) -> Value {
        eventually("a settled audit line", async || {
            let lines = self.gateway.service().audit().await;
            let mut lines = lines.into_iter().filter(|line| line["requestId"] == request_id && is_request(line));
            let line = lines.next()?;
            assert!(lines.next().is_none(), "two audit lines for one request: {line}");
            (line["reserved"].is_null() || line["outcome"].is_string()).then_some(line)
        })
        .await
    }

    fn sent(&self) -> Option<Sent> {
        let mut seen: Vec<Seen> = [&self.gateway.upstream, &self.gateway.upstream_2]
            .into_iter()
            .flat_map(|upstream| upstream.record())
            .collect();
        assert!(seen.len() <= 1, "one request reached the upstream {} times", seen.len());
        let seen = seen.pop()?;
        assert!(seen.complete, "half a request reached the upstream: {seen:?}");
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = seen.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        Some(Sent { path: seen.path, headers, body: seen.body })
    }
}
