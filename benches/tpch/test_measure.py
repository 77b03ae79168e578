import unittest
from typing import Any

from . import markdown, metrics, page
from .compare import Row
from .measure import Lane, measure
from .summary import complete
from .systems import Failed, System


class Fake(System):
    """Answers at once with what it was given."""

    def __init__(self, name: str, rows: list[Row], milliseconds: float) -> None:
        super().__init__(name, name)
        self.rows, self.milliseconds = rows, milliseconds
        self.log: list[str] = []

    def version(self) -> str:
        return "1"

    def load(self) -> Any: ...

    def run(self, sql: str) -> tuple[float, list[Row]]:
        self.log.append(sql)
        if sql == "fail":
            raise Failed("no")
        return self.milliseconds, self.rows

    def reset_peak(self) -> None: ...

    def peak(self) -> Any: ...


def lane(name: str, answer: str, milliseconds: float, sql: str = "go", repeats: int = 2) -> Lane:
    return Lane(name, Fake(name, [(answer,)], milliseconds), {6: sql, 19: sql}, repeats)


class Measure(unittest.TestCase):
    def test_the_first_run_does_not_count(self) -> None:
        one = lane("a", "1", 5, repeats=3)
        measure([one], [6], {})
        self.assertEqual((one.results[6].first_ms, one.results[6].times_ms), (5, [5, 5, 5]))
        self.assertEqual(one.results[6].answer, "unchecked")

    def test_answers_are_judged_by_the_reference_or_by_the_first_system(self) -> None:
        lanes = [lane("a", "1", 5), lane("b", "1.0", 5), lane("c", "2", 5), lane("d", "1", 5, "fail")]
        measure(lanes, [6], {6: ["2"]})
        self.assertEqual([one.results[6].answer for one in lanes], ["wrong", "wrong", "right", "failed"])
        measure(lanes, [19], {})
        self.assertEqual([one.results[19].answer for one in lanes], ["same", "wrong", "wrong", "failed"])

    def test_a_failed_query_is_not_tried_again(self) -> None:
        one = lane("a", "1", 5, "fail")
        measure([one], [6], {})
        self.assertEqual(len(one.system.log), 1)  # type: ignore[attr-defined]
        self.assertIsNone(one.results[6].median_ms)


def record(**times: list[float | None]) -> dict[str, Any]:
    def system(name: str, values: list[float | None]) -> dict[str, Any]:
        queries: list[dict[str, Any]] = [
            {"query": n, "first_ms": v, "median_ms": v, "times_ms": [], "rows": 1, "answer": "right" if v else "failed"}
            for n, v in enumerate(values, 1)
        ]
        load = {"seconds": {"copy": 3.0 if name == "quire" else 2.0}, "peak": {"bytes": 1 << 30}}
        run = {"repeats": 5, "queries": queries}
        head = {"name": name, "title": name, "version": "1", "settings": {}, "peak": {"bytes": 2 << 30}}
        return head | {"load": load, "run": run}

    machine = {"cpu": "x", "cpus": 2, "processors": 2, "memory_bytes": 1 << 34, "system": "linux"}
    head = {"scale": 1.0, "threads": 2, "params": None, "shuffle": None, "at_unix_seconds": 0, "machine": machine}
    systems = [system(name.replace("_", "-"), values) for name, values in times.items()]
    return head | {"systems": systems, "file_load": {"seconds": {"copy": 2.5}, "peak": {}}}


class Summary(unittest.TestCase):
    def test_sums_means_ratios_and_bars(self) -> None:
        result = complete(record(quire=[1, 4], duckdb=[1, 1], postgres=[20, 20]))
        self.assertEqual(result["ratios"]["duckdb"]["sum"], 2.5)
        self.assertAlmostEqual(result["ratios"]["duckdb"]["geomean"], 2)
        bars = {bar["what"]: (bar["value"], bar["met"]) for bar in result["bars"]}
        self.assertEqual(bars["worst query, Quire / DuckDB in memory"], (4, False))
        self.assertEqual(bars["geometric mean, PostgreSQL / Quire"][1], True)
        self.assertEqual(bars["load, Quire COPY / DuckDB into its file"], (1.2, True))

    def test_a_query_without_an_answer_misses_the_bars(self) -> None:
        result = complete(record(quire=[1, None], duckdb=[1, 1]))
        self.assertTrue(all(not bar["met"] for bar in result["bars"] if not bar["what"].startswith("load")))
        self.assertEqual(result["ratios"]["duckdb"]["queries"], {1: 1.0})

    def test_both_reports_can_be_written(self) -> None:
        result = complete(record(quire=[1, None], duckdb=[1, 0.5], duckdb_parquet=[None, None]))
        self.assertIn("**missed**", markdown.report(result))
        text = page.report(result)
        self.assertNotIn("<script", text)
        self.assertNotIn("http", text)
        self.assertIn("</svg>", text)


class Metrics(unittest.TestCase):
    def test_every_stream_has_every_query_once(self) -> None:
        for order in metrics.ORDERS:
            self.assertEqual(sorted(order), list(range(1, 23)))
        self.assertEqual(len({tuple(order) for order in metrics.ORDERS}), len(metrics.ORDERS))

    def test_the_metrics_of_the_specification(self) -> None:
        self.assertAlmostEqual(metrics.power(10, [2.0] * 22, [2.0, 2.0]), 18_000)
        self.assertAlmostEqual(metrics.throughput(1, 2, 44.0), 3600)
        self.assertAlmostEqual(metrics.composite(4, 9), 6)
        self.assertEqual([metrics.streams_of(scale) for scale in (0.01, 1, 10, 30, 100, 1000)], [2, 2, 3, 4, 5, 7])

    def test_a_very_short_query_counts_as_a_thousandth_of_the_longest(self) -> None:
        short = [1000.0, *[1e-9] * 21]
        self.assertAlmostEqual(metrics.power(1, short, [1.0, 1.0]), metrics.power(1, [1000.0, *[1.0] * 21], [1.0, 1.0]))
