//! Trees → typed specs by serde, with places. Unknown fields and broken list entries are noted and passed over, so that one
//! reading finds them all; `null` is never a value: an emptied list must not widen what it narrowed.

use std::cell::Cell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer as _, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde_saphyr::Spanned;

use super::field::AT;
use super::problem::{Place, Problems, nearest};
use super::tree::{self, Node, Value};

/// Reads a node as a `T`; `None`: the reason is among the problems.
pub(super) fn decode<'de, T: Deserialize<'de>>(file: u32, node: &'de Node, problems: &'de Problems) -> Option<T> {
    let reader = Reader { file, node, problems };
    match T::deserialize(reader) {
        Ok(value) => Some(value),
        Err(fault) => {
            reader.note(fault);
            None
        }
    }
}

/// Why a value is not what its field takes. Goes up to the next list or the document, where it becomes a problem.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Fault {
    message: String,
    place: Option<Place>,
    noted: bool,
}

impl Fault {
    fn new(message: String) -> Self {
        Self { message, place: None, noted: false }
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
        Self::new(format!("missing field `{field}`"))
    }
}

/// A node as a serde deserializer.
#[derive(Clone, Copy)]
struct Reader<'de> {
    file: u32,
    node: &'de Node,
    problems: &'de Problems,
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

    fn report_unknown(&self, entries: &[(Spanned<String>, Node)], known: &'static [&'static str]) {
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.value.as_str())) {
            let message = format!("unknown field `{}`{}", key.value, nearest(&key.value, known.iter().copied()));
            self.problems.add(tree::place(self.file, key.referenced), message);
        }
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
            Value::List(nodes) => visitor.visit_seq(Entries { reader: self, nodes: nodes.iter() }),
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
        self.report_unknown(entries, known);
        visitor.visit_map(Fields::new(self, entries, Some(known))).map_err(|fault| fault.at(self.place()))
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
        if (name, length) == AT {
            visitor.visit_seq(Placed { reader: self, next: Cell::new(0) })
        } else {
            self.deserialize_any(visitor)
        }
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

/// The entries of a list.
struct Entries<'de> {
    reader: Reader<'de>,
    nodes: std::slice::Iter<'de, Node>,
}

impl<'de> SeqAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.nodes.next() else { return Ok(None) };
        let reader = self.reader.of(node);
        seed.deserialize(reader).map(Some).map_err(|fault| {
            reader.note(fault);
            Fault { message: String::new(), place: None, noted: true }
        })
    }
}

/// The fields of a mapping that its reader knows.
struct Fields<'de> {
    reader: Reader<'de>,
    entries: std::slice::Iter<'de, (Spanned<String>, Node)>,
    known: Option<&'static [&'static str]>,
    value: Option<&'de Node>,
}

impl<'de> Fields<'de> {
    fn new(reader: Reader<'de>, entries: &'de [(Spanned<String>, Node)], known: Option<&'static [&'static str]>) -> Self {
        Self { reader, entries: entries.iter(), known, value: None }
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let known = self.known;
        let wanted = |key: &str| known.is_none_or(|known| known.contains(&key));
        let Some((key, value)) = self.entries.by_ref().find(|(key, _)| wanted(&key.value)) else { return Ok(None) };
        self.value = Some(value);
        let key: StrDeserializer<'_, Fault> = key.value.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let node = self.value.take().ok_or_else(|| Fault::new("a value was read before its key".to_owned()))?;
        seed.deserialize(self.reader.of(node))
    }
}

/// What [`At`](super::field::At) reads: file, line, column, value.
struct Placed<'de> {
    reader: Reader<'de>,
    next: Cell<u8>,
}

impl<'de> SeqAccess<'de> for Placed<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let place = self.reader.place();
        let step = self.next.get();
        self.next.set(step.saturating_add(1));
        match step {
            0 => seed.deserialize(place.file.into_deserializer()).map(Some),
            1 => seed.deserialize(place.line.into_deserializer()).map(Some),
            2 => seed.deserialize(place.column.into_deserializer()).map(Some),
            3 => seed.deserialize(self.reader).map(Some),
            _ => Ok(None),
        }
    }
}
