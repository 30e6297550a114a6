//! Messages as they stand in `request.http` and `upstream.http`: start line, fields, an empty line, the body to the end of
//! the file. Lines end in LF; lengths are the runner's to add. `{key acme}` in a request is a credential.

use std::collections::{BTreeMap, BTreeSet};

/// A request as a client writes it.
#[derive(Clone, Debug)]
pub struct RequestMessage {
    /// Method.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// `host`.
    pub authority: String,
    /// Other fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// An answer as a provider writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerMessage {
    /// Status.
    pub status: u16,
    /// Fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl RequestMessage {
    pub(super) fn parse(text: &str) -> Self {
        let (start, mut headers, body) = parts(text);
        let words: Vec<&str> = start.split(' ').collect();
        let [method, path, "HTTP/1.1"] = words[..] else { panic!("no request line: `{start}`") };
        let host = headers.iter().position(|(name, _)| name == "host").expect("a host");
        let (_, authority) = headers.remove(host);
        Self { method: method.into(), path: path.into(), authority, headers, body }
    }

    /// What stands in braces in its fields: `key acme --model x`, `jwt acme`.
    #[must_use]
    pub fn credentials(&self) -> BTreeSet<String> {
        let braced = |value: &String| {
            let (_, rest) = value.split_once('{')?;
            Some(rest.split_once('}').expect("a closing brace").0.to_owned())
        };
        self.headers.iter().filter_map(|(_, value)| braced(value)).collect()
    }

    /// Its fields with credentials in place of their names, and `content-length` where there is a body.
    #[must_use]
    pub fn signed(&self, credentials: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let fill = |value: &String| {
            credentials.iter().fold(value.clone(), |value, (name, text)| value.replace(&format!("{{{name}}}"), text))
        };
        let fields = self.headers.iter().map(|(name, value)| (name.clone(), fill(value)));
        let length = (!self.body.is_empty()).then(|| ("content-length".to_owned(), self.body.len().to_string()));
        fields.chain(length).collect()
    }
}

impl AnswerMessage {
    pub(super) fn parse(text: &str) -> Self {
        let (start, headers, body) = parts(text);
        let status = start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        Self { status: status.unwrap_or_else(|| panic!("no status line: `{start}`")), headers, body }
    }
}

fn parts(text: &str) -> (&str, Vec<(String, String)>, Vec<u8>) {
    let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let (start, fields) = head.split_once('\n').unwrap_or((head, ""));
    let field = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: `{line}`"));
        (name.to_ascii_lowercase(), value.to_owned())
    };
    (start, fields.lines().map(field).collect(), body.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_as_it_is_written() {
        let text =
            "POST /v1/x?y HTTP/1.1\nHost: ai.example\nAuthorization: Bearer {key acme --model m}\n\n{\"a\":1}\n\n";
        let request = RequestMessage::parse(text);
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/x?y"));
        assert_eq!((request.authority.as_str(), request.body.as_slice()), ("ai.example", &b"{\"a\":1}\n\n"[..]));
        assert_eq!(request.credentials(), ["key acme --model m".to_owned()].into());
        let signed = request.signed(&[("key acme --model m".to_owned(), "bh_1".to_owned())].into());
        let want = [("authorization", "Bearer bh_1"), ("content-length", "9")];
        assert_eq!(signed, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_answer_without_a_body_has_none() {
        let answer = AnswerMessage::parse("HTTP/1.1 503 Service Unavailable\nserver: x\n");
        let want = AnswerMessage { status: 503, headers: vec![("server".into(), "x".into())], body: Vec::new() };
        assert_eq!(answer, want);
    }
}
