import unittest
from typing import Any

from . import changes, report
from .changes import HUNDREDTH, TENTH, Extent


def order_keys(count: int) -> list[int]:
    """As TPC-H has them: 8 of each 32."""
    return [block * 32 + key for block in range(count // 8) for key in range(8)]


class Changes(unittest.TestCase):
    def test_the_shares_are_what_they_say_and_apart(self) -> None:
        for keys in (range(1, 150_001), order_keys(150_000)):
            chosen = [{key for key in keys if key % share.by == share.rest} for share in (TENTH, HUNDREDTH)]
            self.assertFalse(chosen[0] & chosen[1])
            for share, found in zip((TENTH, HUNDREDTH), chosen):
                self.assertAlmostEqual(len(found) / len(keys), 1 / share.by, places=3)

    def test_the_shares_are_the_same_in_every_part_of_a_table(self) -> None:
        keys = order_keys(1_500_000)
        for low in range(0, len(keys), 131_072):
            group = keys[low : low + 131_072]
            share = sum(key % 10 == 3 or key % 100 == 57 for key in group) / len(group)
            self.assertLess(share, 0.12)

    def test_the_ranges_cover_every_key_once(self) -> None:
        for parts in (1, 3, 7, 100):
            found = list(changes.spans(Extent(10, 5, 24), parts))
            self.assertEqual([key for low, high in found for key in range(low, high)], list(range(5, 25)))

    def test_small_transactions_are_small(self) -> None:
        lineitem = changes.TABLES[-1]
        small = changes.conditions(lineitem, Extent(6_001_215, 1, 6_000_000), HUNDREDTH, changes.SMALL_ROWS)
        self.assertEqual(len(small), 61)
        self.assertEqual(small[0], "l_orderkey % 100 = 57 AND l_orderkey >= 1 AND l_orderkey < 98361")
        self.assertEqual(len(changes.conditions(lineitem, Extent(6_001_215, 1, 6_000_000), TENTH, changes.BULK_ROWS)), 1)


def record(clean: list[float], changed: list[float], held: bool = True) -> dict[str, Any]:
    def queries(values: list[float]) -> list[dict[str, Any]]:
        return [{"query": n, "median_ms": value, "answer": "right"} for n, value in enumerate(values, 1)]

    state = {"delta_rows": 1.0, "deleted_rows": 2.0, "segments": 3.0}
    machine = {"cpu": "x", "cpus": 2, "processors": 2, "memory_bytes": 1 << 34, "system": "linux"}
    head = {"scale": 1.0, "threads": 2, "at_unix_seconds": 0, "machine": machine, "version": "1", "repeats": 5}
    change = {"table": "part", "rows": 100, "changed": 10, "transactions": 1, "retries": 0}
    phases = [{"title": "updated", "before": state, "held": held, "clean": queries(clean), "queries": queries(changed)}]
    return head | {"storage_flags": ["--x"], "updated": [change], "unsealed": [change], "phases": phases}


class Report(unittest.TestCase):
    def test_ratios_and_bars(self) -> None:
        result = report.complete(record([10, 10], [11, 14]))
        self.assertEqual([(bar["value"], bar["met"]) for bar in result["bars"]], [(1.25, True), (1.4, False)])
        self.assertIn("| Q2 | 10.0 | 14.0 | 1.40 |", report.report(result))

    def test_rows_that_did_not_stay_miss_the_bars(self) -> None:
        result = report.complete(record([10, 10], [10, 10], held=False))
        self.assertEqual([bar["met"] for bar in result["bars"]], [False, False])
        self.assertIn("## Problems", report.report(result))
