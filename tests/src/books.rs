//! What every room wrote down about one request, found by its id: the answer, the audit log, the upstream's record.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::client::Answer;
use crate::eventually;
use crate::gateway::Gateway;
use crate::upstream::Seen;

/// Whether an audit line is about a request. In profile `inline` the service's word on a credential has a line of its own
/// (decision `grant`), which may stand for many requests or none; and what operators do is not about requests either.
#[must_use]
pub fn is_request(line: &Value) -> bool {
    !matches!(text(line, "decision"), "grant" | "admin")
}

/// Whether a line is a refusal: the service's (`deny`), or Envoy's and the module's, told by a report (`refused`; `deny`
/// where the module knew whose request it was).
#[must_use]
pub fn is_refusal(line: &Value) -> bool {
    matches!(text(line, "decision"), "deny" | "refused")
}

/// The audit log and the upstreams' records, by request id.
#[derive(Clone, Debug, Default)]
pub struct Books {
    audit: BTreeMap<String, Vec<Value>>,
    seen: BTreeMap<String, Vec<Seen>>,
}

impl Books {
    /// Reads them once every admitted request is settled and the log has a line for each of these ids.
    ///
    /// # Panics
    /// That does not happen within ten seconds.
    pub async fn closed(gateway: &Gateway, ids: &[String]) -> Self {
        let audit = eventually("every request's audit line, settled", async || {
            let mut audit: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            for line in
                gateway.service().whole_audit().await.into_iter().filter(|line| text(line, "decision") != "grant")
            {
                audit.entry(text(&line, "requestId").into()).or_default().push(line);
            }
            let open = |line: &Value| !line["reserved"].is_null() && line["charged"].is_null();
            let whole = ids.iter().all(|id| audit.contains_key(id)) && !audit.values().flatten().any(open);
            whole.then_some(audit)
        })
        .await;
        let mut seen: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
        for one in gateway.upstream.record().into_iter().chain(gateway.upstream_2.record()) {
            seen.entry(one.header("x-request-id").unwrap_or_default()).or_default().push(one);
        }
        Self { audit, seen }
    }

    /// The one line about a request.
    ///
    /// # Panics
    /// There is none, or another one.
    #[must_use]
    pub fn line(&self, id: &str) -> &Value {
        let lines = self.audit.get(id).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(lines.len(), 1, "audit lines of {id}: {lines:#?}");
        &lines[0]
    }

    /// Whether the log says nothing of a request.
    #[must_use]
    pub fn silent(&self, id: &str) -> bool {
        !self.audit.contains_key(id)
    }

    /// How many lines are about requests, not about what operators did.
    #[must_use]
    pub fn decided(&self) -> usize {
        self.audit.values().flatten().filter(|line| is_request(line)).count()
    }

    /// What reached the upstreams of a request.
    #[must_use]
    pub fn seen(&self, id: &str) -> &[Seen] {
        self.seen.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    /// How many requests reached the upstreams.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.seen.values().map(Vec::len).sum()
    }

    /// Holds one refusal of the service against its line: nothing sent, nothing reserved, nothing charged.
    ///
    /// # Panics
    /// It is another.
    pub fn refused(&self, answer: &Answer, status: u16, code: &str, what: &str) {
        let id = refusal(answer, status, code, what);
        assert!(self.seen(&id).is_empty(), "{what}: it reached the upstream");
        let line = self.line(&id);
        assert_eq!((text(line, "code"), &line["status"]), (code, &status.into()), "{what}: {line}");
        assert!(is_refusal(line), "{what}: {line}");
        assert!(line["reserved"].is_null() && line["charged"].is_null(), "{what}: {line}");
    }
}

/// Holds an answer against our shape of a refusal (issue 3, item 9); its request id.
///
/// # Panics
/// It is another.
pub fn refusal(answer: &Answer, status: u16, code: &str, what: &str) -> String {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    let body = answer.json();
    let error = body["error"].as_object().unwrap_or_else(|| panic!("{what}: {body}"));
    let fields: std::collections::BTreeSet<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(fields, ["code", "message", "param", "request_id", "type"].into(), "{what}");
    assert!(error["message"].is_string() && error["type"].is_string(), "{what}: {body}");
    let id = answer.header("x-request-id").unwrap_or_default().to_owned();
    assert!(!id.is_empty() && error["request_id"] == id, "{what}: {body} {:?}", answer.headers);
    id
}

/// A text of a line.
#[must_use]
pub fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().unwrap_or_default()
}
