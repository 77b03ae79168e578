"""The program: `python -m cold --quire FILE --work DIR --logs DIR --out DIR`, with benches/ in PYTHONPATH. See scripts/bench-nodes.sh."""

import argparse
import json
import os
import pathlib
import sys
import time

from cluster import Cluster, Process, Unfit, free_ports, running, stop_at_signals  # benches/cluster.py
from machine import machine  # benches/machine.py
from tpch import memory, texts
from tpch.again import Again, Recording, say
from tpch.markdown import bars
from tpch.systems import Failed

from . import report
from .moved import Record, Watch
from .summary import complete

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROXY = pathlib.Path(__file__).with_name("slow_proxy.py")
# Until delta rows of small tables are segments, and merges are done.
SEAL_SECONDS_MAX = 300.0
# For the load, so that nobody waits for the few rows that are left over.
SEALED = ("--seal-age", "2s")
REST_SECONDS_MAX = 300.0

# Reads one page of five rows.
GREETING = "SELECT count(*) FROM region WHERE r_name <> ''"

ALONE = "each with empty caches"
IN_TURN = "one after the other"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cold", description=__doc__)
    path = pathlib.Path
    parser.add_argument("--quire", type=path, required=True, help="the program")
    parser.add_argument("--work", type=path, required=True, help="where data is kept while this runs")
    parser.add_argument("--logs", type=path, required=True)
    parser.add_argument("--out", type=path, required=True, help="where the report goes")
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of a query when warm, after a first one")
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--mb-per-second", type=float, default=200.0)
    parser.add_argument("--timeout", type=float, default=600, help="seconds after which a query has failed")
    return parser.parse_args()


class Store:
    """The S3 server that the tests use, and the proxy before it, which answers reads itself: see there."""

    def __init__(self, args: argparse.Namespace) -> None:
        port = free_ports(3)
        secrets = {"AWS_ACCESS_KEY_ID": "quire", "AWS_SECRET_ACCESS_KEY": "quirequire", "AWS_REGION": "us-east-1"}
        server = [sys.executable, ROOT / "tests/s3/server.py", "--port", port, "--dir", args.work / "s3", "--bucket", "quire"]
        copies = args.work / "copies"
        copies.mkdir()
        proxy = [sys.executable, PROXY, "--port", port + 1, "--to", port, "--control", port + 2, "--copies", copies]
        proxy += ["--latency-ms", args.latency_ms, "--mb-per-second", args.mb_per_second]
        self.server = Process("s3 server", args.logs / "s3.log", server, secrets)
        self.proxy = Process("proxy", args.logs / "proxy.log", proxy)
        self.address, self.control = f"http://127.0.0.1:{port + 1}", f"http://127.0.0.1:{port + 2}"
        self.env = secrets | {"AWS_ENDPOINT": self.address, "AWS_ALLOW_HTTP": "true"}

    def start(self) -> None:
        self.server.start()
        self.proxy.start()
        self.proxy.wait_for(f"{self.control}/stats")
        # any answer will do, also that the request is not signed; the proxy hangs up until the server is there
        self.server.wait_for(f"{self.address}/quire", any_answer=True)

    def stop(self) -> None:
        try:
            self.proxy.stop()
        finally:
            self.server.stop()

    def processor_seconds(self) -> float:
        return sum(memory.processor_seconds(process.pid) for process in (self.server, self.proxy))


class Bench:
    def __init__(self, args: argparse.Namespace, store: Store, cluster: Cluster) -> None:
        self.args, self.store, self.cluster, self.again = args, store, cluster, Again(args.scale)
        self.version = ""

    def connect(self) -> Recording:
        return Recording(self.cluster.url, self.cluster.pids, self.args.timeout)

    def load(self) -> None:
        self.cluster.tool("tpch", "load", "--url", self.cluster.url, "--scale", f"{self.args.scale:g}")
        sealed = self.cluster.wait_sealed(SEAL_SECONDS_MAX)
        rested = memory.rest(self.cluster.pids, REST_SECONDS_MAX)
        print(f"all rows in segments after {sealed:.0f} s, at rest after {rested:.0f} s more", file=sys.stderr, flush=True)

    def warm(self) -> list[Record]:
        print(f"warm: median of {self.args.repeats} runs", file=sys.stderr, flush=True)
        system = self.connect()
        self.version = system.version()
        results = self.again.all(system, self.args.repeats)
        system.close()
        return [result.record() for result in results]

    def restart_empty(self) -> None:
        """Nodes with empty caches, which have connections to each other and to the object store as in a cluster that runs."""
        self.cluster.stop()
        self.cluster.empty_caches()
        self.cluster.start()
        system = self.connect()
        system.run(GREETING)
        system.close()

    def first_run(self, number: int) -> Record:
        """On a new connection, which is made before the clock starts."""
        system = self.connect()
        watch = Watch(self.cluster, self.store.control)
        result = self.again.query(system, number, repeats=0)
        record = {"query": number, "cold_ms": result.first_ms, "answer": result.answer, "rows": result.rows} | watch.moved()
        system.close()
        say(result)
        return record | ({"problem": result.problem} if result.problem else {})

    def phase(self, title: str, what: str, each_empty: bool) -> Record:
        print(f"cold: {title}", file=sys.stderr, flush=True)
        spent, queries = 0.0, []
        for number in texts.NUMBERS:
            if each_empty or number == texts.NUMBERS[0]:
                self.restart_empty()
            before = self.store.processor_seconds()
            queries.append(self.first_run(number))
            spent += self.store.processor_seconds() - before
        return {"title": title, "what": what, "store_processor_seconds": spent, "queries": queries}

    def run(self) -> Record:
        self.load()
        warm = self.warm()
        what = "Before each query all nodes are stopped, their caches removed and the nodes started again; it runs once."
        alone = self.phase(ALONE, what, each_empty=True)
        what = "The caches are removed once; then each query runs once. What an earlier one has fetched, a later one finds."
        in_turn = self.phase(IN_TURN, what, each_empty=False)
        return {"version": self.version, "repeats": self.args.repeats, "warm": warm, "cold": [alone, in_turn]}


def measured(args: argparse.Namespace) -> Record:
    store = Store(args)
    with running(store):
        store.start()
        # the database and this client; the object store stands for machines of its own, if there are processors for it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
        cluster = Cluster(args.quire, args.work, args.logs, "s3://quire/cold", store.env)
        with running(cluster):
            cluster.start(*SEALED)
            found = Bench(args, store, cluster).run()
    head = {
        "bench": "benches/cold",
        "at_unix_seconds": int(time.time()),
        "machine": machine() | {"processors": os.cpu_count()},
        "scale": args.scale,
        "threads": args.threads,
        "link": {"latency_ms": args.latency_ms, "bytes_per_second": args.mb_per_second * 1e6},
    }
    return complete(head | found)


def main() -> int:
    args = arguments()
    stop_at_signals()
    try:
        record = measured(args)
    except (Unfit, Failed) as error:
        sys.exit(f"cold: {error}")
    stem = args.out / f"cold-sf{args.scale:g}"
    args.out.mkdir(parents=True, exist_ok=True)
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(record, indent=1) + "\n")
    stem.with_name(f"{stem.name}.md").write_text(report.report(record))
    print(bars(record))
    print(f"report: {stem}.md, .json")
    runs = [record["warm"], *(phase["queries"] for phase in record["cold"])]
    bad = sum(one["answer"] in ("wrong", "failed") for queries in runs for one in queries)
    if bad:
        print(f"{bad} answers are wrong or missing", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
