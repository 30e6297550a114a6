//! The two names of the output limit: where they stand in a body, and the edits that leave the provider's alone.
//!
//! Never leaves a body whose bound depends on which of the two names a server reads.

use std::ops::Range;

use super::admit::Splices;
use super::{AdmitTerms, ChatRequest, OutputLimitField, fields};
use crate::denial::{Code, Denial};

/// What JSON calls white space (RFC 8259 §2).
const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Where one of the root's fields stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its key, between the quotes, as it is spelled.
    name: Range<usize>,
    value: Range<usize>,
    /// Key, value and one comma: the root stays an object without it.
    whole: Range<usize>,
}

impl Member {
    /// Of the field whose value was borrowed from the body; the key holds no quotes, and the root has another field.
    pub(super) fn of(raw: &str, body: &str) -> Result<Self, Denial> {
        let value = fields::place(raw, body)?;
        Self::around(value, body).ok_or(Denial::new(Code::Internal))
    }

    fn around(value: Range<usize>, body: &str) -> Option<Self> {
        let before = body.get(..value.start)?.trim_end_matches(WHITE).strip_suffix(':')?;
        let quoted = before.trim_end_matches(WHITE).strip_suffix('"')?;
        let open = quoted.rfind('"')?;
        let name = open.checked_add(1)?..quoted.len();
        let whole = match body.get(..open)?.trim_end_matches(WHITE).strip_suffix(',') {
            Some(front) => front.len()..value.end,
            None => {
                let rest = body.get(value.end..)?.trim_start_matches(WHITE).strip_prefix(',')?;
                open..body.len().checked_sub(rest.len())?
            }
        };
        Some(Self { name, value, whole })
    }
}

impl ChatRequest {
    /// Most output tokens of one choice: the smallest that anybody named.
    pub(super) fn output_bound(&self, cap: u64) -> u64 {
        [self.max_tokens, self.max_completion_tokens].into_iter().flatten().fold(cap, u64::min)
    }

    /// Leaves exactly one limit in the body: the bound, in the field that the provider reads.
    pub(super) fn limit_output(&self, terms: &AdmitTerms<'_>, splices: &mut Splices) {
        let old = (self.max_tokens, &self.places.max_tokens);
        let new = (self.max_completion_tokens, &self.places.max_completion_tokens);
        let (read, unread) = match terms.output_limit {
            OutputLimitField::MaxTokens => (old, new),
            OutputLimitField::MaxCompletionTokens => (new, old),
        };
        let (field, bound) = (terms.output_limit.as_str(), self.output_bound(terms.output_cap));
        let (said, member) = match (read, unread) {
            ((said, Some(member)), (_, unread)) => {
                if let Some(unread) = unread {
                    splices.replace(&unread.whole, "");
                }
                (said, member)
            }
            ((_, None), (said, Some(member))) => {
                splices.replace(&member.name, field);
                (said, member)
            }
            ((_, None), (_, None)) => return splices.insert(field, &bound.to_string()),
        };
        if said != Some(bound) {
            splices.replace(&member.value, bound.to_string());
        }
    }
}
