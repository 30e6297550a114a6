//! Vectors worked by hand, and the table of outcomes.

use super::*;
use crate::gate::{Outcome, Settlement};

/// 0.15 $ / 0.075 $ / 0.60 $ per million tokens; GPU class of weight 2.5.
const SMALL: Prices = Prices {
    gpu_ms_per_1k_input: 20,
    gpu_ms_per_1k_output: 800,
    gpu_ms_fixed: 3,
    gpu_weight_permille: 2500,
    micro_usd_per_1m_input: 150_000,
    micro_usd_per_1m_cached_input: 75_000,
    micro_usd_per_1m_output: 600_000,
    micro_usd_fixed: 2,
    min_bytes_per_token: 2,
    mean_bytes_per_token: 4,
    media_tokens: Some(1000),
};

fn model(prices: Prices) -> ModelCost {
    ModelCost::new(prices).unwrap()
}

fn cost(tokens: u64, gpu_ms: u64, micro_usd: u64) -> Cost {
    Cost { tokens, gpu_ms, micro_usd, requests: 1 }
}

fn usage(input: u64, cached_input: u64, output: u64) -> Usage {
    Usage { input, cached_input, output, reasoning: 0 }
}

#[test]
fn usage_is_priced_by_hand() {
    for (used, want) in [
        // 1000*20/1000 + 500*800/1000 + 3 = 423, times 2.5 = 1057.5; 150 + 300 + 2 = 452 µ$
        (usage(1000, 0, 500), cost(1500, 1058, 452)),
        // half of the input cached: 75 + 37.5 + 300 + 2 = 414.5
        (usage(1000, 500, 500), cost(1500, 1058, 415)),
        // more cached than input: 75 + 300 + 2
        (usage(1000, 2000, 500), cost(1500, 1058, 377)),
        // (0.02 + 3) * 2.5 = 7.55; 0.15 + 2: one rounding, not one per class
        (usage(1, 0, 0), cost(1, 8, 3)),
        // (0.02 + 0.8 + 3) * 2.5 = 9.55; 0.15 + 0.6 + 2 = 2.75
        (usage(1, 0, 1), cost(2, 10, 3)),
        // 3 * 2.5 = 7.5
        (usage(0, 0, 0), cost(0, 8, 2)),
        // 20_000_000 + 800_000_000 + 3, times 2.5; 150_000 * 10^3 + 600_000 * 10^3 + 2
        (usage(1_000_000_000, 0, 1_000_000_000), cost(2_000_000_000, 2_050_000_008, 750_000_002)),
    ] {
        assert_eq!(model(SMALL).of_usage(&used), want, "{used:?}");
    }
    assert_eq!(model(SMALL).fixed(), cost(0, 8, 2));
}

#[test]
fn prices_of_a_fraction_of_a_micro_dollar_add_up() {
    // 0.02 $ per million: a 50-token prompt is exactly one µ$
    let cheap = Prices { micro_usd_per_1m_input: 20_000, micro_usd_fixed: 0, ..SMALL };
    assert_eq!(model(cheap).of_usage(&usage(50, 0, 0)).micro_usd, 1);
    assert_eq!(model(cheap).of_usage(&usage(51, 0, 0)).micro_usd, 2);
    assert_eq!(model(cheap).of_usage(&usage(50_000_000, 0, 0)).micro_usd, 1_000_000);
}

#[test]
fn the_worst_case_bounds_the_input_by_its_bytes() {
    let input = InputSize { body_bytes: 1001, text_bytes: 801, messages: 3, media_parts: 2 };
    let model = model(SMALL);
    // 501 + 16 + 2000; 201 + 12 + 3 + 2000
    assert_eq!(model.worst_case_input(&input), Ok(2517));
    assert_eq!(model.input_estimate(&input), Ok(2216));
    // (2517*20/1000 + 100*800/1000 + 3) * 2.5 = 333.35; 377.55 + 60 + 2
    assert_eq!(model.worst_case(&input, 100), Ok(cost(2617, 334, 440)));
    // (44.32 + 80 + 3) * 2.5 = 318.3; 332.4 + 60 + 2
    assert_eq!(model.estimate(&input, 100), Ok(cost(2316, 319, 395)));
}

#[test]
fn the_worst_case_takes_the_dearer_input_price() {
    let dear_cache = model(Prices { micro_usd_per_1m_cached_input: 1_000_000, ..SMALL });
    let input = InputSize { body_bytes: 168, ..InputSize::default() };
    // 84 + 16 tokens at 1 µ$, and 2
    assert_eq!(dear_cache.worst_case(&input, 0).unwrap().micro_usd, 102);
}

