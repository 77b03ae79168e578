#!/usr/bin/env bash
# cluster.sh QUIRE: TPC-H on separate processes: three storage nodes, two compute nodes and an object store. The data is
# loaded through compute 1 and the queries run on compute 2.
#
#   SCALE=1            scale factor; answers are checked at 0.01, 0.1 and 1
#   OBJECT_STORE=URL   instead of the S3 server of tests/s3 (or a directory, when that is not there)
#   OUT=DIR            where report, measurements and logs go (reports/cluster)
#   KEEP=1             keep the data directory
#
# The exit status is that of the run: 0 only if all answers are right.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

quire=${1:?usage: cluster.sh QUIRE}
scale=${SCALE:-1}
out=${OUT:-reports/cluster}
mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -f "$out"/{report.html,load.json,run.json}
data=$(scratch_dir quire-cluster)

at_end() {
    if [ -f "$out/report.html" ]; then
        echo "report: $out/report.html"
    fi
    if [ "$1" -ne 0 ]; then
        echo "failed (status $1); logs: $out/*.log" >&2
    fi
    if [ "${KEEP:-}" = 1 ]; then
        echo "data kept: $data"
    else
        rm -rf "$data"
    fi
}

# The server that the tests use: any that has conditional writes would do.
start_s3() {
    local port=$1 i
    export AWS_ACCESS_KEY_ID=quire AWS_SECRET_ACCESS_KEY=quirequire AWS_REGION=us-east-1
    export AWS_ENDPOINT=http://127.0.0.1:$port AWS_ALLOW_HTTP=true
    tests/s3/server.py --install
    start 's3 server' "$out/s3.log" tests/s3/server.py --port "$port" --dir "$data/s3" --bucket quire
    # any answer will do, also that the request is not signed
    for ((i = 0; i < 300; i++)); do
        curl -s -o /dev/null --max-time 5 "$AWS_ENDPOINT/quire" && return 0
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.2
    done
    echo "the S3 server does not answer; its last words:" >&2
    tail -n 30 "$out/s3.log" >&2
    return 1
}

start_storage() {
    local node
    for node in 1 2 3; do
        start "storage $node" "$out/storage-$node.log" "$quire" storage --node-id "$node" \
            --listen "127.0.0.1:$((port + node - 1))" --http "127.0.0.1:$((port + 2 + node))" --peers "$peers" \
            --data-dir "$data/storage-$node" --object-store "$object_store"
    done
    for node in 1 2 3; do
        wait_ready "storage $node" "$out/storage-$node.log" "http://127.0.0.1:$((port + 2 + node))/readyz"
    done
}

start_compute() {
    local node
    for node in 1 2; do
        start "compute $node" "$out/compute-$node.log" "$quire" compute --storage "$storage" \
            --listen "127.0.0.1:$((port + 5 + node))" --http "127.0.0.1:$((port + 7 + node))" --cache-dir "$data/compute-$node"
    done
    for node in 1 2; do
        wait_ready "compute $node" "$out/compute-$node.log" "http://127.0.0.1:$((port + 7 + node))/readyz"
    done
}

# storage: 0 to 2 and HTTP 3 to 5; compute: 6, 7 and HTTP 8, 9; S3: 10
port=$(free_ports 11)
peers=1=127.0.0.1:$port,2=127.0.0.1:$((port + 1)),3=127.0.0.1:$((port + 2))
storage=127.0.0.1:$port,127.0.0.1:$((port + 1)),127.0.0.1:$((port + 2))
url_1=postgres://quire@127.0.0.1:$((port + 6))/quire
url_2=postgres://quire@127.0.0.1:$((port + 7))/quire
on_exit at_end

if [ -n "${OBJECT_STORE:-}" ]; then
    object_store=$OBJECT_STORE
elif [ -x tests/s3/server.py ]; then
    object_store=s3://quire/cluster
    start_s3 "$((port + 10))"
else
    object_store=file://$data/objects
fi
echo "three storage nodes over $object_store"
start_storage
"$quire" admin status --storage "$storage"
echo "two compute nodes"
start_compute

attend "$quire" tpch load --url "$url_1" --scale "$scale" --json "$out/load.json"
status=0
attend "$quire" tpch run --url "$url_2" --scale "$scale" --json "$out/run.json" --html "$out/report.html" || status=$?
if [ -f "$out/run.json" ]; then
    # once more, with the load
    attend "$quire" tpch report "$out/load.json" "$out/run.json" --out "$out/report.html" >/dev/null
fi
"$quire" admin status --storage "$storage"
exit "$status"
