"""Sums, means, ratios and bars: all that follows from a record's figures."""

import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any

Record = dict[str, Any]

OWN_TABLES = {"duckdb": "DuckDB in memory", "duckdb-file": "DuckDB, its file"}


def medians(run: Record) -> dict[int, float]:
    return {query["query"]: query["median_ms"] for query in run["queries"] if query["median_ms"] is not None}


def totals(run: Record) -> Record:
    """Of the queries that succeeded; the report says how many these are."""
    values = list(medians(run).values())
    first = [query["first_ms"] for query in run["queries"] if query["first_ms"] is not None]
    geomean = statistics.geometric_mean(values) if values else 0.0
    return {"sum_ms": sum(values), "geomean_ms": geomean, "first_sum_ms": sum(first), "answered": len(values)}


def system(record: Record, name: str) -> Record | None:
    return next((one for one in record["systems"] if one["name"] == name), None)


def ratios(ours: Record, theirs: Record) -> Record:
    """Ours over theirs: of each query, of the sums, and the geometric mean of the ratios, over the queries that both answered."""
    mine, others = medians(ours), medians(theirs)
    both = [number for number in mine if number in others]
    each = {number: mine[number] / max(others[number], 1e-6) for number in both}
    if not both:
        return {"queries": {}, "sum": None, "geomean": None}
    total = sum(mine[n] for n in both) / max(sum(others[n] for n in both), 1e-6)
    return {"queries": each, "sum": total, "geomean": statistics.geometric_mean(each.values())}


@dataclass
class Bar:
    """What must be shown: a figure and its bound, above which (or below which, if `least`) it is missed."""

    what: str
    bound: float
    value: float | None
    least: bool = False
    met: bool = False

    def __post_init__(self) -> None:
        if self.value is not None and math.isfinite(self.value):
            self.met = self.value >= self.bound if self.least else self.value <= self.bound


def query_bars(record: Record) -> list[Bar]:
    """A query without an answer, or with a wrong one, misses all bars of the queries."""
    ours = system(record, "quire")
    if ours is None:
        return []
    whole = all(query["answer"] not in ("wrong", "failed") for query in ours["run"]["queries"])
    value = {name: found for name, found in record["ratios"].items() if whole}
    bars = []
    # in memory, or in its file where that was too much
    for name, title in [(n, t) for n, t in OWN_TABLES.items() if n in record["ratios"]][:1]:
        of = value.get(name, {"sum": None, "geomean": None, "queries": {}})
        bars.append(Bar(f"sum, Quire / {title}", 1.3, of["sum"]))
        bars.append(Bar(f"geometric mean, Quire / {title}", 1.3, of["geomean"]))
        bars.append(Bar(f"worst query, Quire / {title}", 2.5, max(of["queries"].values(), default=None)))
    if "duckdb-parquet" in record["ratios"]:
        bars.append(Bar("sum, Quire / DuckDB over Parquet", 0.6, value.get("duckdb-parquet", {}).get("sum")))
    if "postgres" in record["ratios"]:
        mean = value.get("postgres", {}).get("geomean")
        bars.append(Bar("geometric mean, PostgreSQL / Quire", 9.0, mean and 1 / mean, least=True))
    if "shuffled" in ours:
        fine = whole and all(query["answer"] not in ("wrong", "failed") for query in ours["shuffled"]["queries"])
        total = ratios(ours["shuffled"], ours["run"])["sum"] if fine else None
        bars.append(Bar("sum, FROM lists shuffled / not shuffled", 1.15, total))
    return bars


def load_bars(record: Record) -> list[Bar]:
    ours, theirs = system(record, "quire"), record.get("file_load")
    if ours is None or theirs is None or "copy" not in ours["load"]["seconds"]:
        return []
    ratio = ours["load"]["seconds"]["copy"] / theirs["seconds"]["copy"]
    return [Bar("load, Quire COPY / DuckDB into its file", 1.5, ratio)]


def complete(record: Record) -> Record:
    """The record with all that follows from its figures. Ratios are Quire's, or of the first system where Quire is not one."""
    for one in record["systems"]:
        for name in ("run", "shuffled"):
            if name in one:
                one[name] = {"repeats": one[name]["repeats"]} | totals(one[name]) | {"queries": one[name]["queries"]}
        if "shuffled" in one:
            one["shuffled_ratio"] = ratios(one["shuffled"], one["run"])
    first = record["systems"][0]
    record["ratios_of"] = first["name"]
    record["ratios"] = {peer["name"]: ratios(first["run"], peer["run"]) for peer in record["systems"][1:]}
    record["bars"] = [asdict(bar) for bar in query_bars(record) + load_bars(record)]
    return record
