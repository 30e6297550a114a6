//! Trees → typed specs by serde, with places. Unknown fields and broken list entries are noted and passed over, so that one
//! reading finds them all; `null` is never a value: an emptied list must not widen what it narrowed.

mod access;

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, Expected, IntoDeserializer as _, Unexpected, Visitor};

use self::access::{Entries, Fields, Placed};
use super::field::AT;
use super::problem::{Place, Problems, nearest, nearest_of};
use super::tree::{self, Entry, Node, Value};

/// How often a node is read again to find what else is wrong with it.
const ROUNDS: usize = 64;

/// Reads a node as a `T`, without the list entries that are broken; `None`: the reason is among the problems. Serde gives a
/// mapping up at its first bad field, so the node is read again without the fields that were bad, until none turns up.
pub(super) fn decode<T: DeserializeOwned>(file: u32, node: &Node, problems: &Problems) -> Option<T> {
    let bad = RefCell::new(Vec::new());
    let reader = Reader { file, node, problems, bad: &bad };
    let read = || T::deserialize(reader).map_err(|fault| reader.note(fault)).ok();
    let value = read();
    let mut known = 0;
    for _ in 0..ROUNDS {
        let now = bad.borrow().len();
        if now == known {
            break;
        }
        known = now;
        read();
    }
    value
}

/// Why a value is not what its field takes. Goes up to the next list or the document, where it becomes a problem.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Fault {
    message: String,
    place: Option<Place>,
    missing: Option<&'static str>,
    /// It is a problem already, or follows from one.
    noted: bool,
    /// The field that it came from is passed over from now on.
    passed: bool,
}

impl Fault {
    fn new(message: String) -> Self {
        Self { message, place: None, missing: None, noted: false, passed: false }
    }

    /// Fixes the place unless a deeper one is known.
    fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(match found {
            Unexpected::Unit => format!("expected {expected}, found nothing: write a value or leave the field out"),
            Unexpected::Str(text) => format!("expected {expected}, found `{text}`"),
            Unexpected::Float(number) => format!("expected {expected}, found the float `{number}`"),
            _ => format!("expected {expected}, found {found}"),
        })
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("unknown value `{word}`{}", nearest(word, known.iter().copied())))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::new(format!("missing field `{field}`")) }
    }
}

/// A node as a serde deserializer.
#[derive(Clone, Copy)]
struct Reader<'de> {
    file: u32,
    node: &'de Node,
    problems: &'de Problems,
    /// The fields that turned out bad, by the place of their keys.
    bad: &'de RefCell<Vec<Place>>,
}

impl<'de> Reader<'de> {
    fn place(&self) -> Place {
        tree::place(self.file, self.node.referenced)
    }

    fn note(&self, fault: Fault) {
        if !fault.noted {
            self.problems.add(fault.place.unwrap_or(self.place()), fault.message);
        }
    }

    fn of(self, node: &'de Node) -> Self {
        Self { node, ..self }
    }

    /// Notes the unknown fields of a mapping; returns the known ones that they were probably meant to be, by place of the
    /// key, so that the rest is checked as if they had been spelled right.
    fn report_unknown(&self, entries: &[Entry], known: &'static [&'static str]) -> Vec<(Place, &'static str)> {
        let mut meant: Vec<(Place, &'static str)> = Vec::new();
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.value.as_str())) {
            let place = tree::place(self.file, key.referenced);
            let message = format!("unknown field `{}`{}", key.value, nearest(&key.value, known.iter().copied()));
            self.problems.add(place, message);
            let Some(name) = nearest_of(&key.value, known.iter().copied()) else { continue };
            let taken =
                entries.iter().any(|(key, _)| key.value == name) || meant.iter().any(|(_, other)| *other == name);
            if !taken {
                meant.push((place, name));
            }
        }
        meant
    }

    /// Whether a field is missing because it was bad in an earlier round.
    fn passed_over(&self, missing: &'static str, entries: &[Entry], meant: &[(Place, &'static str)]) -> bool {
        let bad = self.bad.borrow();
        let named = entries.iter().filter(|(key, _)| key.value == missing);
        let mut places = named.map(|(key, _)| tree::place(self.file, key.referenced));
        places.any(|place| bad.contains(&place))
            || meant.iter().any(|(place, name)| *name == missing && bad.contains(place))
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Negative(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_borrowed_str(value),
            Value::List(nodes) => visitor.visit_seq(Entries::new(self, nodes)),
            Value::Map(entries) => visitor.visit_map(Fields::new(self, entries, None)),
        };
        result.map_err(|fault| fault.at(self.place()))
    }

    /// A field that is written has a value.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Value::Map(entries) = &self.node.value else { return self.deserialize_any(visitor) };
        let meant = self.report_unknown(entries, known);
        visitor.visit_map(Fields::new(self, entries, Some((known, &meant)))).map_err(|mut fault| {
            let missing = fault.missing.take();
            fault.noted |= missing.is_some_and(|missing| self.passed_over(missing, entries, &meant));
            fault.at(self.place())
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Value::Text(word) = &self.node.value else {
            return Err(Fault::new("expected a word".to_owned()).at(self.place()));
        };
        let access: StrDeserializer<'_, Fault> = word.as_str().into_deserializer();
        visitor.visit_enum(access).map_err(|fault| fault.at(self.place()))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if (name, length) == AT { visitor.visit_seq(Placed::new(self)) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple map
        identifier
    }
}
