//! The root fields that decide what a request costs and how it is answered: their types, and where they stand.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::scan::{Scan, Twins};
use super::text::{Text, shown};
use crate::denial::{Code, Denial};
use crate::name::ModelName;

/// Greatest `max_tokens`: the largest integer that every JSON parser reads exactly (RFC 8259 §6).
pub(super) const LARGEST_LIMIT: u64 = 1 << 53;
/// Greatest `n`, OpenAI's own.
pub(super) const LARGEST_N: u64 = 128;
/// Tiers that never cost more than the price book says.
const TIERS: &[&str] = &["auto", "default", "flex"];

/// `stream_options` as the body has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StreamOptions {
    /// Not there.
    Absent,
    /// `null`, at this place.
    Null(Range<usize>),
    /// An object without `include_usage`; `open` is right after its `{`.
    Without { open: usize, empty: bool },
    /// An object with `include_usage`, whose value stands at this place.
    With { asked: bool, place: Range<usize> },
}

impl StreamOptions {
    pub(super) const fn is_object(&self) -> bool {
        matches!(self, Self::Without { .. } | Self::With { .. })
    }

    pub(super) const fn asks_usage(&self) -> bool {
        matches!(self, Self::With { asked: true, .. })
    }
}

fn invalid(field: &str, detail: impl Into<String>) -> Denial {
    Denial::new(Code::InvalidBody).param(field).detail(detail)
}

/// A JSON integer from 1 to `largest`; null is absent. No fraction, no exponent: parsers read those differently.
pub(super) fn integer(raw: Option<&str>, field: &str, largest: u64) -> Result<Option<u64>, Denial> {
    let Some(raw) = raw.filter(|raw| *raw != "null") else { return Ok(None) };
    let digits = raw.bytes().all(|b| b.is_ascii_digit());
    let number = raw.parse().ok().filter(|number| digits && (1..=largest).contains(number));
    number.map(Some).ok_or_else(|| invalid(field, format!("It must be an integer from 1 to {largest}.")))
}

/// A boolean; null is absent.
pub(super) fn boolean(raw: Option<&str>, field: &str) -> Result<Option<bool>, Denial> {
    match raw {
        None | Some("null") => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(invalid(field, "It must be true or false.")),
    }
}

/// `model`: a string, where it is given.
pub(super) fn model(raw: Option<&str>) -> Result<Option<ModelName>, Denial> {
    let Some(name) = raw.map(|raw| string(raw, "model")).transpose()? else { return Ok(None) };
    ModelName::parse(&name).map(Some).map_err(|_| Denial::new(Code::ModelNotFound).param("model"))
}

/// `service_tier`: those with a price of their own are not in the price book.
pub(super) fn service_tier(raw: Option<&str>) -> Result<(), Denial> {
    let Some(raw) = raw.filter(|raw| *raw != "null") else { return Ok(()) };
    if TIERS.contains(&string(raw, "service_tier")?.as_str()) {
        return Ok(());
    }
    Err(invalid("service_tier", format!("It must be one of {}.", TIERS.join(", "))))
}

fn string(raw: &str, field: &str) -> Result<String, Denial> {
    serde_json::from_str(raw).map_err(|error| {
        if error.is_data() {
            invalid(field, "It must be a string.")
        } else {
            Denial::new(Code::InvalidJson).param(field)
        }
    })
}

/// Where a value stands in the body that it was borrowed from.
pub(super) fn place(raw: &str, body: &str) -> Result<Range<usize>, Denial> {
    let start = raw.as_ptr().addr().checked_sub(body.as_ptr().addr());
    let range = start.and_then(|start| Some(start..start.checked_add(raw.len())?));
    range.filter(|range| body.get(range.clone()) == Some(raw)).ok_or(Denial::new(Code::Internal))
}

/// Right after the first `{`: for a value that is an object, where its first key may go.
pub(super) fn after_brace(object: &str) -> Result<usize, Denial> {
    object.find('{').and_then(|at| at.checked_add(1)).ok_or(Denial::new(Code::Internal))
}

/// Reads `stream_options`.
pub(super) fn stream_options(raw: Option<&str>, body: &str) -> Result<StreamOptions, Denial> {
    let Some(raw) = raw else { return Ok(StreamOptions::Absent) };
    let at = place(raw, body)?;
    if raw == "null" {
        return Ok(StreamOptions::Null(at));
    }
    let mut scan = Scan::default();
    scan.field = Some("stream_options".into());
    let options = serde_json::Deserializer::from_str(raw).deserialize_map(Options { scan: &mut scan });
    let options = options.map_err(|error| scan.denial(&error))?;
    boolean(options.include_obfuscation, "stream_options.include_obfuscation")?;
    let asked = boolean(options.include_usage, "stream_options.include_usage")?.unwrap_or(false);
    match options.include_usage {
        Some(value) => Ok(StreamOptions::With { asked, place: place(value, body)? }),
        None => {
            let open = after_brace(raw)?.saturating_add(at.start);
            Ok(StreamOptions::Without { open, empty: options.include_obfuscation.is_none() })
        }
    }
}

struct Options<'s, 'de> {
    scan: &'s mut Scan<'de>,
}

#[derive(Default)]
struct RawOptions<'de> {
    include_usage: Option<&'de str>,
    include_obfuscation: Option<&'de str>,
}

impl<'de> Visitor<'de> for Options<'_, 'de> {
    type Value = RawOptions<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut options = RawOptions::default();
        let start = self.scan.open();
        while let Some(key) = map.next_key_seed(Text)? {
            let slot = match key.as_ref() {
                "include_usage" => &mut options.include_usage,
                "include_obfuscation" => &mut options.include_obfuscation,
                other => {
                    let param = format!("stream_options.{}", shown(other));
                    return Err(self.scan.refuse(Denial::new(Code::UnknownField).param(param)));
                }
            };
            *slot = Some(map.next_value::<&RawValue>()?.get());
            self.scan.key(key);
        }
        self.scan.close(start, Twins::AnyCase)?;
        Ok(options)
    }
}
