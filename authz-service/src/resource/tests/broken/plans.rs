//! Plans that do not hold together.

use super::*;

#[test]
fn plans() {
    each_is_refused(&[
        (
            P,
            "amount: 100k",
            "amount: 1.5",
            &[
                "a/plans.yml:7:71: `1.5` is no count: write an integer, with k, M, G (thousands) or Ki, Mi, Gi (1024s) after it",
            ],
        ),
        (
            P,
            "  caps:",
            "  methods: [stepUp]\n  caps:",
            &["a/plans.yml:9:12: `methods` must hold one of `keys`, `tokens`, `certificates`"],
        ),
        (
            P,
            "  caps:",
            "  methods: [password]\n  caps:",
            &[
                "a/plans.yml:9:12: `methods` must hold one of `keys`, `tokens`, `certificates`",
                "a/plans.yml:9:13: unknown value `password`, known: `keys`, `tokens`, `certificates`, `stepUp`",
            ],
        ),
        (P, "amount: 100k", "amount: 0", &["a/plans.yml:7:71: `0` is out of range: at least 1"]),
        (
            P,
            "amount: 2h",
            "amount: 1.5h",
            &["a/plans.yml:6:63: `1.5h` is no duration: write an integer with one unit of ms, s, m, h, d after it"],
        ),
        (P, "amount: 100k", "amount: 9223372036854775808", &["a/plans.yml:7:71: `9223372036854775808` is too large"]),
        (P, "scope: tenant, ", "", &["a/plans.yml:6:14: limit `gpu-day`: missing field `scope`"]),
        (P, "name: tokens-minute", "name: gpu-day", &["a/plans.yml:7:14: limit `gpu-day` is there already"]),
        (
            P,
            "window: day",
            "window: day, rate: 1m",
            &["a/plans.yml:6:14: limit `gpu-day`: write exactly one of `window`, `rate` and `inFlight`"],
        ),
        (
            P,
            ", window: day",
            "",
            &["a/plans.yml:6:14: limit `gpu-day`: write exactly one of `window`, `rate` and `inFlight`"],
        ),
        (
            P,
            "window: day",
            "rate: 1m",
            &["a/plans.yml:6:14: limit `gpu-day`: `rate` goes with `counts: tokens` or `counts: requests` only"],
        ),
        (
            P,
            "window: day",
            "inFlight: true",
            &["a/plans.yml:6:14: limit `gpu-day`: `inFlight` goes with `counts: requests` only"],
        ),
        (P, "inFlight: true", "inFlight: false", &["a/plans.yml:8:74: `inFlight` can only be `true`: leave it out"]),
        (
            P,
            "window: day",
            "window: week",
            &["a/plans.yml:6:75: unknown value `week`, known: `minute`, `hour`, `day`, `month`"],
        ),
        (P, "rate: 1m", "rate: 0s", &["a/plans.yml:7:83: `0s` is out of range: more than 0, at most 1d"]),
        (P, "outputTokens: 4k", "outputTokens: 0", &["a/plans.yml:9:24: `0` is out of range: 1 to 4294967295"]),
        (
            P,
            "promptTokens: 32Ki",
            "promptTokens: 1, bodyBytes: 5Mi",
            &["a/plans.yml:9:56: `5Mi` is out of range: 1 to 4194304"],
        ),
        (P, "promptTokens: 32Ki", "promptTokens: 1, choices: 0", &["a/plans.yml:9:54: `0` is out of range: 1 to 128"]),
        (
            P,
            "longestStream: 5m",
            "longestStream: 300",
            &["a/plans.yml:10:18: `300` is no duration: write an integer with one unit of ms, s, m, h, d after it"],
        ),
        (P, "longestStream: 5m", "priority: 101", &["a/plans.yml:10:13: `101` is out of range: 0 to 100"]),
        (
            P,
            "longestStream: 5m",
            "reserve: bounds",
            &["a/plans.yml:10:12: unknown value `bounds`, did you mean `bound`?"],
        ),
        (P, "longestStream: 5m", "grantTtl: 61s", &["a/plans.yml:10:13: `61s` is out of range: at most 60s"]),
        (
            P,
            "longestStream: 5m",
            "grantTtl: 10",
            &["a/plans.yml:10:13: `10` is no duration: write an integer with one unit of ms, s, m, h, d after it"],
        ),
        (
            P,
            "longestStream: 5m",
            "audit: strickt",
            &["a/plans.yml:10:10: unknown value `strickt`, did you mean `strict`?"],
        ),
    ]);
}
