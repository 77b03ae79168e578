"""The program: `python -m floors --url URL --scale N --out DIR`, with benches/ in PYTHONPATH. See scripts/floors.sh."""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

from machine import machine  # benches/machine.py
from tpch import texts
from tpch.again import Again, Recording, say
from tpch.systems import Failed

from . import bandwidth, plans, report
from .report import Record


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="floors", description=__doc__)
    parser.add_argument("--url", required=True, help="of a Quire that has the data")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="where the report goes")
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--threads", type=int, default=2, help="as many as the server has")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of a query, after a first one, and as many of EXPLAIN ANALYZE")
    parser.add_argument("--buffer-mib", type=int, default=1024, help="for memory's rate; much more than the processor's caches")
    parser.add_argument("--timeout", type=float, default=600, help="seconds after which a query has failed")
    return parser.parse_args()


def explained(system: Recording, sql: str) -> plans.Figures:
    _, rows = system.run(f"EXPLAIN ANALYZE {sql}")
    return plans.figures([row[0] for row in rows])


def planning_ms(system: Recording, sql: str, mode: str) -> float:
    """Median time of planning. A plan is kept when its query comes for the second time, so the first two are not counted."""
    system.run(f"SELECT set_config('plan_cache_mode', '{mode}', false)")
    answers = [system.run(f"EXPLAIN (SUMMARY) {sql}")[1] for _ in range(report.PLANNINGS + 2)]
    return statistics.median(plans.line_ms([row[0] for row in rows], "Planning Time") for rows in answers[2:])


def planning(system: Recording, sql: str) -> Record:
    """Of a query that is new, and of one whose plan is kept."""
    return {
        "planning_new_ms": planning_ms(system, sql, "force_custom_plan"),
        "planning_kept_ms": planning_ms(system, sql, "auto"),
    }


def query(system: Recording, again: Again, number: int, repeats: int) -> Record:
    """Its times, and the figures of that EXPLAIN ANALYZE which took as long as most do."""
    result = again.query(system, number, repeats)
    figures = plans.Figures(dict.fromkeys(plans.KINDS, 0.0))
    planned: Record = {"planning_new_ms": None, "planning_kept_ms": None}
    if not result.bad:
        try:
            planned = planning(system, again.texts[number])
            runs = [explained(system, again.texts[number]) for _ in range(repeats)]
            figures = sorted(runs, key=lambda run: run.execution_ms)[len(runs) // 2]
        except Failed as error:
            result.spoil("failed", f"EXPLAIN ANALYZE: {error}")
    say(result)
    of_plan = {
        "planning_ms": figures.planning_ms,
        "execution_ms": figures.execution_ms,
        "kinds_ms": figures.kinds,
        "touched_bytes": figures.touched_bytes,
        "rows_scanned": figures.rows_scanned,
        "pages_moved": figures.pages_moved,
    }
    return result.record() | planned | of_plan


def measured(args: argparse.Namespace) -> Record:
    # as many processors as the server is bound to, if it is
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    buffer_bytes = args.buffer_mib << 20
    rate = bandwidth.bytes_per_second(args.threads, buffer_bytes)
    print(f"memory: {rate / 1e9:.1f} GB/s by {args.threads} threads", file=sys.stderr, flush=True)
    again, system = Again(args.scale), Recording(args.url, {}, args.timeout)
    queries = [query(system, again, number, args.repeats) for number in texts.NUMBERS]
    record = {
        "bench": "benches/floors",
        "at_unix_seconds": int(time.time()),
        "machine": machine() | {"processors": os.cpu_count()},
        "version": system.version(),
        "scale": args.scale,
        "threads": args.threads,
        "repeats": args.repeats,
        "memory": {"bytes_per_second": rate, "buffer_bytes": buffer_bytes, "passes": bandwidth.PASSES},
        "queries": queries,
    }
    system.close()
    return report.complete(record)


def main() -> int:
    args = arguments()
    try:
        record = measured(args)
    except Failed as error:
        sys.exit(f"floors: {error}")
    stem = args.out / f"floors-sf{args.scale:g}"
    args.out.mkdir(parents=True, exist_ok=True)
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(record, indent=1) + "\n")
    stem.with_name(f"{stem.name}.md").write_text(report.report(record))
    print(f"report: {stem}.md, .json")
    for problem in report.problems(record):
        print(problem, file=sys.stderr)
    return 1 if any(one["answer"] in ("wrong", "failed") for one in record["queries"]) else 0


if __name__ == "__main__":
    sys.exit(main())
