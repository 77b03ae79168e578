"""The program: `python -m tpch --csv DIR --work DIR --out DIR [options]`, with benches/ in PYTHONPATH. See scripts/bench-tpch.sh."""

import argparse
import json
import os
import pathlib
import sys
import time
from typing import Any

from machine import machine  # benches/machine.py

from . import load, markdown, memory, metrics, page, params, texts
from .compare import reference
from .measure import Lane, measure
from .summary import complete
from .systems import DEFAULT, TITLES, Failed, Load, Server, System


def pids(text: str) -> memory.Pids:
    """NAME=PID,NAME=PID"""
    return {name: int(pid) for name, pid in (pair.split("=") for pair in text.split(",") if pair)}


def names(text: str) -> list[str]:
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in TITLES]:
        raise argparse.ArgumentTypeError(f"no system is called {', '.join(unknown)}; there are {', '.join(TITLES)}")
    return chosen


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tpch", description=__doc__)
    path = pathlib.Path
    parser.add_argument("--csv", type=path, required=True, help="the files of `quire tpch generate`")
    parser.add_argument("--work", type=path, required=True, help="where database and Parquet files are made")
    parser.add_argument("--out", type=path, required=True, help="where the report goes")
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--systems", type=names, default=list(DEFAULT))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of a query after the first")
    parser.add_argument("--pg-repeats", type=int, default=1, help="the same for PostgreSQL")
    parser.add_argument("--timeout", type=float, default=600, help="seconds after which a query has failed")
    parser.add_argument("--params", type=int, help="seed of other substitution parameters than the validation ones")
    parser.add_argument("--shuffle", type=int, help="seed of shuffled FROM lists, run beside the others")
    parser.add_argument("--shuffle-systems", type=names, default=["quire"])
    parser.add_argument("--metrics", type=names, default=[], help="servers whose power and throughput are measured in the end")
    parser.add_argument("--streams", type=int, help="query streams of the throughput test (by scale)")
    parser.add_argument("--refresh", type=path, help="the program `quire`, for its refresh functions")
    for server in ("quire", "postgres"):
        parser.add_argument(f"--{server}-url")
        parser.add_argument(f"--{server}-pids", type=pids, default={}, help="NAME=PID,…")
    return parser.parse_args()


def options(args: argparse.Namespace) -> load.Options:
    urls = {"quire": args.quire_url, "postgres": args.postgres_url}
    missing = [name for name in args.systems if name in urls and not urls[name]]
    if missing:
        sys.exit(f"tpch: no URL of {', '.join(missing)}")
    processes = {"quire": args.quire_pids, "postgres": args.postgres_pids}
    return load.Options(args.systems, args.csv, args.work, args.threads, args.timeout, urls, processes)


def lanes(systems: list[System], args: argparse.Namespace) -> list[Lane]:
    def text(number: int) -> str:
        if args.params is None:
            return texts.validation_text(number, args.scale)
        return params.chosen_text(number, args.scale, args.params)

    plain = {number: text(number) for number in texts.NUMBERS}
    repeats = {system.name: args.pg_repeats if system.name == "postgres" else args.repeats for system in systems}
    result = [Lane(system.name, system, plain, repeats[system.name]) for system in systems]
    if args.shuffle is not None:
        other = {number: texts.shuffled(sql, args.shuffle) for number, sql in plain.items()}
        chosen = [system for system in systems if system.name in args.shuffle_systems]
        result += [Lane(f"{system.name}, shuffled", system, other, repeats[system.name], "shuffled") for system in chosen]
    return result


def run_record(lane: Lane) -> dict[str, Any]:
    return {"repeats": lane.repeats, "queries": [result.record() for result in lane.results.values()]}


def system_record(system: System, loaded: Load, all_lanes: list[Lane], peak: dict[str, object]) -> dict[str, Any]:
    head = {"name": system.name, "title": system.title, "version": system.version(), "settings": system.settings()}
    runs = {lane.kind: run_record(lane) for lane in all_lanes if lane.system is system}
    return head | {"load": load.record(loaded), "peak": peak} | runs


def measure_metrics(args: argparse.Namespace, opts: load.Options, systems: list[System]) -> dict[str, Any]:
    streams = args.streams or metrics.streams_of(args.scale)
    result = {}
    for system in systems:
        if system.name in args.metrics and isinstance(system, Server):
            more = [load.system(system.name, opts) for _ in range(streams - 1)]
            servers = [system, *(one for one in more if isinstance(one, Server))]
            result[system.name] = metrics.metrics(servers, args.refresh, args.scale, args.params or 0)
            for one in more:
                one.close()
    return result


def measured(args: argparse.Namespace) -> dict[str, Any]:
    opts = options(args)
    systems, loads, file_load = load.load_all(opts)
    for system in systems:
        system.reset_peak()
    all_lanes = lanes(systems, args)
    references = {n: reference(n, args.scale) if args.params is None else None for n in texts.NUMBERS}
    measure(all_lanes, texts.NUMBERS, references)
    peaks = {system.name: system.peak() for system in systems}
    record = {
        "bench": "benches/tpch",
        "at_unix_seconds": int(time.time()),
        "machine": machine() | {"processors": os.cpu_count()},
        "scale": args.scale,
        "threads": args.threads,
        "params": args.params,
        "shuffle": args.shuffle,
        "systems": [system_record(s, loads[s.name], all_lanes, peaks[s.name]) for s in systems],
    }
    if file_load:
        record["file_load"] = load.record(file_load)
    if args.metrics:
        record["metrics"] = measure_metrics(args, opts, systems)
    for system in systems:
        system.close()
    return complete(record)


def save(record: dict[str, Any], out: pathlib.Path) -> str:
    """The three files, named by scale and parameters."""
    seed = "" if record["params"] is None else f"-params{record['params']}"
    stem = f"tpch-sf{record['scale']:g}{seed}"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n")
    (out / f"{stem}.md").write_text(markdown.report(record))
    (out / f"{stem}.html").write_text(page.report(record))
    return stem


def main() -> int:
    args = arguments()
    try:
        record = measured(args)
    except Failed as error:
        sys.exit(f"tpch: {error}")
    stem = save(record, args.out)
    print(markdown.bars(record))
    print(f"report: {args.out / stem}.html, .md, .json")
    runs = [one[kind] for one in record["systems"] for kind in ("run", "shuffled") if kind in one]
    bad = sum(query["answer"] in ("wrong", "failed") for run in runs for query in run["queries"])
    problems = [one for one in record.get("metrics", {}).values() if "problem" in one]
    if bad:
        print(f"{bad} answers are wrong or missing", file=sys.stderr)
    return 1 if bad or problems else 0


if __name__ == "__main__":
    sys.exit(main())
