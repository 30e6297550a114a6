//! An incremental scanner of one JSON document (RFC 8259): reads byte by byte, remembers only where it is among a
//! dialect's paths, and reports what stands there.
//!
//! It never buffers and never recurses: a key is compared as its bytes arrive, and whatever lies off every path is
//! passed over by counting brackets. A document that is not JSON is read up to the fault and no further.

mod paths;
mod scalar;
mod text;

use super::dialect::{Field, MAX_PATH, Meaning};
use super::totals::{Draft, Totals};
use paths::Paths;
use scalar::Scalar;
use text::{Decoded, Unescape};

/// Where the scanner is in one document.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    paths: Paths,
    state: State,
    text: Text,
    unescape: Unescape,
    levels: [Level; MAX_PATH],
    depth: usize,
    skipped: u64,
    scalar: Scalar,
    draft: Draft,
    closed: bool,
    seen: Seen,
}

/// What the document has shown so far.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    choices: bool,
    choice: bool,
    usage: bool,
    content: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ItemOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Text,
    Scalar,
    Skip,
    Closed,
    Broken,
}

#[derive(Clone, Copy, Debug)]
enum Text {
    Key,
    Content,
    Plain,
    Skipped,
}

/// An open array or object that lies on a path.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    paths: u32,
    array: bool,
    usage: bool,
}

impl Scanner {
    /// At the start of a document.
    pub(super) fn new(fields: &'static [Field]) -> Self {
        Self {
            paths: Paths::root(fields),
            state: State::Value,
            text: Text::Plain,
            unescape: Unescape::None,
            levels: [Level::default(); MAX_PATH],
            depth: 0,
            skipped: 0,
            scalar: Scalar::EMPTY,
            draft: Draft::default(),
            closed: false,
            seen: Seen::default(),
        }
    }

