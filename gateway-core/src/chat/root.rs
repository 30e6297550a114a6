//! The root object: which fields there may be, and what is done with each.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::messages::Messages;
use super::scan::{Scan, Twins, Value};
use super::text::{Text, shown};
use crate::denial::{Code, Denial};

/// Reads the root object.
pub(super) struct Root<'s, 'de> {
    pub(super) scan: &'s mut Scan<'de>,
    pub(super) extra_fields: &'s BTreeSet<String>,
}

/// The values that decide something, as they stand in the body.
#[derive(Default)]
pub(super) struct RawFields<'de> {
    pub(super) model: Option<&'de str>,
    pub(super) stream: Option<&'de str>,
    pub(super) stream_options: Option<&'de str>,
    pub(super) max_tokens: Option<&'de str>,
    pub(super) max_completion_tokens: Option<&'de str>,
    pub(super) n: Option<&'de str>,
    pub(super) service_tier: Option<&'de str>,
    /// Whether there were any.
    pub(super) messages: bool,
    /// The fields beyond OpenAI's.
    pub(super) extra: Vec<String>,
}

/// What is done with a root field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Messages,
    Model,
    Stream,
    StreamOptions,
    MaxTokens,
    MaxCompletionTokens,
    N,
    ServiceTier,
    /// The model reads it, and the client chooses keys in it.
    Prompt,
    /// The client chooses keys in it.
    Free,
    /// The same, and some provider alone takes it.
    Extra,
    /// Checked as JSON.
    Plain,
}

/// OpenAI's "Create chat completion". Not listed: `web_search_options`, because each search costs money
/// that no token count shows; a provider may list it among its extra fields.
const FIELDS: &[(&str, Field)] = &[
    ("messages", Field::Messages),
    ("model", Field::Model),
    ("stream", Field::Stream),
    ("stream_options", Field::StreamOptions),
    ("max_tokens", Field::MaxTokens),
    ("max_completion_tokens", Field::MaxCompletionTokens),
    ("n", Field::N),
    ("service_tier", Field::ServiceTier),
    ("tools", Field::Prompt),
    ("functions", Field::Prompt),
    ("response_format", Field::Prompt),
    ("prediction", Field::Prompt),
    ("metadata", Field::Free),
    ("logit_bias", Field::Free),
    ("audio", Field::Plain),
    ("frequency_penalty", Field::Plain),
    ("function_call", Field::Plain),
    ("logprobs", Field::Plain),
    ("modalities", Field::Plain),
    ("parallel_tool_calls", Field::Plain),
    ("presence_penalty", Field::Plain),
    ("prompt_cache_key", Field::Plain),
    ("prompt_cache_retention", Field::Plain),
    ("reasoning_effort", Field::Plain),
    ("safety_identifier", Field::Plain),
    ("seed", Field::Plain),
    ("stop", Field::Plain),
    ("store", Field::Plain),
    ("temperature", Field::Plain),
    ("tool_choice", Field::Plain),
    ("top_logprobs", Field::Plain),
    ("top_p", Field::Plain),
    ("user", Field::Plain),
    ("verbosity", Field::Plain),
];

impl<'de> Root<'_, 'de> {
    /// What to do with a field; a field that is nearly a known one would be read by servers that ignore case.
    fn look_up(&self, key: &str) -> Result<Field, Denial> {
        let nearly = |name: &str| name.eq_ignore_ascii_case(key);
        if let Some((_, field)) = FIELDS.iter().find(|(name, _)| *name == key) {
            return Ok(*field);
        }
        let known = FIELDS.iter().map(|(name, _)| *name).find(|name| nearly(name));
        if known.is_none() && self.extra_fields.contains(key) {
            return Ok(Field::Extra);
        }
        match known.or_else(|| self.extra_fields.iter().map(String::as_str).find(|name| nearly(name))) {
            Some(name) => {
                Err(Denial::new(Code::InvalidBody).param(shown(key)).detail(format!("It is spelled `{name}`.")))
            }
            None => Err(Denial::new(Code::UnknownField).param(shown(key))),
        }
    }

    fn field<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
        fields: &mut RawFields<'de>,
    ) -> Result<(), A::Error> {
        let field = self.look_up(&key).map_err(|denial| self.scan.refuse(denial))?;
        if field == Field::Extra {
            fields.extra.push(key.clone().into_owned());
        }
        self.scan.field = Some(key.clone());
        self.scan.key(key);
        let slot = match field {
            Field::Messages => {
                fields.messages = true;
                return map.next_value_seed(Messages { scan: self.scan });
            }
            Field::Prompt | Field::Free | Field::Extra | Field::Plain => {
                let twins = if field == Field::Plain { Twins::AnyCase } else { Twins::Exact };
                let value = Value { scan: self.scan, depth: 2, text: field == Field::Prompt, twins };
                return map.next_value_seed(value).map(|_| ());
            }
            Field::Model => &mut fields.model,
            Field::Stream => &mut fields.stream,
            Field::StreamOptions => &mut fields.stream_options,
            Field::MaxTokens => &mut fields.max_tokens,
            Field::MaxCompletionTokens => &mut fields.max_completion_tokens,
            Field::N => &mut fields.n,
            Field::ServiceTier => &mut fields.service_tier,
        };
        *slot = Some(map.next_value::<&RawValue>()?.get());
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Root<'_, 'de> {
    type Value = RawFields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Root<'_, 'de> {
    type Value = RawFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = RawFields::default();
        let start = self.scan.open();
        while let Some(key) = map.next_key_seed(Text)? {
            self.field(key, &mut map, &mut fields)?;
        }
        self.scan.field = None;
        self.scan.close(start, Twins::AnyCase)?;
        Ok(fields)
    }
}
