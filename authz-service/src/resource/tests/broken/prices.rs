//! Prices that do not hold together.

use super::*;

#[test]
fn models() {
    each_is_refused(&[
        (
            M,
            "aliases: [llama-8b]",
            "aliases: [llama-8b, gpt]",
            &[
                "models.yaml:18:18: model `gpt` is there already: models.yaml:6",
                "providers.yaml:15:14: model `meta-llama/Llama-3.1-8B-Instruct` is there already",
            ],
        ),
        (
            M,
            "name: gpt",
            "name: llama-8b",
            &[
                "api-keys/k1.yaml:7:12: model `gpt` does not exist, known: `llama-8b`, `meta-llama/Llama-3.1-8B-Instruct`",
                "models.yaml:18:18: ModelCost `llama-8b` is there already: models.yaml:3",
                "providers.yaml:15:14: model `gpt` does not exist, known: `llama-8b`, `meta-llama/Llama-3.1-8B-Instruct`",
                "tenants.yaml:6:22: model `gpt` does not exist, known: `llama-8b`, `meta-llama/Llama-3.1-8B-Instruct`",
                "tenants.yaml:27:12: model `gpt` does not exist, known: `llama-8b`, `meta-llama/Llama-3.1-8B-Instruct`",
            ],
        ),
        (
            M,
            "metadata: {name: llama-8b}",
            "metadata: {name: llama-3.1-8B}",
            &[
                "models.yaml:3:18: `llama-3.1-8B` must be 1 to 63 characters of a-z, 0-9, - and .: other names of models go into `spec.model`",
            ],
        ),
        (
            M,
            "model: meta-llama/Llama-3.1-8B-Instruct",
            "model: /x",
            &[
                "models.yaml:5:10: `/x` is no model name: must be 1 to 128 characters of A-Z, a-z, 0-9 and ._:/-, starting and ending with a letter or digit",
            ],
        ),
        (
            M,
            "gpuWeightPermille: 1000",
            "gpuWeightPermille: 0",
            &["models.yaml:8:22: `0` is out of range: 1 to 1000000"],
        ),
        (M, "minBytesPerToken: 1", "minBytesPerToken: 0", &["models.yaml:11:21: `0` is out of range: 1 to 64"]),
        (
            M,
            "minBytesPerToken: 1",
            "minBytesPerToken: 5",
            &["models.yaml:12:22: `4` is less than `minBytesPerToken`, which is `5`"],
        ),
        (
            M,
            "microUsdFixed: 5",
            "microUsdFixed: $5",
            &[
                "models.yaml:25:18: `$5` is no count: write an integer, with k, M, G (thousands) or Ki, Mi, Gi (1024s) after it",
            ],
        ),
        (M, "mediaTokens: 1500", "mediaTokens: 0", &["models.yaml:28:16: `0` is out of range: 1 to 1000000"]),
        (M, "date: 2026-01-31", "date: 2026-02-31", &["models.yaml:14:9: `2026-02-31` is no date: write YYYY-MM-DD"]),
        (M, "date: 2026-01-31", "date: 20260131", &["models.yaml:14:9: expected a string, found integer `20260131`"]),
        (
            M,
            "source: a test",
            "source: ' '",
            &["models.yaml:13:11: `source` must be 1 to 1024 bytes: where the numbers are from"],
        ),
        (M, "  source: a test\n", "", &["models.yaml:5:3: missing field `source`"]),
        (M, "input: 120, ", "", &["models.yaml:9:21: missing field `input`"]),
        (
            M,
            "gpuClass: l4",
            "gpuClass: L4",
            &[
                "models.yaml:7:13: `L4` must be 1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit",
            ],
        ),
    ]);
}
