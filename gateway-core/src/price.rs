//! What a request costs: one row of the price book, applied to what a request may use at most, will likely use, or did
//! use. Integers only; each amount is rounded up once per request, never per token class.
//!
//! Never forgives: what cannot be computed is refused before sending and charged at the greatest amount after it.
#![deny(clippy::arithmetic_side_effects)]

mod charge;
#[cfg(test)]
mod tests;

pub use charge::{Basis, Charge, Terms, charge};

use crate::gate::{Cost, Usage};

/// Tokens that a chat template adds around any prompt, in the worst case.
const WORST_CASE_EXTRA: u64 = 16;
/// Tokens around one message and around the whole prompt, as OpenAI counts them ("How to count tokens with tiktoken").
const ESTIMATE_PER_MESSAGE: u64 = 4;
/// See [`ESTIMATE_PER_MESSAGE`].
const ESTIMATE_EXTRA: u64 = 3;
/// A thousandth twice: GPU time is per 1,000 tokens, the weight in permille.
const GPU_SCALE: u128 = 1_000_000;
/// Money is per 1,000,000 tokens.
const MONEY_SCALE: u128 = 1_000_000;

/// The numbers of one row of the price book, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    /// GPU-milliseconds per 1,000 input tokens.
    pub gpu_ms_per_1k_input: u64,
    /// GPU-milliseconds per 1,000 output tokens.
    pub gpu_ms_per_1k_output: u64,
    /// GPU-milliseconds per request.
    pub gpu_ms_fixed: u64,
    /// Weight of the GPU class, 1000 = 1.0: multiplies GPU-milliseconds. At least 1.
    pub gpu_weight_permille: u64,
    /// Millionths of a US dollar per 1,000,000 input tokens that were not cached.
    pub micro_usd_per_1m_input: u64,
    /// Millionths of a US dollar per 1,000,000 cached input tokens.
    pub micro_usd_per_1m_cached_input: u64,
    /// Millionths of a US dollar per 1,000,000 output tokens.
    pub micro_usd_per_1m_output: u64,
    /// Millionths of a US dollar per request.
    pub micro_usd_fixed: u64,
    /// No tokenizer makes more than one token of this many body bytes: the worst case. At least 1.
    pub min_bytes_per_token: u64,
    /// Bytes of text per token on average: estimates. At least `min_bytes_per_token`.
    pub mean_bytes_per_token: u64,
    /// Greatest number of tokens of one image, audio or file part; `None` refuses such parts.
    pub media_tokens: Option<u64>,
}

/// Why numbers are no row of the price book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricesError {
    /// A weight of zero would make GPU time free.
    #[error("`gpu_weight_permille` must be at least 1 (1000 is a weight of 1.0)")]
    Weight,
    /// Division by zero, and no token is shorter than a byte.
    #[error("`min_bytes_per_token` must be at least 1")]
    MinBytes,
    /// The mean lies below the minimum.
    #[error("`mean_bytes_per_token` must not be less than `min_bytes_per_token`")]
    MeanBytes,
}

/// One checked row of the price book: what one model costs on one GPU class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCost(Prices);

/// How large a prompt is, as far as its body says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputSize {
    /// Bytes of the whole body as the client sent it.
    pub body_bytes: u64,
    /// Bytes of text that the model reads.
    pub text_bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Image, audio and file parts.
    pub media_parts: u64,
}

/// Why a request has no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Image, audio or file parts for a model without `media_tokens`.
    #[error("the model takes text only")]
    Media,
    /// The amount does not fit 64 bits.
    #[error("the price of the request overflows")]
    Overflow,
}

/// Tokens of one request by class; `cached` is part of `input`.
#[derive(Clone, Copy, Default)]
struct Tokens {
    input: u64,
    cached: u64,
    output: u64,
}

impl ModelCost {
    /// Checks the numbers of a row.
    ///
    /// # Errors
    /// [`PricesError`] names the number.
    pub const fn new(prices: Prices) -> Result<Self, PricesError> {
        if prices.gpu_weight_permille == 0 {
            return Err(PricesError::Weight);
        }
        if prices.min_bytes_per_token == 0 {
            return Err(PricesError::MinBytes);
        }
        if prices.mean_bytes_per_token < prices.min_bytes_per_token {
            return Err(PricesError::MeanBytes);
        }
        Ok(Self(prices))
    }

    /// The numbers.
    #[must_use]
    pub const fn prices(&self) -> &Prices {
        &self.0
    }

    /// The most that a request can cost; `output_tokens` over all choices. Input counts at the dearer of its two prices.
    ///
    /// # Errors
    /// [`PriceError`]: the request must be refused.
    pub fn worst_case(&self, input: &InputSize, output_tokens: u64) -> Result<Cost, PriceError> {
        let input = self.worst_case_input(input)?;
        let cached = if self.0.micro_usd_per_1m_cached_input > self.0.micro_usd_per_1m_input { input } else { 0 };
        self.exact(Tokens { input, cached, output: output_tokens })
    }

