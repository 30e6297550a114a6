//! One event stream: feeds the data of its events to the scanner and takes the usage chunk out where it must be hidden.
//!
//! Bytes pass as they come. Held back is at most the incomplete event at the end of a chunk, and only while that event
//! may still be the usage chunk; nothing but that one event is ever removed.

use super::dialect::Field;
use super::events::{Events, Mark};
use super::json::Scanner;
use super::totals::Totals;
use super::{MAX_HELD_BYTES, Passed};

/// Where in a stream, and what of it is held back.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    events: Events,
    scanner: Scanner,
    /// Bytes of this event's data so far, and how many of them are the start of [`DONE`].
    data_bytes: usize,
    done_bytes: usize,
    done: bool,
    hide: bool,
    held: Held,
}

/// The event under way, as far as hiding is concerned.
#[derive(Clone, Debug)]
struct Held {
    /// Its bytes from earlier chunks.
    bytes: Vec<u8>,
    /// It may still be the usage chunk.
    candidate: bool,
    /// It has no byte yet.
    empty: bool,
    /// The event before it was removed up to a CR: its LF goes too.
    orphan_lf: bool,
}

const DONE: &[u8] = b"[DONE]";

impl Stream {
    /// At the start of a stream.
    pub(super) fn new(fields: &'static [Field], hide: bool) -> Self {
        Self {
            events: Events::new(),
            scanner: Scanner::new(fields),
            data_bytes: 0,
            done_bytes: 0,
            done: false,
            hide,
            held: Held { bytes: Vec::new(), candidate: true, empty: true, orphan_lf: false },
        }
    }

    /// Whether `[DONE]` has come.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Reads the next chunk.
    pub(super) fn push(&mut self, chunk: &[u8], end: bool, totals: &mut Totals) -> Passed {
        if self.hide {
            return self.push_hiding(chunk, end, totals);
        }
        for byte in chunk {
            if self.read(*byte, totals) == Mark::EventEnd {
                self.next_event();
            }
        }
        Passed::Unchanged
    }

    fn push_hiding(&mut self, chunk: &[u8], end: bool, totals: &mut Totals) -> Passed {
        let mut out = Out { chunk, copied: 0, bytes: Vec::new(), changed: false };
        // where the event under way begins in this chunk
        let mut start = 0_usize;
        for (at, byte) in chunk.iter().copied().enumerate() {
            let next = at.saturating_add(1);
            let mark = self.read(byte, totals);
            let orphan_lf = std::mem::take(&mut self.held.orphan_lf);
            match mark {
                // belongs to the line before: never held, or the client would wait for half an end of line
                Mark::Joined if self.held.empty => {
                    if orphan_lf {
                        out.remove(at, next);
                    }
                    start = next;
                }
                Mark::EventEnd => {
                    if self.held.candidate && self.scanner.is_usage_alone() {
                        self.held.bytes = Vec::new();
                        self.held.orphan_lf = byte == b'\r';
                        out.remove(start, next);
                    } else {
                        out.release(&mut self.held.bytes);
                    }
                    self.next_event();
                    start = next;
                }
                // a comment in front of an event is no part of it
                Mark::LineEnd if !self.events.has_fields() => {
                    out.release(&mut self.held.bytes);
                    (self.held.candidate, self.held.empty) = (!self.done, true);
                    start = next;
                }
                Mark::Joined | Mark::LineEnd | Mark::Data(_) | Mark::Other => {
                    self.held.empty = false;
                    let bytes = self.held.bytes.len().saturating_add(next.saturating_sub(start));
                    let may_be = !self.done && bytes <= MAX_HELD_BYTES && self.scanner.may_be_usage_alone();
                    if self.held.candidate && !may_be {
                        self.held.candidate = false;
                        out.release(&mut self.held.bytes);
                    }
                }
            }
        }
        if self.held.candidate {
            let removed = end && self.scanner.is_usage_alone();
            if removed {
                self.held.bytes = Vec::new();
            }
            if removed || !end {
                let rest = out.remove(start, chunk.len());
                if !removed {
                    self.held.bytes.reserve_exact(rest.len());
                    self.held.bytes.extend_from_slice(rest);
                }
            } else {
                out.release(&mut self.held.bytes);
            }
        }
        out.passed()
    }

    fn read(&mut self, byte: u8, totals: &mut Totals) -> Mark {
        let mark = self.events.push(byte);
        if let Mark::Data(byte) = mark
            && !self.done
        {
            if self.done_bytes == self.data_bytes && DONE.get(self.done_bytes) == Some(&byte) {
                self.done_bytes = self.done_bytes.saturating_add(1);
                self.done = self.done_bytes == DONE.len();
            }
            self.data_bytes = self.data_bytes.saturating_add(1);
            self.scanner.push(byte, totals);
        }
        mark
    }

    fn next_event(&mut self) {
        self.scanner.restart();
        (self.data_bytes, self.done_bytes) = (0, 0);
        (self.held.candidate, self.held.empty) = (!self.done, true);
    }

    /// How many bytes are held back.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.bytes.capacity()
    }
}

/// What goes on in the place of a chunk: its bytes, copied only where something is removed or was held.
struct Out<'a> {
    chunk: &'a [u8],
    copied: usize,
    bytes: Vec<u8>,
    changed: bool,
}

impl<'a> Out<'a> {
    /// Leaves out a range of the chunk, and returns it.
    fn remove(&mut self, start: usize, end: usize) -> &'a [u8] {
        let removed = self.chunk.get(start..end).unwrap_or_default();
        if !removed.is_empty() {
            self.bytes.extend_from_slice(self.chunk.get(self.copied..start).unwrap_or_default());
            (self.copied, self.changed) = (end, true);
        }
        removed
    }

    /// Lets go what earlier chunks left: it stands before everything of this chunk.
    fn release(&mut self, held: &mut Vec<u8>) {
        if !held.is_empty() {
            self.bytes.append(&mut std::mem::take(held));
            self.changed = true;
        }
    }

    fn passed(mut self) -> Passed {
        if !self.changed {
            return Passed::Unchanged;
        }
        self.bytes.extend_from_slice(self.chunk.get(self.copied..).unwrap_or_default());
        Passed::Replaced(self.bytes)
    }
}
