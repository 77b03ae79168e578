"""The floors that follow from the figures, and the report as Markdown."""

import statistics
from typing import Any

from tpch.markdown import NOT_TPC, listed, machine_line, ms, number, table, when

from .plans import KINDS

Record = dict[str, Any]
COSTLIEST = 10
TOP = 3
# Times that each query is planned: it takes a few milliseconds, of which others on the machine take part.
PLANNINGS = 20


def complete(record: Record) -> Record:
    """Of each query: its floor, how far above it is, and its place."""
    rate = record["memory"]["bytes_per_second"]
    for one in record["queries"]:
        fine = one["answer"] not in ("wrong", "failed") and one["median_ms"] is not None
        one["floor_ms"] = one["touched_bytes"] / rate * 1e3 if fine else None
        one["ratio"] = one["median_ms"] / one["floor_ms"] if one["floor_ms"] else None
    known = [one["query"] for one in sorted(record["queries"], key=lambda one: -(one["median_ms"] or 0.0))]
    record["costliest"] = known[:COSTLIEST]
    return record


def top(one: Record) -> str:
    """The kinds that took most: milliseconds of all threads, with the share of all."""
    total = sum(one["kinds_ms"].values())
    largest = sorted(one["kinds_ms"].items(), key=lambda pair: -pair[1])[:TOP]
    return ", ".join(f"{kind} {ms(value)} ({100 * value / total:.0f} %)" for kind, value in largest if value) if total else "–"


def mb(count: float) -> str:
    return number(count / 1e6)


def costly_rows(record: Record) -> list[list[str]]:
    by_number = {one["query"]: one for one in record["queries"]}
    rows = []
    for place in record["costliest"]:
        one = by_number[place]
        note = f" ({one['answer']})" if one["answer"] in ("wrong", "failed") else ""
        head = [f"Q{one['query']}", top(one), ms(one["median_ms"]) + note, ms(one["planning_ms"]), mb(one["touched_bytes"])]
        rows.append([*head, number(one["floor_ms"], 2), number(one["ratio"])])
    return rows


def kind_rows(record: Record) -> list[list[str]]:
    rows = [[f"Q{one['query']}", *(ms(one["kinds_ms"][kind]) for kind in KINDS)] for one in record["queries"]]
    sums = {kind: sum(one["kinds_ms"][kind] for one in record["queries"]) for kind in KINDS}
    return [*rows, ["Sum", *(ms(sums[kind]) for kind in KINDS)]]


def planning_rows(record: Record) -> list[list[str]]:
    """Each query's, and the mean."""
    kinds = ("planning_new_ms", "planning_kept_ms")
    rows = [[f"Q{one['query']}", *(number(one[kind], 2) for kind in kinds)] for one in record["queries"]]
    known = [one for one in record["queries"] if one[kinds[0]] is not None]
    means = [statistics.fmean(one[kind] for one in known) if known else None for kind in kinds]
    return [*rows, ["Mean", *(number(mean, 2) for mean in means)]]


def conditions(record: Record) -> list[str]:
    memory = record["memory"]
    lines = [f"{when(record)} UTC; scale {record['scale']:g}, {record['threads']} threads; {record['version']}"]
    lines.append(f"Machine: {machine_line(record)}")
    rate, size = memory["bytes_per_second"] / 1e9, memory["buffer_bytes"] / (1 << 20)
    lines.append(f"Memory: {rate:.1f} GB/s, {record['threads']} threads summing up {size:,.0f} MiB, best of {memory['passes']}")
    lines.append(f"Time: median of {record['repeats']} runs after a first one, warm, to the client's last row")
    lines.append(f"Planning: median of {PLANNINGS}, by EXPLAIN (SUMMARY): plan_cache_mode = force_custom_plan (new), and auto (kept)")
    lines.append("By kind: milliseconds of all threads together, of the EXPLAIN ANALYZE whose execution time is the median")
    return lines


def problems(record: Record) -> list[str]:
    found = [f"Q{one['query']}: {one['problem']}" for one in record["queries"] if one.get("problem")]
    moved = [f"Q{one['query']}: {one['pages_moved']:.0f} pages were not in memory" for one in record["queries"] if one["pages_moved"]]
    blind = [one["query"] for one in record["queries"] if one["answer"] not in ("wrong", "failed") and not one["touched_bytes"]]
    if blind:
        moved.append(f"no bytes are counted for {', '.join(f'Q{n}' for n in blind)}: is the server older than this bench?")
    return found + moved


def report(record: Record) -> str:
    head = ["Query", "most of the time, ms of all threads", "ms", "of it planning", "MB looked at", "floor, ms", "ms / floor"]
    text = f"# TPC-H at scale {record['scale']:g}: where the time goes, and its floor\n\n{listed(conditions(record))}\n"
    text += f"{NOT_TPC} [How to read it](README.md#floors).\n\n## The ten costliest\n\n{table(head, costly_rows(record), left=2)}"
    text += f"\n## All queries by kind of operator, ms of all threads\n\n{table(['Query', *KINDS], kind_rows(record))}"
    text += f"\n## Planning, ms\n\n{table(['Query', 'new', 'kept'], planning_rows(record))}"
    if found := problems(record):
        text += f"\n## Problems\n\n{listed(found)}"
    return text
