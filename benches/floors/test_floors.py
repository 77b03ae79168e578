import unittest
from typing import Any

from . import report
from .plans import KINDS, figures

SCAN = "QuireScan: table=t, columns=[a], filters=[a@0 > 1], segments=1, metrics=[elapsed_compute={}, rows_scanned=6.00 M, {}]"


def scan(elapsed: str, counters: str) -> str:
    return SCAN.format(elapsed, counters) + ", estimated_rows=7"


PLAN = f"""
ProjectionExec: expr=[narrow(a@0 * b@1) as c], metrics=[output_rows=5, elapsed_compute=250.00µs], estimated_rows=5
  HashJoinExec: mode=Partitioned, on=[(a@0, a@0)], metrics=[output_rows=5, elapsed_compute=30.00ms, build_time=10.00ms, join_time=20.00ms]
    SharedExec: id=1, metrics=[]
      AggregateExec: mode=Single, gby=[a@0 as a], aggr=[], metrics=[output_rows=1.20 K, elapsed_compute=1.50s]
        {scan("40.00ms", "pages_disk=2, bytes_touched=48.00 M")}
    RepartitionExec: partitioning=Hash([a@0], 2), metrics=[fetch_time=9.00s, repartition_time=3.00ms, send_time=NOT RECORDED]
      SharedExec: id=1, metrics=[]
        AggregateExec: mode=Single, gby=[a@0 as a], aggr=[], metrics=[output_rows=1.20 K, elapsed_compute=1.50s]
          {scan("40.00ms", "pages_disk=2, bytes_touched=48.00 M")}
Rows: 5
Planning Time: 4.500 ms
Execution Time: 100.250 ms"""


class Plans(unittest.TestCase):
    def test_times_and_bytes_are_summed_by_kind(self) -> None:
        found = figures(PLAN.splitlines())
        expected = dict.fromkeys(KINDS, 0.0) | {"projection": 0.25, "join, build": 10, "join, probe": 20, "repartition": 3}
        expected |= {"aggregate": 1500, "scan": 40}
        self.assertEqual(found.kinds, expected)
        self.assertEqual((found.touched_bytes, found.rows_scanned, found.pages_moved), (48e6, 6e6, 2))
        self.assertEqual((found.planning_ms, found.execution_ms), (4.5, 100.25))

    def test_a_join_that_says_only_its_sum_probes(self) -> None:
        found = figures(["NestedLoopJoinExec: join_type=Inner, metrics=[elapsed_compute=7.00ms, build_time=2.00ms]"])
        self.assertEqual((found.kinds["join, build"], found.kinds["join, probe"]), (2, 5))


def record() -> dict[str, Any]:
    def query(number: int, median: float | None, touched: float) -> dict[str, Any]:
        kinds = dict.fromkeys(KINDS, 0.0) | {"scan": 10.0, "aggregate": 30.0}
        head = {"query": number, "median_ms": median, "answer": "right" if median else "failed", "kinds_ms": kinds}
        head |= {} if median else {"problem": "too slow"}
        head |= {"planning_new_ms": 3.0 * number if median else None, "planning_kept_ms": 1.0 if median else None}
        return head | {"planning_ms": 2.0, "touched_bytes": touched, "pages_moved": 0.0}

    machine = {"cpu": "x", "cpus": 2, "processors": 2, "memory_bytes": 1 << 34, "system": "linux"}
    memory = {"bytes_per_second": 20e9, "buffer_bytes": 1 << 30, "passes": 5}
    queries = [query(1, 50.0, 200e6), query(2, 100.0, 100e6), query(3, None, 0.0)]
    head = {"scale": 1.0, "threads": 2, "at_unix_seconds": 0, "machine": machine, "version": "1", "repeats": 5}
    return head | {"memory": memory, "queries": queries}


class Report(unittest.TestCase):
    def test_a_floor_is_bytes_over_the_rate_of_memory(self) -> None:
        done = report.complete(record())
        self.assertEqual(done["costliest"], [2, 1, 3])
        self.assertEqual([one["floor_ms"] for one in done["queries"]], [10.0, 5.0, None])
        text = report.report(done)
        self.assertIn("| Q1 | aggregate 30.0 (75 %), scan 10.0 (25 %) | 50.0 | 2.0 | 200.0 | 10.00 | 5.0 |", text)
        self.assertIn("| Q2 | 6.00 | 1.00 |", text)
        self.assertIn("| Mean | 4.50 | 1.00 |", text)
        self.assertIn("too slow", text)
        self.assertIn("(failed)", text)

    def test_a_server_that_counts_no_bytes_is_told_of(self) -> None:
        old = record()
        old["queries"][0]["touched_bytes"] = 0.0
        self.assertTrue(any("older" in line for line in report.problems(report.complete(old))))


if __name__ == "__main__":
    unittest.main()
