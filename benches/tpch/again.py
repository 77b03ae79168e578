"""The 22 queries on one Quire again and again, while something about it changes that must not change an answer."""

import pathlib
import sys

from . import memory, texts
from .compare import Row, difference, reference
from .measure import Lane, Result, measure_query
from .systems import Quire


class Recording(Quire):
    """Keeps the rows of its last statement."""

    def __init__(self, url: str, pids: memory.Pids, seconds_max: float) -> None:
        super().__init__(url, pathlib.Path(), pids, seconds_max)
        self.rows: list[Row] = []

    def run(self, sql: str) -> tuple[float, list[Row]]:
        elapsed_ms, self.rows = super().run(sql)
        return elapsed_ms, self.rows


class Again:
    """Answers are checked by the repository's where it has one, else by the first that this object has seen."""

    def __init__(self, scale: float) -> None:
        self.texts = {number: texts.validation_text(number, scale) for number in texts.NUMBERS}
        self.references = {number: reference(number, scale) for number in texts.NUMBERS}
        self.seen: dict[int, list[Row]] = {}

    def query(self, system: Recording, number: int, repeats: int) -> Result:
        """A first run, and as many that count."""
        lane = Lane("quire", system, self.texts, repeats)
        measure_query([lane], number, self.references[number])
        result = lane.results[number]
        if not result.bad:
            self.compare(result, system.rows)
        return result

    def compare(self, result: Result, rows: list[Row]) -> None:
        before = self.seen.setdefault(result.query, rows)
        if result.answer != "unchecked" or before is rows:
            return
        if problem := difference(result.query, rows, before):
            result.spoil("wrong", f"not the same answer as before: {problem}")
        else:
            result.answer = "same"

    def all(self, system: Recording, repeats: int) -> list[Result]:
        """All 22, each with its repeats before the next; says how it goes."""
        results = []
        for number in texts.NUMBERS:
            result = self.query(system, number, repeats)
            results.append(result)
            say(result)
        return results


def say(result: Result) -> None:
    figure = result.first_ms if result.median_ms is None else result.median_ms
    shown = "–" if figure is None else f"{figure:.1f}"
    print(f"Q{result.query:<2} ms: {shown} ({result.answer})", file=sys.stderr, flush=True)
    if result.problem:
        print(f"    {result.problem}", file=sys.stderr)
