//! OpenAI chat completions requests: what one asks for, read once from the exact bytes that will be sent.
//!
//! Never re-serialises a body and never guesses: what two parsers could read differently (a key twice, by escape or by
//! case, trailing data, invalid UTF-8) is refused, and so is every root field that nobody listed.

mod admit;
mod fields;
mod limits;
mod messages;
mod root;
mod scan;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;
use std::ops::Range;

use serde::de::DeserializeSeed as _;

pub use admit::{Admission, AdmitTerms};
use fields::{LARGEST_LIMIT, LARGEST_N, StreamOptions};
use limits::Member;
use root::Root;
use scan::Scan;

use crate::denial::{Code, Denial};
use crate::name::ModelName;
use crate::price::InputSize;

/// The field by which a provider bounds the output of one choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputLimitField {
    /// `max_tokens`, which most OpenAI-compatible servers read.
    MaxTokens,
    /// `max_completion_tokens`, which OpenAI reads.
    MaxCompletionTokens,
}

/// A request that was read: its terms, and where in the body they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRequest {
    /// The model that the body names.
    pub model: Option<ModelName>,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// Whether the client itself asked for the usage chunk.
    pub asked_usage: bool,
    /// Choices, 1 to 128.
    pub n: u64,
    /// Output tokens per choice, 1 to 2^53.
    pub max_tokens: Option<u64>,
    /// The same, by its newer name.
    pub max_completion_tokens: Option<u64>,
    /// How large the prompt is.
    pub input: InputSize,
    /// Root fields beyond OpenAI's, in the body's order: each is one of those that [`parse`] was given.
    pub extra: Vec<String>,
    places: Places,
}

/// Byte ranges of the values that may be edited; a value that is `null` has its place too.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Places {
    body_bytes: usize,
    /// Right after the root's `{`.
    open: usize,
    model: Option<Range<usize>>,
    max_tokens: Option<Member>,
    max_completion_tokens: Option<Member>,
    stream_options: StreamOptions,
}

impl OutputLimitField {
    /// The field's name in the body.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

impl ChatRequest {
    /// Holds the extra root fields against those that the one provider, now known, takes.
    ///
    /// # Errors
    /// `unknown_field`, naming the first that it does not take.
    pub fn check_fields(&self, provider: &BTreeSet<String>) -> Result<(), Denial> {
        match self.extra.iter().find(|field| !provider.contains(*field)) {
            Some(field) => Err(Denial::new(Code::UnknownField).param(text::shown(field))),
            None => Ok(()),
        }
    }
}

/// Reads a whole body. `extra_fields` are the root fields that any provider takes beyond OpenAI's: which provider it
/// will be, the body's own model decides, so [`ChatRequest::check_fields`] follows.
///
/// # Errors
/// A denial of the body: `missing_body`, `invalid_json` (RFC 8259, and keys twice or depth over 64), `invalid_body`,
/// `unknown_field`, `unsupported_content`, `model_not_found`.
pub fn parse(body: &[u8], extra_fields: &BTreeSet<String>) -> Result<ChatRequest, Denial> {
    if body.trim_ascii().is_empty() {
        return Err(Denial::new(Code::MissingBody));
    }
    let text = std::str::from_utf8(body).map_err(|_| Denial::new(Code::InvalidJson).detail("It is not UTF-8."))?;
    let mut scan = Scan::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let root = Root { scan: &mut scan, extra_fields }.deserialize(&mut json);
    let raw = root.and_then(|raw| json.end().map(|()| raw)).map_err(|error| scan.denial(&error))?;
    if !raw.messages {
        return Err(Denial::new(Code::InvalidBody).param("messages").detail("The field is required."));
    }

    let stream = fields::boolean(raw.stream, "stream")?.unwrap_or(false);
    let stream_options = fields::stream_options(raw.stream_options, text)?;
    if !stream && stream_options.is_object() {
        return Err(Denial::new(Code::InvalidBody).param("stream_options").detail("It goes with `stream` only."));
    }
    fields::service_tier(raw.service_tier)?;
    let member = |raw: Option<&str>| raw.map(|raw| Member::of(raw, text)).transpose();
    Ok(ChatRequest {
        model: fields::model(raw.model)?,
        stream,
        asked_usage: stream_options.asks_usage(),
        n: fields::integer(raw.n, "n", LARGEST_N)?.unwrap_or(1),
        max_tokens: fields::integer(raw.max_tokens, "max_tokens", LARGEST_LIMIT)?,
        max_completion_tokens: fields::integer(raw.max_completion_tokens, "max_completion_tokens", LARGEST_LIMIT)?,
        input: InputSize { body_bytes: body.len() as u64, ..scan.size },
        extra: raw.extra,
        places: Places {
            body_bytes: body.len(),
            open: fields::after_brace(text)?,
            model: raw.model.map(|raw| fields::place(raw, text)).transpose()?,
            max_tokens: member(raw.max_tokens)?,
            max_completion_tokens: member(raw.max_completion_tokens)?,
            stream_options,
        },
    })
}
