//! Quantities: integers with a unit, as `100k`, `4Mi`, `500ms`, `24h`. No floats, no negative numbers, no spaces.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};

/// A quantity as it was written; what it means depends on the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quantity(String);

/// Why a text is no quantity of the kind that a field wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QuantityError {
    /// Not a count.
    #[error("`{0}` is no count: write an integer, with k, M, G (thousands) or Ki, Mi, Gi (1024s) after it")]
    Count(String),
    /// Not a duration.
    #[error("`{0}` is no duration: write an integer with one unit of ms, s, m, h, d after it")]
    Duration(String),
    /// More than the store can hold.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

/// The greatest number: what SQLite holds.
const GREATEST: u64 = i64::MAX as u64;

impl Quantity {
    /// As a count: an integer, or one times 10³, 10⁶, 10⁹, 2¹⁰, 2²⁰, 2³⁰.
    ///
    /// # Errors
    /// [`QuantityError::Count`] and [`QuantityError::TooLarge`].
    pub(super) fn count(&self) -> Result<u64, QuantityError> {
        let (number, unit) = self.split().ok_or_else(|| QuantityError::Count(self.0.clone()))?;
        let factor = match unit {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(QuantityError::Count(self.0.clone())),
        };
        self.times(number, factor)
    }

    /// As a duration in milliseconds.
    ///
    /// # Errors
    /// [`QuantityError::Duration`] and [`QuantityError::TooLarge`].
    pub(super) fn millis(&self) -> Result<u64, QuantityError> {
        let (number, unit) = self.split().ok_or_else(|| QuantityError::Duration(self.0.clone()))?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(QuantityError::Duration(self.0.clone())),
        };
        self.times(number, factor)
    }

    /// As GPU time in GPU-milliseconds: a duration, or a count of GPU-milliseconds.
    ///
    /// # Errors
    /// As [`Quantity::millis`].
    pub(super) fn gpu_millis(&self) -> Result<u64, QuantityError> {
        self.count().or_else(|error| if let QuantityError::TooLarge(_) = error { Err(error) } else { self.millis() })
    }

    fn split(&self) -> Option<(&str, &str)> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (number, unit) = self.0.split_at(end);
        (!number.is_empty()).then_some((number, unit))
    }

    fn times(&self, number: &str, factor: u64) -> Result<u64, QuantityError> {
        let product = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        product.filter(|product| *product <= GREATEST).ok_or_else(|| QuantityError::TooLarge(self.0.clone()))
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuantityVisitor)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

struct QuantityVisitor;

impl Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer or a quantity")
    }

    fn visit_str<E>(self, text: &str) -> Result<Quantity, E> {
        Ok(Quantity(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Quantity, E> {
        Ok(Quantity(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Quantity, E> {
        Ok(Quantity(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Quantity, E> {
        Ok(Quantity(number.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn counts() {
        for (text, want) in
            [("0", 0), ("7", 7), ("100k", 100_000), ("2M", 2_000_000), ("4Mi", 4 << 20), ("1Gi", 1 << 30)]
        {
            assert_eq!(quantity(text).count(), Ok(want), "{text}");
        }
        for bad in ["", "k", "1.5", "-1", "1 k", "1K", "1m", "1_000", "0x10", "1e3", "+1", "1kk", "١"] {
            assert_eq!(quantity(bad).count(), Err(QuantityError::Count(bad.to_owned())));
        }
        for large in ["9223372036854775808", "18446744073709551616", "9223372036854775807k"] {
            assert_eq!(quantity(large).count(), Err(QuantityError::TooLarge(large.to_owned())));
        }
        assert_eq!(quantity("9223372036854775807").count(), Ok(GREATEST));
    }

    #[test]
    fn durations() {
        for (text, want) in [("500ms", 500), ("24h", 86_400_000), ("10m", 600_000), ("3d", 259_200_000), ("0s", 0)] {
            assert_eq!(quantity(text).millis(), Ok(want), "{text}");
        }
        for bad in ["", "5", "1.5h", "-1s", "1h30m", "1 s", "1S", "1M", "1us"] {
            assert_eq!(quantity(bad).millis(), Err(QuantityError::Duration(bad.to_owned())));
        }
        assert_eq!(quantity("106751991168d").millis(), Err(QuantityError::TooLarge("106751991168d".to_owned())));
    }

    #[test]
    fn gpu_time_is_either() {
        assert_eq!(quantity("2h").gpu_millis(), Ok(7_200_000));
        assert_eq!(quantity("100k").gpu_millis(), Ok(100_000));
        assert_eq!(quantity("1.5h").gpu_millis(), Err(QuantityError::Duration("1.5h".to_owned())));
    }
}
