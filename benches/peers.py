#!/usr/bin/env python3
"""The peers' figures on this machine: DuckDB's load of the CSV files, DataFusion's 22 queries over Parquet.

usage: peers.py DIRECTORY [--scale N] [--threads 2] [--warmup 1] [--repeats 3] [--duckdb-queries] [--json FILE]

DIRECTORY holds the files of `quire tpch generate`. Needs `pip install duckdb datafusion`; see README.md. Prints JSON in
the form that `quire tpch report` reads beside Quire's own.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys
import tempfile
import time
from decimal import Decimal

import datafusion
import duckdb

BENCH = pathlib.Path(__file__).resolve().parent.parent / "crates/quire-bench"
sys.dont_write_bytecode = True
sys.path.insert(0, str(BENCH / "answers"))
import make  # noqa: E402  the script of the reference answers: schema, canonical cells, hash
from machine import machine  # noqa: E402

TABLES = ["region", "nation", "supplier", "part", "partsupp", "customer", "orders", "lineitem"]


def record(name, server, scale, **parts):
    head = {"name": name, "at_unix_seconds": int(time.time()), "machine": machine(), "server": server}
    return head | {"bench": "benches/peers.py", "scale": scale} | parts


def duckdb_load(directory, database, threads):
    """Loads the files into a database on disk; it is on disk, not only in the WAL, when the clock stops."""
    connection = duckdb.connect(str(database), config={"threads": threads})
    make.create_tables(connection, directory, load=False)
    tables, started = [], time.perf_counter()
    for table in TABLES:
        path, begin = directory / f"{table}.csv", time.perf_counter()
        # fetching everything is what completes a statement
        ((rows,),) = connection.execute(f"COPY {table} FROM '{path}' (HEADER)").fetchall()
        seconds = time.perf_counter() - begin
        tables.append({"table": table, "rows": rows, "bytes": path.stat().st_size, "seconds": seconds})
    connection.execute("CHECKPOINT").fetchall()
    seconds = time.perf_counter() - started
    load = {"seconds": seconds, "analyze_seconds": 0.0, "source": "CSV files", "connections": 1, "tables": tables}
    return connection, load | {"bytes": sum(t["bytes"] for t in tables), "rows": sum(t["rows"] for t in tables)}


def datafusion_context(connection, directory, threads):
    """DataFusion over Parquet files of the same data, written by DataFusion with its defaults."""
    config = datafusion.SessionConfig().with_target_partitions(threads)
    # the queries' constants are exact numbers, as in PostgreSQL
    config = config.set("datafusion.sql_parser.parse_float_as_decimal", "true")
    context = datafusion.SessionContext(config)
    for table in TABLES:
        # a whole table in memory: enough for the scales that the ratios are about
        reader = connection.sql(f"SELECT * FROM {table}").to_arrow_reader(1 << 16)
        path = directory / f"{table}.parquet"
        context.from_arrow(reader).write_parquet(str(path))
        context.register_parquet(table, str(path))
    return context


def right(number, scale, rows):
    """Whether the answer is the reference; None where there is no reference."""
    path = BENCH / f"answers/sf{scale:g}/q{number:02}.csv"
    if not path.exists():
        return None
    ours = sorted(tuple(make.canonical(cell) for cell in row) for row in rows)
    lines = path.read_text().splitlines()[1:]
    if lines and lines[0].startswith("#rows"):
        total = sum(make.fnv1a("|".join(row).encode()) for row in ours) % 2**64
        return lines == [f"#rows {len(ours)}", f"#hash {total:016x}"]
    theirs = sorted(tuple(line.split("|")) for line in lines)
    if number not in make.APPROXIMATE:
        return ours == theirs

    def close(our, their):
        try:
            return our == their or math.isclose(Decimal(our), Decimal(their), rel_tol=1e-9, abs_tol=2e-6)
        except ArithmeticError:
            return False

    same_shape = len(ours) == len(theirs)
    return same_shape and all(close(*cells) for pair in zip(ours, theirs) for cells in zip(*pair))


def run(execute, scale, warmup, repeats):
    queries = []
    for number in range(1, 23):
        sql = (BENCH / f"queries/q{number:02}.sql").read_text()
        sql = sql.replace("{fraction}", f"{0.0001 / scale:.14f}".rstrip("0"))
        times = []
        for _ in range(warmup + repeats):
            started = time.perf_counter()
            result = execute(sql)
            times.append((time.perf_counter() - started) * 1e3)
        rows = result()
        verdict = {True: "right", False: "wrong", None: "unchecked"}[right(number, scale, rows)]
        counted = times[warmup:]
        one = {"query": number, "first_ms": times[0], "median_ms": statistics.median(counted), "times_ms": counted}
        queries.append(one | {"rows": len(rows), "answer": verdict})
        print(f"Q{number}: {statistics.median(counted):.1f} ms, {len(rows)} rows, {verdict}", file=sys.stderr)
    medians = [query["median_ms"] for query in queries]
    means = {"sum_ms": sum(medians), "geomean_ms": statistics.geometric_mean(medians)}
    return {"warmup": warmup, "repeats": repeats} | means | {"queries": queries}


def in_datafusion(context):
    def execute(sql):
        batches = context.sql(sql).collect()
        return lambda: [tuple(row.values()) for batch in batches for row in named_uniquely(batch).to_pylist()]

    return execute


def named_uniquely(batch):
    return batch.rename_columns([str(index) for index in range(batch.num_columns)])


def in_duckdb(connection):
    def execute(sql):
        rows = connection.execute(sql).fetchall()
        return lambda: rows

    return execute


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--scale", type=float, help="found out from customer.csv when not given")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--duckdb-queries", action="store_true", help="run the queries in DuckDB, too")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=args.directory, prefix="peers-") as scratch:
        scratch = pathlib.Path(scratch)
        connection, load = duckdb_load(args.directory, scratch / "duck.db", args.threads)
        ((customers,),) = connection.execute("SELECT count(*) FROM customer").fetchall()
        scale = args.scale or customers / 150_000
        threads = f"{args.threads} threads"
        version = f"DuckDB {duckdb.__version__}"
        print(f"{version}: loaded in {load['seconds']:.2f} s", file=sys.stderr)
        records = [record(version, f"{version}, {threads}", scale, load=load)]
        if args.duckdb_queries:
            timed = run(in_duckdb(connection), scale, args.warmup, args.repeats)
            records.append(record(version, f"{version}, {threads}", scale, run=timed))
        context = datafusion_context(connection, scratch, args.threads)
        connection.close()
        version = f"DataFusion {datafusion.__version__}"
        timed = run(in_datafusion(context), scale, args.warmup, args.repeats)
        records.append(record(version, f"{version} (Python), {threads}, Parquet", scale, run=timed))
        print(f"{version}: sum of medians {timed['sum_ms']:.0f} ms", file=sys.stderr)
    text = json.dumps(records, indent=1)
    if args.json:
        args.json.write_text(text + "\n")
    else:
        print(text)


main()
