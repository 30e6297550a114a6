//! Lines of an event stream (WHATWG HTML §9.2.6): splits bytes into the data of events. Ends of line are LF, CR or
//! CRLF; a line may have any length, none is kept.

/// What one byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A byte of the event's data.
    Data(u8),
    /// Nothing to read: a name, a comment, another field.
    Other,
    /// The end of a line.
    LineEnd,
    /// The end of a blank line, and so of the event.
    EventEnd,
    /// The LF of a CRLF whose CR already ended the line.
    Joined,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Start,
    Comment,
    /// That many bytes of `data` have matched.
    Name(usize),
    Colon,
    Data,
    OtherField,
}

/// Where in the lines of a stream.
#[derive(Clone, Debug)]
pub(super) struct Events {
    line: Line,
    after_cr: bool,
    /// Bytes of the byte order mark still possible at the very start.
    mark_left: usize,
    data_lines: bool,
    fields: bool,
}

impl Events {
    /// At the start of a stream.
    pub(super) fn new() -> Self {
        Self { line: Line::Start, after_cr: false, mark_left: BYTE_ORDER_MARK.len(), data_lines: false, fields: false }
    }

    /// Whether the event under way has a line that is not a comment.
    pub(super) fn has_fields(&self) -> bool {
        self.fields
    }

    /// Reads one byte.
    pub(super) fn push(&mut self, byte: u8) -> Mark {
        if self.mark_left > 0 {
            let at = BYTE_ORDER_MARK.len().saturating_sub(self.mark_left);
            if BYTE_ORDER_MARK.get(at) == Some(&byte) {
                self.mark_left = self.mark_left.saturating_sub(1);
                return Mark::Other;
            }
            self.mark_left = 0;
            if at > 0 {
                self.line = Line::OtherField;
            }
        }
        let joined = self.after_cr && byte == b'\n';
        self.after_cr = byte == b'\r';
        match byte {
            _ if joined => Mark::Joined,
            b'\r' | b'\n' => self.end_line(),
            _ => self.in_line(byte),
        }
    }

    fn end_line(&mut self) -> Mark {
        let line = std::mem::replace(&mut self.line, Line::Start);
        match line {
            Line::Start => {
                (self.data_lines, self.fields) = (false, false);
                return Mark::EventEnd;
            }
            Line::Name(4) | Line::Colon | Line::Data => (self.data_lines, self.fields) = (true, true),
            Line::Name(_) | Line::OtherField => self.fields = true,
            Line::Comment => {}
        }
        Mark::LineEnd
    }

    fn in_line(&mut self, byte: u8) -> Mark {
        let mut mark = Mark::Other;
        self.line = match self.line {
            Line::Start if byte == b':' => Line::Comment,
            Line::Start if byte == b'd' => Line::Name(1),
            Line::Start => Line::OtherField,
            Line::Name(4) if byte == b':' => {
                // lines of data are joined by a line feed
                mark = if self.data_lines { Mark::Data(b'\n') } else { Mark::Other };
                Line::Colon
            }
            Line::Name(matched) if b"data".get(matched) == Some(&byte) => Line::Name(matched.saturating_add(1)),
            Line::Name(_) => Line::OtherField,
            Line::Colon if byte == b' ' => Line::Data,
            Line::Colon | Line::Data => {
                mark = Mark::Data(byte);
                Line::Data
            }
            same @ (Line::Comment | Line::OtherField) => same,
        };
        mark
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use super::*;

    fn data(stream: &str) -> Vec<String> {
        let mut events = Events::new();
        let (mut all, mut event) = (Vec::new(), Vec::new());
        for byte in stream.bytes() {
            match events.push(byte) {
                Mark::Data(byte) => event.push(byte),
                Mark::EventEnd => all.push(String::from_utf8(std::mem::take(&mut event)).unwrap()),
                _ => {}
            }
        }
        all
    }

    #[test]
    fn every_end_of_line_and_field() {
        for end in ["\n", "\r", "\r\n"] {
            let text =
                "\u{feff}: hello|event: x|data: a|data:  b|data|data:c|id: 7|data2: no|dat: no||data:d|| data: no||||"
                    .replace('|', end);
            assert_eq!(data(&text), ["a\n b\nc", "d", "", "", ""], "{end:?}");
        }
        assert_eq!(data("data: a\r\n\ndata: b\n\r\ndata: c\r\r"), ["a", "b", "c"]);
        assert_eq!(data("data: a\n\ndata: pending"), ["a"]);
    }
}
