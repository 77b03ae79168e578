"""The power and throughput tests (clause 5.3) and the metrics that follow from them (clause 5.4), not audited.

Both change the data, so they come last. The refresh functions are `quire tpch refresh`, set by set: RF1 of set 1, the 22 queries
of stream 0, RF2 of set 1; then the query streams at once, beside a stream of one refresh pair for each of them.
"""

import functools
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .params import chosen_text
from .systems import Failed, Server

# Appendix A: the order of the queries in the power test, then in the streams of the throughput test.
ORDERS = [
    [14, 2, 9, 20, 6, 17, 18, 8, 21, 13, 3, 22, 16, 4, 11, 15, 1, 10, 19, 5, 7, 12],
    [21, 3, 18, 5, 11, 7, 6, 20, 17, 12, 16, 15, 13, 10, 2, 8, 14, 19, 9, 22, 1, 4],
    [6, 17, 14, 16, 19, 10, 9, 2, 15, 8, 5, 22, 12, 7, 13, 18, 1, 4, 20, 3, 11, 21],
    [8, 5, 4, 6, 17, 7, 1, 18, 22, 14, 9, 10, 15, 11, 20, 2, 21, 19, 13, 16, 12, 3],
    [5, 21, 14, 19, 15, 17, 12, 6, 4, 9, 8, 16, 11, 2, 10, 18, 1, 13, 7, 22, 3, 20],
    [21, 15, 4, 6, 7, 16, 19, 18, 14, 22, 11, 13, 3, 1, 2, 5, 8, 20, 12, 17, 10, 9],
    [10, 3, 15, 13, 6, 8, 9, 7, 4, 11, 22, 18, 12, 1, 5, 16, 2, 14, 19, 20, 17, 21],
    [18, 8, 20, 21, 2, 4, 22, 17, 1, 11, 9, 19, 3, 13, 5, 7, 10, 16, 6, 14, 15, 12],
]
# Scale factors from which so many streams are the least (clause 5.3); below the first it is two.
STREAMS = ((10, 3), (30, 4), (100, 5), (300, 6), (1000, 7))
# A query shorter than the longest by more than this counts as if it were so much shorter (clause 5.4.1).
RANGE_MAX = 1000.0


def streams_of(scale: float) -> int:
    return max((count for least, count in STREAMS if scale >= least), default=2)


def power(scale: float, queries: list[float], refreshes: list[float]) -> float:
    """Power@Size of the seconds of the 22 queries and of the two refresh functions."""
    assert (len(queries), len(refreshes)) == (22, 2)
    least = max(queries) / RANGE_MAX
    times = [*(max(one, least) for one in queries), *refreshes]
    return 3600 * scale / statistics.geometric_mean(times)


def throughput(scale: float, streams: int, seconds: float) -> float:
    """Throughput@Size of so many streams that took so long together."""
    return streams * 22 * 3600 / seconds * scale


def composite(power_at_size: float, throughput_at_size: float) -> float:
    """QphH@Size."""
    return math.sqrt(power_at_size * throughput_at_size)


@dataclass
class Stream:
    number: int
    seconds: float = 0.0
    queries_ms: dict[int, float] = field(default_factory=dict)


def run_stream(server: Server, scale: float, number: int, seed: int) -> Stream:
    """The 22 queries in the stream's order, with parameters of its own."""
    stream, started = Stream(number), time.perf_counter()
    for query in ORDERS[number]:
        stream.queries_ms[query], _ = server.run(chosen_text(query, scale, f"{seed} stream {number}"))
    stream.seconds = time.perf_counter() - started
    return stream


class Refresh:
    """`quire tpch refresh`, which speaks to any server."""

    def __init__(self, program: pathlib.Path, url: str, scale: float) -> None:
        self.program, self.url, self.scale = program, url, scale

    def __call__(self, number: int, only: str | None = None) -> dict[str, float]:
        """Milliseconds of RF1 and RF2 of one set."""
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            command = [str(self.program), "tpch", "refresh", "--url", self.url, "--scale", f"{self.scale:g}"]
            command += ["--sets", str(number), "--json", file.name, *(["--only", only] if only else [])]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode != 0:
                raise Failed(f"refresh set {number}: {done.stderr.strip()}")
            (one,) = json.loads(pathlib.Path(file.name).read_text())["sets"]
        return {name: one[f"{name}_ms"] for name in ("rf1", "rf2") if f"{name}_ms" in one}


def power_test(server: Server, refresh: Refresh, scale: float, seed: int) -> dict[str, Any]:
    rf1_ms = refresh(1, "rf1")["rf1"]
    stream = run_stream(server, scale, 0, seed)
    rf2_ms = refresh(1, "rf2")["rf2"]
    queries = [one / 1e3 for one in stream.queries_ms.values()]
    at_size = power(scale, queries, [rf1_ms / 1e3, rf2_ms / 1e3])
    return {"power_at_size": at_size, "rf1_ms": rf1_ms, "rf2_ms": rf2_ms, "queries_ms": stream.queries_ms}


class Worker(threading.Thread):
    """A thread that keeps what it got, or why it got nothing."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.work, self.result = work, None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.result = self.work()
        except Exception as error:
            self.error = error

    def finish(self) -> Any:
        self.join()
        if self.error:
            raise self.error
        return self.result


def throughput_test(servers: list[Server], refresh: Refresh, scale: float, seed: int) -> dict[str, Any]:
    """One connection for each query stream, which are numbered from 1; refresh set 1 was the power test's."""
    numbers = range(1, len(servers) + 1)
    started = time.perf_counter()
    queries = [Worker(functools.partial(run_stream, s, scale, n, seed)) for s, n in zip(servers, numbers)]
    pairs = Worker(lambda: [refresh(1 + number) for number in numbers])
    for worker in (*queries, pairs):
        worker.start()
    streams, refreshes = [worker.finish() for worker in queries], pairs.finish()
    seconds = time.perf_counter() - started
    figures = {"throughput_at_size": throughput(scale, len(servers), seconds), "seconds": seconds}
    return figures | {"streams": [vars(stream) for stream in streams], "refresh_ms": refreshes}


def metrics(servers: list[Server], program: pathlib.Path, scale: float, seed: int) -> dict[str, Any]:
    """All of it on one system; the servers are connections to it, one for each stream."""
    refresh = Refresh(program, servers[0].url, scale)
    try:
        first = power_test(servers[0], refresh, scale, seed)
        second = throughput_test(servers, refresh, scale, seed)
    except Failed as error:
        print(f"metrics: {error}", file=sys.stderr)
        return {"problem": str(error)}
    both = composite(first["power_at_size"], second["throughput_at_size"])
    return {"qphh_at_size": both, "audited": False, "seed": seed, "streams": len(servers), "power": first, "throughput": second}
