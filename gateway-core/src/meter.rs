//! The meter: finds what an answer says it cost, in a JSON body or an event stream, however its bytes are cut into
//! chunks, and takes the usage chunk out again where the client did not ask for it.
//!
//! It never buffers an answer: JSON is read byte by byte with a fixed state, and of a stream at most one incomplete
//! event of [`MAX_HELD_BYTES`] is held back, only while it may still be the chunk that has to be hidden. Only the
//! place of a value in the document counts, so that no text of a model can forge a usage.

mod dialect;
mod events;
mod json;
mod stream;
mod totals;

#[cfg(test)]
mod tests;

use crate::gate;
use json::Scanner;
use stream::Stream;
use totals::Totals;

/// The most bytes of one event that are held back while it may be the usage chunk.
pub const MAX_HELD_BYTES: usize = 16 * 1024;

/// How an answer's body is framed, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One JSON document (RFC 8259).
    Json,
    /// Server-sent events (WHATWG HTML §9.2).
    EventStream,
    /// Anything else: passed, not counted.
    Opaque,
}

/// What becomes of one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It goes on as it is.
    Unchanged,
    /// These bytes go on in its place, perhaps none.
    Replaced(Vec<u8>),
}

/// What the meter knows so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The greatest valid usage that the answer has stated, per field.
    pub usage: Option<gate::Usage>,
    /// Output tokens, estimated from the content that passed: a quarter of its bytes, and in a stream at least one for
    /// each event with content.
    pub output_seen: u64,
    /// Whether the answer has said that it is complete: `[DONE]`, or the end of the JSON document.
    pub ended: bool,
}

/// Meters one answer.
#[derive(Clone, Debug)]
pub struct Meter {
    reader: Reader,
    totals: Totals,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one per stream, and each is a few hundred bytes")]
enum Reader {
    Json(Scanner),
    Events(Stream),
    Opaque,
}

impl Meter {
    /// A meter for one answer. `hide_usage` takes the event with no choices and a usage out of an event stream.
    #[must_use]
    pub fn new(dialect: gate::Dialect, framing: Framing, hide_usage: bool) -> Self {
        let reader = match (dialect::fields(dialect), framing) {
            (Some(fields), Framing::Json) => Reader::Json(Scanner::new(fields)),
            (Some(fields), Framing::EventStream) => Reader::Events(Stream::new(fields, hide_usage)),
            (None, _) | (_, Framing::Opaque) => Reader::Opaque,
        };
        Self { reader, totals: Totals::default() }
    }

    /// Reads the next chunk; `end` says that no other follows (also with an empty chunk).
    #[must_use = "a chunk that was replaced must not pass"]
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Passed {
        match &mut self.reader {
            Reader::Json(scanner) => {
                scanner.read(chunk, &mut self.totals);
                Passed::Unchanged
            }
            Reader::Events(stream) => stream.push(chunk, end, &mut self.totals),
            Reader::Opaque => Passed::Unchanged,
        }
    }

    /// What has been found so far; valid at any time, also when the answer was cut.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let (events, ended) = match &self.reader {
            Reader::Json(scanner) => (0, scanner.has_closed()),
            Reader::Events(stream) => (self.totals.deltas, stream.is_done()),
            Reader::Opaque => (0, false),
        };
        Reading { usage: self.totals.usage(), output_seen: events.max(self.totals.content_bytes.div_ceil(4)), ended }
    }
}
