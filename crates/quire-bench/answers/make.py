#!/usr/bin/env python3
"""Makes the reference answers: DuckDB runs ../queries over the CSV files of each scale. See README.md."""

import pathlib
import re
import sys

import duckdb

HERE = pathlib.Path(__file__).parent
# longer answers are kept as their number of rows and a hash that does not depend on the order
ROWS_MAX = 2000
# averages and ratios come in double precision: they are compared with a tolerance, so they cannot be hashed
APPROXIMATE = {1, 8, 14, 17}
# ORDER BY as columns of the answer, for the queries with LIMIT
LIMITED = {2: (100, [0, 2, 1, 3]), 3: (10, [1, 2]), 10: (20, [2]), 18: (100, [4, 3]), 21: (100, [1, 0])}


def create_tables(connection, directory, load=True):
    """The tables with the types that schema.rs gives them, and their rows."""
    source = (HERE / "../src/schema.rs").read_text()
    columns = source[source.index("fn columns(self)") :]
    for name in ["region", "nation", "supplier", "part", "partsupp", "customer", "orders", "lineitem"]:
        variant = {"partsupp": "PartSupp", "lineitem": "LineItem"}.get(name, name.capitalize())
        body = columns.split(f"Table::{variant} => &[", 1)[1].split("]", 1)[0]
        definitions = re.findall(r'"([^"]+)"', body)
        connection.execute(f"CREATE TABLE {name} ({', '.join(definitions)})").fetchall()
        if load:
            connection.execute(f"COPY {name} FROM '{directory}/{name}.csv' (HEADER)").fetchall()


def canonical(value):
    if value is None:
        return "\\N"
    text = str(value).rstrip(" ")
    if re.fullmatch(r"-?\d+\.\d+", text):
        text = text.rstrip("0").rstrip(".")
        text = "0" if text == "-0" else text
    assert "|" not in text and "\n" not in text
    return text


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def answer(connection, number, scale):
    sql = (HERE / f"../queries/q{number:02}.sql").read_text()
    sql = sql.replace("{fraction}", f"{0.0001 / scale:.14f}".rstrip("0"))
    result = connection.execute(sql)
    names = [column[0] for column in result.description]
    rows = result.fetchall()
    if number in LIMITED:
        limit, keys = LIMITED[number]
        everything = connection.execute(sql[: sql.rindex("limit")]).fetchall()
        if len(everything) > limit:
            last, cut = (tuple(row[key] for key in keys) for row in everything[limit - 1 : limit + 1])
            assert last != cut, f"query {number}: which of some equal rows belong to the answer is open"
    lines = ["|".join(map(canonical, row)) for row in rows]
    assert all(isinstance(cell, float) <= (number in APPROXIMATE) for row in rows for cell in row), f"query {number}: a float"
    head = "|".join(names) + "\n"
    if len(lines) <= ROWS_MAX:
        return head + "".join(line + "\n" for line in lines)
    assert number not in APPROXIMATE
    return head + f"#rows {len(lines)}\n#hash {sum(fnv1a(line.encode()) for line in lines) % 2**64:016x}\n"


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: make.py SCALE=DIRECTORY …, with the directory of `quire tpch generate`")
    for argument in sys.argv[1:]:
        scale, directory = argument.split("=", 1)
        connection = duckdb.connect()
        create_tables(connection, directory)
        out = HERE / f"sf{scale}"
        out.mkdir(exist_ok=True)
        for number in range(1, 23):
            (out / f"q{number:02}.csv").write_text(answer(connection, number, float(scale)))
        print(f"scale {scale}: DuckDB {duckdb.__version__}, {sum(path.stat().st_size for path in out.iterdir())} bytes")


if __name__ == "__main__":
    main()
