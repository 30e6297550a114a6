#!/usr/bin/env bash
# A real Envoy with Bulkhead's module and service, a model, three tenants, and about twenty requests: each printed with
# what was expected and what happened. Exit code 0 only if every expectation held.
#
#   ./examples/quickstart/run.sh           installs what is missing, builds, runs, ends everything again
#   ./examples/quickstart/run.sh --keep    leaves it running; prints curl lines to try; writes target/quickstart/env
#   ./examples/quickstart/run.sh --stop    ends what --keep left running
#
# It needs Debian 12 or newer with Rust 1.95 or newer; what else is missing is installed by root, or named. The first run
# compiles everything (several minutes), a later one takes seconds. Built in $CARGO_TARGET_DIR, by default
# ~/.cache/bulkhead/target; everything that runs lives in target/quickstart of this repository, and in nothing else.
# Ports on 127.0.0.1: 10000 (clients), 9901 (Envoy's admin), 9464 (metrics), 8001, 8002, 8081, 8082 (the model); where one
# is taken, a free one is used and named. What you will see: examples/quickstart/README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/install.sh
source tests/install.sh

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$(bulkhead_cache)/target}"
driver="$CARGO_TARGET_DIR/debug/quickstart"
steps=4

step() { printf '\n[%d/%d] %s\n' "$1" "$steps" "$2"; }

arguments=()
for argument in "$@"; do
    case "$argument" in
    --keep) arguments+=("$argument") ;;
    --stop)
        [ -x "$driver" ] && exec "$driver" --stop
        [ -e target/quickstart/running ] || { echo "nothing runs"; exit; }
        echo "no $driver; set CARGO_TARGET_DIR as it was when this was started" >&2
        exit 1
        ;;
    -h | --help) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit ;;
    *) printf 'unknown argument: %s\n\n' "$argument" >&2; sed -n '5,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done

step 1 "what it needs: a C compiler, Python, Rust, Envoy $ENVOY_VERSION"
install_packages gcc libc6-dev ca-certificates curl
install_rust
envoy="$(install_envoy "$ENVOY_VERSION")"
echo "    $envoy"

step 2 "bulkhead.wasm, the module that runs inside Envoy"
./wasm-build.sh | sed -n '/^imports/!s/^/    /p'

step 3 "the service, the model and the driver (the first time: several minutes)"
cargo build --locked --bins

step 4 "starting, in $PWD/target/quickstart"
exec "$driver" --envoy "$envoy" --wasm "$CARGO_TARGET_DIR/bulkhead.wasm" "${arguments[@]}"
