"""Three storage nodes and a compute node, a process each, which a benchmark stops and starts again, with caches that it can empty."""

import contextlib
import http.client
import math
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

STORAGE_NODES = (1, 2, 3)
# Of a node that starts: its log is replayed, and a leader elected.
READY_SECONDS_MAX = 120.0
# A node lets requests under way go on for 5 s, then writes its cache out.
STOP_SECONDS_MAX = 30.0
POLL_SECONDS = 0.05
# Until gauges, which are renewed every 2 s, show what was done.
GAUGE_SECONDS = 2.5
LAST_WORDS = 20

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')


class Unfit(Exception):
    """A process that does not do what it was started for. Nothing can be measured then."""


def stop_at_signals() -> None:
    """SIGTERM ends the program as an exception does, so that what it started is stopped."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def free_ports(count: int) -> int:
    """The first of so many consecutive free ports, below those that the kernel gives to outgoing connections."""
    for _ in range(1000):
        first = random.randrange(15000, 32000 - count)
        if all(is_free(port) for port in range(first, first + count)):
            return first
    raise Unfit("no free ports")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def page(url: str, seconds_max: float = 10.0) -> str:
    with urllib.request.urlopen(url, timeout=seconds_max) as answer:
        return str(answer.read(), "utf-8")


class Process:
    """A program in a session of its own, so that Ctrl-C does not reach it before we say so. Each start appends to its log."""

    def __init__(self, name: str, log: pathlib.Path, command: Iterable[object], env: Mapping[str, str] | None = None) -> None:
        self.name, self.log, self.command = name, log, [str(word) for word in command]
        self.env = os.environ | dict(env or {})
        self.child: subprocess.Popen[bytes] | None = None
        log.write_bytes(b"")

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self.child.pid if self.child else 0

    def wait_for(self, url: str, any_answer: bool = False) -> None:
        """Until the URL answers with success, or with anything at all."""
        end = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < end:
            try:
                page(url)
                return
            except urllib.error.HTTPError:
                if any_answer:
                    return
            except (OSError, http.client.HTTPException):
                pass
            if self.child is None or self.child.poll() is not None:
                raise Unfit(f"{self.name} ended before it was ready:\n{self.last_words()}")
            time.sleep(POLL_SECONDS)
        raise Unfit(f"{self.name} is not ready after {READY_SECONDS_MAX:.0f} s:\n{self.last_words()}")

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_WORDS:])

    def stop(self) -> None:
        child, self.child = self.child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise Unfit(f"{self.name} did not stop within {STOP_SECONDS_MAX:.0f} s and was killed") from None


@dataclass
class Metrics:
    """Samples of one or more nodes' /metrics."""

    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Metrics":
        found = (SAMPLE.match(line) for text in texts for line in text.splitlines())
        return cls([(m[1], dict(LABEL.findall(m[2] or "")), float(m[3])) for m in found if m])

    def values(self, name: str, **labels: str) -> list[float]:
        """Those that have the labels; a counter that has not counted yet has no sample."""
        return [value for one, has, value in self.samples if one == name and labels.items() <= has.items()]

    def total(self, name: str, **labels: str) -> float:
        return math.fsum(self.values(name, **labels))

    def largest(self, name: str, **labels: str) -> float:
        return max(self.values(name, **labels), default=0.0)


def since(before: Metrics, now: Metrics, name: str, **labels: str) -> int:
    """What a counter has counted in between, on all nodes."""
    return round(now.total(name, **labels) - before.total(name, **labels))


