//! What a request that ended is charged: the upstream's word where there is one, what was seen where there is none, and
//! nothing only where nothing was sent.

use super::ModelCost;
use crate::gate::{Cost, Outcome, Settlement, Usage};

/// What was agreed when the request was admitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Price book row of the model that was decided.
    pub cost: ModelCost,
    /// What was reserved.
    pub reserved: Cost,
    /// Input tokens that the prompt likely has.
    pub input_estimate: u64,
}

/// What a request is charged; it may exceed the reservation, and the rest becomes debt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Charge {
    /// The amount.
    pub cost: Cost,
    /// The tokens behind it; where the whole reservation is charged, the reserved ones.
    pub usage: Usage,
    /// Whether tokens were counted or taken from the reservation because the upstream did not say.
    pub estimated: bool,
}

/// What a charge goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Nothing: nothing was sent.
    NotSent,
    /// The upstream's word.
    Told(Usage),
    /// The fixed part alone: the upstream refused.
    Refused,
    /// What was reserved: the upstream took it, and nobody saw what it cost.
    Reservation,
    /// The estimated input, and so many output tokens seen.
    Seen(u64),
}

impl Basis {
    /// Of a settled request. An outcome that is missing or unknown counts as sent and never answered.
    #[must_use]
    pub fn of(settlement: &Settlement) -> Self {
        let outcome = settlement.outcome();
        if outcome == Outcome::NotSent {
            return Self::NotSent;
        }
        // No prompt has zero tokens: a usage without any is an upstream that did not say.
        if let Some(usage) = settlement.usage.filter(|usage| usage.input > 0 || usage.output > 0) {
            return Self::Told(usage);
        }
        match outcome {
            Outcome::Refused => Self::Refused,
            Outcome::Answered | Outcome::HungUp if settlement.output_seen == 0 => Self::Reservation,
            _ => Self::Seen(settlement.output_seen),
        }
    }
}

/// The charge for a settled request.
#[must_use]
pub fn charge(terms: &Terms, settlement: &Settlement) -> Charge {
    match Basis::of(settlement) {
        Basis::NotSent => Charge { cost: Cost::default(), usage: Usage::default(), estimated: false },
        Basis::Told(usage) => {
            let usage = Usage { cached_input: usage.cached_input.min(usage.input), ..usage };
            Charge { cost: terms.cost.of_usage(&usage), usage, estimated: false }
        }
        Basis::Refused => Charge { cost: terms.cost.fixed(), usage: Usage::default(), estimated: false },
        Basis::Reservation => reservation(terms),
        Basis::Seen(output) => seen(terms, output),
    }
}

fn seen(terms: &Terms, output: u64) -> Charge {
    let usage = Usage { input: terms.input_estimate, output, ..Usage::default() };
    Charge { cost: terms.cost.of_usage(&usage), usage, estimated: true }
}

fn reservation(terms: &Terms) -> Charge {
    let input = terms.input_estimate.min(terms.reserved.tokens);
    let output = terms.reserved.tokens.saturating_sub(input);
    Charge { cost: terms.reserved, usage: Usage { input, output, ..Usage::default() }, estimated: true }
}
