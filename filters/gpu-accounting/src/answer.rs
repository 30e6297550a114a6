//! The answer's way down: how it is framed, whether it can be metered, and the meter itself.

use gateway_core::denial::{Code, Denial};
use gateway_core::gate::Dialect;
use gateway_core::meter::{Framing, Meter, Passed, Reading};

/// What the accounting reads of the response headers: a header's first value.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerHead<'a> {
    /// `:status`; 0 where it cannot be read.
    pub status: u16,
    /// `content-type`
    pub content_type: Option<&'a [u8]>,
    /// `content-encoding`
    pub content_encoding: Option<&'a [u8]>,
    /// `content-length`
    pub content_length: Option<&'a [u8]>,
}

/// What to do with the response headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseStep {
    /// Let them go.
    Continue {
        /// Take `content-length` out first: the body may get shorter.
        remove_content_length: bool,
    },
    /// Answer this instead: the body could not be metered, or is none.
    Deny(Denial),
}

/// One answer under way.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    meter: Meter,
    read: bool,
    ended: bool,
}

impl Answer {
    pub(crate) fn begin(dialect: Dialect, hide_usage: bool, head: AnswerHead<'_>) -> (Self, ResponseStep) {
        let AnswerHead { status, content_type, content_encoding, content_length } = head;
        let success = (200..300).contains(&status);
        let encoded = !content_encoding.is_none_or(is_identity);
        let framing = if encoded { Framing::Opaque } else { content_type.map_or(Framing::Opaque, framing) };
        let metered = dialect != Dialect::Unspecified;
        let hide = hide_usage && success && metered && framing == Framing::EventStream;
        let step = if (100..200).contains(&status) {
            // as a final answer: a protocol that nobody asked for, which Envoy would pass on
            ResponseStep::Deny(Denial::new(Code::UpstreamUnavailable).detail("The answer has an interim status."))
        } else if encoded && success && metered {
            ResponseStep::Deny(Denial::new(Code::UpstreamEncoded).detail("It is compressed and cannot be metered."))
        } else {
            ResponseStep::Continue { remove_content_length: hide }
        };
        let read = metered && framing != Framing::Opaque;
        // a client may take an empty answer for whole at its head, and leave before the upstream's last frame
        let ended = content_length == Some(b"0");
        (Self { status, meter: Meter::new(dialect, framing, hide), read, ended }, step)
    }

    pub(crate) fn push(&mut self, chunk: &[u8], end: bool) -> Passed {
        self.ended |= end;
        self.meter.push(chunk, end)
    }

    pub(crate) fn is_read(&self) -> bool {
        self.read
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Whether all of it has passed: Envoy or the answer itself said so.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended || self.meter.reading().ended
    }

    pub(crate) fn reading(&self) -> Reading {
        self.meter.reading()
    }
}

/// By the media type's essence (RFC 9110 §8.3): parameters do not matter.
fn framing(content_type: &[u8]) -> Framing {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"text/event-stream") {
        Framing::EventStream
    } else if essence.eq_ignore_ascii_case(b"application/json") {
        Framing::Json
    } else {
        Framing::Opaque
    }
}

fn is_identity(content_encoding: &[u8]) -> bool {
    let coding = content_encoding.trim_ascii();
    coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        for (text, want) in [
            ("text/event-stream", Framing::EventStream),
            ("Text/Event-Stream; charset=utf-8", Framing::EventStream),
            ("application/json", Framing::Json),
            (" application/JSON ;charset=utf-8", Framing::Json),
            ("application/jsonl", Framing::Opaque),
            ("text/plain; application/json", Framing::Opaque),
            ("", Framing::Opaque),
            (";", Framing::Opaque),
        ] {
            assert_eq!(framing(text.as_bytes()), want, "{text}");
        }
        assert_eq!(framing(b"\xff\0"), Framing::Opaque);
    }

    #[test]
    fn only_a_metered_success_is_refused_for_its_encoding() {
        let step = |dialect, status, encoding: &[u8]| {
            let content_type = Some(&b"text/event-stream"[..]);
            let head = AnswerHead { status, content_type, content_encoding: Some(encoding), ..AnswerHead::default() };
            Answer::begin(dialect, true, head).1
        };
        let passes = |remove_content_length| ResponseStep::Continue { remove_content_length };
        for encoding in [&b"gzip"[..], b"br", b"zstd", b"identity, gzip", b"\xff"] {
            let ResponseStep::Deny(denial) = step(Dialect::OpenaiChat, 200, encoding) else {
                panic!("{encoding:?} passed")
            };
            assert_eq!(denial.code, Code::UpstreamEncoded);
            assert_eq!(step(Dialect::OpenaiChat, 429, encoding), passes(false));
            assert_eq!(step(Dialect::Unspecified, 200, encoding), passes(false));
        }
        for encoding in [&b"identity"[..], b" Identity ", b""] {
            assert_eq!(step(Dialect::OpenaiChat, 200, encoding), passes(true));
        }
    }

    #[test]
    fn an_interim_status_is_no_answer() {
        for dialect in [Dialect::OpenaiChat, Dialect::Unspecified] {
            for status in [100, 101, 199] {
                let ResponseStep::Deny(denial) =
                    Answer::begin(dialect, false, AnswerHead { status, ..AnswerHead::default() }).1
                else {
                    panic!("{status} passed")
                };
                assert_eq!(denial.code, Code::UpstreamUnavailable);
            }
        }
    }

    #[test]
    fn the_length_goes_only_where_the_body_may_change() {
        let step = |hide, status, kind: &[u8]| {
            let head = AnswerHead { status, content_type: Some(kind), ..AnswerHead::default() };
            Answer::begin(Dialect::OpenaiChat, hide, head).1
        };
        let passes = |remove_content_length| ResponseStep::Continue { remove_content_length };
        assert_eq!(step(true, 200, b"text/event-stream"), passes(true));
        assert_eq!(step(false, 200, b"text/event-stream"), passes(false));
        assert_eq!(step(true, 200, b"application/json"), passes(false));
        assert_eq!(step(true, 500, b"text/event-stream"), passes(false));
    }
}
