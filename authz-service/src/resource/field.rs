//! Fields as kinds hold them: a value with its place, lists that survive a broken entry, and the checks that many kinds share.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::problem::{Place, Problems};
use super::quantity::{Quantity, QuantityError};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    /// The value.
    pub(super) value: T,
    /// Where it stands.
    pub(super) place: Place,
}

/// A list whose broken entries are passed over: each of them is a problem already.
#[derive(Clone, Debug)]
pub(super) struct Each<T>(pub(super) Vec<T>);

/// What [`At`] asks its deserializer for: a tuple struct of this name and length (file, line, column, value).
pub(super) const AT: (&str, usize) = ("a value with its place", 4);

impl At<String> {
    /// The text, if it is a DNS label (RFC 1123): 1 to 63 of a-z, 0-9 and -, starting and ending with a letter or digit.
    pub(super) fn label(&self, problems: &Problems) -> Option<&str> {
        if is_label(&self.value) {
            return Some(&self.value);
        }
        let rule = "must be 1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit";
        problems.add(self.place, format!("`{}` {rule}", self.value));
        None
    }

    /// The text, if it is a DNS subdomain (RFC 1123) of at most 63 characters: labels with dots between them.
    pub(super) fn subdomain(&self, problems: &Problems) -> Option<&str> {
        if self.value.len() <= 63 && self.value.split('.').all(is_label) {
            return Some(&self.value);
        }
        let rule = "must be 1 to 63 characters of a-z, 0-9, - and .: other names of models go into `spec.model`";
        problems.add(self.place, format!("`{}` {rule}", self.value));
        None
    }

    /// The text, if it is 1 to `greatest` visible ASCII characters without quotes and commas: safe in headers and logs.
    pub(super) fn visible(&self, greatest: usize, problems: &Problems) -> Option<&str> {
        let text = self.value.as_str();
        let safe = text.bytes().all(|b| b.is_ascii_graphic() && !b"\"'`,\\".contains(&b));
        if (1..=greatest).contains(&text.len()) && safe {
            return Some(text);
        }
        let rule = format!("must be 1 to {greatest} visible ASCII characters without quotes, commas and backslashes");
        problems.add(self.place, format!("`{}` {rule}", text));
        None
    }
}

fn is_label(text: &str) -> bool {
    let inner = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (1..=63).contains(&text.len()) && inner && !text.starts_with('-') && !text.ends_with('-')
}

impl At<Quantity> {
    /// The count, if it lies in the range.
    pub(super) fn count_in(&self, range: RangeInclusive<u64>, problems: &Problems) -> Option<u64> {
        self.checked(self.value.count(), range, problems)
    }

    /// The GPU time in GPU-milliseconds, if it lies in the range.
    pub(super) fn gpu_millis_in(&self, range: RangeInclusive<u64>, problems: &Problems) -> Option<u64> {
        self.checked(self.value.gpu_millis(), range, problems)
    }

    /// The duration, if it is at least a millisecond and not longer than `longest` days.
    pub(super) fn duration_to(&self, longest: u64, problems: &Problems) -> Option<Duration> {
        let duration = self.duration(problems)?;
        if !duration.is_zero() && duration <= Duration::from_secs(longest.saturating_mul(86_400)) {
            return Some(duration);
        }
        problems.add(self.place, format!("`{}` is out of range: more than 0, at most {longest}d", self.value));
        None
    }

    /// The duration, if it is not longer than `longest`, which is whole seconds; it may be zero.
    pub(super) fn duration_within(&self, longest: Duration, problems: &Problems) -> Option<Duration> {
        let duration = self.duration(problems)?;
        if duration <= longest {
            return Some(duration);
        }
        problems.add(self.place, format!("`{}` is out of range: at most {}s", self.value, longest.as_secs()));
        None
    }

    /// The duration, if it lies in the range, which is in hours.
    pub(super) fn hours_in(&self, range: RangeInclusive<u64>, problems: &Problems) -> Option<Duration> {
        let duration = self.duration(problems)?;
        let bounds = |hours: &u64| Duration::from_secs(hours.saturating_mul(3600));
        if (bounds(range.start())..=bounds(range.end())).contains(&duration) {
            return Some(duration);
        }
        let (least, most) = (range.start(), range.end());
        problems.add(self.place, format!("`{}` is out of range: {least}h to {most}h", self.value));
        None
    }

    fn duration(&self, problems: &Problems) -> Option<Duration> {
        let millis = self.value.millis();
        millis.map(Duration::from_millis).inspect_err(|error| problems.add(self.place, error.to_string())).ok()
    }

    fn checked(
        &self,
        number: Result<u64, QuantityError>,
        range: RangeInclusive<u64>,
        problems: &Problems,
    ) -> Option<u64> {
        match number {
            Ok(number) if range.contains(&number) => return Some(number),
            Ok(_) if *range.end() == u64::MAX => {
                problems.add(self.place, format!("`{}` is out of range: at least {}", self.value, range.start()));
            }
            Ok(_) => {
                problems
                    .add(self.place, format!("`{}` is out of range: {} to {}", self.value, range.start(), range.end()));
            }
            Err(error) => problems.add(self.place, error.to_string()),
        }
        None
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple_struct(AT.0, AT.1, AtVisitor(PhantomData))
    }
}

struct AtVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
    type Value = At<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(AT.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
        let short = || de::Error::invalid_length(0, &"file, line, column and value");
        let file = parts.next_element()?.ok_or_else(short)?;
        let line = parts.next_element()?.ok_or_else(short)?;
        let column = parts.next_element()?.ok_or_else(short)?;
        let value = parts.next_element()?.ok_or_else(short)?;
        Ok(At { value, place: Place { file, line, column } })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Each<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EachVisitor(PhantomData))
    }
}

struct EachVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for EachVisitor<T> {
    type Value = Each<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Each<T>, A::Error> {
        let mut values = Vec::new();
        loop {
            match entries.next_element() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => return Ok(Each(values)),
                Err(_) => {} // a problem by now, and `entries` has moved past it
            }
        }
    }
}
