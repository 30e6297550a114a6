#!/usr/bin/env bash
# Builds filters/module for wasm32-wasip1 into $CARGO_TARGET_DIR/bulkhead.wasm, checks what it imports and prints its size.
#
#   ./wasm-build.sh           build, check, print
#   ./wasm-build.sh clippy    clippy over the module for the same target instead
#
# With a rustup toolchain that has the target (or can add it) that one is used; otherwise the distribution's Rust with its
# library sources. WASM_TOOLCHAIN=rustup|distribution forces one. What is up to date is cargo's business alone.
set -euo pipefail
cd "$(dirname "$0")"

target=wasm32-wasip1
out="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead/target}"
export CARGO_TARGET_DIR="$out/wasm"      # two compilers must not share one directory, nor this build a lock with the tests
mkdir -p "$CARGO_TARGET_DIR"

say() { printf 'wasm-build: %s\n' "$*" >&2; }

has_rustup_target() { rustup target list --installed 2>/dev/null | grep -qx "$target"; }

choose() {
    case "${WASM_TOOLCHAIN:-}" in rustup | distribution) echo "$WASM_TOOLCHAIN"; return ;; esac
    if command -v rustup >/dev/null; then
        if has_rustup_target; then echo rustup; return; fi
        say "adding the rustup target $target"
        if timeout 60 rustup target add "$target" >/dev/null 2>&1 && has_rustup_target; then echo rustup; return; fi
        say "it cannot be added; using the distribution's Rust"
    fi
    echo distribution
}

need_packages() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" = 0 ]; then
        say "installing ${missing[*]}"
        apt-get -qq update >&2
        DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}" >&2
    else
        say "missing packages; as root: apt-get install --no-install-recommends ${missing[*]}"
        exit 1
    fi
}

# panic messages must not carry the builder's paths
flags="-Ctarget-feature=+simd128 --remap-path-prefix=$PWD=bulkhead --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
toolchain="$(choose)"
cargo=(cargo)
extra=()
if [ "$toolchain" = distribution ]; then
    need_packages rustc-web cargo-web rust-web-src lld-19 wasi-libc
    export RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc
    export CARGO_TARGET_WASM32_WASIP1_LINKER=wasm-ld-19
    flags+=" -Lnative=/usr/lib/wasm32-wasi -Clink-self-contained=no -Clink-arg=-L/usr/lib/wasm32-wasi -Ctarget-feature=-crt-static"
    cargo=(/usr/bin/cargo)
    extra=(-Zbuild-std=std,panic_abort)
    CARGO_TARGET_DIR="$CARGO_TARGET_DIR/distribution"
fi
export RUSTFLAGS="$flags"
unset CARGO_ENCODED_RUSTFLAGS

if [ "${1:-build}" = clippy ]; then
    if [ "$toolchain" = rustup ]; then
        exec cargo clippy --quiet --locked -p bulkhead-module --target "$target" -- -D warnings
    fi
    need_packages rust-web-clippy
    CARGO=/usr/bin/cargo CARGO_TARGET_DIR="$CARGO_TARGET_DIR/clippy" exec /usr/bin/cargo-clippy clippy --quiet --locked \
        "${extra[@]}" -p bulkhead-module --target "$target" -- -D warnings
fi

say "building with $toolchain ($("${cargo[@]}" --version))"
"${cargo[@]}" build --quiet --locked "${extra[@]}" -p bulkhead-module --profile module --target "$target"
built="$CARGO_TARGET_DIR/$target/module/bulkhead.wasm"

python3 - "$built" <<'PYTHON'
"""Refuses a module that imports what Envoy does not serve; prints what operators ask about a module."""
import gzip, hashlib, sys

WASI = {"clock_time_get", "environ_get", "environ_sizes_get", "fd_write", "proc_exit", "random_get"}
PAGE = 65536

wasm = open(sys.argv[1], "rb").read()


def leb(at):
    value = shift = 0
    while True:
        byte = wasm[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def text(at):
    size, at = leb(at)
    return wasm[at:at + size].decode(), at + size


def limits(at):
    bounded = wasm[at]
    low, at = leb(at + 1)
    return (low, leb(at)[1]) if bounded & 1 else (low, at)


assert wasm[:8] == b"\0asm\1\0\0\0", "not a wasm module"
imports, pages, at = [], None, 8
while at < len(wasm):
    section = wasm[at]
    size, at = leb(at + 1)
    end = at + size
    if section == 2:
        count, at = leb(at)
        for _ in range(count):
            module, at = text(at)
            name, at = text(at)
            kind = wasm[at]
            at += 1
            if kind == 0:
                at = leb(at)[1]
            elif kind == 1:
                at = limits(at + 1)[1]
            elif kind == 2:
                pages, at = limits(at)
            else:
                at += 2
            imports.append((module, name, kind))
    elif section == 5:
        pages = limits(leb(at)[1])[0]
    at = end


def served(module, name, kind):
    host = module == "env" and name.startswith("proxy_")
    return kind == 0 and (host or (module == "wasi_snapshot_preview1" and name in WASI))


foreign = [f"{module}.{name}" for module, name, kind in imports if not served(module, name, kind)]
if foreign:
    sys.exit("wasm-build: the module imports what Envoy does not serve: " + ", ".join(foreign))
print(f"size           {len(wasm)} bytes ({len(gzip.compress(wasm, 9))} gzipped)")
print(f"sha256         {hashlib.sha256(wasm).hexdigest()}")
print(f"linear memory  {(pages or 0) * PAGE} bytes at start")
print(f"imports        {len(imports)}: " + " ".join(sorted(name for _, name, _ in imports)))
PYTHON

cp "$built" "$out/bulkhead.wasm.new"
mv "$out/bulkhead.wasm.new" "$out/bulkhead.wasm"
echo "module         $out/bulkhead.wasm"
