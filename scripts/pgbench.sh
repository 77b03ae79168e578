#!/usr/bin/env bash
# pgbench.sh QUIRE: pgbench against Quire, and against PostgreSQL with two synchronous standbys on the same machine.
#
#   SCALE=10             pgbench's scale factor: 100,000 accounts each
#   DURATION=10          seconds of one run
#   ROUNDS=1             the median of so many runs counts
#   CLIENTS='1 8 32'     numbers of clients
#   SCRIPTS='tpcb-like simple-update select-only'
#   PG_BIN=DIR           where PostgreSQL's programs are, when not in PATH or where Debian has them
#   OUT=DIR              where measurements and logs go (reports/pgbench)
#   KEEP=1               keep the data directory
#
# Run it on an otherwise idle machine. The exit status is 0 only if every run completed and the balances were right.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

quire=$(realpath "${1:?usage: pgbench.sh QUIRE}")
read -ra clients <<<"${CLIENTS:-1 8 32}"
read -ra scripts <<<"${SCRIPTS:-tpcb-like simple-update select-only}"

# Debian keeps the server's programs out of PATH. pgbench tries again after a conflict since version 15.
find_postgres() {
    local dir
    for dir in ${PG_BIN:-$(dirname "$(type -P initdb)") $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV)}; do
        if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && [ -x "$dir/psql" ] && [ -x "$dir/pgbench" ] &&
            "$dir/pgbench" --help | grep -e --max-tries >/dev/null; then
            echo "$dir"
            return 0
        fi
    done
    echo "pgbench.sh: there is no PostgreSQL 15 or later (server, psql, pgbench): apt-get install postgresql-contrib" >&2
    return 1
}
bin=$(find_postgres)

out=${OUT:-reports/pgbench}
mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -f "$out/pgbench.json"
work=$(scratch_dir quire-pgbench)
mkdir "$work/quire" "$work/postgres"

# PostgreSQL refuses to run as root. setpriv becomes the program, so that our signals reach it.
as_postgres=(env -C "$work/postgres")
if [ "$(id -u)" -eq 0 ]; then
    as_postgres+=(setpriv --reuid=postgres --regid=postgres --init-groups)
    chown postgres:postgres "$work/postgres"
    chmod 711 "$work"
fi

at_end() { keep_or_remove "$1" "$out" "$work"; }

# Three storage nodes, PostgreSQL's door, HTTP; then PostgreSQL's primary and its standbys.
port=$(free_ports 8)
quire_url=postgres://quire@127.0.0.1:$((port + 3))/quire
primary=$((port + 5))
postgres_url=postgres://postgres@127.0.0.1:$primary/postgres

# Standbys that follow the primary without a break: those on whose disk a commit can be.
standbys() {
    "$bin/psql" -XAtq -d "$postgres_url" \
        -c "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'quorum'" 2>/dev/null
}

# A commit is on the disk of the primary and of one standby before it is acknowledged: two of three, as in Quire.
# Settings are the defaults but for memory, and for WAL that a slow standby may still fetch. The standbys are copies of
# the new, stopped primary. They are started first, hence stopped last: a commit that waits for one ends.
start_postgres() {
    local i found='' data=$work/postgres
    "${as_postgres[@]}" "$bin/initdb" -D "$data/primary" -U postgres -A trust -E UTF8 --locale=C >"$out/initdb.log"
    "${as_postgres[@]}" tee -a "$data/primary/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = '1GB'
wal_keep_size = '2GB'
fsync = on
synchronous_commit = on
synchronous_standby_names = 'ANY 1 (standby_1, standby_2)'
CONF
    for i in 1 2; do
        "${as_postgres[@]}" cp -a "$data/primary" "$data/standby-$i"
        "${as_postgres[@]}" touch "$data/standby-$i/standby.signal"
        start "standby $i" "$out/standby-$i.log" "${as_postgres[@]}" "$bin/postgres" -D "$data/standby-$i" \
            -c port=$((primary + i)) -c "primary_conninfo=host=127.0.0.1 port=$primary user=postgres application_name=standby_$i"
    done
    start primary "$out/primary.log" "${as_postgres[@]}" "$bin/postgres" -D "$data/primary" -c port="$primary"
    for ((i = 0; i < 300; i++)); do
        found=$(standbys || true)
        [ "$found" != 2 ] || return 0
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.2
    done
    echo "PostgreSQL's primary has ${found:-no} standbys that follow it, not 2; its last words:" >&2
    tail -n 30 "$out/primary.log" >&2
    return 1
}

start_quire() {
    local http=$((port + 4))
    # PostgreSQL writes no line for each statement unless told to, and here Quire does not either.
    start 'quire dev' "$out/server.log" env QUIRE_LOG="${QUIRE_LOG:-error}" "$quire" dev --data-dir "$work/quire" --storage-nodes 3 --compute-nodes 1 \
        --storage-listen "127.0.0.1:$port" --listen "127.0.0.1:$((port + 3))" --http "127.0.0.1:$http"
    wait_ready 'quire dev' "$out/server.log" "http://127.0.0.1:$http/readyz"
}

on_exit at_end
start_postgres
start_quire
echo "PostgreSQL: ANY 1 of 2 standbys, shared_buffers 1GB; Quire: 3 storage nodes, 1 compute node; neither logs statements; other settings: defaults"
status=0
attend python3 benches/pgbench.py --bin "$bin" --postgres "$postgres_url" --quire "$quire_url" --scale "${SCALE:-10}" \
    --duration "${DURATION:-10}" --rounds "${ROUNDS:-1}" --clients "${clients[@]}" --scripts "${scripts[@]}" \
    --fsync-dir "$work/quire" --json "$out/pgbench.json" || status=$?
if [ "$(standbys || true)" != 2 ]; then
    echo "PostgreSQL lost a standby meanwhile: its figures are not those of three copies" >&2
    status=1
fi
[ ! -f "$out/pgbench.json" ] || echo "measurements: $out/pgbench.json"
exit "$status"
