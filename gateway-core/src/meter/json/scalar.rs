//! A number or a word of a JSON document while it is read. Only whole counts are told apart; nothing is kept.

use crate::meter::totals::MAX_COUNT;

/// What a number or a word has been so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalar {
    bytes: usize,
    null: bool,
    count: Option<u64>,
}

impl Scalar {
    /// Before its first byte.
    pub(super) const EMPTY: Self = Self { bytes: 0, null: true, count: Some(0) };

    /// Reads one byte of it.
    pub(super) fn push(&mut self, byte: u8) {
        self.null = self.null && b"null".get(self.bytes) == Some(&byte);
        self.bytes = self.bytes.saturating_add(1);
        let digit = byte.is_ascii_digit().then(|| u64::from(byte.wrapping_sub(b'0')));
        let longer = |count: u64, digit: u64| count.checked_mul(10)?.checked_add(digit).filter(|n| *n <= MAX_COUNT);
        self.count = self.count.zip(digit).and_then(|(count, digit)| longer(count, digit));
    }

    /// Its value, if it is an integer from 0 to [`MAX_COUNT`] written in digits alone.
    pub(super) fn count(self) -> Option<u64> {
        self.count
    }

    /// Whether it is `null`.
    pub(super) fn is_null(self) -> bool {
        self.null && self.bytes == 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str) -> (Option<u64>, bool) {
        let mut scalar = Scalar::EMPTY;
        text.bytes().for_each(|byte| scalar.push(byte));
        (scalar.count(), scalar.is_null())
    }

    #[test]
    fn only_whole_counts_and_null_are_told_apart() {
        assert_eq!(scalar("0"), (Some(0), false));
        assert_eq!(scalar("9007199254740992"), (Some(MAX_COUNT), false));
        for bad in [
            "9007199254740993",
            "99999999999999999999999",
            "-1",
            "-0",
            "1.0",
            "1e3",
            "+1",
            "nul",
            "nulls",
            "true",
            "NaN",
        ] {
            assert_eq!(scalar(bad), (None, false), "{bad}");
        }
        assert_eq!(scalar("null"), (None, true));
    }
}
