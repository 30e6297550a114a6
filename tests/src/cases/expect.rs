//! `expect.yaml`: what must come of an exchange, whichever way it was run.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use super::observed::{Charged, Observed};
use super::{Exchange, merge, observed};
use crate::configuration::Profile;
use crate::policies::{GPU_POOL_KEY, HOSTED_KEY};

/// What is expected. What is not written is expected to be as usual: see each field.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// The client's status.
    pub status: u16,
    /// `error.code` of our refusal; absent: the answer is the upstream's.
    pub code: Option<String>,
    /// `error.param` of our refusal.
    pub param: Option<String>,
    /// A part of our refusal's message.
    pub message: Option<String>,
    /// Whom the audit names; absent: nobody, the credential was not believed.
    #[serde(default)]
    pub tenant: String,
    /// The model that was decided.
    #[serde(default)]
    pub model: String,
    /// The provider that was decided.
    #[serde(default)]
    pub provider: String,
    /// What the upstream got; absent: nothing reached it.
    pub upstream: Option<Passed>,
    /// What the client got beside status and code.
    #[serde(default)]
    pub client: Passed,
    /// What was charged; absent: nothing was reserved and nothing charged.
    pub charge: Option<Charged>,
}

/// A message on one of the two sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Passed {
    /// The upstream's path; absent: the client's.
    pub path: Option<String>,
    /// Fields that stand once with this value; `{provider NAME}` is the platform's key of that provider.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Fields that do not stand.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// The exact body; absent: what the other side sent.
    pub body: Option<String>,
}

impl Expect {
    /// Reads `expect.yaml` as it holds for a profile: what is written under `inline` is merged over the rest there.
    pub(super) fn parse(text: &str, profile: Profile) -> anyhow::Result<Self> {
        let mut whole: Value = serde_saphyr::from_str(text)?;
        let fields = whole.as_object_mut().context("no fields")?;
        let inline = fields.remove("inline");
        if let Some(inline) = inline.filter(|_| profile == Profile::Inline) {
            merge(&mut whole, &inline);
        }
        Ok(serde_json::from_value(whole)?)
    }

    /// What differs, one line each.
    #[must_use]
    pub fn differs(&self, exchange: &Exchange, seen: &Observed) -> Vec<String> {
        let mut found = Differences::default();
        found.same("status", &self.status, &seen.status);
        found.same("tenant", &self.tenant, &seen.recorded.tenant);
        found.same("model", &self.model, &seen.recorded.model);
        found.same("provider", &self.provider, &seen.recorded.provider);
        found.same("charge", &self.charge, &seen.charged);
        found.same("audit's code", &self.code.clone().unwrap_or_default(), &seen.recorded.code);

        found.fields("client", &self.client, &seen.headers);
        let error = seen.error();
        match &self.code {
            Some(code) => {
                found.same("code", &code.as_str(), &error["code"].as_str().unwrap_or_default());
                found.same("param", &self.param.as_deref(), &error["param"].as_str());
                let message = error["message"].as_str().unwrap_or_default();
                if !message.contains(self.message.as_deref().unwrap_or_default()) {
                    found.0.push(format!("message: `{message}`"));
                }
                let id = seen.headers.iter().find(|(name, _)| name == "x-request-id").map(|(_, id)| id.as_str());
                found.same("request_id", &id, &error["request_id"].as_str());
            }
            None => {
                let theirs = exchange.upstream.as_ref().map(|answer| answer.body.clone()).unwrap_or_default();
                found.body("client", self.client.body.as_deref(), &theirs, &seen.body);
            }
        }
        match (&self.upstream, &seen.sent) {
            (None, None) => {}
            (None, Some(sent)) => found.0.push(format!("it reached the upstream: {sent:?}")),
            (Some(_), None) => found.0.push("nothing reached the upstream".into()),
            (Some(want), Some(sent)) => {
                found.same("path", want.path.as_ref().unwrap_or(&exchange.request.path), &sent.path);
                found.fields("upstream", want, &sent.headers);
                found.body("upstream", want.body.as_deref(), &exchange.request.body, &sent.body);
            }
        }
        found.0
    }
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, want: &T, got: &T) {
        if want != got {
            self.0.push(format!("{what}: expected {want:?}, got {got:?}"));
        }
    }

    fn fields(&mut self, side: &str, want: &Passed, got: &observed::Fields) {
        for (name, value) in &want.headers {
            let value = value.replace("{provider gpu-pool}", GPU_POOL_KEY).replace("{provider hosted}", HOSTED_KEY);
            let found: Vec<&str> =
                got.iter().filter(|(have, _)| have == name).map(|(_, value)| value.as_str()).collect();
            self.same(&format!("{side}'s `{name}`"), &vec![value.as_str()], &found);
        }
        for name in &want.lacks {
            if got.iter().any(|(have, _)| have == name) {
                self.0.push(format!("{side} has `{name}`"));
            }
        }
    }

    fn body(&mut self, side: &str, want: Option<&str>, usual: &[u8], got: &[u8]) {
        let want = want.map_or(usual, str::as_bytes);
        if want != got {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.0.push(format!("{side}'s body:\n--- expected\n{}\n--- got\n{}\n---", text(want), text(got)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_inline_is_merged_over_the_rest() {
        let text = "status: 413\ncode: a\ntenant: acme\nclient: {lacks: [x]}\ninline: {code: b, tenant: null, client: {headers: {y: z}}}";
        let [portable, inline] = Profile::ALL.map(|profile| Expect::parse(text, profile).unwrap());
        assert_eq!((portable.code.as_deref(), portable.tenant.as_str()), (Some("a"), "acme"));
        assert_eq!((inline.status, inline.code.as_deref(), inline.tenant.as_str()), (413, Some("b"), ""));
        assert_eq!((inline.client.headers["y"].as_str(), inline.client.lacks), ("z", vec!["x".to_owned()]));
        assert!(Expect::parse("status: 200\ninline: {statuss: 1}", Profile::Inline).is_err());
        assert!(Expect::parse("- 1", Profile::Portable).is_err());
    }
}
