#!/usr/bin/env bash
# Makes a target directory safe to share between clones.
#
# Cargo decides by modification time and by path within the workspace whether a crate is up to date, so an older clone
# would take over what a newer one has built. When the last build was of another clone, our own sources are touched:
# our crates are built again, everything from the registry stays.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
stamp=$target/.quire-checkout
# the path, and which directory it is: a clone that was removed and made again is another one
this=$(stat -c '%n %i %W' "$PWD")
if [ -f "$stamp" ] && [ "$(cat "$stamp")" != "$this" ]; then
    find crates proto tests -type f -exec touch -c {} +
fi
printf '%s\n' "$this" >"$stamp"
