#!/usr/bin/env bash
# Fuzzes every parser with libFuzzer: ./run.sh [SECONDS per target] [TARGET...]
#
# 20 seconds each unless told otherwise, 600 with BULKHEAD_FULL=1. Starts from seeds/TARGET and from what earlier runs
# found; prints executions per target. On a crash it fails and keeps the input; put that into seeds/TARGET once fixed.
# Builds with the stable compiler: everything is safe Rust, so coverage is instrumented and no sanitizer is needed.
set -euo pipefail
cd "$(dirname "$0")"

default=20
[ "${BULKHEAD_FULL:-}" = 1 ] && default=600
seconds="${1:-$default}"
case "$seconds" in '' | *[!0-9]*) echo "usage: $0 [SECONDS] [TARGET...]" >&2; exit 2 ;; esac
[ $# -gt 0 ] && shift
targets=("$@")
[ ${#targets[@]} -eq 0 ] && mapfile -t targets < <(basename -s .rs targets/*.rs)

out="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead/target}/fuzz"
host="$(rustc -vV | sed -n 's/^host: //p')"
coverage=(-level=4 -inline-8bit-counters -pc-table -trace-compares)
flags="-Cpasses=sancov-module"
for option in "${coverage[@]}"; do flags+=" -Cllvm-args=-sanitizer-coverage$option"; done

build=()
for target in "${targets[@]}"; do build+=(--bin "$target"); done
echo "fuzz: building ${targets[*]}" >&2
# With --target the flags leave build scripts and macros alone.
CARGO_TARGET_DIR="$out" RUSTFLAGS="$flags" cargo build --quiet --locked --release --target "$host" "${build[@]}"

# One target; its input comes from libFuzzer alone, its findings go to the cache.
fuzz() {
    local target=$1 found="$out/found/$1" kept="$out/crashes/$1" log="$out/$1.log" dictionary=()
    mkdir -p "$found" "$kept"
    [ -f "dictionaries/$target" ] && dictionary=("-dict=dictionaries/$target")
    if "$out/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        "${dictionary[@]}" -artifact_prefix="$kept/" "$found" "seeds/$target" >"$log" 2>&1; then
        printf 'fuzz: %-12s %10s executions, %s seconds\n' "$target" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" "$seconds"
    else
        printf 'fuzz: %-12s FAILED; the input is in %s\n' "$target" "$kept"
        grep -v '^#' "$log" | tail -30
        return 1
    fi
}
export -f fuzz
export out host seconds
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'set -euo pipefail; fuzz "$1"' fuzz {}
