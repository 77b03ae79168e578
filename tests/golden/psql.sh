#!/usr/bin/env bash
# Writes tests/golden/psql/*.out: what PostgreSQL 15 and its psql say to psql/*.sql. tests/e2e/psql.rs compares Quire with it.
# Needs Debian's postgresql-15; as root the server runs as the user postgres.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/psql"
bin=/usr/lib/postgresql/15/bin
data=$(mktemp -d)
port=$((20000 + $$ % 10000))
as=()
if [ "$(id -u)" -eq 0 ]; then
    as=(runuser -u postgres --)
    chown postgres "$data"
fi
cleanup() {
    (cd / && "${as[@]}" "$bin/pg_ctl" -D "$data/data" -m immediate stop >/dev/null)
    rm -rf "$data"
}
(cd / && "${as[@]}" "$bin/initdb" -D "$data/data" -U quire -A trust --locale=C.UTF-8 --encoding=UTF8 --no-sync >/dev/null)
trap cleanup EXIT
(cd / && "${as[@]}" "$bin/pg_ctl" -D "$data/data" -l "$data/log" -w -o "-p $port -k $data -c listen_addresses=127.0.0.1 -c timezone=UTC" start >/dev/null)
for script in *.sql; do
    here=$PWD scratch=$(mktemp -d)
    PGOPTIONS='-c client_min_messages=warning' psql -X -q -h 127.0.0.1 -p "$port" -U quire postgres -c 'DROP DATABASE IF EXISTS quire' -c 'CREATE DATABASE quire'
    (cd "$scratch" && psql -X -a -h 127.0.0.1 -p "$port" -U quire quire <"$here/$script" >"$here/${script%.sql}.out" 2>&1) || true
    rm -rf "$scratch"
    echo "${script%.sql}.out"
done
