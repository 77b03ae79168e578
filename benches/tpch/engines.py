"""The engines that are libraries, each in a process of its own: its memory is its own, and what it does ends with it.

`serve` is the child's side: it answers one request at a time. A time ends when all rows are in the child's memory, in the
engine's own form (Arrow); making Python of them is not timed.
"""

import os
import pathlib
import time
import traceback
from abc import ABC, abstractmethod
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from . import schema
from .compare import Row, canonical


@dataclass(frozen=True)
class Settings:
    engine: str
    threads: int
    # CSV files; the database file and the Parquet files are made beside each other in `work`
    csv: pathlib.Path
    work: pathlib.Path

    @property
    def database(self) -> pathlib.Path:
        return self.work / "tpch.duckdb"

    def parquet(self, table: str) -> pathlib.Path:
        return self.work / f"{table}.parquet"


def arrow_rows(batches: list[Any]) -> list[Row]:
    """The rows of Arrow batches; two columns may have one name."""
    rows: list[Row] = []
    for batch in batches:
        columns = [[canonical(cell) for cell in column.to_pylist()] for column in batch.columns]
        rows.extend(zip(*columns))
    return rows


class Engine(ABC):
    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def load(self) -> dict[str, float]:
        """Makes the tables: seconds by step. Only a step called `copy` is a load that can be compared."""

    @abstractmethod
    def execute(self, sql: str) -> list[Any]:
        """All rows of the answer, as Arrow batches."""

    def run(self, sql: str) -> tuple[float, list[Row]]:
        started = time.perf_counter()
        batches = self.execute(sql)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return elapsed_ms, arrow_rows(batches)


class DuckDb(Engine):
    """Tables of its own in memory."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        import duckdb

        config: dict[str, Any] = {"threads": settings.threads, "temp_directory": str(settings.work / f"{settings.engine}.tmp")}
        self.module = duckdb
        self.connection = duckdb.connect(self.target(), config=config)

    def target(self) -> str:
        return ":memory:"

    def version(self) -> str:
        return f"DuckDB {self.module.__version__}"

    def load(self) -> dict[str, float]:
        started = time.perf_counter()
        for table in schema.TABLES:
            self.connection.execute(schema.create(table)).fetchall()
            # fetching is what completes a statement
            self.connection.execute(f"COPY {table} FROM '{self.settings.csv / table}.csv' (HEADER)").fetchall()
        self.finish_load()
        return {"copy": time.perf_counter() - started}

    def finish_load(self) -> None:
        pass

    def execute(self, sql: str) -> list[Any]:
        return list(self.connection.sql(sql).to_arrow_table().to_batches())


class DuckDbFile(DuckDb):
    """Tables of its own in a database file, which is on disk when the load ends. It also writes the Parquet files."""

    def target(self) -> str:
        return str(self.settings.database)

    def finish_load(self) -> None:
        self.connection.execute("CHECKPOINT").fetchall()

    def load(self) -> dict[str, float]:
        seconds, started = super().load(), time.perf_counter()
        for table in schema.TABLES:
            path = self.settings.parquet(table)
            self.connection.execute(f"COPY {table} TO '{path}' (FORMAT parquet)").fetchall()
        return seconds | {"parquet": time.perf_counter() - started}


class DuckDbParquet(DuckDb):
    """Views of Parquet files."""

    def load(self) -> dict[str, float]:
        for table in schema.TABLES:
            self.connection.execute(f"CREATE VIEW {table} AS FROM '{self.settings.parquet(table)}'").fetchall()
        return {}


class DataFusion(Engine):
    """Parquet files."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        os.environ["TOKIO_WORKER_THREADS"] = str(settings.threads)
        import datafusion

        config = datafusion.SessionConfig().with_target_partitions(settings.threads)
        # the queries' constants are exact numbers, as in the other systems
        config = config.set("datafusion.sql_parser.parse_float_as_decimal", "true")
        self.module = datafusion
        self.context = datafusion.SessionContext(config)

    def version(self) -> str:
        return f"DataFusion {self.module.__version__} (Python)"

    def load(self) -> dict[str, float]:
        for table in schema.TABLES:
            self.context.register_parquet(table, str(self.settings.parquet(table)))
        return {}

    def execute(self, sql: str) -> list[Any]:
        return list(self.context.sql(sql).collect())


ENGINES: dict[str, type[Engine]] = {
    "duckdb": DuckDb,
    "duckdb-file": DuckDbFile,
    "duckdb-parquet": DuckDbParquet,
    "datafusion": DataFusion,
}


def serve(pipe: Connection, settings: Settings) -> None:
    """Answers (method, arguments) with (True, result) or (False, what went wrong), until the other end closes."""
    engine: Engine | None = None
    while True:
        try:
            method, arguments = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            # the process ends at once: a query that nobody waits for any more does not hold it up
            os._exit(0)
        try:
            engine = engine or ENGINES[settings.engine](settings)
            pipe.send((True, getattr(engine, method)(*arguments)))
        except Exception as error:
            pipe.send((False, "".join(traceback.format_exception_only(error)).strip()))
