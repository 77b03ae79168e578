import unittest
from typing import Any

from cluster import Metrics, since

from . import report
from .moved import storage_figures
from .summary import SUMMED, bound_ms, complete

BEFORE = 'quire_cache_pages_total{cache="storage",tier="remote"} 5\nquire_other 1\n# HELP x\n'
NOW = """
quire_cache_pages_total{cache="storage",tier="remote"} 15
quire_cache_pages_total{cache="storage",tier="disk"} 2
quire_cache_remote_bytes_total{cache="storage"} 700
quire_objects_request_seconds{operation="get",quantile="0.5"} 1.5e-3
"""


class Figures(unittest.TestCase):
    def test_metrics_are_summed_over_nodes_and_labels(self) -> None:
        before, now = Metrics.of([BEFORE, BEFORE]), Metrics.of([NOW, NOW])
        self.assertEqual(since(before, now, "quire_cache_pages_total", tier="remote"), 20)
        self.assertEqual(now.total("quire_cache_pages_total", cache="storage"), 34)
        self.assertEqual(now.largest("quire_objects_request_seconds"), 0.0015)
        self.assertEqual(now.total("absent"), 0)

    def test_pages_and_bytes_that_came_twice(self) -> None:
        proxy = {"range_bytes": 1000, "range_bytes_again": 400, "range_reads": 3}
        found = storage_figures(Metrics.of([BEFORE]), Metrics.of([NOW]), proxy)
        # 700 bytes of pages, and only 600 different bytes have come
        self.assertEqual((found["bytes"], found["pages_read"], found["pages_again"], found["page_bytes_again"]), (1000, 10, 2, 100))

    def test_the_bound_is_twice_warm_and_the_bytes_over_one_stream(self) -> None:
        self.assertEqual(bound_ms(100, 20_000_000, 200e6), 300)


def record(cold: list[float | None]) -> dict[str, Any]:
    proxy: dict[str, float] = {"range_bytes_again": 0, "in_flight_mean": 2.0, "in_flight_max": 4}
    proxy |= {"busy_seconds": 0.05}
    zeros = dict.fromkeys(SUMMED, 0) | {"pages_read": 7}
    queries = [
        {"query": n, "cold_ms": ms, "answer": "right" if ms else "failed", "proxy": proxy} | zeros | {"bytes": 20_000_000}
        for n, ms in enumerate(cold, 1)
    ]
    machine = {"cpu": "x", "cpus": 2, "processors": 2, "memory_bytes": 1 << 34, "system": "linux"}
    head = {"scale": 1.0, "threads": 2, "at_unix_seconds": 0, "machine": machine, "version": "1", "repeats": 5}
    warm = [{"query": n, "median_ms": 100.0, "answer": "right"} for n in range(1, len(cold) + 1)]
    phase = {"title": "each", "what": "?", "store_processor_seconds": 1.0, "queries": queries}
    return head | {"link": {"latency_ms": 20, "bytes_per_second": 200e6}, "warm": warm, "cold": [phase]}


class Report(unittest.TestCase):
    def test_the_bar_is_of_the_sum(self) -> None:
        result = complete(record([150, 420]))
        self.assertEqual([one["met"] for one in result["cold"][0]["queries"]], [True, False])
        self.assertEqual([bar["met"] for bar in result["bars"]], [True, True, True])
        self.assertAlmostEqual(result["cold"][0]["total"]["ratio"], 570 / 600)
        self.assertAlmostEqual(result["cold"][0]["total"]["ratio_all_streams"], 570 / 450)
        self.assertIn("| Q2 | 100 | 420 | 300 | **missed** | 4.2 | 20.0 |", report.report(result))

    def test_a_query_without_an_answer_misses_it(self) -> None:
        result = complete(record([150, None]))
        self.assertEqual(result["bars"][0]["met"], False)
        self.assertIn("(failed)", report.report(result))

    def test_a_run_that_has_read_nothing_shows_nothing(self) -> None:
        nothing = record([150, 150])
        for one in nothing["cold"][0]["queries"]:
            one["pages_read"] = 0
        self.assertFalse(any(bar["met"] for bar in complete(nothing)["bars"]))
