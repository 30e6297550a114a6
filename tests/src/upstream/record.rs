//! What reached the upstream: every request from its first header on, whole or not.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// One request as it reached the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Number of the connection it came on.
    pub connection: u64,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Method.
    pub method: String,
    /// Authority of the URI (HTTP/2) or the `host` header.
    pub authority: String,
    /// Path with its query.
    pub path: String,
    /// Header fields without pseudo headers, in order within a name, values as bytes.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What came of the body.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub complete: bool,
    /// Trailer fields.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// How many pieces of the answer's body left for the client.
    pub pieces_sent: u64,
    /// Whether the answer came to its end, as far as the upstream can tell.
    pub answered: bool,
}

impl Seen {
    /// Every value of a header, as text with what is not UTF-8 replaced.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<String> {
        let named = self.headers.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name));
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// A header that stands at most once.
    ///
    /// # Panics
    /// It stands twice: no test wants that to pass for one.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        assert!(all.len() <= 1, "`{name}` reached the upstream {} times: {all:?}", all.len());
        all.pop()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("upstream got no JSON: {error}: {self:?}"))
    }

    /// As the control port and `--record` show it.
    #[must_use]
    pub fn shown(&self) -> Value {
        let fields = |fields: &[(String, Vec<u8>)]| {
            fields.iter().map(|(name, value)| json!([name, String::from_utf8_lossy(value)])).collect::<Vec<_>>()
        };
        json!({
            "connection": self.connection, "version": self.version, "method": self.method, "authority": self.authority,
            "path": self.path, "headers": fields(&self.headers), "body": String::from_utf8_lossy(&self.body),
            "body_base64": STANDARD.encode(&self.body), "complete": self.complete, "trailers": fields(&self.trailers),
            "pieces_sent": self.pieces_sent, "answered": self.answered,
        })
    }
}

/// The requests so far.
#[derive(Debug)]
pub struct Record {
    on: bool,
    connections: AtomicU64,
    kept: Mutex<Kept>,
}

/// `cleared` counts the requests that were forgotten, so that a ticket still finds its own.
#[derive(Debug, Default)]
struct Kept {
    cleared: usize,
    requests: Vec<Seen>,
    errors: Vec<String>,
}

/// One request's place in the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(usize);

impl Record {
    pub(super) fn new(on: bool) -> Self {
        Self { on, connections: AtomicU64::new(0), kept: Mutex::default() }
    }

    pub(super) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn open(&self, seen: Seen) -> Ticket {
        let mut kept = self.kept.lock().unwrap();
        let ticket = Ticket(kept.cleared + kept.requests.len());
        if self.on {
            kept.requests.push(seen);
        }
        ticket
    }

    pub(super) fn update(&self, ticket: Ticket, change: impl FnOnce(&mut Seen)) {
        let mut kept = self.kept.lock().unwrap();
        let place = ticket.0.checked_sub(kept.cleared);
        if let Some(seen) = place.and_then(|place| kept.requests.get_mut(place)).filter(|_| self.on) {
            change(seen);
        }
    }

    pub(super) fn error(&self, error: String) {
        self.kept.lock().unwrap().errors.push(error);
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        self.kept.lock().unwrap().requests.clone()
    }

    pub(super) fn errors(&self) -> Vec<String> {
        self.kept.lock().unwrap().errors.clone()
    }

    pub(super) fn clear(&self) {
        let mut kept = self.kept.lock().unwrap();
        kept.cleared += kept.requests.len();
        kept.requests.clear();
        kept.errors.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_never_writes_into_another_request() {
        let record = Record::new(true);
        let old = record.open(Seen::default());
        record.clear();
        let new = record.open(Seen::default());
        record.update(old, |seen| seen.complete = true);
        assert!(!record.all()[0].complete);
        record.update(new, |seen| seen.complete = true);
        assert!(record.all()[0].complete);
    }
}
