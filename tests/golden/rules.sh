#!/usr/bin/env bash
# Writes tests/golden/rules/*.out: PostgreSQL 15's answers to the queries in tests/e2e/rules. tests/e2e/rules.rs compares Quire's with them.
# Needs Debian's postgresql-15; as root the server runs as the user postgres.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/rules"
queries=$PWD/../../e2e/rules
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
for name in movies retail; do
    psql -X -q -h 127.0.0.1 -p "$port" -U quire postgres -c "CREATE DATABASE $name"
    quiet=(psql -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U quire "$name")
    "${quiet[@]}" <"$queries/${name}_data.sql"
    "${quiet[@]}" -c ANALYZE
    # a query's name goes before its rows
    sed -E 's/^-- ([a-z0-9_]+)$/\\echo -- \1/' "$queries/$name.sql" | "${quiet[@]}" -A -t -F ' | ' -P null=NULL >"$name.out"
    echo "$name.out"
done
