//! How many tokens a leased request used, as the service will count them (`gateway_core::price::charge`): of all amounts the
//! only one that no price is needed for.

use gateway_core::gate::Settlement;
use gateway_core::price::Basis;

/// Input and output tokens that the settlement is charged for.
pub(super) fn tokens(settlement: &Settlement) -> u64 {
    let leased = settlement.leased.as_ref();
    match Basis::of(settlement) {
        Basis::NotSent | Basis::Refused => 0,
        Basis::Told(usage) => usage.input.saturating_add(usage.output),
        Basis::Reservation => leased.and_then(|leased| leased.reserved).map_or(0, |reserved| reserved.tokens),
        Basis::Seen(output) => leased.map_or(0, |leased| leased.input_estimate).saturating_add(output),
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::gate::{Cost, Leased, Usage};
    use gateway_core::price::{ModelCost, Prices, Terms, charge};

    use super::*;

    #[test]
    fn the_service_counts_the_same() {
        let cost = ModelCost::new(Prices {
            gpu_ms_per_1k_input: 1,
            gpu_ms_per_1k_output: 1,
            gpu_ms_fixed: 0,
            gpu_weight_permille: 1000,
            micro_usd_per_1m_input: 1,
            micro_usd_per_1m_cached_input: 1,
            micro_usd_per_1m_output: 1,
            micro_usd_fixed: 0,
            min_bytes_per_token: 1,
            mean_bytes_per_token: 4,
            media_tokens: None,
        });
        let reserved = Cost { tokens: 100, requests: 1, ..Cost::default() };
        let terms = Terms { cost: cost.unwrap(), reserved, input_estimate: 30 };
        let leased = Leased { reserved: Some(reserved), input_estimate: 30, ..Leased::default() };
        let usages = [None, Some((0, 0)), Some((7, 0)), Some((0, 9)), Some((7, 9)), Some((u64::MAX, 1))];
        for outcome in 0..=6 {
            for usage in usages {
                for output_seen in [0, 1, 500, u64::MAX] {
                    let usage = usage.map(|(input, output)| Usage { input, output, cached_input: 3, reasoning: 1 });
                    let leased = Some(leased.clone());
                    let settlement = Settlement { outcome, usage, output_seen, leased, ..Settlement::default() };
                    assert_eq!(tokens(&settlement), charge(&terms, &settlement).cost.tokens, "{settlement:?}");
                }
            }
        }
    }
}
