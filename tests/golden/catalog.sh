#!/usr/bin/env bash
# Writes crates/quire-sql/src/system/relations.txt: the system relations of a running PostgreSQL 15 and their columns.
#
#     tests/golden/catalog.sh postgres://USER@HOST:PORT/DATABASE
set -euo pipefail

url=${1:?the URL of a PostgreSQL 15}
out="$(dirname "${BASH_SOURCE[0]}")/../../crates/quire-sql/src/system/relations.txt"
head=$(grep '^#' "$out")
{
    echo "$head"
    psql -X -q -At "$url" <<'SQL'
SELECT n.nspname || '.' || c.relname || ' ' || c.oid || ' ' || c.relkind::text || E'\n' ||
       string_agg('  ' || a.attname || ' ' || coalesce(b.typname, t.typname) || CASE WHEN a.attnotnull THEN ' !' ELSE '' END,
                  E'\n' ORDER BY a.attnum)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype
WHERE n.nspname IN ('pg_catalog', 'information_schema') AND c.relkind IN ('r', 'v')
GROUP BY n.nspname, c.relname, c.oid, c.relkind
ORDER BY n.nspname DESC, c.relname
SQL
} >"$out.new"
mv "$out.new" "$out"
