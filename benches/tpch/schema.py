"""The eight tables as crates/quire-bench/src/schema.rs declares them, and how a CSV file of one gets through COPY."""

import pathlib
import re
from collections.abc import Iterator

from .texts import BENCH

# parents before children
TABLES = ("region", "nation", "supplier", "part", "partsupp", "customer", "orders", "lineitem")

# Foreign keys that are not the beginning of a primary key (clause 1.4.2).
FOREIGN_KEYS = {
    "nation": "n_regionkey",
    "supplier": "s_nationkey",
    "partsupp": "ps_suppkey",
    "customer": "c_nationkey",
    "orders": "o_custkey",
    "lineitem": "l_partkey, l_suppkey",
}

# What is read from a file and sent at once.
READ_BYTES = 1 << 20


def declared(table: str, function: str, end: str) -> str:
    source = (BENCH / "src/schema.rs").read_text()
    variant = {"partsupp": "PartSupp", "lineitem": "LineItem"}.get(table, table.capitalize())
    return source[source.index(f"fn {function}(self)") :].split(f"Table::{variant} => ", 1)[1].split(end, 1)[0]


def columns(table: str) -> list[str]:
    return re.findall(r'"([^"]+)"', declared(table, "columns", "]"))


def primary_key(table: str) -> str:
    return declared(table, "primary_key", ",\n").strip('"')


def create(table: str, *constraints: str) -> str:
    return f"CREATE TABLE {table} ({', '.join([*columns(table), *constraints])})"


def rows_of_file(path: pathlib.Path) -> Iterator[bytes]:
    """The file in pieces, without the line that names the columns."""
    with path.open("rb") as file:
        file.readline()
        while piece := file.read(READ_BYTES):
            yield piece
