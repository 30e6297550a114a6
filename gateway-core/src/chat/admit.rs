//! Admission of a request that was read: what is reserved for it, and the edits that hold it to that.
//!
//! Never changes a byte beyond the model's name, the output limits and `stream_options.include_usage`; never leaves
//! an output limit that the provider does not read.

use std::fmt::Write as _;
use std::ops::Range;

use super::fields::StreamOptions;
use super::{ChatRequest, OutputLimitField};
use crate::denial::{Code, Denial};
use crate::edits::splice;
use crate::gate::{BodyEdit, BodyEdits, Cost};
use crate::price::{ModelCost, PriceError};

/// With `reserve: estimate`, this part of the output limit is reserved.
const ESTIMATED_PART: u64 = 4;

/// On which terms a request is admitted.
#[derive(Clone, Copy, Debug)]
pub struct AdmitTerms<'a> {
    /// Price of the model that was decided.
    pub cost: &'a ModelCost,
    /// The provider's name for that model.
    pub upstream_model: &'a str,
    /// Greatest output in tokens per choice: larger limits are clamped. At least 1.
    pub output_cap: u64,
    /// Greatest prompt in tokens, on the estimate.
    pub prompt_cap: u64,
    /// Greatest `n`.
    pub choices_cap: u64,
    /// Reserve the estimate of the input and a quarter of the output limit, not the worst case.
    pub reserve_estimate: bool,
    /// The field by which the provider bounds its output; the other one does not stay in the body.
    pub output_limit: OutputLimitField,
}

/// A request that may be sent, once its reservation is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// What is changed in the body.
    pub edits: BodyEdits,
    /// What is to be reserved.
    pub reserved: Cost,
    /// Tokens that the prompt likely has.
    pub input_estimate: u64,
    /// Most output tokens of one choice: what the edited body's one limit says.
    pub output_bound: u64,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// Whether the usage chunk is to be hidden, because the client did not ask for it.
    pub hide_usage: bool,
}

/// Edits in the making: fields that go in front of the root's first key, and the others.
#[derive(Default)]
pub(super) struct Splices {
    front: String,
    edits: Vec<BodyEdit>,
}

impl ChatRequest {
    /// Holds the request against its terms.
    ///
    /// # Errors
    /// `invalid_body` for too many choices, `prompt_too_large`, `unsupported_content`; `internal` for terms that no
    /// request can be held to (an output cap of 0, a price that overflows).
    pub fn admit(&self, terms: &AdmitTerms<'_>) -> Result<Admission, Denial> {
        if terms.output_cap == 0 {
            return Err(Denial::new(Code::Internal).detail("The plan's output cap is 0."));
        }
        if self.n > terms.choices_cap {
            let detail = format!("This plan allows {} at most.", terms.choices_cap);
            return Err(Denial::new(Code::InvalidBody).param("n").detail(detail));
        }
        let input_estimate = terms.cost.input_estimate(&self.input).map_err(unpriced)?;
        if input_estimate > terms.prompt_cap {
            let detail = format!("It has about {input_estimate} tokens; {} are allowed.", terms.prompt_cap);
            return Err(Denial::new(Code::PromptTooLarge).param("messages").detail(detail));
        }
        let output_bound = self.output_bound(terms.output_cap);
        Ok(Admission {
            edits: self.edits(terms),
            reserved: self.reserved(terms, output_bound).map_err(unpriced)?,
            input_estimate,
            output_bound,
            stream: self.stream,
            hide_usage: self.stream && !self.asked_usage,
        })
    }

    fn reserved(&self, terms: &AdmitTerms<'_>, output_bound: u64) -> Result<Cost, PriceError> {
        let each = if terms.reserve_estimate { output_bound.div_ceil(ESTIMATED_PART) } else { output_bound };
        let output = each.checked_mul(self.n).ok_or(PriceError::Overflow)?;
        if terms.reserve_estimate {
            terms.cost.estimate(&self.input, output)
        } else {
            terms.cost.worst_case(&self.input, output)
        }
    }

    fn edits(&self, terms: &AdmitTerms<'_>) -> BodyEdits {
        let mut splices = Splices::default();
        self.set_model(terms.upstream_model, &mut splices);
        self.limit_output(terms, &mut splices);
        if self.stream {
            self.include_usage(&mut splices);
        }
        splices.finish(self.places.body_bytes, self.places.open)
    }

    fn set_model(&self, upstream_model: &str, splices: &mut Splices) {
        let value = serde_json::Value::from(upstream_model).to_string();
        match (&self.model, &self.places.model) {
            (Some(model), _) if model.as_str() == upstream_model => {}
            (_, Some(place)) => splices.replace(place, value),
            (_, None) => splices.insert("model", &value),
        }
    }

    fn include_usage(&self, splices: &mut Splices) {
        match &self.places.stream_options {
            StreamOptions::Absent => splices.insert("stream_options", r#"{"include_usage":true}"#),
            StreamOptions::Null(place) => splices.replace(place, r#"{"include_usage":true}"#),
            StreamOptions::Without { open, empty } => {
                let key = if *empty { r#""include_usage":true"# } else { r#""include_usage":true,"# };
                splices.edits.push(splice(*open, 0, key));
            }
            StreamOptions::With { asked: false, place } => splices.replace(place, "true"),
            StreamOptions::With { asked: true, .. } => {}
        }
    }
}

impl Splices {
    pub(super) fn replace(&mut self, place: &Range<usize>, value: impl Into<Vec<u8>>) {
        self.edits.push(splice(place.start, place.len(), value));
    }

    /// The root always has a key of its own behind it: `messages`.
    pub(super) fn insert(&mut self, field: &str, value: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.front, r#""{field}":{value},"#);
    }

    fn finish(mut self, body_bytes: usize, open: usize) -> BodyEdits {
        if !self.front.is_empty() {
            self.edits.push(splice(open, 0, self.front));
        }
        // What goes in front of the first key stands before that key's own removal.
        self.edits.sort_unstable_by_key(|edit| (edit.offset, edit.remove));
        BodyEdits { body_bytes: body_bytes as u64, edits: self.edits }
    }
}

fn unpriced(error: PriceError) -> Denial {
    match error {
        PriceError::Media => Denial::new(Code::UnsupportedContent).param("messages").detail("It takes text only."),
        PriceError::Overflow => Denial::new(Code::Internal).detail("The price of the request overflows."),
    }
}