    /// Starts over with the next document.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.paths.fields());
    }

    /// Whether the document has ended.
    pub(super) fn has_closed(&self) -> bool {
        self.closed
    }

    /// Whether this is a whole document with an empty array of choices and a usage object.
    pub(super) fn is_usage_alone(&self) -> bool {
        self.state == State::Closed && self.seen.usage && self.seen.choices && !self.seen.choice
    }

    /// Whether it still may become one.
    pub(super) fn may_be_usage_alone(&self) -> bool {
        match self.state {
            State::Closed => self.is_usage_alone(),
            State::Broken => false,
            _ => !self.seen.choice,
        }
    }

    /// Reads the next bytes: what stands within a string or off every path in one go, the rest byte by byte.
    pub(super) fn read(&mut self, mut bytes: &[u8], totals: &mut Totals) {
        while let Some(byte) = bytes.first() {
            let run = self.pass(bytes, totals);
            if run == 0 {
                self.push(*byte, totals);
            }
            bytes = bytes.get(run.max(1)..).unwrap_or_default();
        }
    }

    /// Passes over the bytes at the front that change nothing but how much text there is; how many they were.
    fn pass(&mut self, bytes: &[u8], totals: &mut Totals) -> usize {
        let until = |stop: fn(&u8) -> bool| bytes.iter().position(stop).unwrap_or(bytes.len());
        match (self.state, self.text) {
            (State::Broken, _) => bytes.len(),
            (State::Skip, _) => until(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']')),
            (State::Text, text) if matches!(self.unescape, Unescape::None) => {
                let run = until(|byte| matches!(byte, b'"' | b'\\'));
                match (text, bytes.get(..run)) {
                    (Text::Key, Some(run)) => self.paths.key_bytes(self.depth.saturating_sub(1), run),
                    (Text::Content, Some([_, ..])) => self.content(run as u64, totals),
                    _ => {}
                }
                run
            }
            _ => 0,
        }
    }

    /// Reads one byte.
    pub(super) fn push(&mut self, byte: u8, totals: &mut Totals) {
        match self.state {
            State::Text => self.in_text(byte, totals),
            State::Skip => self.in_skipped(byte),
            State::Scalar => self.in_scalar(byte, totals),
            _ if is_space(byte) => {}
            State::Value => self.begin(byte),
            State::ItemOrEnd if byte == b']' => self.close(byte, totals),
            State::ItemOrEnd => self.begin(byte),
            State::KeyOrEnd if byte == b'}' => self.close(byte, totals),
            State::KeyOrEnd | State::Key if byte == b'"' => self.begin_key(),
            State::Colon if byte == b':' => self.state = State::Value,
            State::CommaOrEnd => self.after_value(byte, totals),
            State::Key | State::KeyOrEnd | State::Colon | State::Closed | State::Broken => self.state = State::Broken,
        }
    }

    fn begin(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => self.open(byte == b'['),
            b'"' => {
                self.text = Text::Plain;
                for meaning in self.paths.meanings(self.depth) {
                    match meaning {
                        Meaning::Content => self.text = Text::Content,
                        Meaning::Count(_) => self.draft.refuse(),
                        Meaning::Choice => self.seen.choice = true,
                        Meaning::Usage | Meaning::Choices => {}
                    }
                }
                self.state = State::Text;
            }
            b'}' | b']' | b',' | b':' => self.state = State::Broken,
            _ => {
                self.scalar = Scalar::EMPTY;
                self.scalar.push(byte);
                self.state = State::Scalar;
            }
        }
    }

    fn open(&mut self, array: bool) {
        let mut usage = false;
        for meaning in self.paths.meanings(self.depth) {
            match meaning {
                Meaning::Usage if !array => {
                    usage = true;
                    self.seen.usage = true;
                    self.draft = Draft::default();
                }
                Meaning::Choices if array => self.seen.choices = true,
                Meaning::Choice => self.seen.choice = true,
                Meaning::Count(_) => self.draft.refuse(),
                Meaning::Usage | Meaning::Choices | Meaning::Content => {}
            }
        }
        match (self.paths.inside(self.depth, array), self.levels.get_mut(self.depth)) {
            (Some(paths), Some(level)) => {
                *level = Level { paths, array, usage };
                self.depth = self.depth.saturating_add(1);
                self.paths.enter(paths);
                self.state = if array { State::ItemOrEnd } else { State::KeyOrEnd };
            }
            _ => {
                self.skipped = 1;
                self.state = State::Skip;
            }
        }
    }

    fn close(&mut self, byte: u8, totals: &mut Totals) {
        let level = self.level();
        if (byte == b']') != level.array {
            self.state = State::Broken;
            return;
        }
        if level.usage {
            totals.commit(&self.draft);
        }
        self.depth = self.depth.saturating_sub(1);
        self.end_value();
    }

    fn level(&self) -> Level {
        self.depth.checked_sub(1).and_then(|top| self.levels.get(top)).copied().unwrap_or_default()
    }

    fn end_value(&mut self) {
        self.closed = self.depth == 0;
        self.state = if self.closed { State::Closed } else { State::CommaOrEnd };
    }

    fn after_value(&mut self, byte: u8, totals: &mut Totals) {
        let level = self.level();
        match byte {
            b',' if level.array => {
                self.paths.enter(level.paths);
                self.state = State::Value;
            }
            b',' => self.state = State::Key,
            b']' | b'}' => self.close(byte, totals),
            _ => self.state = State::Broken,
        }
    }

    fn in_skipped(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.text = Text::Skipped;
                self.state = State::Text;
            }
            b'{' | b'[' => self.skipped = self.skipped.saturating_add(1),
            b'}' | b']' => {
                self.skipped = self.skipped.saturating_sub(1);
                if self.skipped == 0 {
                    self.end_value();
                }
            }
            _ => {}
        }
    }

    fn in_scalar(&mut self, byte: u8, totals: &mut Totals) {
        if !is_space(byte) && !b",:{}[]\"".contains(&byte) {
            self.scalar.push(byte);
            return;
        }
        for meaning in self.paths.meanings(self.depth) {
            match (meaning, self.scalar.count()) {
                (Meaning::Count(slot), Some(count)) => self.draft.set(slot, count),
                (Meaning::Count(_), None) if !self.scalar.is_null() => self.draft.refuse(),
                (Meaning::Choice, _) => self.seen.choice = true,
                _ => {}
            }
        }
        self.end_value();
        self.push(byte, totals);
    }

    fn begin_key(&mut self) {
        self.paths.enter(self.level().paths);
        self.text = Text::Key;
        self.state = State::Text;
    }

    fn in_text(&mut self, byte: u8, totals: &mut Totals) {
        match self.unescape.push(byte) {
            Decoded::Nothing => {}
            Decoded::Byte { byte, utf8_bytes } => self.take(byte, utf8_bytes, totals),
            Decoded::End => self.end_text(),
            Decoded::Fault => self.state = State::Broken,
        }
    }

    /// Takes one byte of a string, decoded; `bytes` is what its character counts.
    fn take(&mut self, byte: u8, bytes: u64, totals: &mut Totals) {
        match self.text {
            Text::Key => self.paths.key_bytes(self.depth.saturating_sub(1), &[byte]),
            Text::Content => self.content(bytes, totals),
            Text::Plain | Text::Skipped => {}
        }
    }

    fn content(&mut self, bytes: u64, totals: &mut Totals) {
        totals.content_bytes = totals.content_bytes.saturating_add(bytes);
        totals.deltas = totals.deltas.saturating_add(u64::from(!self.seen.content));
        self.seen.content = true;
    }

    fn end_text(&mut self) {
        match self.text {
            Text::Key => {
                self.paths.key_end(self.depth.saturating_sub(1));
                self.state = State::Colon;
            }
            Text::Content | Text::Plain => self.end_value(),
            Text::Skipped => self.state = State::Skip,
        }
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