class Cluster:
    """Storage nodes 1 to 3 and one compute node. `work` holds their data, `logs` what they say."""

    def __init__(
        self, quire: pathlib.Path, work: pathlib.Path, logs: pathlib.Path, object_store: str, env: Mapping[str, str] | None = None
    ) -> None:
        self.quire, self.work, self.object_store = quire, work, object_store
        self.port = free_ports(2 * len(STORAGE_NODES) + 2)
        self.storage = [Process(f"storage {n}", logs / f"storage-{n}.log", [], env) for n in STORAGE_NODES]
        self.compute = Process("compute", logs / "compute.log", self.compute_command(), env)

    def storage_address(self, node: int) -> str:
        return f"127.0.0.1:{self.port + node - 1}"

    def storage_http(self, node: int) -> str:
        return f"127.0.0.1:{self.port + len(STORAGE_NODES) + node - 1}"

    @property
    def compute_http(self) -> str:
        return f"127.0.0.1:{self.port + 2 * len(STORAGE_NODES) + 1}"

    @property
    def compute_address(self) -> str:
        return f"127.0.0.1:{self.port + 2 * len(STORAGE_NODES)}"

    @property
    def url(self) -> str:
        return f"postgres://quire@{self.compute_address}/quire"

    @property
    def pids(self) -> dict[str, int]:
        return {process.name: process.pid for process in [*self.storage, self.compute]}

    def storage_command(self, node: int, flags: Iterable[str]) -> list[str]:
        peers = ",".join(f"{n}={self.storage_address(n)}" for n in STORAGE_NODES)
        command = [str(self.quire), "storage", "--node-id", str(node), "--listen", self.storage_address(node), "--peers", peers]
        command += ["--http", self.storage_http(node), "--data-dir", str(self.data_dir(node)), "--object-store", self.object_store]
        return [*command, *flags]

    def compute_command(self) -> list[str]:
        storage = ",".join(map(self.storage_address, STORAGE_NODES))
        command = [str(self.quire), "compute", "--storage", storage, "--listen", self.compute_address, "--http", self.compute_http]
        return [*command, "--cache-dir", str(self.cache_dir)]

    def data_dir(self, node: int) -> pathlib.Path:
        return self.work / f"storage-{node}"

    @property
    def cache_dir(self) -> pathlib.Path:
        return self.work / "compute"

    def start(self, *storage_flags: str) -> None:
        """All nodes; returns when all can serve."""
        for node, process in zip(STORAGE_NODES, self.storage, strict=True):
            process.command = self.storage_command(node, storage_flags)
            process.start()
        for node, process in zip(STORAGE_NODES, self.storage, strict=True):
            process.wait_for(f"http://{self.storage_http(node)}/readyz")
        self.compute.start()
        self.compute.wait_for(f"http://{self.compute_http}/readyz")

    def stop(self) -> None:
        """Compute first, as a user would. All are stopped, whatever one of them does."""
        with contextlib.ExitStack() as stack:
            for process in [*self.storage, self.compute]:
                stack.callback(process.stop)

    def empty_caches(self) -> None:
        """Of stopped nodes: what docs/operating/running.md says may be deleted."""
        for directory in [self.cache_dir, *(self.data_dir(node) / "pages" for node in STORAGE_NODES)]:
            shutil.rmtree(directory, ignore_errors=True)

    def storage_metrics(self) -> Metrics:
        return Metrics.of(page(f"http://{self.storage_http(node)}/metrics") for node in STORAGE_NODES)

    def compute_metrics(self) -> Metrics:
        return Metrics.of([page(f"http://{self.compute_http}/metrics")])

    def wait_sealed(self, seconds_max: float) -> float:
        """Until all rows are in segments. Gauges are renewed every 2 s; until a node has said how many rows it has, it may have any."""
        started = time.monotonic()
        time.sleep(GAUGE_SECONDS)
        while (rows := self.delta_rows()) != 0:
            if time.monotonic() - started > seconds_max:
                shown = "nobody knows how many" if rows is None else f"{rows:.0f}"
                raise Unfit(f"{shown} rows are in no segment after {seconds_max:.0f} s")
            time.sleep(1)
        return time.monotonic() - started

    def delta_rows(self) -> float | None:
        """Rows in no segment, by the node that has most; None while some node does not say."""
        rows = self.storage_metrics().values("quire_storage_delta_rows")
        return max(rows) if len(rows) >= len(STORAGE_NODES) else None

    def tool(self, *arguments: object) -> None:
        """A command of the program that must succeed, such as `tpch load`."""
        done = subprocess.run([str(self.quire), *map(str, arguments)], check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Unfit(f"quire {' '.join(map(str, arguments[:2]))} ended with status {done.returncode}")


class Stoppable(Protocol):
    def stop(self) -> None: ...


@contextlib.contextmanager
def running(*processes: Stoppable) -> Iterator[None]:
    """Stops them in the end, the last one first, whether started or not."""
    with contextlib.ExitStack() as stack:
        for process in processes:
            stack.callback(process.stop)
        yield
