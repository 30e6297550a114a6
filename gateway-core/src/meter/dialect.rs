//! Where each dialect says what its answers cost: data, read by the scanner. A further dialect is a further table.

use crate::gate::Dialect;

/// One step of a path from the root of a JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The member of an object with this name.
    Key(&'static str),
    /// Every element of an array.
    Item,
}

/// A number of a usage object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Input tokens, cached ones included.
    Input,
    /// Input tokens that came from the provider's cache.
    CachedInput,
    /// Output tokens; reasoning may or may not be among them.
    Output,
    /// Output tokens spent on reasoning.
    Reasoning,
    /// Input and output together, reasoning always included.
    Total,
}

/// How many [`Slot`]s there are.
pub(super) const SLOTS: usize = 5;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The object that holds the counts; it counts as a whole once it is closed.
    Usage,
    /// One count.
    Count(Slot),
    /// The array of choices.
    Choices,
    /// One choice.
    Choice,
    /// Text that the model wrote, if it is a string.
    Content,
}

/// One path and what stands there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// From the root; at most [`MAX_PATH`] steps.
    pub(super) path: &'static [Step],
    /// What stands there.
    pub(super) meaning: Meaning,
}

/// The longest path.
pub(super) const MAX_PATH: usize = 8;

/// The fields of a dialect; `None` where nothing is metered.
pub(super) fn fields(dialect: Dialect) -> Option<&'static [Field]> {
    match dialect {
        Dialect::OpenaiChat => Some(OPENAI_CHAT),
        Dialect::Unspecified => None,
    }
}

use Meaning::{Choice, Choices, Content, Count, Usage};
use Step::{Item, Key};

const fn field(path: &'static [Step], meaning: Meaning) -> Field {
    Field { path, meaning }
}

/// OpenAI chat completions and what calls itself compatible: `message` in a JSON answer, `delta` in a stream.
/// `reasoning_content` is DeepSeek's and vLLM's, `reasoning` Groq's and OpenRouter's, `prompt_cache_hit_tokens`
/// DeepSeek's; `content` as an array is Mistral's, `function_call` the older form of tool calls.
const OPENAI_CHAT: &[Field] = &[
    field(&[Key("usage")], Usage),
    field(&[Key("usage"), Key("prompt_tokens")], Count(Slot::Input)),
    field(&[Key("usage"), Key("prompt_tokens_details"), Key("cached_tokens")], Count(Slot::CachedInput)),
    field(&[Key("usage"), Key("prompt_cache_hit_tokens")], Count(Slot::CachedInput)),
    field(&[Key("usage"), Key("completion_tokens")], Count(Slot::Output)),
    field(&[Key("usage"), Key("completion_tokens_details"), Key("reasoning_tokens")], Count(Slot::Reasoning)),
    field(&[Key("usage"), Key("total_tokens")], Count(Slot::Total)),
    field(&[Key("choices")], Choices),
    field(&[Key("choices"), Item], Choice),
    field(&[Key("choices"), Item, Key("text")], Content),
    field(&[Key("choices"), Item, Key("message"), Key("content")], Content),
    field(&[Key("choices"), Item, Key("message"), Key("content"), Item, Key("text")], Content),
    field(&[Key("choices"), Item, Key("message"), Key("reasoning_content")], Content),
    field(&[Key("choices"), Item, Key("message"), Key("reasoning")], Content),
    field(&[Key("choices"), Item, Key("message"), Key("refusal")], Content),
    field(&[Key("choices"), Item, Key("message"), Key("function_call"), Key("arguments")], Content),
    field(&[Key("choices"), Item, Key("message"), Key("tool_calls"), Item, Key("function"), Key("arguments")], Content),
    field(&[Key("choices"), Item, Key("delta"), Key("content")], Content),
    field(&[Key("choices"), Item, Key("delta"), Key("content"), Item, Key("text")], Content),
    field(&[Key("choices"), Item, Key("delta"), Key("reasoning_content")], Content),
    field(&[Key("choices"), Item, Key("delta"), Key("reasoning")], Content),
    field(&[Key("choices"), Item, Key("delta"), Key("refusal")], Content),
    field(&[Key("choices"), Item, Key("delta"), Key("function_call"), Key("arguments")], Content),
    field(&[Key("choices"), Item, Key("delta"), Key("tool_calls"), Item, Key("function"), Key("arguments")], Content),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_the_scanner() {
        for fields in [Dialect::OpenaiChat].into_iter().filter_map(fields) {
            assert!(fields.len() <= 32, "the scanner's sets have 32 bits");
            assert!(fields.iter().all(|field| (1..=MAX_PATH).contains(&field.path.len())));
        }
        assert!(fields(Dialect::Unspecified).is_none());
    }
}
