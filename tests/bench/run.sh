#!/usr/bin/env bash
# What the chain costs: CPU per request of Envoy and the service, and latency, beside bare Envoy proxying in the same run.
#
#   tests/bench/run.sh            release build, 3 rounds of 8 s for each subject; the figures (what they are: README.md)
#   tests/bench/run.sh --smoke    dev build, a second each: that it runs, not what it costs
#
# Figures go to target/bench/result.json too. They are ratios of one run on one machine, never a pass or a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/install.sh
source tests/install.sh
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$(bulkhead_cache)/target}"
export CARGO_TARGET_DIR BULKHEAD_WASM="$CARGO_TARGET_DIR/bulkhead.wasm"
install_packages wrk
install_envoy >/dev/null
./wasm-build.sh
if [ "${1:-}" = --smoke ]; then
    cargo build --quiet --locked --bin bulkhead --bin bench
    exec "$CARGO_TARGET_DIR/debug/bench" --smoke --rounds 1 --seconds 1 --connections 4
fi
cargo build --quiet --locked --release --bin bulkhead --bin bench
exec "$CARGO_TARGET_DIR/release/bench" "$@"
