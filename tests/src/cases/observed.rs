//! What was seen of an exchange, in the same words for both ways of running it.

use gateway_core::gate::{Outcome, Usage};
use gateway_core::price::Charge;
use serde::Deserialize;
use serde_json::Value;

/// Names in lower case, with their values.
pub type Fields = Vec<(String, String)>;

/// Everything that anybody could see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The client's status.
    pub status: u16,
    /// The client's fields.
    pub headers: Fields,
    /// The client's body.
    pub body: Vec<u8>,
    /// What reached the upstream, if anything did.
    pub sent: Option<Sent>,
    /// What the audit says of the decision.
    pub recorded: Recorded,
    /// What was charged, if anything was reserved.
    pub charged: Option<Charged>,
}

/// A request as the upstream got it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sent {
    /// Path with its query.
    pub path: String,
    /// Fields.
    pub headers: Fields,
    /// Body.
    pub body: Vec<u8>,
}

/// The audit record's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// `allow` or `deny`, whoever refused.
    pub decision: String,
    /// Code of the denial, the service's or the module's.
    pub code: String,
    /// Tenant.
    pub tenant: String,
    /// Model.
    pub model: String,
    /// Provider.
    pub provider: String,
}

/// A charge as `expect.yaml` spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Charged {
    /// `answered`, `refused`, `failed`, `hung_up`, `not_sent`.
    pub outcome: String,
    /// Input tokens.
    #[serde(default)]
    pub input: u64,
    /// Of these, cached.
    #[serde(default)]
    pub cached: u64,
    /// Output tokens.
    #[serde(default)]
    pub output: u64,
    /// Of these, reasoning.
    #[serde(default)]
    pub reasoning: u64,
    /// GPU-milliseconds.
    pub gpu_ms: u64,
    /// Millionths of a US dollar.
    pub micro_usd: u64,
    /// Whether the upstream did not say.
    #[serde(default)]
    pub estimated: bool,
}

impl Charged {
    pub(super) fn new(outcome: Outcome, charge: &Charge) -> Self {
        let outcome = match outcome {
            Outcome::Unspecified => "unknown",
            Outcome::NotSent => "not_sent",
            Outcome::Answered => "answered",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::HungUp => "hung_up",
        };
        let Usage { input, cached_input, output, reasoning } = charge.usage;
        let (gpu_ms, micro_usd) = (charge.cost.gpu_ms, charge.cost.micro_usd);
        let (outcome, estimated) = (outcome.to_owned(), charge.estimated);
        Self { outcome, input, cached: cached_input, output, reasoning, gpu_ms, micro_usd, estimated }
    }

    /// From a settled audit line.
    pub(super) fn of_line(line: &Value) -> Self {
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number: {line}"));
        Self {
            outcome: line["outcome"].as_str().unwrap_or_default().to_owned(),
            input: number(&line["usage"]["input"]),
            cached: number(&line["usage"]["cachedInput"]),
            output: number(&line["usage"]["output"]),
            reasoning: number(&line["usage"]["reasoning"]),
            gpu_ms: number(&line["charged"]["gpuMs"]),
            micro_usd: number(&line["charged"]["microUsd"]),
            estimated: line["estimated"].as_bool().expect("estimated"),
        }
    }
}

/// Written by the connection and not by what is carried over it; and an answer's own request id.
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "date",
    "host",
    "keep-alive",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
];

/// Values that the clock is in, or other requests of the same tenant.
const OF_THE_MOMENT: &[&str] = &["ratelimit", "retry-after", "x-ratelimit-remaining-", "x-ratelimit-reset-"];

impl Observed {
    /// The `error` of a refusal.
    #[must_use]
    pub fn error(&self) -> Value {
        serde_json::from_slice::<Value>(&self.body).unwrap_or_default()["error"].clone()
    }

    /// What differs from another observation beyond what differs from one run to the next, one line each.
    #[must_use]
    pub fn unlike(&self, other: &Self) -> Vec<String> {
        fn differ<T: PartialEq + std::fmt::Debug>(what: &str, one: &T, two: &T) -> Option<String> {
            (one != two).then(|| format!("{what}:\n  {one:?}\n  {two:?}"))
        }
        let (one, two) = (self.settled(), other.settled());
        let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
        let sent = |seen: &Self| seen.sent.clone().map(|sent| (sent.path, sent.headers, text(&sent.body)));
        [
            differ("status", &one.status, &two.status),
            differ("fields", &one.headers, &two.headers),
            differ("body", &text(&one.body), &text(&two.body)),
            differ("sent", &sent(&one), &sent(&two)),
            differ("recorded", &one.recorded, &two.recorded),
            differ("charged", &one.charged, &two.charged),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Without what differs from one run to the next.
    fn settled(&self) -> Self {
        let id = self.headers.iter().find(|(name, _)| name == "x-request-id").map(|(_, id)| id.clone());
        let body = match (std::str::from_utf8(&self.body), id) {
            (Ok(text), Some(id)) => text.replace(&id, "ID").into_bytes(),
            _ => self.body.clone(),
        };
        let sent = self.sent.clone().map(|sent| Sent { headers: lasting(&sent.headers), ..sent });
        Self { headers: lasting(&self.headers), body, sent, ..self.clone() }
    }
}

fn lasting(fields: &Fields) -> Fields {
    let moment =
        |name: &str| OF_THE_MOMENT.iter().any(|one| name == *one || (one.ends_with('-') && name.starts_with(one)));
    let mut fields: Fields = fields
        .iter()
        .filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), if moment(name) { "…".to_owned() } else { value.clone() }))
        .collect();
    fields.sort();
    fields
}