#[test]
fn media_is_refused_without_a_price_and_overflow_always() {
    let input = InputSize { body_bytes: 10, text_bytes: 10, messages: 1, media_parts: 1 };
    let text_only = model(Prices { media_tokens: None, ..SMALL });
    assert_eq!(text_only.worst_case(&input, 1), Err(PriceError::Media));
    assert_eq!(text_only.estimate(&input, 1), Err(PriceError::Media));
    assert!(text_only.worst_case(&InputSize { media_parts: 0, ..input }, 1).is_ok());

    let model = model(SMALL);
    for huge in [
        InputSize { body_bytes: u64::MAX, ..input },
        InputSize { text_bytes: u64::MAX, messages: u64::MAX, ..input },
        InputSize { media_parts: u64::MAX, ..input },
    ] {
        assert!(model.worst_case(&huge, u64::MAX).is_err() && model.estimate(&huge, u64::MAX).is_err(), "{huge:?}");
    }
    assert_eq!(model.worst_case(&input, u64::MAX), Err(PriceError::Overflow));
}

#[test]
fn charging_saturates_upward() {
    let dear = model(Prices { gpu_ms_per_1k_output: u64::MAX, micro_usd_per_1m_output: u64::MAX, ..SMALL });
    let all = usage(u64::MAX, u64::MAX, u64::MAX);
    assert_eq!(dear.of_usage(&all), cost(u64::MAX, u64::MAX, u64::MAX));
    let heavy = model(Prices { gpu_ms_fixed: u64::MAX, gpu_weight_permille: u64::MAX, ..SMALL });
    assert_eq!(heavy.fixed().gpu_ms, u64::MAX);
    assert_eq!(heavy.worst_case(&InputSize::default(), 0), Err(PriceError::Overflow));
}

#[test]
fn a_row_of_the_price_book_is_checked() {
    for (prices, want) in [
        (Prices { gpu_weight_permille: 0, ..SMALL }, PricesError::Weight),
        (Prices { min_bytes_per_token: 0, ..SMALL }, PricesError::MinBytes),
        (Prices { mean_bytes_per_token: 1, ..SMALL }, PricesError::MeanBytes),
    ] {
        assert_eq!(ModelCost::new(prices), Err(want));
    }
    assert_eq!(model(SMALL).prices(), &SMALL);
}

#[test]
fn every_outcome_has_its_charge() {
    let terms = Terms { cost: model(SMALL), reserved: cost(5000, 10_000, 3000), input_estimate: 1000 };
    let said = Some(usage(900, 0, 500));
    let from_said = (terms.cost.of_usage(&usage(900, 0, 500)), false);
    let from_seen = |output| (terms.cost.of_usage(&usage(1000, 0, output)), true);
    let reservation = (terms.reserved, true);
    let nothing = (Cost::default(), false);
    let fixed = (cost(0, 8, 2), false);
    let zero = Some(Usage::default());
    for (outcome, usage, output_seen, want) in [
        (Outcome::NotSent as i32, None, 0, nothing),
        (Outcome::NotSent as i32, said, 70, nothing),
        (Outcome::Answered as i32, said, 70, from_said),
        (Outcome::Answered as i32, None, 70, from_seen(70)),
        (Outcome::Answered as i32, zero, 70, from_seen(70)),
        (Outcome::Answered as i32, None, 0, reservation),
        (Outcome::Answered as i32, zero, 0, reservation),
        (Outcome::HungUp as i32, said, 70, from_said),
        (Outcome::HungUp as i32, None, 70, from_seen(70)),
        (Outcome::HungUp as i32, None, 9000, from_seen(9000)),
        (Outcome::HungUp as i32, None, 0, reservation),
        (Outcome::Refused as i32, None, 70, fixed),
        (Outcome::Refused as i32, said, 0, from_said),
        (Outcome::Failed as i32, said, 0, from_said),
        (Outcome::Failed as i32, None, 0, from_seen(0)),
        (Outcome::Failed as i32, None, 70, from_seen(70)),
        (Outcome::Unspecified as i32, None, 70, from_seen(70)),
        (99, None, 70, from_seen(70)),
    ] {
        let settlement = Settlement { outcome, usage, output_seen, ..Settlement::default() };
        let got = charge(&terms, &settlement);
        assert_eq!((got.cost, got.estimated), want, "{settlement:?}");
    }
}

#[test]
fn the_charged_tokens_are_named() {
    let terms = Terms { cost: model(SMALL), reserved: cost(5000, 10_000, 3000), input_estimate: 1000 };
    let of = |settlement: Settlement| charge(&terms, &settlement).usage;
    let answered = Settlement { outcome: Outcome::Answered as i32, ..Settlement::default() };
    assert_eq!(of(answered.clone()), usage(1000, 0, 4000));
    assert_eq!(of(Settlement { output_seen: 7, ..answered.clone() }), usage(1000, 0, 7));
    assert_eq!(of(Settlement { usage: Some(usage(10, 99, 5)), ..answered }), usage(10, 10, 5));
}
