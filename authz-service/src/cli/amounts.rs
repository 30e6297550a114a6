//! Amounts as people read them: exact, made from integers alone.

/// Millionths of a US dollar as dollars, all six digits: `$0.001234`.
pub(super) fn dollars(micro_usd: u64) -> String {
    format!("${}", fixed(micro_usd, 6))
}

/// GPU-milliseconds as GPU-seconds, all three digits: `1.250`.
pub(super) fn gpu_seconds(gpu_ms: u64) -> String {
    fixed(gpu_ms, 3)
}

/// An amount of a limit, in the unit that it counts.
pub(super) fn counted(counts: &str, amount: u64) -> String {
    match counts {
        "gpu_ms" => format!("{} GPU-s", gpu_seconds(amount)),
        "micro_usd" => dollars(amount),
        unit => format!("{amount} {unit}"),
    }
}

/// `amount` over ten to the power of `digits`, without rounding.
fn fixed(amount: u64, digits: usize) -> String {
    let text = format!("{amount:0width$}", width = digits.saturating_add(1));
    let (whole, fraction) = text.split_at(text.len().saturating_sub(digits));
    format!("{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_to_the_millionth() {
        assert_eq!(dollars(0), "$0.000000");
        assert_eq!(dollars(1_234), "$0.001234");
        assert_eq!(dollars(12_000_001), "$12.000001");
        assert_eq!(dollars(u64::MAX), "$18446744073709.551615");
    }

    #[test]
    fn gpu_time_is_exact_to_the_millisecond() {
        assert_eq!(gpu_seconds(1_250), "1.250");
        assert_eq!(counted("gpu_ms", 7), "0.007 GPU-s");
        assert_eq!(counted("tokens", 7), "7 tokens");
        assert_eq!(counted("micro_usd", 7), "$0.000007");
    }
}
