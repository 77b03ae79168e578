"""The same CSV files into each system, one after the other, so that each has the machine to itself."""

import pathlib
import sys
from dataclasses import asdict, dataclass

from . import memory
from .engines import Settings
from .systems import DEFAULT, Library, Load, Postgres, Quire, System

# Merges and checkpoints after a load come to an end, but not always soon.
REST_SECONDS_MAX = 300.0


@dataclass(frozen=True)
class Options:
    names: list[str]
    csv: pathlib.Path
    work: pathlib.Path
    threads: int
    seconds_max: float
    urls: dict[str, str]
    pids: dict[str, memory.Pids]

    def settings(self, engine: str) -> Settings:
        return Settings(engine, self.threads, self.csv, self.work)


def system(name: str, options: Options) -> System:
    if name in ("quire", "postgres"):
        kind = Quire if name == "quire" else Postgres
        return kind(options.urls[name], options.csv, options.pids.get(name, {}), options.seconds_max)
    return Library(options.settings(name), options.seconds_max)


def shown(load: Load) -> str:
    return ", ".join(f"{step} {seconds:.1f} s" for step, seconds in load.seconds.items()) or "nothing to load"


def in_order(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (DEFAULT.index(name) if name in DEFAULT else len(DEFAULT), name))


def needs_files(names: list[str]) -> bool:
    """Parquet is written from DuckDB's file, and the bar of Quire's load is DuckDB's into its file."""
    return any(name in names for name in ("quire", "duckdb-file", "duckdb-parquet", "datafusion"))


def load_files(options: Options) -> Load:
    engine = Library(options.settings("duckdb-file"), options.seconds_max)
    load = engine.load()
    engine.close()
    print(f"load: DuckDB into its file: {shown(load)}", file=sys.stderr, flush=True)
    return load


def load_all(options: Options) -> tuple[list[System], dict[str, Load], Load | None]:
    """The systems in the report's order, their loads, and DuckDB's load into its file."""
    file_load = load_files(options) if needs_files(options.names) else None
    systems, loads = [], {}
    for name in in_order(options.names):
        one = system(name, options)
        systems.append(one)
        # the file is there already
        loads[name] = file_load if name == "duckdb-file" and file_load else one.load()
        print(f"load: {one.title}: {shown(loads[name])}", file=sys.stderr, flush=True)
        if waited := one.rest(REST_SECONDS_MAX):
            print(f"load: {one.title}: at rest after {waited:.0f} s", file=sys.stderr, flush=True)
    return systems, loads, file_load


def record(load: Load) -> dict[str, object]:
    return asdict(load)
