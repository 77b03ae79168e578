"""The 22 queries on all systems in turn: query by query, and within a query round by round, so that what disturbs the machine
disturbs all alike. The first round is each system's first run of the query; the others count.
"""

import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from .compare import Row, difference, difference_from_reference
from .systems import Failed, Lost, System


@dataclass
class Lane:
    """A system with the texts that it runs. The same system may have a second lane with the FROM lists shuffled."""

    name: str
    system: System
    texts: dict[int, str]
    repeats: int
    # where the results stand in the record: run or shuffled
    kind: str = "run"
    results: dict[int, "Result"] = field(default_factory=dict)
    lost: bool = False


@dataclass
class Result:
    query: int
    first_ms: float | None = None
    median_ms: float | None = None
    times_ms: list[float] = field(default_factory=list)
    rows: int = 0
    # right (as the repository's answer), same (as another system's), wrong, failed or unchecked
    answer: str = "unchecked"
    problem: str | None = None

    def record(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if name != "problem" or value is not None}

    @property
    def bad(self) -> bool:
        return self.answer in ("wrong", "failed")

    def spoil(self, answer: str, problem: str) -> None:
        self.answer, self.problem = answer, problem


def run_once(lane: Lane, number: int, first_rows: dict[str, list[Row]]) -> None:
    """One run of one query; a failure ends the query for this lane."""
    result = lane.results[number]
    try:
        elapsed_ms, rows = lane.system.run(lane.texts[number])
    except Failed as error:
        lane.lost = isinstance(error, Lost)
        result.spoil("failed", str(error))
        return
    if result.first_ms is None:
        result.first_ms, result.rows = elapsed_ms, len(rows)
        first_rows[lane.name] = rows
        return
    result.times_ms.append(elapsed_ms)
    if problem := difference(number, rows, first_rows[lane.name]):
        result.spoil("wrong", f"not the same answer as the first time: {problem}")


def judge(lanes: list[Lane], number: int, first_rows: dict[str, list[Row]], reference: list[str] | None) -> None:
    """By the repository's answer; where it has none, by that of the first lane that has one."""
    witness = next((lane for lane in lanes if lane.name in first_rows and not lane.results[number].bad), None)
    for lane in lanes:
        result = lane.results[number]
        if lane.name not in first_rows or result.bad:
            continue
        rows = first_rows[lane.name]
        if reference is not None:
            problem, well = difference_from_reference(number, rows, reference), "right"
        elif witness is None or len(first_rows) < 2:
            continue
        else:
            problem, well = difference(number, rows, first_rows[witness.name]), "same"
            problem = problem and f"not as {witness.system.title}: {problem}"
        if problem:
            result.spoil("wrong", problem)
        else:
            result.answer = well


def rotated(lanes: list[Lane], by: int) -> list[Lane]:
    by %= len(lanes)
    return lanes[by:] + lanes[:by]


def measure_query(lanes: list[Lane], number: int, reference: list[str] | None) -> None:
    first_rows: dict[str, list[Row]] = {}
    for lane in lanes:
        lane.results[number] = Result(number)
        if lane.lost:
            lane.results[number].spoil("failed", "the system was lost at an earlier query")
    for turn in range(1 + max(lane.repeats for lane in lanes)):
        # nobody is always the one who comes after the slowest
        for lane in rotated(lanes, number + turn):
            if turn <= lane.repeats and not lane.results[number].bad:
                run_once(lane, number, first_rows)
    judge(lanes, number, first_rows, reference)
    for lane in lanes:
        result = lane.results[number]
        if result.times_ms and result.answer != "failed":
            result.median_ms = statistics.median(result.times_ms)


def line(lanes: list[Lane], number: int) -> str:
    def shown(lane: Lane) -> str:
        result = lane.results[number]
        if result.median_ms is None:
            return f"{lane.name} {result.answer}"
        note = f" ({result.answer})" if result.bad else ""
        return f"{lane.name} {result.median_ms:.1f}{note}"

    return f"Q{number:<2} ms: " + ", ".join(map(shown, lanes))


def measure(lanes: list[Lane], numbers: Iterable[int], references: dict[int, list[str] | None]) -> None:
    for number in numbers:
        measure_query(lanes, number, references.get(number))
        print(line(lanes, number), file=sys.stderr, flush=True)
        for lane in lanes:
            if problem := lane.results[number].problem:
                print(f"    {lane.name}: {problem}", file=sys.stderr)
