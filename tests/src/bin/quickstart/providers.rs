//! The two model providers, as the story asks them: what reached you?

use std::net::SocketAddr;

use bulkhead_tests::client;
use http::Request;
use http_body_util::Full;
use serde_json::Value;

/// Control ports of the providers, by the name of their `Provider` resource.
#[derive(Clone, Debug)]
pub(crate) struct Providers(pub(crate) [(&'static str, SocketAddr); 2]);

/// One request as it reached a provider.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrived {
    /// Which provider.
    pub(crate) provider: &'static str,
    /// Path with its query.
    pub(crate) path: String,
    /// Its body.
    pub(crate) body: Value,
    headers: Vec<(String, String)>,
}

impl Arrived {
    /// Every value of a header, joined; `(none)` where there is none.
    pub(crate) fn header(&self, name: &str) -> String {
        let all = self.headers.iter().filter(|(have, _)| have == name).map(|(_, value)| value.as_str());
        let all: Vec<&str> = all.collect();
        if all.is_empty() { "(none)".into() } else { all.join(", ") }
    }

    fn read(provider: &'static str, seen: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let headers = seen["headers"].as_array().into_iter().flatten();
        Self {
            provider,
            path: text(&seen["path"]),
            body: serde_json::from_str(seen["body"].as_str().unwrap_or_default()).unwrap_or_default(),
            headers: headers.map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        }
    }
}

impl Providers {
    /// What reached them since they were last told to forget.
    pub(crate) async fn arrived(&self) -> Vec<Arrived> {
        let mut all = Vec::new();
        for (name, control) in self.0 {
            let page = client::get(control, "/_record").await.expect("the provider's record");
            let page: Value = serde_json::from_str(&page).expect("the provider's record");
            let requests = page["requests"].as_array().into_iter().flatten();
            all.extend(requests.map(|seen| Arrived::read(name, seen)));
        }
        all
    }

    /// Has them forget.
    pub(crate) async fn forget(&self) {
        for (_, control) in self.0 {
            let asked = Request::delete("/_record").header("host", control.to_string()).body(Full::default());
            client::request(control, asked.expect("a request")).await.expect("the provider forgets");
        }
    }
}
