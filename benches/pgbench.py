#!/usr/bin/env python3
"""pgbench against PostgreSQL and Quire in turn: a table, ratios and bars, and a check of the balances after each run.

usage: pgbench.py --bin DIRECTORY --postgres URL --quire URL [--scale 10] [--duration 10] [--rounds 1] ... [--json FILE]

DIRECTORY holds pgbench and psql. Both databases must be empty. scripts/pgbench.sh starts the servers and calls this; see
README.md. Exits non-zero when a run does not complete or the balances are wrong, not when Quire is slower than a bar.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from machine import machine  # noqa: E402

# pgbench's names of its scripts, and what Quire's best tps must be, as a share of PostgreSQL's best.
BARS = {"tpcb-like": 0.35, "simple-update": 0.5, "select-only": 0.25}
# Tries of one transaction, the first one included: more than any needs that meets other clients only.
TRIES_MAX = 100
# A server that hangs fails the run. Initialisation at scale 10 takes seconds; a run ends when its clients do.
INIT_SECONDS_MAX = 1800
OVERTIME_SECONDS_MAX = 60
FSYNC_SECONDS = 2

# What pgbench prints after a run. Its tps leave failed transactions out, and the time to connect.
FIGURES = {
    "tps": (float, r"tps = ([\d.]+) \(without initial connection time\)"),
    "latency_ms": (float, r"latency average = ([\d.]+) ms"),
    "transactions": (int, r"number of transactions actually processed: (\d+)"),
    "failed": (int, r"number of failed transactions: (\d+)"),
    "retried": (int, r"number of transactions retried: (\d+)"),
    "retries": (int, r"total number of retries: (\d+)"),
}

SUMS = {
    "accounts": "SELECT sum(abalance) FROM pgbench_accounts",
    "tellers": "SELECT sum(tbalance) FROM pgbench_tellers",
    "branches": "SELECT sum(bbalance) FROM pgbench_branches",
    "history": "SELECT coalesce(sum(delta), 0) FROM pgbench_history",
    "rows": "SELECT count(*) FROM pgbench_history",
}


class Failure(Exception):
    """A program that did not do what it was called for. Nothing after it can be measured."""


class System:
    """One of the two servers, and the sums over its tables after the last run."""

    def __init__(self, name, url, programs):
        self.name, self.url, self.programs = name, url, programs
        self.version = self.psql("SELECT version()")[0]
        self.sums = None
        self.init_seconds = None

    def call(self, program, *arguments, timeout):
        command = [str(self.programs / program), *arguments]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name}: no end after {timeout} s: {' '.join(command)}") from None
        if done.returncode != 0:
            words = "\n".join(done.stderr.splitlines()[-20:])
            raise Failure(f"{self.name}: status {done.returncode} from {' '.join(command)}\n{words}")
        return done.stdout

    def psql(self, *statements):
        """The lines of the answers."""
        commands = [word for statement in statements for word in ("-c", statement)]
        options = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.url]
        return self.call("psql", *options, *commands, timeout=OVERTIME_SECONDS_MAX).splitlines()

    def read_sums(self):
        return dict(zip(SUMS, map(int, self.psql(*SUMS.values())), strict=True))

    def init(self, scale):
        started = time.perf_counter()
        self.call("pgbench", "-i", "-s", str(scale), self.url, timeout=INIT_SECONDS_MAX)
        self.init_seconds = time.perf_counter() - started
        self.sums = self.read_sums()

    def run(self, script, clients, seconds):
        """One run of pgbench: its figures, and what is wrong with the balances after it."""
        # pgbench's own vacuum before a run also empties the history, which is to be counted: hence -n
        self.psql("VACUUM pgbench_branches", "VACUUM pgbench_tellers")
        # the same seed, so that both systems are asked for the same rows
        options = ["-n", "-b", script, "-M", "prepared", "-c", str(clients), "-T", str(seconds), "--random-seed=1"]
        options += ["-j", str(min(clients, machine()["cpus"])), f"--max-tries={TRIES_MAX}"]
        text = self.call("pgbench", *options, self.url, timeout=seconds + OVERTIME_SECONDS_MAX)
        figures = {}
        for name, (number, pattern) in FIGURES.items():
            found = re.search(pattern, text)
            if not found:
                raise Failure(f"{self.name}: pgbench does not say its {name}:\n{text}")
            figures[name] = number(found[1])
        before, self.sums = self.sums, self.read_sums()
        return figures | {"wrong": wrong(script, figures["transactions"], before, self.sums)}


def wrong(script, transactions, before, after):
    """What contradicts that each transaction moved one amount in every table it writes, exactly once.

    All sums are 0 at first, so that the changes agree in each run says that the sums do.
    """
    moved = {name: after[name] - before[name] for name in SUMS}
    delta = moved["history"] if script != "select-only" else 0
    # simple-update leaves tellers and branches out
    shared = delta if script == "tpcb-like" else 0
    rows = transactions if script != "select-only" else 0
    expected = {"accounts": delta, "tellers": shared, "branches": shared, "history": delta, "rows": rows}
    return [f"{name}: {moved[name]:+}, not {expected[name]:+}" for name in SUMS if moved[name] != expected[name]]


def fsync_rate(directory):
    """How often a second this machine appends 4 KiB to a file in the directory and has it on the disk."""
    with tempfile.NamedTemporaryFile(dir=directory, prefix="fsync-", buffering=0) as file:
        block, count, started = bytes(4096), 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < FSYNC_SECONDS:
            file.write(block)
            os.fdatasync(file.fileno())
            count += 1
    return count / elapsed


def median(runs):
    """The run with the median tps, the lower one of two."""
    return sorted(runs, key=lambda run: run["tps"])[(len(runs) - 1) // 2]


def medians(runs, script):
    """By system and number of clients."""
    groups = {}
    for run in runs:
        if run["script"] == script:
            groups.setdefault(run["system"], {}).setdefault(run["clients"], []).append(run)
    return {system: {clients: median(of) for clients, of in by.items()} for system, by in groups.items()}


def table(runs, scripts):
    heads = ["script", "clients", "PostgreSQL tps", "Quire tps", "ratio"]
    heads += ["failed, PostgreSQL / Quire", "retries", "latency average, ms"]
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for script in scripts:
        by = medians(runs, script)
        for clients, theirs in by.get("PostgreSQL", {}).items():
            # Quire's is missing when it failed
            ours = by.get("Quire", {}).get(clients)
            both = [theirs, ours] if ours else [theirs]
            tps = [f"{run['tps']:.0f}" for run in both]
            tps += [f"{ours['tps'] / theirs['tps']:.2f}"] if ours else ["", ""]
            others = [("failed", "d"), ("retries", "d"), ("latency_ms", ".2f")]
            lines.append([script, str(clients), *tps])
            lines[-1] += [" / ".join(format(run[name], form) for run in both) for name, form in others]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def verdicts(runs, scripts):
    """For each script the ratio of the two systems, each at the number of clients at which it is best."""
    out = []
    for script in scripts:
        by = medians(runs, script)
        # the best of fewer client counts would not be comparable
        if len(by) < 2 or by["PostgreSQL"].keys() != by["Quire"].keys():
            continue
        theirs, ours = (max(by[name].values(), key=lambda run: run["tps"]) for name in ("PostgreSQL", "Quire"))
        best = {run["system"]: {"clients": run["clients"], "tps": run["tps"]} for run in (theirs, ours)}
        ratio = ours["tps"] / theirs["tps"]
        out.append({"script": script, "best": best, "ratio": ratio, "bar": BARS[script], "met": ratio >= BARS[script]})
    return out


def measure(args, systems, runs):
    for system in systems:
        system.init(args.scale)
        print(f"{system.name}: pgbench -i -s {args.scale} took {system.init_seconds:.1f} s", file=sys.stderr)
    for number in range(1, args.rounds + 1):
        for script in args.scripts:
            for clients in args.clients:
                # in turn, so that a machine that gets slower or faster does so for both
                for system in systems:
                    run = {"system": system.name, "script": script, "clients": clients, "round": number}
                    run |= system.run(script, clients, args.duration)
                    runs.append(run)
                    balances = "balances agree" if not run["wrong"] else f"BALANCES WRONG: {'; '.join(run['wrong'])}"
                    figures = f"{run['tps']:.0f} tps, {run['failed']} failed, {run['retries']} retries, {balances}"
                    print(f"{script} -c {clients}, {system.name}: {figures}", file=sys.stderr)


def report(args, systems, runs, fsyncs):
    print(f"\n{table(runs, args.scripts)}\n")
    found = verdicts(runs, args.scripts)
    if found:
        print("At the best client count of each:\n")
    for one in found:
        theirs, ours = one["best"]["PostgreSQL"], one["best"]["Quire"]
        tps = f"Quire {ours['tps']:.0f} tps ({ours['clients']}), PostgreSQL {theirs['tps']:.0f} tps ({theirs['clients']})"
        verdict = "met" if one["met"] else "MISSED"
        print(f"- {one['script']}: {tps}, ratio {one['ratio']:.2f}, bar {one['bar']:.2f}: {verdict}")
    writes = [run for run in runs if run["script"] != "select-only"]
    right = sum(not run["wrong"] for run in writes)
    print(f"\nBalances and history agree after {right} of {len(writes)} write runs.")
    if args.json:
        about = {"name": "pgbench", "at_unix_seconds": int(time.time()), "machine": machine()}
        about |= {"bench": "benches/pgbench.py", "fdatasync_per_second": fsyncs, "scale": args.scale}
        about |= {"duration_seconds": args.duration, "rounds": args.rounds, "tries_max": TRIES_MAX}
        about["systems"] = {s.name: {"version": s.version, "init_seconds": s.init_seconds} for s in systems}
        args.json.write_text(json.dumps(about | {"verdicts": found, "runs": runs}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="where pgbench and psql are")
    parser.add_argument("--postgres", required=True, metavar="URL")
    parser.add_argument("--quire", required=True, metavar="URL")
    parser.add_argument("--scale", type=int, default=10)
    parser.add_argument("--duration", type=int, default=10, help="seconds of one run")
    parser.add_argument("--rounds", type=int, default=1, help="the median of so many runs counts")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--scripts", nargs="+", choices=list(BARS), default=list(BARS))
    parser.add_argument("--fsync-dir", type=pathlib.Path, help="on the disk of the servers")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    # subprocess.run kills its program when it is left by an exception, which a signal alone is not
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    fsyncs = fsync_rate(args.fsync_dir) if args.fsync_dir else None
    runs, systems, failure = [], [], None
    try:
        systems += [System("PostgreSQL", args.postgres, args.bin), System("Quire", args.quire, args.bin)]
        about = machine()
        rate = f", {fsyncs:.0f} fdatasync/s" if fsyncs else ""
        print(f"{about['cpu']}, {about['cpus']} cores, {about['memory_bytes'] >> 30} GiB{rate}")
        for system in systems:
            print(f"{system.name}: {system.version}")
        print(f"scale {args.scale}, {args.duration} s a run, median of {args.rounds}, -M prepared", flush=True)
        measure(args, systems, runs)
    except Failure as what:
        failure = what
    if runs:
        report(args, systems, runs, fsyncs)
    if failure:
        print(failure, file=sys.stderr)
    sys.exit(1 if failure or any(run["wrong"] for run in runs) else 0)


main()
