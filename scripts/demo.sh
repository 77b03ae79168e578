#!/usr/bin/env bash
# demo.sh QUIRE: a cluster in one process, TPC-H loaded through the Postgres wire, the 22 queries checked, a report.
#
#   SCALE=1     scale factor; answers are checked at 0.01, 0.1 and 1
#   OUT=DIR     where report, measurements and the server's log go (reports/demo)
#   KEEP=1      keep the data directory
#
# The exit status is that of the run: 0 only if all answers are right.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

quire=${1:?usage: demo.sh QUIRE}
scale=${SCALE:-1}
out=${OUT:-reports/demo}
mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -f "$out"/{report.html,load.json,run.json}
data=$(scratch_dir quire-demo)

at_end() {
    if [ -f "$out/report.html" ]; then
        echo "report: $out/report.html"
    fi
    if [ "$1" -ne 0 ]; then
        echo "failed (status $1); the server's log: $out/server.log" >&2
    fi
    if [ "${KEEP:-}" = 1 ]; then
        echo "data kept; to look at it: $quire dev --data-dir $data --storage-listen 127.0.0.1:$port"
    else
        rm -rf "$data"
    fi
}

port=$(free_ports 5) # three storage nodes, Postgres, HTTP
postgres=$((port + 3)) http=$((port + 4))
url=postgres://quire@127.0.0.1:$postgres/quire
on_exit at_end

echo "starting three storage nodes and a compute node on $data"
start 'quire dev' "$out/server.log" "$quire" dev --data-dir "$data" --storage-nodes 3 --compute-nodes 1 \
    --storage-listen "127.0.0.1:$port" --listen "127.0.0.1:$postgres" --http "127.0.0.1:$http"
wait_ready 'quire dev' "$out/server.log" "http://127.0.0.1:$http/readyz"

attend "$quire" tpch load --url "$url" --scale "$scale" --json "$out/load.json"
status=0
attend "$quire" tpch run --url "$url" --scale "$scale" --json "$out/run.json" --html "$out/report.html" || status=$?
if [ -f "$out/run.json" ]; then
    # once more, with the load
    attend "$quire" tpch report "$out/load.json" "$out/run.json" --out "$out/report.html" >/dev/null
fi
exit "$status"
