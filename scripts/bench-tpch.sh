#!/usr/bin/env bash
# bench-tpch.sh [QUIRE]: TPC-H on Quire (three storage nodes and a compute node, a process each), DuckDB, DataFusion and
# PostgreSQL, query by query in turn. docs/benchmarks/README.md says what is measured and how to read it.
#
#   SCALE=1              scale factor
#   SYSTEMS=LIST         some of quire,duckdb,duckdb-parquet,datafusion,postgres (all of them) and duckdb-file
#   REPEATS=5            timed runs of each query, after a first one
#   PG_REPEATS=1         the same for PostgreSQL
#   THREADS=2            threads of each system; where there are more processors, all of it is bound to so many
#   PARAMS=SEED          other substitution parameters than the validation ones
#   SHUFFLE=SEED         also with the FROM lists shuffled, on SHUFFLE_SYSTEMS=quire
#   METRICS=1            power, throughput and QphH at the end, of Quire (or of a list: quire,postgres); STREAMS=N
#   TIMEOUT=600          seconds after which a query has failed
#   CSV=DIR              the files of `quire tpch generate`, if they are there already
#   OBJECT_STORE=URL     Quire's, instead of a directory
#   PG_BIN=DIR           where PostgreSQL's programs are, when not in PATH or where Debian has them
#   OUT=DIR              where the report goes (docs/benchmarks)
#   LOGS=DIR             where the servers' logs go (reports/bench-tpch)
#   KEEP=1               keep the data
#
# Without QUIRE, CSV must be given and SYSTEMS must do without quire. Run it on an otherwise idle machine. The exit status is
# 0 only if all answers are right; a bar that is missed is reported, not an error.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

quire=${1:+$(realpath "$1")}
scale=${SCALE:-1}
threads=${THREADS:-2}
systems=${SYSTEMS:-quire,duckdb,duckdb-parquet,datafusion,postgres}
metrics=${METRICS:-}
[ "$metrics" != 1 ] || metrics=quire
out=${OUT:-docs/benchmarks}
logs=${LOGS:-reports/bench-tpch}
mkdir -p "$out" "$logs"
logs=$(cd "$logs" && pwd)

chosen() { [[ ",$systems," == *",$1,"* ]]; }

if [ -z "$quire" ] && { chosen quire || [ -z "${CSV:-}" ] || [ -n "$metrics" ]; }; then
    echo "bench-tpch.sh: without the program quire there must be CSV=, and neither quire in SYSTEMS nor METRICS" >&2
    exit 2
fi

# Everything below inherits it.
if [ "$(nproc)" -gt "$threads" ]; then
    taskset -pc "0-$((threads - 1))" $$ >/dev/null
fi

work=$(scratch_dir quire-bench-tpch)
mkdir "$work"/{csv,files,quire,postgres}
csv=${CSV:-$work/csv}
arguments=()

at_end() { keep_or_remove "$1" "$logs" "$work"; }

# Storage: ports 0 to 2 and HTTP 3 to 5; compute: 6 and HTTP 7.
start_quire() {
    local port node storage='' peers='' object_store pids_of=''
    port=$(free_ports 8)
    object_store=${OBJECT_STORE:-file://$work/quire/objects}
    for node in 1 2 3; do
        storage+=,127.0.0.1:$((port + node - 1))
        peers+=,$node=127.0.0.1:$((port + node - 1))
    done
    for node in 1 2 3; do
        start "storage $node" "$logs/storage-$node.log" "$quire" storage --node-id "$node" \
            --listen "127.0.0.1:$((port + node - 1))" --http "127.0.0.1:$((port + 2 + node))" --peers "${peers#,}" \
            --data-dir "$work/quire/storage-$node" --object-store "$object_store"
        pids_of+=,storage-$node=${pids[-1]}
    done
    for node in 1 2 3; do
        wait_ready "storage $node" "$logs/storage-$node.log" "http://127.0.0.1:$((port + 2 + node))/readyz"
    done
    start compute "$logs/compute.log" "$quire" compute --storage "${storage#,}" --listen "127.0.0.1:$((port + 6))" \
        --http "127.0.0.1:$((port + 7))" --cache-dir "$work/quire/compute"
    pids_of+=,compute=${pids[-1]}
    wait_ready compute "$logs/compute.log" "http://127.0.0.1:$((port + 7))/readyz"
    arguments+=(--quire-url "postgres://quire@127.0.0.1:$((port + 6))/quire" --quire-pids "${pids_of#,}")
}

# Debian keeps the server's programs out of PATH.
find_postgres() {
    local dir
    for dir in ${PG_BIN:-$(dirname "$(type -P initdb)") $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV)}; do
        if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && [ -x "$dir/pg_isready" ]; then
            echo "$dir"
            return 0
        fi
    done
    echo "bench-tpch.sh: there is no PostgreSQL server: apt-get install postgresql" >&2
    return 1
}

# As for analytics: a quarter of the memory is its cache, its workers and the leader are as many processes as the others have
# threads. PostgreSQL refuses to run as root; setpriv becomes the program, so that our signals reach it.
start_postgres() {
    local bin port i data=$work/postgres memory_mb as_postgres
    bin=$(find_postgres)
    port=$(free_ports 1)
    memory_mb=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
    as_postgres=(env -C "$data")
    if [ "$(id -u)" -eq 0 ]; then
        as_postgres+=(setpriv --reuid=postgres --regid=postgres --init-groups)
        chown postgres:postgres "$data"
        chmod 711 "$work"
    fi
    "${as_postgres[@]}" "$bin/initdb" -D "$data/data" -U postgres -A trust -E UTF8 --locale=C >"$logs/initdb.log"
    "${as_postgres[@]}" tee -a "$data/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = '$((memory_mb / 4))MB'
effective_cache_size = '$((memory_mb / 2))MB'
work_mem = '256MB'
maintenance_work_mem = '1GB'
max_wal_size = '8GB'
random_page_cost = 1.1
max_parallel_workers_per_gather = $((threads - 1))
max_parallel_workers = $((threads - 1))
max_parallel_maintenance_workers = $((threads - 1))
CONF
    start postgres "$logs/postgres.log" "${as_postgres[@]}" "$bin/postgres" -D "$data/data" -c port="$port"
    for ((i = 0; i < 150; i++)); do
        ! "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" || break
        sleep 0.2
    done
    "$bin/pg_isready" -h 127.0.0.1 -p "$port"
    arguments+=(--postgres-url "postgres://postgres@127.0.0.1:$port/postgres" --postgres-pids "postgres=${pids[-1]}")
}

on_exit at_end
python=$(bench_python)
[ -n "${CSV:-}" ] || "$quire" tpch generate --scale "$scale" --out "$csv"
! chosen quire || start_quire
! chosen postgres || start_postgres
[ -z "${PARAMS:-}" ] || arguments+=(--params "$PARAMS")
[ -z "${SHUFFLE:-}" ] || arguments+=(--shuffle "$SHUFFLE" --shuffle-systems "${SHUFFLE_SYSTEMS:-quire}")
[ -z "$metrics" ] || arguments+=(--metrics "$metrics" --refresh "$quire")
[ -z "${STREAMS:-}" ] || arguments+=(--streams "$STREAMS")
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 attend "$python" -m tpch --csv "$csv" --work "$work/files" --out "$out" \
    --scale "$scale" --systems "$systems" --threads "$threads" --repeats "${REPEATS:-5}" --pg-repeats "${PG_REPEATS:-1}" \
    --timeout "${TIMEOUT:-600}" "${arguments[@]}"
