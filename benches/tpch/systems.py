"""The systems that are compared, behind one face: load, run a statement, say how much memory that took."""

import contextlib
import multiprocessing
import pathlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import memory, schema
from .compare import Row, canonical
from .engines import Settings, serve

DEFAULT = ("quire", "duckdb", "duckdb-parquet", "datafusion", "postgres")
# A library that does not answer is given up after its query's time and this, in seconds.
GRACE_SECONDS = 30


class Failed(Exception):
    """A statement that did not give an answer. The next one may."""


class Lost(Failed):
    """A system that does not answer any more."""


@dataclass
class Load:
    # by step; `copy` is reading the CSV files, until all is durable that the system makes durable
    seconds: dict[str, float] = field(default_factory=dict)
    peak: dict[str, object] = field(default_factory=dict)


class System(ABC):
    """One system with its data. `run` gives milliseconds and rows."""

    def __init__(self, name: str, title: str) -> None:
        self.name, self.title = name, title

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def load(self) -> Load: ...

    @abstractmethod
    def run(self, sql: str) -> tuple[float, list[Row]]: ...

    @abstractmethod
    def reset_peak(self) -> None: ...

    @abstractmethod
    def peak(self) -> dict[str, object]: ...

    def settings(self) -> dict[str, str]:
        """What was set otherwise than by default, for the report."""
        return {}

    def rest(self, seconds_max: float) -> float:
        return 0.0

    def close(self) -> None:
        pass


TITLES = {
    "duckdb": "DuckDB in memory",
    "duckdb-file": "DuckDB, its file",
    "duckdb-parquet": "DuckDB over Parquet",
    "datafusion": "DataFusion over Parquet",
    "postgres": "PostgreSQL",
    "quire": "Quire",
}


class Library(System):
    """An engine in a process of its own."""

    def __init__(self, settings: Settings, seconds_max: float) -> None:
        super().__init__(settings.engine, TITLES[settings.engine])
        self.config, self.seconds_max = settings, seconds_max
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, settings), name=settings.engine, daemon=True)
        self.process.start()
        theirs.close()
        self.said = self.ask("version")

    def ask(self, method: str, *arguments: object, seconds_max: float | None = None) -> object:
        try:
            self.pipe.send((method, arguments))
            if not self.pipe.poll(seconds_max):
                self.process.kill()
                raise Lost(f"no answer after {seconds_max:.0f} s")
            well, result = self.pipe.recv()
        except (EOFError, OSError):
            raise Lost(f"{self.name} has ended; was there too little memory?") from None
        if not well:
            raise Failed(str(result))
        return result

    def version(self) -> str:
        return str(self.said)

    def settings(self) -> dict[str, str]:
        return {"threads": str(self.config.threads)}

    def load(self) -> Load:
        seconds = self.ask("load")
        assert isinstance(seconds, dict)
        return Load(seconds, self.peak())

    def run(self, sql: str) -> tuple[float, list[Row]]:
        result = self.ask("run", sql, seconds_max=self.seconds_max + GRACE_SECONDS)
        assert isinstance(result, tuple)
        return result

    @property
    def pids(self) -> memory.Pids:
        return {self.name: self.process.pid or 0}

    def reset_peak(self) -> None:
        for pid in self.pids.values():
            memory.reset_peak(pid)

    def peak(self) -> dict[str, object]:
        return memory.shown(memory.peaks(self.pids))

    def close(self) -> None:
        self.pipe.close()
        self.process.join(timeout=5)
        self.process.kill()


