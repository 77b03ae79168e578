"""Rows that are written anew as they were: answers stay, but the rows are now elsewhere.

Into segments: an UPDATE of many rows that sets a column to itself. Into the delta: a transaction that deletes few rows and brings them
back by COPY. Of few rows, too, a statement writes a segment when they take more than 4 MiB of memory. In an UPDATE they count with what
their strings share with other rows, and in COPY each column of texts beyond 12 bytes has a buffer of its own size, so that tables with
four of these do not get into the delta this way: they are left out.

Which rows: those whose key has a certain remainder, so that they lie everywhere in the table and no row is in both sets.
"""

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cluster import Unfit  # benches/cluster.py

# Of a statement that becomes segments: so that they are full ones, which compaction leaves alone, and the row ids that it deletes are
# well below what one log entry may have.
BULK_ROWS = 1_000_000
# Of a transaction that goes into the delta; 16,384 would become a segment.
SMALL_ROWS = 1_000
CONNECTIONS = 4
# Other transactions change other rows, so that there is no reason for many.
TRIES_MAX = 5


@dataclass(frozen=True)
class Table:
    name: str
    key: str
    column: str


# Not region and nation: a tenth of 25 rows is nothing to measure.
TABLES = (
    Table("supplier", "s_suppkey", "s_comment"),
    Table("part", "p_partkey", "p_comment"),
    Table("partsupp", "ps_partkey", "ps_comment"),
    Table("customer", "c_custkey", "c_comment"),
    Table("orders", "o_orderkey", "o_comment"),
    Table("lineitem", "l_orderkey", "l_comment"),
)

# Those with fewer than four columns of long texts; they have 96 % of all rows.
DELTA_TABLES = tuple(table for table in TABLES if table.name in ("partsupp", "orders", "lineitem"))


@dataclass(frozen=True)
class Share:
    """Rows whose key divided by `by` leaves `rest`."""

    by: int
    rest: int

    def where(self, key: str) -> str:
        return f"{key} % {self.by} = {self.rest}"


# 57 leaves 7 when divided by 10: the shares have no row in common. Order keys are 8 of each 32; of them, too, these are a tenth and a
# hundredth.
TENTH = Share(10, 3)
HUNDREDTH = Share(100, 57)


@dataclass(frozen=True)
class Extent:
    rows: int
    first: int
    last: int


def spans(extent: Extent, parts: int) -> Iterator[tuple[int, int]]:
    """The keys in so many ranges (from, to), the last one excluded."""
    width = extent.last + 1 - extent.first
    edges = [extent.first + width * part // parts for part in range(parts + 1)]
    yield from ((low, high) for low, high in itertools.pairwise(edges) if low < high)


def conditions(table: Table, extent: Extent, share: Share, rows_max: int) -> list[str]:
    """The share in parts, each of about so many rows at most."""
    parts = max(1, math.ceil(extent.rows / share.by / rows_max))
    return [f"{share.where(table.key)} AND {table.key} >= {low} AND {table.key} < {high}" for low, high in spans(extent, parts)]


def update(connection: Any, table: Table, where: str) -> int:
    return int(connection.execute(f"UPDATE {table.name} SET {table.column} = {table.column} WHERE {where}").rowcount)


def bring_back(connection: Any, table: Table, where: str) -> int:
    with connection.transaction(), connection.cursor() as cursor:
        with cursor.copy(f"COPY (SELECT * FROM {table.name} WHERE {where}) TO STDOUT") as copy:
            rows = b"".join(map(bytes, copy))
        deleted = cursor.execute(f"DELETE FROM {table.name} WHERE {where}").rowcount
        with cursor.copy(f"COPY {table.name} FROM STDIN") as copy:
            copy.write(rows)
        if cursor.rowcount != deleted:
            raise Unfit(f"{table.name}: {deleted} rows deleted and {cursor.rowcount} brought back")
        return int(deleted)


def extent_of(connection: Any, table: Table) -> Extent:
    row = connection.execute(f"SELECT count(*), min({table.key}), max({table.key}) FROM {table.name}").fetchone()
    return Extent(*map(int, row))


@dataclass
class Done:
    rows: int = 0
    transactions: int = 0
    retries: int = 0


Change = Callable[[Any, Table, str], int]


def run(connect: Callable[[], Any], table: Table, wheres: list[str], write: Change) -> Done:
    """Each part is a transaction; one that loses to another is run again."""
    import psycopg

    done = Done()
    with connect() as connection:
        for where in wheres:
            for attempt in range(TRIES_MAX):
                try:
                    done.rows += write(connection, table, where)
                    break
                except psycopg.errors.SerializationFailure:
                    if attempt + 1 == TRIES_MAX:
                        raise
                    done.retries += 1
            done.transactions += 1
    return done


def run_at_once(connect: Callable[[], Any], table: Table, wheres: list[str], write: Change, connections: int) -> Done:
    """Each connection takes its share of the parts."""
    lists = [wheres[at::connections] for at in range(min(connections, len(wheres)))]
    with ThreadPoolExecutor(connections) as pool:
        parts = list(pool.map(lambda mine: run(connect, table, mine, write), lists))
    return Done(sum(p.rows for p in parts), sum(p.transactions for p in parts), sum(p.retries for p in parts))


Tables = tuple[Table, ...]


def change(
    connect: Callable[[], Any], tables: Tables, share: Share, rows_max: int, write: Change, connections: int
) -> list[dict[str, Any]]:
    """Writes the share of the tables anew; what that was, by table."""
    found = []
    for table in tables:
        with connect() as connection:
            extent = extent_of(connection, table)
        done = run_at_once(connect, table, conditions(table, extent, share, rows_max), write, connections)
        print(f"{table.name}: {done.rows} of {extent.rows} rows in {done.transactions} transactions", file=sys.stderr, flush=True)
        row = {"table": table.name, "rows": extent.rows, "changed": done.rows}
        found.append(row | {"transactions": done.transactions, "retries": done.retries})
    return found


def into_segments(connect: Callable[[], Any]) -> list[dict[str, Any]]:
    return change(connect, TABLES, TENTH, BULK_ROWS, update, 1)


def into_delta(connect: Callable[[], Any]) -> list[dict[str, Any]]:
    return change(connect, DELTA_TABLES, HUNDREDTH, SMALL_ROWS, bring_back, CONNECTIONS)
