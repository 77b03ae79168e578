"""What EXPLAIN ANALYZE says: time by kind of operator, and bytes that scans looked at."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

METRICS = re.compile(r", metrics=\[(.*)\]")
METRIC = re.compile(r"(\w+)=([^,]*)")
DURATION = re.compile(r"([\d.]+)(ns|µs|ms|s)$")
COUNT = re.compile(r"([\d.]+)(?: ([KMBT]))?$")
SHARED = re.compile(r"SharedExec: id=(\d+)")

MS_OF = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3}
TIMES = {None: 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}

KINDS = ("scan", "filter", "projection", "join, build", "join, probe", "aggregate", "sort", "repartition", "other")
SCAN = "QuireScan"
OPERATORS = {
    SCAN: "scan",
    "FilterExec": "filter",
    "ProjectionExec": "projection",
    "AggregateExec": "aggregate",
    "GroupingExec": "aggregate",
    "SortExec": "sort",
    "SortPreservingMergeExec": "sort",
    "PartialSortExec": "sort",
    "RepartitionExec": "repartition",
    "CoalescePartitionsExec": "repartition",
    "CoalesceBatchesExec": "repartition",
}


@dataclass
class Node:
    """An operator of a plan, and its figures as they were written."""

    name: str
    text: str
    depth: int
    metrics: dict[str, str] = field(default_factory=dict)

    def ms(self, name: str) -> float:
        found = DURATION.match(self.metrics.get(name, ""))
        return float(found[1]) * MS_OF[found[2]] if found else 0.0

    def count(self, name: str) -> float:
        found = COUNT.match(self.metrics.get(name, ""))
        return float(found[1]) * TIMES[found[2]] if found else 0.0

    def times(self) -> Iterator[tuple[str, float]]:
        """Milliseconds of all threads by kind. What an operator waits for is not in them."""
        if self.name.endswith("JoinExec"):
            build = self.ms("build_time")
            yield "join, build", build
            # where joins say no more than their sum, it is the probing
            yield "join, probe", self.ms("join_time") or max(0.0, self.ms("elapsed_compute") - build)
        elif self.name == "RepartitionExec":
            yield "repartition", self.ms("repartition_time")
        else:
            yield OPERATORS.get(self.name, "other"), self.ms("elapsed_compute")


def nodes(lines: Iterable[str]) -> Iterator[Node]:
    """The operators from the top down. A part that is shown in several places ran once, and is given once."""
    seen: set[str] = set()
    skipped_below: int | None = None
    for line in lines:
        found = METRICS.search(line)
        if not found:
            continue
        depth = len(line) - len(line.lstrip(" "))
        if skipped_below is not None and depth > skipped_below:
            continue
        skipped_below = None
        text = line.strip()
        if shared := SHARED.match(text):
            if shared[1] in seen:
                skipped_below = depth
                continue
            seen.add(shared[1])
        name = re.split(r"[:,]", text, maxsplit=1)[0]
        yield Node(name, text, depth, {name: value.strip() for name, value in METRIC.findall(found[1])})


@dataclass
class Figures:
    """Of one run of a query."""

    kinds: dict[str, float]
    touched_bytes: float = 0.0
    rows_scanned: float = 0.0
    pages_moved: float = 0.0
    planning_ms: float = 0.0
    execution_ms: float = 0.0


def line_ms(lines: Iterable[str], title: str) -> float:
    found = (re.match(rf"{title}: ([\d.]+) ms", line.strip()) for line in lines)
    return next((float(one[1]) for one in found if one), 0.0)


def figures(lines: list[str]) -> Figures:
    result = Figures(dict.fromkeys(KINDS, 0.0), planning_ms=line_ms(lines, "Planning Time"), execution_ms=line_ms(lines, "Execution Time"))
    for node in nodes(lines):
        for kind, ms in node.times():
            result.kinds[kind] += ms
        if node.name == SCAN:
            result.touched_bytes += node.count("bytes_touched")
            result.rows_scanned += node.count("rows_scanned")
            result.pages_moved += node.count("pages_disk") + node.count("pages_remote")
    return result
