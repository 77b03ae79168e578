#!/usr/bin/env bash
# test.sh CARGO-FLAGS…: runs every test, by cargo-nextest where there is one, by `cargo test` otherwise. The last line
# is the runner's summary.
set -euo pipefail

if command -v cargo-nextest >/dev/null; then
    exec cargo nextest run "$@" --no-fail-fast
fi

# `cargo test` sums up each program by itself: the last line adds them up, in its words.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test "$@" --all-targets --no-fail-fast 2>&1 | tee "$log" || status=$?
awk -v status="$status" '
    /^test result: / {
        programs++
        for (i = 1; i < NF; i++) {
            if ($(i + 1) == "passed;") passed += $i
            if ($(i + 1) == "failed;") failed += $i
            if ($(i + 1) == "ignored;") ignored += $i
            if ($(i + 1) == "measured;") measured += $i
            if ($(i + 1) == "filtered") filtered += $i
        }
    }
    END {
        printf "test result: %s. %d passed; %d failed; %d ignored; %d measured; %d filtered out; in %d test programs\n",
            (status == 0 ? "ok" : "FAILED"), passed, failed, ignored, measured, filtered, programs
    }' "$log"
exit "$status"
