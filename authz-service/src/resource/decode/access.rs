//! Lists, mappings and placed values as serde walks them. What is broken is noted where it stands and passed over.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer as _, MapAccess, SeqAccess};
use serde_saphyr::Spanned;

use super::super::problem::Place;
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
pub(super) struct Fields<'de, 'm> {
    reader: Reader<'de>,
    entries: std::slice::Iter<'de, Entry>,
    known: Option<Known<'m>>,
    current: Option<&'de Entry>,
}

/// The names of a mapping's fields, and what misspelled keys are read as.
pub(super) type Known<'m> = (&'static [&'static str], &'m [(Place, &'static str)]);

impl<'de, 'm> Fields<'de, 'm> {
    pub(super) fn new(reader: Reader<'de>, entries: &'de [Entry], known: Option<Known<'m>>) -> Self {
        Self { reader, entries: entries.iter(), known, current: None }
    }

    /// What a key is read as; `None`: it is passed over.
    fn name(&self, key: &'de Spanned<String>) -> Option<&'de str> {
        let place = tree::place(self.reader.file, key.referenced);
        if self.reader.bad.borrow().contains(&place) {
            return None;
        }
        match self.known {
            Some((known, _)) if known.contains(&key.value.as_str()) => Some(&key.value),
            Some((_, meant)) => meant.iter().find(|(misspelled, _)| *misspelled == place).map(|(_, name)| *name),
            None => Some(&key.value),
        }
    }
}

impl<'de> MapAccess<'de> for Fields<'de, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        while let Some(entry) = self.entries.next() {
            if let Some(name) = self.name(&entry.0) {
                self.current = Some(entry);
                let name: StrDeserializer<'_, Fault> = name.into_deserializer();
                return seed.deserialize(name).map(Some);
            }
        }
        Ok(None)
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
