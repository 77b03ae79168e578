"""Where the processor time of a running Quire goes, layer by layer.

    perf record -F 199 --call-graph dwarf,48000 -p PID -- sleep 5
    perf script --no-inline -F comm,ip,sym | python3 benches/layers.py --microseconds 430

Each sample counts for the innermost layer that its stack names, the kernel's time for whoever called it. With --microseconds, the processor time of one transaction, shares are told in it.
"""

import argparse
import collections
import re
import sys

# The first rule that a frame matches is its layer; frames are looked at from the innermost on. (layer, thread or None, frame)
RULES = [
    ("log: fsync", "log", r"."),
    ("client's socket", None, r"quire_pg::wire::"),
    ("log: certification, state in memory", None, r"StateMachine::decide|quire_log::|Published::advance|persist::writes"),
    ("log: RocksDB, state", None, r"StateMachine::record"),
    ("log: RocksDB, entries", None, r"LogStore as openraft"),
    ("storage: seals and compaction", None, r"quire_storage::(seal|compact|rewrite|collect|report)|quire_segment::encode|rocksdb::.*(Compact|Flush(Job|Mem))"),
    ("commit: rows encoded", None, r"into_commit|into_write|quire_client::commit"),
    ("snapshot: view brought up to date", None, r"quire_client::snapshot|Session::snapshot"),
    ("storage: snapshot and commit requests", None, r"quire_storage::rpc::storage"),
    ("statement: row found", None, r"find_rows|quire_sql::lookup|delta_runs|quire_scan"),
    ("statement: row written", None, r"insert_batches|change_found|quire_sql::write|ready_row|Session::complete|finish_write"),
    ("statement: result, protocol", None, r"send_rows|quire_sql::query|quire_pg::(rows|extended|frame|params|connection)"),
    ("statement: session", None, r"quire_sql::"),
    ("gRPC between nodes", "storage", r"tonic|h2::|hyper|tower|RaftService|quire_storage::raft::network"),
    ("gRPC to storage", "compute", r"tonic|h2::|hyper|tower"),
    ("Raft", None, r"openraft"),
]
RUNTIME = "runtime: tasks, wake-ups, epoll"


def stacks(lines):
    """Yields (thread, frames from the innermost on)."""
    thread, frames = None, []
    for line in lines:
        if not line.strip():
            if thread:
                yield thread, frames
            thread, frames = None, []
        elif line[0] not in "\t ":
            thread, frames = line.split()[0], []
        else:
            frames.append(line.strip().split(" ", 1)[-1])
    if thread:
        yield thread, frames


def layer(thread, frames, rules):
    for frame in frames:
        for name, only, pattern in rules:
            if (only is None or thread.startswith(only)) and pattern.search(frame):
                return name
    return RUNTIME if any("tokio" in frame for frame in frames) else "unknown (stacks that perf could not follow)"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--microseconds", type=float, help="processor time of one transaction")
    arguments = parser.parse_args()
    rules = [(name, thread, re.compile(pattern)) for name, thread, pattern in RULES]
    counts = collections.Counter(layer(thread, frames, rules) for thread, frames in stacks(sys.stdin))
    total = sum(counts.values())
    if not total:
        sys.exit("no samples: perf script's output belongs on the standard input")
    print(f"| layer | share of {total} samples |" + (" µs |" if arguments.microseconds else ""))
    print("|---|---:|" + ("---:|" if arguments.microseconds else ""))
    for name, count in counts.most_common():
        share = count / total
        print(f"| {name} | {share:.1%} |" + (f" {share * arguments.microseconds:.0f} |" if arguments.microseconds else ""))


if __name__ == "__main__":
    main()
