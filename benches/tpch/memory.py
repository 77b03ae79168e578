"""Memory and processor time of a system's processes, as /proc tells."""

import os
import pathlib
import threading
import time

SAMPLE_SECONDS = 0.25
# Processes that use less of one processor than this (heartbeats do) are at rest.
REST_SHARE = 0.1
REST_SECONDS = 3.0

KIB = 1024
Pids = dict[str, int]


def fields(pid: int) -> dict[str, int]:
    """The figures of /proc/PID/status in bytes; none of a process that has ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
    return {name: int(text.split()[0]) * KIB for name, text in pairs}


def stat(pid: int) -> list[str]:
    """/proc/PID/stat behind the name, which may hold anything."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def children(parent: int) -> list[int]:
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return [pid for pid in pids if stat(pid)[1:2] == [str(parent)]]


def processor_seconds(pid: int) -> float:
    numbers = stat(pid)
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK") if numbers else 0.0


def reset_peak(pid: int) -> None:
    """The peak counts from now on, where the kernel lets us."""
    try:
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        pass


def peaks(pids: Pids) -> dict[str, int]:
    """The most that each process has had in memory since the last reset."""
    return {name: fields(pid).get("VmHWM", 0) for name, pid in pids.items()}


def rest(pids: Pids, seconds_max: float) -> float:
    """Waits until the processes are at rest, or as long as it may; gives the seconds waited."""
    started = time.monotonic()
    while time.monotonic() - started < seconds_max:
        before = sum(map(processor_seconds, pids.values()))
        time.sleep(REST_SECONDS)
        if sum(map(processor_seconds, pids.values())) - before < REST_SHARE * REST_SECONDS:
            break
    return time.monotonic() - started


class FamilySampler:
    """The peak of a server that has processes come and go and share memory: what they have of their own, and the shared part once."""

    def __init__(self, parent: int) -> None:
        self.parent, self.peak_bytes = parent, 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        while not self.stopped.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self.now())

    def now(self) -> int:
        family = [fields(pid) for pid in [self.parent, *children(self.parent)]]
        shared = max((member.get("RssShmem", 0) for member in family), default=0)
        return shared + sum(member.get("RssAnon", 0) for member in family)

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()


def shown(processes: dict[str, int]) -> dict[str, object]:
    return {"bytes": sum(processes.values()), "processes": processes}
