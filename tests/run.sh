#!/usr/bin/env bash
# Every test, with progress. The first failure ends the run.
#
#   tests/run.sh                  everything, in the order of the list below
#   tests/run.sh NAME             one suite, or the cases of the integration binary whose names contain NAME
#   tests/run.sh --full NAME      the same, with the long counts (BULKHEAD_FULL=1); BULKHEAD_PROFILE=inline: in that profile
#
#   lint         rustfmt, clippy with warnings denied; the module for its wasm target
#   unit         beside the code: every crate but the module, which has no native tests
#   wasm         builds bulkhead.wasm, checks its imports, prints size and memory
#   walk         the integration binary on Envoy 1.40.0
#   walk-oldest  the same cases and the same module on Envoy 1.36.4
#   walk-inline  the same cases in profile `inline`, on Envoy 1.40.0; walk-inline-oldest: on 1.36.4
#   quickstart   examples/quickstart/run.sh
#   pipeline     examples/pipeline/run.sh, in both profiles
#   bench        tests/bench/run.sh as a smoke of a second each; its figures with --full
#   fuzz         tests/fuzz/run.sh, every parser (not part of everything: it builds with coverage instrumentation)
#
# Build output goes to $CARGO_TARGET_DIR, by default ~/.cache/bulkhead/target. ENVOY=PATH runs another Envoy.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/install.sh
source tests/install.sh

SUITES=(lint unit wasm walk walk-inline walk-oldest walk-inline-oldest quickstart pipeline bench)
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$(bulkhead_cache)/target}"
export CARGO_TARGET_DIR CARGO_TERM_PROGRESS_WHEN=never
export BULKHEAD_WASM="$CARGO_TARGET_DIR/bulkhead.wasm"
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true

install_quietly() { install_everything >/dev/null; }
usage() { sed -n '2,18s/^# \{0,1\}//p' "$0"; }

# step WHAT COMMAND...: runs it and says how long it took.
step() {
    local what="$1" began=$SECONDS
    shift
    printf '\n==> %s\n' "$what"
    if "$@"; then
        printf '<== %s: ok, %d s\n' "$what" $((SECONDS - began))
    else
        printf '<== %s: FAILED after %d s\n' "$what" $((SECONDS - began))
        exit 1
    fi
}

# One build for every native target, so that no crate is compiled twice with other features.
build() { step "build" cargo build --locked --lib --bins --tests; }

suite_lint() {
    step "rustfmt" cargo fmt --all --check
    step "clippy" cargo clippy --quiet --locked --all-targets -- -D warnings
    step "clippy of the module" ./wasm-build.sh clippy
}

suite_unit() {
    build
    step "unit tests" cargo test --quiet --locked --lib --bins
}

suite_wasm() { step "bulkhead.wasm" ./wasm-build.sh; }

# The integration binary, filtered, on one Envoy.
walk() {
    local what="$1" version="$2" filter="${3:-}" envoy cases
    envoy="${ENVOY:-$(install_envoy "$version")}"
    PYTHON_OPENAI="$(install_openai)"
    OIDC_PROVIDER="$(install_oidc)"
    export PYTHON_OPENAI OIDC_PROVIDER
    build
    if [ -n "$filter" ]; then
        cases="$(cargo test --quiet --locked --test walk -- --list "$filter")"
        case "$cases" in *": test"*) ;; *)
            printf 'no suite and no case is named `%s`; suites: %s\n' "$filter" "${SUITES[*]}" >&2
            exit 2 ;;
        esac
    fi
    suite_wasm
    step "$what" env ENVOY="$envoy" cargo test --locked --test walk -- \
        --test-threads "${BULKHEAD_TEST_THREADS:-4}" ${filter:+"$filter"} "${@:4}"
}

# A suite says which profile it is, and leaves out what is the other's alone, or nobody's; cases by name run in the profile of
# the environment.
walk_in() {
    local others=(--skip arrows:: --skip cases_pure::)
    # the cases of these files run in both profiles by themselves
    [ "$1" != inline ] || for name in operators_page tenant_errors cut; do others+=(--skip "$name::"); done
    [ "$1" = inline ] || others=(--skip inline_ --skip gate_inline:: --skip last_hop::)
    # where the service alone is the subject, under load or in what it knows of callers, one Envoy is enough
    local service=(oidc proxies_tls races stale memory login jobs keys exchange isolation authorization operators_page)
    [ "$2" = "$ENVOY_VERSION" ] || for name in "${service[@]}"; do others+=(--skip "$name::"); done
    BULKHEAD_PROFILE="$1" walk "walk, profile $1, Envoy $2" "$2" "" "${others[@]}"
}

suite_walk() { walk_in portable "$ENVOY_VERSION"; }
suite_walk-oldest() { walk_in portable "$ENVOY_OLDEST"; }
suite_walk-inline() { walk_in inline "$ENVOY_VERSION"; }
suite_walk-inline-oldest() { walk_in inline "$ENVOY_OLDEST"; }
suite_quickstart() { step "quickstart" ./examples/quickstart/run.sh; }
suite_pipeline() {
    for profile in portable inline; do
        step "pipeline, profile $profile" env BULKHEAD_PROFILE="$profile" ./examples/pipeline/run.sh
    done
}
suite_bench() {
    if [ -n "${BULKHEAD_FULL:-}" ]; then step "bench" tests/bench/run.sh; else step "bench, smoke" tests/bench/run.sh --smoke; fi
}

suite_fuzz() { step "fuzz" tests/fuzz/run.sh; }

names=()
for argument in "$@"; do
    case "$argument" in
    --full) export BULKHEAD_FULL=1 ;;
    -h | --help) usage; exit ;;
    -*) usage >&2; exit 2 ;;
    *) names+=("$argument") ;;
    esac
done
[ ${#names[@]} -eq 0 ] && names=("${SUITES[@]}")

began=$SECONDS
step "what the tests need" install_quietly
for name in "${names[@]}"; do
    if declare -F "suite_$name" >/dev/null; then
        "suite_$name"
    else
        walk "cases like $name" "$ENVOY_VERSION" "$name"
    fi
done
printf '\nall passed: %s, %d s\n' "${names[*]}" $((SECONDS - began))
