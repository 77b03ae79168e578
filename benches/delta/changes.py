"""Rows that are written anew as they were: answers stay, but the rows are now elsewhere.

UPDATE deletes a row and inserts it again, so a column set to itself does. Large statements write segments; small ones go through the
log into the delta (docs/architecture.md, bulk load). Which rows: those whose key has a certain remainder, so that they lie everywhere
in the table and no row is in both sets.
"""

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

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


def statements(table: Table, extent: Extent, share: Share, rows_max: int) -> list[str]:
    """UPDATEs of the share, each of about so many rows at most."""
    parts = max(1, math.ceil(extent.rows / share.by / rows_max))
    head = f"UPDATE {table.name} SET {table.column} = {table.column} WHERE {share.where(table.key)}"
    return [f"{head} AND {table.key} >= {low} AND {table.key} < {high}" for low, high in spans(extent, parts)]


def extent_of(connection: Any, table: Table) -> Extent:
    row = connection.execute(f"SELECT count(*), min({table.key}), max({table.key}) FROM {table.name}").fetchone()
    return Extent(*map(int, row))


@dataclass
class Done:
    rows: int = 0
    transactions: int = 0
    retries: int = 0


def run(connect: Callable[[], Any], texts: list[str]) -> Done:
    """Each statement is a transaction; one that loses to another is run again."""
    import psycopg

    done = Done()
    with connect() as connection:
        for text in texts:
            for attempt in range(TRIES_MAX):
                try:
                    done.rows += connection.execute(text).rowcount
                    break
                except psycopg.errors.SerializationFailure:
                    if attempt + 1 == TRIES_MAX:
                        raise
                    done.retries += 1
            done.transactions += 1
    return done


def run_at_once(connect: Callable[[], Any], texts: list[str], connections: int) -> Done:
    """Each connection takes its share of the statements."""
    lists = [texts[at::connections] for at in range(min(connections, len(texts)))]
    with ThreadPoolExecutor(connections) as pool:
        parts = list(pool.map(lambda mine: run(connect, mine), lists))
    return Done(sum(p.rows for p in parts), sum(p.transactions for p in parts), sum(p.retries for p in parts))


def change(connect: Callable[[], Any], share: Share, rows_max: int, connections: int) -> list[dict[str, Any]]:
    """Writes the share of all tables anew; what that was, by table."""
    found = []
    for table in TABLES:
        with connect() as connection:
            extent = extent_of(connection, table)
        texts = statements(table, extent, share, rows_max)
        done = run_at_once(connect, texts, connections)
        print(f"{table.name}: {done.rows} of {extent.rows} rows in {done.transactions} transactions", file=sys.stderr, flush=True)
        row = {"table": table.name, "rows": extent.rows, "changed": done.rows}
        found.append(row | {"transactions": done.transactions, "retries": done.retries})
    return found
