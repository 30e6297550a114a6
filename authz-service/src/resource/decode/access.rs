//! Lists, mappings and placed values as serde walks them. What is broken is noted where it stands and passed over.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer as _, MapAccess, SeqAccess};
use serde_saphyr::Spanned;

use super::super::tree::{self, Entry, Node};
use super::{Fault, Reader};

/// The entries of a list.
pub(super) struct Entries<'de> {
    reader: Reader<'de>,
    nodes: std::slice::Iter<'de, Node>,
}

impl<'de> Entries<'de> {
    pub(super) fn new(reader: Reader<'de>, nodes: &'de [Node]) -> Self {
        Self { reader, nodes: nodes.iter() }
    }
}

impl<'de> SeqAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.nodes.next() else { return Ok(None) };
        let reader = self.reader.of(node);
        seed.deserialize(reader).map(Some).map_err(|fault| {
            reader.note(fault);
            Fault { noted: true, passed: true, ..Fault::new(String::new()) }
        })
    }
}

/// The fields of a mapping that its reader knows.
pub(super) struct Fields<'de> {
    reader: Reader<'de>,
    entries: std::slice::Iter<'de, Entry>,
    known: Option<&'static [&'static str]>,
    current: Option<&'de Entry>,
}

impl<'de> Fields<'de> {
    pub(super) fn new(reader: Reader<'de>, entries: &'de [Entry], known: Option<&'static [&'static str]>) -> Self {
        Self { reader, entries: entries.iter(), known, current: None }
    }

    fn wanted(reader: Reader<'de>, known: Option<&'static [&'static str]>, key: &Spanned<String>) -> bool {
        let place = tree::place(reader.file, key.referenced);
        known.is_none_or(|known| known.contains(&key.value.as_str())) && !reader.bad.borrow().contains(&place)
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let (reader, known) = (self.reader, self.known);
        self.current = self.entries.by_ref().find(|(key, _)| Self::wanted(reader, known, key));
        let Some((key, _)) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Fault> = key.value.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, node) =
            self.current.take().ok_or_else(|| Fault::new("a value was read before its key".to_owned()))?;
        let reader = self.reader.of(node);
        seed.deserialize(reader).map_err(|fault| {
            if !fault.passed {
                reader.bad.borrow_mut().push(tree::place(reader.file, key.referenced));
            }
            reader.note(fault);
            Fault { noted: true, passed: true, ..Fault::new(String::new()) }
        })
    }
}

/// What [`At`](super::super::field::At) reads: file, line, column, value.
pub(super) struct Placed<'de> {
    reader: Reader<'de>,
    next: u8,
}

impl<'de> Placed<'de> {
    pub(super) fn new(reader: Reader<'de>) -> Self {
        Self { reader, next: 0 }
    }
}

impl<'de> SeqAccess<'de> for Placed<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let place = self.reader.place();
        let step = self.next;
        self.next = step.saturating_add(1);
        match step {
            0 => seed.deserialize(place.file.into_deserializer()).map(Some),
            1 => seed.deserialize(place.line.into_deserializer()).map(Some),
            2 => seed.deserialize(place.column.into_deserializer()).map(Some),
            3 => seed.deserialize(self.reader).map(Some),
            _ => Ok(None),
        }
    }
}
