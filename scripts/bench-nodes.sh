#!/usr/bin/env bash
# bench-nodes.sh QUIRE cold|delta: TPC-H on three storage nodes and a compute node that the benchmark stops and starts itself.
# docs/benchmarks/README.md says what is measured and how to read it.
#
#   cold    with empty caches, and the object store behind a proxy that makes it far away
#   delta   with rows in unsealed deltas and rows that were updated, beside none
#
#   SCALE=1              scale factor
#   REPEATS=5            timed runs of each query when warm, after a first one
#   THREADS=2            where there are more processors, the nodes and the client are bound to so many
#   TIMEOUT=600          seconds after which a query has failed
#   LATENCY_MS=20        cold: before the first byte of each response of the object store
#   MB_PER_SECOND=200    cold: of each connection to it
#   OUT=DIR              where the report goes (docs/benchmarks)
#   LOGS=DIR             where the nodes' logs go (reports/bench-cold, reports/bench-delta)
#   KEEP=1               keep the data
#
# The nodes take their other settings from QUIRE_… in the environment, such as QUIRE_MEMORY_LIMIT. Run it on an otherwise idle machine.
# The exit status is 0 only if all answers are right; a bar that is missed is reported, not an error.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

usage='usage: bench-nodes.sh QUIRE cold|delta'
quire=$(realpath "${1:?$usage}")
what=${2:?$usage}
out=${OUT:-docs/benchmarks}
logs=${LOGS:-reports/bench-$what}
flags=()
case $what in
    cold) flags+=(--latency-ms "${LATENCY_MS:-20}" --mb-per-second "${MB_PER_SECOND:-200}") ;;
    delta) ;;
    *)
        echo "$usage" >&2
        exit 2
        ;;
esac
mkdir -p "$out" "$logs"
logs=$(cd "$logs" && pwd)
work=$(scratch_dir "quire-bench-$what")

at_end() { keep_or_remove "$1" "$logs" "$work"; }

on_exit at_end
python=$(bench_python)
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 conduct "bench $what" "$python" -m "$what" --quire "$quire" --work "$work" --logs "$logs" \
    --out "$out" --scale "${SCALE:-1}" --threads "${THREADS:-2}" --repeats "${REPEATS:-5}" --timeout "${TIMEOUT:-600}" "${flags[@]}"
