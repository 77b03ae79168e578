"""Ratios, bars and the report as Markdown."""

from dataclasses import asdict
from typing import Any

from tpch.markdown import NOT_TPC, bars, listed, machine_line, ms, number, table, when
from tpch.summary import Bar, medians, ratios

Record = dict[str, Any]
# What unsealed and updated rows may cost.
BOUND = 1.25


def whole(phase: Record) -> bool:
    both = [*phase["clean"], *phase["queries"]]
    return phase["held"] and all(one["median_ms"] is not None and one["answer"] != "wrong" for one in both)


def complete(record: Record) -> Record:
    """Ratios of the changed tables to the untouched, and bars of the last phase; none when rows did not stay where they were put."""
    for phase in record["phases"]:
        clean = {"queries": phase["clean"]}
        phase["clean_sum_ms"], phase["sum_ms"] = sum(medians(clean).values()), sum(medians(phase).values())
        phase["ratio"] = ratios(phase, clean)
    last = record["phases"][-1]
    fine = whole(last)
    each = last["ratio"]["queries"]
    found = [
        Bar("sum of the 22, unsealed and updated rows / none", BOUND, last["ratio"]["sum"] if fine else None),
        Bar("worst query of the 22", BOUND, max(each.values()) if fine else None),
    ]
    record["bars"] = [asdict(bar) for bar in found]
    return record


def cell(one: Record) -> str:
    return ms(one["median_ms"]) + (f" ({one['answer']})" if one["answer"] in ("wrong", "failed") else "")


def query_rows(record: Record) -> list[list[str]]:
    phases = record["phases"]
    rows = []
    for index, one in enumerate(phases[0]["queries"]):
        row = [f"Q{one['query']}"]
        for phase in phases:
            clean, changed = phase["clean"][index], phase["queries"][index]
            row += [cell(clean), cell(changed), number(phase["ratio"]["queries"].get(one["query"]), 2)]
        rows.append(row)
    sums = [[ms(phase["clean_sum_ms"]), ms(phase["sum_ms"]), number(phase["ratio"]["sum"], 2)] for phase in phases]
    rows.append(["Sum", *(one for of_phase in sums for one in of_phase)])
    rows.append(["Geometric mean", *(one for phase in phases for one in ("–", "–", number(phase["ratio"]["geomean"], 2)))])
    return rows


def state_rows(record: Record) -> list[list[str]]:
    names = ("delta_rows", "deleted_rows", "segments")
    rows = []
    for phase in record["phases"]:
        figures = [f"{phase['before'][name]:,.0f}" for name in names]
        rows.append([phase["title"], *figures, "yes" if phase["held"] else "**no**"])
    return rows


def change_rows(record: Record) -> list[list[str]]:
    rows = []
    small = {one["table"]: one for one in record["unsealed"]}

    def share(one: Record | None) -> str:
        return f"{100 * one['changed'] / one['rows']:.1f} %" if one else "–"

    for one in record["updated"]:
        other = small.get(one["table"])
        transactions = str(other["transactions"]) if other else "–"
        rows.append([one["table"], f"{one['rows']:,}", share(one), share(other), transactions])
    return rows


def conditions(record: Record) -> list[str]:
    lines = [f"{when(record)} UTC; scale {record['scale']:g}, {record['threads']} threads; {record['version']}"]
    lines.append(f"Machine: {machine_line(record)}")
    lines.append(f"Times: medians of {record['repeats']} runs after a first one, warm, ms; both schemas' tables in turn")
    lines.append(f"Storage nodes, while queries run: `{' '.join(record['storage_flags'])}`")
    return lines


def problems(record: Record) -> list[str]:
    found = [f"{p['title']}, Q{q['query']}: {q['problem']}" for p in record["phases"] for q in [*p["clean"], *p["queries"]] if q.get("problem")]
    moved = [p["title"] for p in record["phases"] if not p["held"]]
    return found + [
        f"{title}: not so many rows in the delta, or deleted and still stored, as were put there (sealed or compacted?)" for title in moved
    ]


def report(record: Record) -> str:
    head = ["Query", *(one for phase in record["phases"] for one in ("clean", phase["title"], "ratio"))]
    text = f"# TPC-H at scale {record['scale']:g}, with unsealed and updated rows\n\n{listed(conditions(record))}\n"
    text += f"{NOT_TPC} [How to read it](README.md#unsealed-and-updated-rows).\n\n## Bars\n\n{bars(record)}"
    text += f"\n## Queries\n\n{table(head, query_rows(record))}"
    text += f"\n## State\n\n{table(['', 'delta rows', 'deleted rows', 'segments', 'stayed'], state_rows(record))}"
    heads = ["Table", "rows", "updated, in segments", "in the delta", "transactions of the latter"]
    text += f"\n## Changes\n\n{table(heads, change_rows(record))}"
    if found := problems(record):
        text += f"\n## Problems\n\n{listed(found)}"
    return text
