#!/usr/bin/env bash
# Three services of one tenant, one behind the other, through a real Envoy: each exchanges the token that it is sent (RFC
# 8693) and goes on with its own. Prints who acts for whom at each hop, and the audit log. Exit code 0 only if the chain is
# whole and another tenant's user is refused.
#
#   ./examples/pipeline/run.sh             in profile portable
#   BULKHEAD_PROFILE=inline ./examples/pipeline/run.sh
#
# It needs what examples/quickstart/run.sh needs, and installs what is missing. What you will see: README.md beside this.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/install.sh
source tests/install.sh

case "${1:-}" in
"") ;;
-h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit ;;
*) printf 'unknown argument: %s\n' "$1" >&2; exit 2 ;;
esac

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$(bulkhead_cache)/target}"
install_packages gcc libc6-dev ca-certificates curl
install_rust
ENVOY="$(install_envoy "$ENVOY_VERSION")"
export ENVOY
./wasm-build.sh >/dev/null
export BULKHEAD_WASM="$CARGO_TARGET_DIR/bulkhead.wasm"
cargo build --locked --bins
exec "$CARGO_TARGET_DIR/debug/pipeline"