    /// What a request will likely cost, if it makes `output_tokens` over all choices.
    ///
    /// # Errors
    /// [`PriceError`]: the request must be refused.
    pub fn estimate(&self, input: &InputSize, output_tokens: u64) -> Result<Cost, PriceError> {
        let input = self.input_estimate(input)?;
        self.exact(Tokens { input, cached: 0, output: output_tokens })
    }

    /// How many input tokens a prompt has at most.
    ///
    /// # Errors
    /// [`PriceError`]: the request must be refused.
    pub fn worst_case_input(&self, input: &InputSize) -> Result<u64, PriceError> {
        let text = input.body_bytes.div_ceil(self.0.min_bytes_per_token);
        let whole = text.checked_add(WORST_CASE_EXTRA).and_then(|n| n.checked_add(self.media(input)?));
        self.checked_media(input, whole)
    }

    /// How many input tokens a prompt likely has.
    ///
    /// # Errors
    /// [`PriceError`]: the request must be refused.
    pub fn input_estimate(&self, input: &InputSize) -> Result<u64, PriceError> {
        let text = input.text_bytes.div_ceil(self.0.mean_bytes_per_token);
        let frame = input.messages.checked_mul(ESTIMATE_PER_MESSAGE).and_then(|n| n.checked_add(ESTIMATE_EXTRA));
        let whole = frame.and_then(|n| n.checked_add(text)?.checked_add(self.media(input)?));
        self.checked_media(input, whole)
    }

    /// What a request that used this much cost. Saturates upward; cached tokens beyond the input are not believed.
    #[must_use]
    pub fn of_usage(&self, usage: &Usage) -> Cost {
        let tokens = Tokens { input: usage.input, cached: usage.cached_input, output: usage.output };
        Cost {
            tokens: usage.input.saturating_add(usage.output),
            gpu_ms: self.gpu_ms(tokens).unwrap_or(u64::MAX),
            micro_usd: self.micro_usd(tokens).unwrap_or(u64::MAX),
            requests: 1,
        }
    }

    /// What a request costs that used nothing.
    #[must_use]
    pub fn fixed(&self) -> Cost {
        self.of_usage(&Usage::default())
    }

    fn exact(&self, tokens: Tokens) -> Result<Cost, PriceError> {
        let whole = || {
            Some(Cost {
                tokens: tokens.input.checked_add(tokens.output)?,
                gpu_ms: self.gpu_ms(tokens)?,
                micro_usd: self.micro_usd(tokens)?,
                requests: 1,
            })
        };
        whole().ok_or(PriceError::Overflow)
    }

    /// Weighted GPU-milliseconds, rounded up; `None` on overflow.
    fn gpu_ms(&self, tokens: Tokens) -> Option<u64> {
        let input = product(tokens.input, self.0.gpu_ms_per_1k_input);
        let output = product(tokens.output, self.0.gpu_ms_per_1k_output);
        let thousandths = input.checked_add(output)?.checked_add(product(self.0.gpu_ms_fixed, 1000))?;
        scaled(thousandths.checked_mul(u128::from(self.0.gpu_weight_permille))?, GPU_SCALE)
    }

    /// Millionths of a US dollar, rounded up; `None` on overflow.
    fn micro_usd(&self, tokens: Tokens) -> Option<u64> {
        let cached = tokens.cached.min(tokens.input);
        let fresh = product(tokens.input.saturating_sub(cached), self.0.micro_usd_per_1m_input);
        let cached = product(cached, self.0.micro_usd_per_1m_cached_input);
        let output = product(tokens.output, self.0.micro_usd_per_1m_output);
        let fixed = product(self.0.micro_usd_fixed, 1_000_000);
        scaled(fresh.checked_add(cached)?.checked_add(output)?.checked_add(fixed)?, MONEY_SCALE)
    }

    /// Tokens of the media parts at most; `None` on overflow and where such parts are refused.
    fn media(&self, input: &InputSize) -> Option<u64> {
        if input.media_parts == 0 { Some(0) } else { self.0.media_tokens?.checked_mul(input.media_parts) }
    }

    const fn checked_media(&self, input: &InputSize, tokens: Option<u64>) -> Result<u64, PriceError> {
        match tokens {
            Some(tokens) => Ok(tokens),
            None if input.media_parts > 0 && self.0.media_tokens.is_none() => Err(PriceError::Media),
            None => Err(PriceError::Overflow),
        }
    }
}

/// Never overflows: two 64-bit factors fit 128 bits.
fn product(left: u64, right: u64) -> u128 {
    u128::from(left).saturating_mul(u128::from(right))
}

fn scaled(amount: u128, scale: u128) -> Option<u64> {
    u64::try_from(amount.div_ceil(scale)).ok()
}
