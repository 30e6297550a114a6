//! Keys that do not hold together.

use super::*;

#[test]
fn keys() {
    each_is_refused(&[
        (
            K,
            "tenant: acme",
            "tenant: acne",
            &["api-keys/k1.yaml:5:11: tenant `acne` does not exist, did you mean `acme`?"],
        ),
        (
            K,
            "namespace: acme-prod",
            "namespace: acme-dev",
            &["api-keys/k1.yaml:3:43: tenant `acme` does not list namespace `acme-dev`"],
        ),
        (
            K,
            "role: readers",
            "role: reader",
            &["api-keys/k1.yaml:6:9: role `reader` does not exist, did you mean `readers`?"],
        ),
        (
            K,
            "models: [gpt, llama-8b]",
            "models: [gpt, llama]",
            &[
                "api-keys/k1.yaml:7:17: model `llama` does not exist, known: `gpt`, `llama-8b`, `meta-llama/Llama-3.1-8B-Instruct`",
            ],
        ),
        (
            K,
            "  createdAt",
            "  sources: [10.0.0.0/8, 10.0.0.1/8, 300.1.1.1/8]\n  createdAt",
            &[
                "api-keys/k1.yaml:9:25: `10.0.0.1/8` is no block of addresses, as `10.1.0.0/16` or `::1/128`",
                "api-keys/k1.yaml:9:37: `300.1.1.1/8` is no block of addresses, as `10.1.0.0/16` or `::1/128`",
            ],
        ),
        (K, "name: key-day", "name: gpu-day", &["api-keys/k1.yaml:8:19: plan `small` has a limit `gpu-day` already"]),
        (
            K,
            "window: day}",
            "window: day, scope: tenant}",
            &["api-keys/k1.yaml:8:78: the limits of a key count that key: `scope` can only be `key`"],
        ),
        (K, "  expiresAt: 2026-02-02T12:00:00Z\n", "", &["api-keys/k1.yaml:5:3: missing field `expiresAt`"]),
        (
            K,
            "2026-02-02T12:00:00Z",
            "2026-02-02",
            &["api-keys/k1.yaml:10:14: `2026-02-02` is no RFC 3339 instant, as `2026-01-31T12:00:00Z`"],
        ),
        (
            K,
            "2026-02-02T12:00:00Z",
            "2026-02-03T12:00:01Z",
            &["api-keys/k1.yaml:10:14: `expiresAt` must be after `createdAt`, and at most 72h after it"],
        ),
        (
            K,
            "2026-02-02T12:00:00Z",
            "2026-01-31T12:00:00Z",
            &["api-keys/k1.yaml:10:14: `expiresAt` must be after `createdAt`, and at most 72h after it"],
        ),
    ]);
}
