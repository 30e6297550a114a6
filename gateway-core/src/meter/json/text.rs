//! The inside of a JSON string, byte by byte, with its escapes decoded. Nothing is kept but half an escape.

/// Where in an escape.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unescape {
    /// In none.
    None,
    /// After the backslash.
    Begun,
    /// In the digits of `\\u`.
    Hex {
        /// Digits still to come.
        left: u8,
        /// What the digits say so far.
        code: u16,
    },
}

/// What one byte of the document was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// Part of an escape.
    Nothing,
    /// A byte of the string, or a whole `\\u` escape: its byte if it is ASCII, else 0xff, which is no byte of UTF-8.
    Byte {
        /// The byte.
        byte: u8,
        /// How many bytes it stands for in UTF-8; half a surrogate pair is two of the four.
        utf8_bytes: u64,
    },
    /// The closing quote.
    End,
    /// No JSON.
    Fault,
}

impl Unescape {
    /// Reads one byte after the opening quote.
    pub(super) fn push(&mut self, byte: u8) -> Decoded {
        let (next, decoded) = match (*self, byte) {
            (Self::None, b'"') => (Self::None, Decoded::End),
            (Self::None, b'\\') => (Self::Begun, Decoded::Nothing),
            (Self::None, _) => (Self::None, Decoded::Byte { byte, utf8_bytes: 1 }),
            (Self::Begun, b'u') => (Self::Hex { left: 4, code: 0 }, Decoded::Nothing),
            (Self::Begun, _) => (Self::None, short_escape(byte)),
            (Self::Hex { left, code }, _) => match char::from(byte).to_digit(16).and_then(|d| u16::try_from(d).ok()) {
                None => (Self::None, Decoded::Fault),
                Some(digit) if left > 1 => {
                    (Self::Hex { left: left.wrapping_sub(1), code: code << 4 | digit }, Decoded::Nothing)
                }
                Some(digit) => (Self::None, whole_escape(code << 4 | digit)),
            },
        };
        *self = next;
        decoded
    }
}

const fn short_escape(byte: u8) -> Decoded {
    let byte = match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return Decoded::Fault,
    };
    Decoded::Byte { byte, utf8_bytes: 1 }
}

fn whole_escape(code: u16) -> Decoded {
    let utf8_bytes = match code {
        0..0x80 => 1,
        0x80..0x800 | 0xd800..0xe000 => 2,
        _ => 3,
    };
    Decoded::Byte { byte: u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(0xff), utf8_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Option<(Vec<u8>, u64)> {
        let (mut unescape, mut bytes, mut size) = (Unescape::None, Vec::new(), 0);
        for byte in text.bytes() {
            match unescape.push(byte) {
                Decoded::Nothing => {}
                Decoded::Byte { byte, utf8_bytes } => {
                    bytes.push(byte);
                    size += utf8_bytes;
                }
                Decoded::End => return Some((bytes, size)),
                Decoded::Fault => return None,
            }
        }
        None
    }

    #[test]
    fn escapes_decode() {
        assert_eq!(bytes(r#"a\"\\\/\n\u0062""#), Some((b"a\"\\/\nb".to_vec(), 6)));
        assert_eq!(bytes(r#"\u00e9\u4e16\ud83d\udea2\u0000""#), Some((b"\xff\xff\xff\xff\0".to_vec(), 2 + 3 + 4 + 1)));
        assert_eq!(bytes("é\""), Some(("é".into(), 2)));
        for bad in [r#"\x""#, r#"\u12g4""#, r#"\"#, r#"\u12""#, "open"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
