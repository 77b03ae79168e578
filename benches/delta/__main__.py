"""The program: `python -m delta --quire FILE --work DIR --logs DIR --out DIR`, with benches/ in PYTHONPATH. See scripts/bench-nodes.sh."""

import argparse
import json
import os
import pathlib
import sys
import time
from typing import Any

from cluster import GAUGE_SECONDS, Cluster, Unfit, running, stop_at_signals  # benches/cluster.py
from machine import machine  # benches/machine.py
from tpch import memory, texts
from tpch.again import Again, Recording
from tpch.markdown import bars
from tpch.measure import Lane, measure
from tpch.systems import Failed

from . import changes, report
from .report import Record

# Sealing waits as long as flags can make it. What has no flag: a table's delta is sealed at 64 MiB or 1,024 transactions, too.
# Compaction needs no flag: it rewrites a segment when a fifth of it is deleted, and a tenth and a hundredth are; and it merges eight
# small segments, and there are fewer.
HELD = ("--seal-age", "7days", "--seal-rows", "1000000000", "--delta-rows-max", "1000000000", "--delta-size-max", "1TiB")
SEAL_SECONDS_MAX = 300.0
REST_SECONDS_MAX = 300.0
# While rows shall become segments: soon, so that nobody waits for the few that are left over.
SEALED = ("--seal-age", "2s")
# The same tables in a schema of their own, which nobody changes.
UNTOUCHED = "untouched"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="delta", description=__doc__)
    path = pathlib.Path
    parser.add_argument("--quire", type=path, required=True, help="the program")
    parser.add_argument("--work", type=path, required=True, help="where data is kept while this runs")
    parser.add_argument("--logs", type=path, required=True)
    parser.add_argument("--out", type=path, required=True, help="where the report goes")
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of a query, after a first one")
    parser.add_argument("--timeout", type=float, default=600, help="seconds after which a query has failed")
    return parser.parse_args()


class Bench:
    def __init__(self, args: argparse.Namespace, cluster: Cluster) -> None:
        self.args, self.cluster, self.again = args, cluster, Again(args.scale)
        self.phases: list[Record] = []
        self.version = ""

    def connect(self) -> Any:
        import psycopg

        return psycopg.connect(self.cluster.url, autocommit=True, prepare_threshold=None)

    def settle(self) -> None:
        """All rows in segments, and nothing to compact."""
        sealed = self.cluster.wait_sealed(SEAL_SECONDS_MAX)
        rested = memory.rest(self.cluster.pids, REST_SECONDS_MAX)
        print(f"all rows in segments after {sealed:.0f} s, at rest after {rested:.0f} s more", file=sys.stderr, flush=True)

    def restart(self, *flags: str) -> None:
        self.cluster.stop()
        self.cluster.start(*flags)

    def state(self) -> Record:
        """What storage says of all tables; its nodes say the same."""
        time.sleep(GAUGE_SECONDS)
        metrics = self.cluster.storage_metrics()
        return {name: metrics.largest(f"quire_storage_{name}") for name in ("delta_rows", "deleted_rows", "segments")}

    def url(self, schema: str) -> str:
        return f"{self.cluster.url}?options=-csearch_path%3D{schema}"

    def lane(self, name: str, schema: str) -> Lane:
        system = Recording(self.url(schema), self.cluster.pids, self.args.timeout)
        self.version = system.version()
        return Lane(name, system, self.again.texts, self.args.repeats)

    def phase(self, title: str, delta_rows: int, deleted_rows: int) -> None:
        """Both schemas' tables, in turn. The phase is what it says only if so many rows are in the delta, and deleted and still stored, from its
        start to its end."""
        print(f"queries: {title}", file=sys.stderr, flush=True)
        memory.rest(self.cluster.pids, REST_SECONDS_MAX)
        before = self.state()
        lanes = [self.lane("clean", UNTOUCHED), self.lane("changed", "public")]
        measure(lanes, texts.NUMBERS, self.again.references)
        for lane in lanes:
            lane.system.close()
        held = self.state() == before and (before["delta_rows"], before["deleted_rows"]) == (delta_rows, deleted_rows)
        clean, queries = ([lane.results[number].record() for number in texts.NUMBERS] for lane in lanes)
        self.phases.append({"title": title, "before": before, "held": held, "clean": clean, "queries": queries})

    def load(self, schema: str) -> None:
        self.cluster.tool("tpch", "load", "--url", self.url(schema), "--scale", f"{self.args.scale:g}")

    def run(self) -> Record:
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {UNTOUCHED}")
        self.load(UNTOUCHED)
        self.load("public")
        # here rows may be sealed: the updated ones shall be in segments
        updated = changes.into_segments(self.connect)
        bulk = changed(updated)
        self.settle()
        self.restart(*HELD)
        self.phase("10 % updated", 0, bulk)
        unsealed = changes.into_delta(self.connect)
        small = changed(unsealed)
        self.phase("10 % updated, 1 % unsealed", small, bulk + small)
        head = {"version": self.version, "repeats": self.args.repeats, "storage_flags": list(HELD)}
        return head | {"updated": updated, "unsealed": unsealed, "phases": self.phases}


def changed(tables: list[Record]) -> int:
    return sum(one["changed"] for one in tables)


def measured(args: argparse.Namespace) -> Record:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    cluster = Cluster(args.quire, args.work, args.logs, f"file://{args.work / 'objects'}")
    with running(cluster):
        cluster.start(*SEALED)
        found = Bench(args, cluster).run()
    head = {
        "bench": "benches/delta",
        "at_unix_seconds": int(time.time()),
        "machine": machine() | {"processors": os.cpu_count()},
        "scale": args.scale,
        "threads": args.threads,
    }
    return report.complete(head | found)


def main() -> int:
    args = arguments()
    stop_at_signals()
    try:
        record = measured(args)
    except (Unfit, Failed) as error:
        sys.exit(f"delta: {error}")
    stem = args.out / f"delta-sf{args.scale:g}"
    args.out.mkdir(parents=True, exist_ok=True)
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(record, indent=1) + "\n")
    stem.with_name(f"{stem.name}.md").write_text(report.report(record))
    print(bars(record))
    print(f"report: {stem}.md, .json")
    for problem in report.problems(record):
        print(problem, file=sys.stderr)
    return 1 if any(one["answer"] in ("wrong", "failed") for phase in record["phases"] for one in [*phase["clean"], *phase["queries"]]) else 0


if __name__ == "__main__":
    sys.exit(main())
