#!/usr/bin/env bash
# bench.sh QUIRE [tpch] [commits]: measures Quire, and its peers on the same machine and files.
#
#   SCALE=1     scale factor of TPC-H
#   OUT=DIR     where measurements and the report go (reports/bench)
#   KEEP=1      keep the data directory
#
# Run it on an otherwise idle machine. Each measurement has the machine to itself: the peers run before Quire starts.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

quire=${1:?usage: bench.sh QUIRE [tpch] [commits]}
shift
[ $# -gt 0 ] || set -- tpch commits
scale=${SCALE:-1}
out=${OUT:-reports/bench}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(scratch_dir quire-bench)
mkdir "$work/csv" "$work/data"

at_end() {
    if [ "$1" -ne 0 ]; then
        echo "failed (status $1); the server's log: $out/server.log" >&2
    fi
    if [ "${KEEP:-}" = 1 ]; then
        echo "data kept: $work"
    else
        rm -rf "$work"
    fi
}

peers() {
    local venv=${XDG_CACHE_HOME:-$HOME/.cache}/quire/bench-venv
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r benches/requirements.txt
    "$quire" tpch generate --scale "$scale" --out "$work/csv"
    attend "$venv/bin/python" benches/peers.py "$work/csv" --scale "$scale" --threads "$(nproc)" --json "$out/peers.json"
}

start_quire() {
    local port
    port=$(free_ports 5)
    postgres=$((port + 3)) http=$((port + 4))
    url=postgres://quire@127.0.0.1:$postgres/quire
    start 'quire dev' "$out/server.log" "$quire" dev --data-dir "$work/data" --storage-nodes 3 --compute-nodes 1 \
        --storage-listen "127.0.0.1:$port" --listen "127.0.0.1:$postgres" --http "127.0.0.1:$http"
    wait_ready 'quire dev' "$out/server.log" "http://127.0.0.1:$http/readyz"
}

compare() {
    python3 - "$out" <<'PY'
import json, pathlib, sys

out = pathlib.Path(sys.argv[1])
load = json.loads((out / "load.json").read_text())["load"]["seconds"]
total = json.loads((out / "run.json").read_text())["run"]["sum_ms"]
for peer in json.loads((out / "peers.json").read_text()):
    if "load" in peer:
        theirs = peer["load"]["seconds"]
        print(f"load: {load:.1f} s, {peer['name']} {theirs:.1f} s, ratio {load / theirs:.2f}")
    if "run" in peer:
        theirs = peer["run"]["sum_ms"]
        print(f"sum of the 22 medians: {total:.0f} ms, {peer['name']} {theirs:.0f} ms, ratio {total / theirs:.2f}")
PY
}

tpch() {
    local status=0
    attend "$quire" tpch load --url "$url" --scale "$scale" --from-csv "$work/csv" --json "$out/load.json"
    attend "$quire" tpch run --url "$url" --scale "$scale" --json "$out/run.json" || status=$?
    "$quire" tpch report "$out"/{load,run,peers}.json --out "$out/report.html" >/dev/null
    compare
    echo "report: $out/report.html"
    return "$status"
}

commits() {
    attend "$quire" bench commits --url "$url" --clients 1,8,64 --fsync-dir "$work/data" --json "$out/commits.json"
}

on_exit at_end
for bench in "$@"; do
    case $bench in
    tpch) peers ;;
    commits) ;;
    *)
        echo "there is no bench called $bench" >&2
        exit 2
        ;;
    esac
done
start_quire
for bench in "$@"; do
    "$bench"
done
