#!/usr/bin/env bash
# floors.sh QUIRE: where the costliest TPC-H queries spend their time, and what reading their bytes from memory would take.
# docs/benchmarks/README.md says how to read it.
#
#   SCALE=1              scale factor
#   URL=postgres://…     a Quire that runs already and has the data, on this machine; otherwise one is started and loaded
#   REPEATS=5            timed runs of each query, after a first one, and as many of EXPLAIN ANALYZE
#   THREADS=2            threads of the server; where there are more processors, all of it is bound to so many
#   BUFFER_MIB=1024      what is read to find out memory's rate
#   TIMEOUT=600          seconds after which a query has failed
#   OUT=DIR              where the report goes (docs/benchmarks)
#   LOGS=DIR             where the server's log goes (reports/bench-floors)
#   KEEP=1               keep the data
#
# Run it on an otherwise idle machine. The exit status is 0 only if all answers are right.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

quire=$(realpath "${1:?usage: floors.sh QUIRE}")
scale=${SCALE:-1}
threads=${THREADS:-2}
out=${OUT:-docs/benchmarks}
logs=${LOGS:-reports/bench-floors}
mkdir -p "$out" "$logs"
logs=$(cd "$logs" && pwd)
url=${URL:-}
work=$(scratch_dir quire-bench-floors)

at_end() { keep_or_remove "$1" "$logs" "$work"; }

# Everything below inherits it.
if [ "$(nproc)" -gt "$threads" ]; then
    taskset -pc "0-$((threads - 1))" $$ >/dev/null
fi

# Rows of the log are sealed at once: in segments they are what they are after a while.
start_quire() {
    local port
    port=$(free_ports 5)
    http=$((port + 4))
    url=postgres://quire@127.0.0.1:$((port + 3))/quire
    start 'quire dev' "$logs/server.log" "$quire" dev --data-dir "$work/data" --storage-listen "127.0.0.1:$port" \
        --listen "127.0.0.1:$((port + 3))" --http "127.0.0.1:$http" --seal-age 2s
    wait_ready 'quire dev' "$logs/server.log" "http://127.0.0.1:$http/readyz"
}

# wait_sealed: until no row is in a delta. Gauges are renewed every 2 s.
wait_sealed() {
    local i
    for ((i = 0; i < 60; i++)); do
        sleep 2.5
        if ! curl -fs --max-time 5 "http://127.0.0.1:$http/metrics" | grep -Eq '^quire_storage_delta_rows\{.*\} [1-9]'; then
            return 0
        fi
    done
    echo 'some rows are not sealed; the measurement goes on' >&2
}

on_exit at_end
python=$(bench_python)
if [ -z "$url" ]; then
    start_quire
    attend "$quire" tpch load --url "$url" --scale "$scale"
    wait_sealed
fi
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 attend "$python" -m floors --url "$url" --scale "$scale" --out "$out" --threads "$threads" \
    --repeats "${REPEATS:-5}" --buffer-mib "${BUFFER_MIB:-1024}" --timeout "${TIMEOUT:-600}"
