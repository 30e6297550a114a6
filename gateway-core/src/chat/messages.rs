//! `messages`: how many, how much text, how many images, sounds and files. Never looks at what the text says.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::scan::{Kind, Scan, Twins, Value};
use super::text::{Text, shown};
use crate::denial::Code;

/// Depths below the root's 1: the array, a message, its parts, a part.
const MESSAGE: u8 = 3;
const PART: u8 = 5;

/// The array: at least one message.
pub(super) struct Messages<'s, 'de> {
    pub(super) scan: &'s mut Scan<'de>,
}

struct Message<'s, 'de>(&'s mut Scan<'de>);

/// A string, null, or an array of parts.
struct Content<'s, 'de>(&'s mut Scan<'de>);

struct Part<'s, 'de>(&'s mut Scan<'de>);

fn value<'s, 'de>(scan: &'s mut Scan<'de>, holder: u8, text: bool) -> Value<'s, 'de> {
    Value { scan, depth: holder.saturating_add(1), text, twins: Twins::AnyCase }
}

/// Whether a server that ignores case would read another key in this one.
fn misspelled(key: &str, names: &[&str]) -> bool {
    names.iter().any(|name| *name != key && name.eq_ignore_ascii_case(key))
}

fn is_media(name: &str) -> bool {
    matches!(name, "image_url" | "input_audio" | "file")
}

impl<'de> Visitor<'de> for Messages<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Message(self.scan))?.is_some() {
            self.scan.size.messages = self.scan.size.messages.saturating_add(1);
        }
        if self.scan.size.messages == 0 {
            return Err(self.scan.refuse_field(Code::InvalidBody, "At least one message is required."));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Message<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let start = self.0.open();
        while let Some(key) = map.next_key_seed(Text)? {
            if misspelled(&key, &["content", "audio"]) {
                return Err(self.0.refuse_field(Code::InvalidBody, format!("A message has no `{}`.", shown(&key))));
            }
            match key.as_ref() {
                "content" => map.next_value_seed(Content(self.0))?,
                // An earlier answer's sound, by its id: read by the model again.
                "audio" => {
                    if map.next_value_seed(value(self.0, MESSAGE, false))? != Kind::Null {
                        self.0.count_media();
                    }
                }
                // Part of the frame that every message is counted with.
                "role" => map.next_value_seed(value(self.0, MESSAGE, false)).map(|_| ())?,
                _ => map.next_value_seed(value(self.0, MESSAGE, true)).map(|_| ())?,
            }
            self.0.key(key);
        }
        self.0.close(start, Twins::AnyCase)
    }
}

impl<'de> Visitor<'de> for Content<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, null or an array of parts")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.count_text(text.len());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Part(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> Visitor<'de> for Part<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a content part")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut kind, mut media) = (None, false);
        let start = self.0.open();
        while let Some(key) = map.next_key_seed(Text)? {
            if misspelled(&key, &["type", "image_url", "input_audio", "file"]) {
                return Err(self.0.refuse_field(Code::InvalidBody, format!("A part has no `{}`.", shown(&key))));
            }
            if key == "type" {
                kind = Some(map.next_value_seed(Text)?);
            } else {
                // Some servers go by the key and not by the type.
                media |= is_media(&key);
                map.next_value_seed(value(self.0, PART, !is_media(&key)))?;
            }
            self.0.key(key);
        }
        self.0.close(start, Twins::AnyCase)?;
        match kind.as_deref() {
            Some("text" | "refusal") => {}
            Some(kind) if is_media(kind) => media = true,
            Some(kind) => {
                let detail = format!("Parts of type `{}` are not known.", shown(kind));
                return Err(self.0.refuse_field(Code::UnsupportedContent, detail));
            }
            None => return Err(self.0.refuse_field(Code::InvalidBody, "A part needs a `type`.")),
        }
        if media {
            self.0.count_media();
        }
        Ok(())
    }
}

macro_rules! seed {
    ($name:ident, $method:ident) => {
        impl<'de> DeserializeSeed<'de> for $name<'_, 'de> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.$method(self)
            }
        }
    };
}
seed!(Messages, deserialize_seq);
seed!(Message, deserialize_map);
seed!(Content, deserialize_any);
seed!(Part, deserialize_map);