class Server(System):
    """A server that speaks PostgreSQL's protocol. A time ends when libpq has all rows; making Python of them is not timed."""

    def __init__(self, name: str, url: str, csv: pathlib.Path, pids: memory.Pids, seconds_max: float) -> None:
        super().__init__(name, TITLES[name])
        self.url, self.csv, self.pids, self.seconds_max = url, csv, pids, seconds_max
        self.connect()

    def connect(self) -> None:
        import psycopg

        self.errors = psycopg.Error
        self.connection = psycopg.connect(self.url, autocommit=True, prepare_threshold=None)
        self.limit()

    def one(self, sql: str) -> str:
        row = self.connection.execute(sql).fetchone()
        return str(row[0]) if row else ""

    def version(self) -> str:
        return self.one("SELECT version()")

    @contextlib.contextmanager
    def unlimited(self) -> Iterator[None]:
        """Within it a statement may take as long as it likes: a load does."""
        self.connection.execute("SET statement_timeout = 0")
        yield
        self.limit()

    def limit(self) -> None:
        self.connection.execute(f"SET statement_timeout = '{self.seconds_max:.0f}s'")

    def timed(self, *statements: str) -> float:
        started = time.perf_counter()
        for statement in statements:
            self.connection.execute(statement)
        return time.perf_counter() - started

    def copy(self, table: str) -> None:
        with self.connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy:
            for piece in schema.rows_of_file(self.csv / f"{table}.csv"):
                copy.write(piece)

    def copy_all(self, keys_first: bool) -> float:
        started = time.perf_counter()
        for table in schema.TABLES:
            self.connection.execute(schema.create(table, *([schema.primary_key(table)] if keys_first else [])))
            self.copy(table)
        return time.perf_counter() - started

    def run(self, sql: str) -> tuple[float, list[Row]]:
        try:
            if self.connection.closed:
                self.connect()
            started = time.perf_counter()
            cursor = self.connection.execute(sql)
            elapsed_ms = (time.perf_counter() - started) * 1e3
            return elapsed_ms, [tuple(map(canonical, row)) for row in cursor.fetchall()]
        except self.errors as error:
            raise Failed(f"{getattr(error, 'sqlstate', None) or 'no answer'}: {error}") from None

    def rest(self, seconds_max: float) -> float:
        return memory.rest(self.pids, seconds_max)

    def close(self) -> None:
        self.connection.close()


class Quire(Server):
    def __init__(self, url: str, csv: pathlib.Path, pids: memory.Pids, seconds_max: float) -> None:
        super().__init__("quire", url, csv, pids, seconds_max)

    def load(self) -> Load:
        with self.unlimited():
            copy = self.copy_all(keys_first=True)
            analyze = self.timed(*(f"ANALYZE {table}" for table in schema.TABLES))
        return Load({"copy": copy, "analyze": analyze}, self.peak())

    def reset_peak(self) -> None:
        for pid in self.pids.values():
            memory.reset_peak(pid)

    def peak(self) -> dict[str, object]:
        return memory.shown(memory.peaks(self.pids))


class Postgres(Server):
    SHOWN = ("shared_buffers", "work_mem", "max_parallel_workers_per_gather", "effective_cache_size", "random_page_cost", "jit")

    def __init__(self, url: str, csv: pathlib.Path, pids: memory.Pids, seconds_max: float) -> None:
        super().__init__("postgres", url, csv, pids, seconds_max)
        self.sampler = memory.FamilySampler(pids["postgres"]) if pids else None

    def settings(self) -> dict[str, str]:
        return {name: self.one(f"SHOW {name}") for name in self.SHOWN}

    def load(self) -> Load:
        """Keys after the rows, as a PostgreSQL user would."""
        keys = (f"ALTER TABLE {table} ADD {schema.primary_key(table)}" for table in schema.TABLES)
        foreign = (f"CREATE INDEX ON {table} ({key})" for table, key in schema.FOREIGN_KEYS.items())
        with self.unlimited():
            seconds = {"copy": self.copy_all(keys_first=False)}
            seconds["indexes"] = self.timed(*keys, *foreign)
            seconds["analyze"] = self.timed("VACUUM ANALYZE", "CHECKPOINT")
        return Load(seconds, self.peak())

    def reset_peak(self) -> None:
        if self.sampler:
            self.sampler.peak_bytes = 0

    def peak(self) -> dict[str, object]:
        return memory.shown({"all": self.sampler.peak_bytes if self.sampler else 0})

    def close(self) -> None:
        if self.sampler:
            self.sampler.stop()
        super().close()
