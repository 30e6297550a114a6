//! The strict walk over any JSON value: no key twice in an object, no depth over 64, text counted as it passes.
//!
//! Never builds a tree: besides the keys of the objects that are open it remembers numbers only.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::text::{Text, shown};
use crate::denial::{Code, Denial};
use crate::price::InputSize;

/// Deepest nesting that is read, the root object being 1. Below `serde_json`'s own limit of 128.
const DEEPEST: u8 = 64;
/// What numbers, booleans and null count as text: about a token each.
const SCALAR_BYTES: usize = 4;
/// What the walk found so far.
#[derive(Default)]
pub(super) struct Scan<'de> {
    /// Text, messages and media parts; the body's own length is not known here.
    pub(super) size: InputSize,
    /// The root field under way.
    pub(super) field: Option<Cow<'de, str>>,
    denial: Option<Denial>,
    /// Keys of the open objects, outermost first.
    keys: Vec<Cow<'de, str>>,
}

/// When two keys of one object are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Twins {
    /// Where the client chooses the keys: when they decode to the same text.
    Exact,
    /// Where keys have a meaning: also when they differ in ASCII case, which some servers do not tell apart.
    AnyCase,
}

/// What a value was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Other,
}

/// One value of any type.
pub(super) struct Value<'s, 'de> {
    pub(super) scan: &'s mut Scan<'de>,
    /// Of the value itself, if it is an object or an array.
    pub(super) depth: u8,
    /// Whether the model reads it.
    pub(super) text: bool,
    pub(super) twins: Twins,
}

impl<'de> Scan<'de> {
    /// Ends the walk with a denial.
    pub(super) fn refuse<E: serde::de::Error>(&mut self, denial: Denial) -> E {
        self.denial = Some(denial);
        E::custom("refused")
    }

    /// Ends the walk because of the root field under way.
    pub(super) fn refuse_field<E: serde::de::Error>(&mut self, code: Code, detail: impl Into<String>) -> E {
        let denial = self.about_field(Denial::new(code).detail(detail));
        self.refuse(denial)
    }

    /// The denial behind the parser's error: ours if the walk ended itself, else by what the parser met.
    pub(super) fn denial(&mut self, error: &serde_json::Error) -> Denial {
        if let Some(denial) = self.denial.take() {
            return denial;
        }
        let place = format!("At line {}, column {}.", error.line(), error.column());
        // A value of another type than its field takes; the root itself has no field.
        let typed = error.classify() == Category::Data && self.field.is_some();
        if typed {
            return self.about_field(Denial::new(Code::InvalidBody).detail(place));
        }
        Denial::new(Code::InvalidJson).detail(place)
    }

    fn about_field(&self, denial: Denial) -> Denial {
        match &self.field {
            Some(field) => denial.param(shown(field)),
            None => denial,
        }
    }

    /// Starts an object; [`close`](Self::close) takes what this gives.
    pub(super) fn open(&self) -> usize {
        self.keys.len()
    }

    /// Notes a key of the object that was opened last.
    pub(super) fn key(&mut self, key: Cow<'de, str>) {
        self.keys.push(key);
    }

    /// Ends an object: its keys must differ. In the root, where no field is under way, the key itself is the field.
    pub(super) fn close<E: serde::de::Error>(&mut self, start: usize, twins: Twins) -> Result<(), E> {
        let order = |a: &Cow<'_, str>, b: &Cow<'_, str>| match twins {
            Twins::Exact => a.cmp(b),
            Twins::AnyCase => any_case(a, b),
        };
        let keys = self.keys.get_mut(start..).unwrap_or_default();
        keys.sort_unstable_by(order);
        let twin = keys.windows(2).find_map(|pair| match pair {
            [a, b] if order(a, b) == Ordering::Equal => Some(shown(a)),
            _ => None,
        });
        self.keys.truncate(start);
        match twin {
            Some(key) => {
                let detail = format!("The key `{key}` stands twice in one object.");
                let field = self.field.as_deref().map_or(key, shown);
                Err(self.refuse(Denial::new(Code::InvalidJson).param(field).detail(detail)))
            }
            None => Ok(()),
        }
    }

    /// Counts an image, a sound or a file.
    pub(super) fn count_media(&mut self) {
        self.size.media_parts = self.size.media_parts.saturating_add(1);
    }

    /// Counts bytes that the model reads.
    pub(super) fn count_text(&mut self, bytes: usize) {
        self.size.text_bytes = self.size.text_bytes.saturating_add(bytes as u64);
    }
}

fn any_case(a: &str, b: &str) -> Ordering {
    a.bytes().map(|b| b.to_ascii_lowercase()).cmp(b.bytes().map(|b| b.to_ascii_lowercase()))
}

impl<'de> Value<'_, 'de> {
    fn inner(&mut self) -> Value<'_, 'de> {
        Value { scan: self.scan, depth: self.depth.saturating_add(1), text: self.text, twins: self.twins }
    }

    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.depth > DEEPEST {
            return Err(self.scan.refuse_field(Code::InvalidJson, format!("It is nested deeper than {DEEPEST}.")));
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Kind {
        if self.text {
            self.scan.count_text(bytes);
        }
        Kind::Other
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = Kind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(mut self) -> Result<Kind, E> {
        self.count(SCALAR_BYTES);
        Ok(Kind::Null)
    }

    fn visit_bool<E>(mut self, _: bool) -> Result<Kind, E> {
        Ok(self.count(SCALAR_BYTES))
    }

    fn visit_u64<E>(mut self, _: u64) -> Result<Kind, E> {
        Ok(self.count(SCALAR_BYTES))
    }

    fn visit_i64<E>(mut self, _: i64) -> Result<Kind, E> {
        Ok(self.count(SCALAR_BYTES))
    }

    fn visit_f64<E>(mut self, _: f64) -> Result<Kind, E> {
        Ok(self.count(SCALAR_BYTES))
    }

    fn visit_str<E>(mut self, text: &str) -> Result<Kind, E> {
        Ok(self.count(text.len()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Kind, A::Error> {
        self.enter()?;
        while seq.next_element_seed(self.inner())?.is_some() {}
        Ok(Kind::Other)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Kind, A::Error> {
        self.enter()?;
        let start = self.scan.open();
        while let Some(key) = map.next_key_seed(Text)? {
            self.count(key.len());
            self.scan.key(key);
            map.next_value_seed(self.inner())?;
        }
        self.scan.close(start, self.twins)?;
        Ok(Kind::Other)
    }
}
