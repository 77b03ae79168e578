#!/usr/bin/env bash
# setup.sh [tests]: installs what building and running need, and with `tests` what only tests and pgbench's bench do; silent
# when all of it is there. Debian 12 and its kin.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$HOME/.cargo/bin:$PATH"

has() { command -v "$1" >/dev/null 2>&1; }

libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm*/lib/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib/*/libclang*.so*' >/dev/null || compgen -G '/usr/lib*/libclang*.so*' >/dev/null
}

packages=()
has cc && has c++ || packages+=(build-essential) # RocksDB is C++
has clang || packages+=(clang)
libclang || packages+=(libclang-dev) # bindgen reads RocksDB's headers with it
has make || packages+=(make)
has git || packages+=(git)
has curl || packages+=(curl)
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
has psql || packages+=(postgresql-client)
{ has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; } || packages+=(python3-venv)

# pgbench comes with the server's programs, which Debian keeps out of PATH.
if [ "${1:-}" = tests ]; then
    has pgbench || compgen -G '/usr/lib/postgresql/*/bin/pgbench' >/dev/null || packages+=(postgresql-contrib)
fi

if [ ${#packages[@]} -gt 0 ]; then
    if ! has apt-get; then
        echo "setup: install the equivalents of these Debian packages: ${packages[*]}" >&2
        exit 1
    fi
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! has sudo || ! { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
            echo "setup: run this as root: apt-get install ${packages[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    echo "setup: installing ${packages[*]}"
    apt_get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    "${apt_get[@]}" update
    "${apt_get[@]}" install -y --no-install-recommends "${packages[@]}" >/dev/null
fi

if ! has cargo; then
    if ! has rustup; then
        echo "setup: installing Rust"
        if ! curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y -q --profile minimal --default-toolchain stable --component rustfmt,clippy; then
            echo "setup: there is no cargo, and rustup's installer cannot be had: install Rust (https://rustup.rs) and try again" >&2
            exit 1
        fi
    fi
fi

# In this directory rust-toolchain.toml says which toolchain: it may be another than the user's own.
if ! cargo --version >/dev/null 2>&1 && has rustup; then
    echo "setup: installing the Rust toolchain of rust-toolchain.toml"
    rustup toolchain install stable --profile minimal --component rustfmt --component clippy
fi
for tool in fmt clippy; do
    cargo "$tool" --version >/dev/null 2>&1 && continue
    component=${tool/fmt/rustfmt}
    if ! has rustup || ! rustup component add "$component"; then
        echo "setup: cargo $tool is missing: install Rust's component $component" >&2
        exit 1
    fi
done

needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
version=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n' "$needed" "$version" | sort -V | head -n 1)" != "$needed" ]; then
    echo "setup: Rust $version is older than $needed: rustup update stable" >&2
    exit 1
fi
