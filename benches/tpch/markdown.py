"""The report as Markdown: what a reader of the repository sees."""

import time
from collections.abc import Iterable
from typing import Any

from .summary import Record

GIB = 1 << 30
NOT_TPC = (
    "Queries and data follow the TPC-H specification, but nothing here is an audited result: it cannot be compared with "
    "published TPC-H results."
)


def table(head: Iterable[str], rows: Iterable[Iterable[str]], left: int = 1) -> str:
    columns = list(head)
    line = "|".join("---" if index < left else "---:" for index in range(len(columns)))
    body = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"| {' | '.join(columns)} |\n|{line}|\n{body}"


def number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def ms(value: float | None) -> str:
    return number(value, 1 if value is not None and value < 100 else 0)


def query(run: Record, number: int) -> Record:
    return next(one for one in run["queries"] if one["query"] == number)


def cell(one: Record, field: str) -> str:
    note = f" ({one['answer']})" if one["answer"] in ("wrong", "failed") else ""
    return ms(one[field]) + note


def machine_line(record: Record) -> str:
    machine = record["machine"]
    memory = machine["memory_bytes"] / GIB
    return f"{machine['processors']} × {machine['cpu']}, {machine['cpus']} used, {memory:.0f} GiB memory, {machine['system']}"


def when(record: Record) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(record["at_unix_seconds"]))


def bar_rows(record: Record) -> list[list[str]]:
    rows = []
    for bar in record["bars"]:
        bound = f"{'≥' if bar['least'] else '≤'} {bar['bound']:g}"
        rows.append([bar["what"], number(bar["value"], 2), bound, "met" if bar["met"] else "**missed**"])
    return rows


def bars(record: Record) -> str:
    if not record["bars"]:
        return ""
    return table(["Bar", "measured", "bound", ""], bar_rows(record))


def medians(record: Record) -> str:
    systems, of = record["systems"], record["ratios_of"]
    peers = [one for one in systems if one["name"] != of]
    head = ["Query", *(one["title"] for one in systems), *(f"/ {peer['title']}" for peer in peers)]
    rows = []
    for one in systems[0]["run"]["queries"]:
        n = one["query"]
        ratios = [number(record["ratios"][peer["name"]]["queries"].get(n), 2) for peer in peers]
        rows.append([f"Q{n}", *(cell(query(system["run"], n), "median_ms") for system in systems), *ratios])
    of_peers = [record["ratios"][peer["name"]] for peer in peers]
    sums = [ms(system["run"]["sum_ms"]) for system in systems]
    means = [ms(system["run"]["geomean_ms"]) for system in systems]
    rows.append(["Sum", *sums, *(number(ratio["sum"], 2) for ratio in of_peers)])
    rows.append(["Geometric mean", *means, *(number(ratio["geomean"], 2) for ratio in of_peers)])
    return table(head, rows)


def firsts(record: Record) -> str:
    systems = record["systems"]
    rows = []
    for one in systems[0]["run"]["queries"]:
        rows.append([f"Q{one['query']}", *(cell(query(system["run"], one["query"]), "first_ms") for system in systems)])
    rows.append(["Sum", *(ms(system["run"]["first_sum_ms"]) for system in systems)])
    return table(["Query", *(system["title"] for system in systems)], rows)


def gib(peak: Record) -> str:
    return number(peak.get("bytes", 0) / GIB, 2) if peak.get("bytes") else "–"


def answers(run: Record) -> str:
    words = [one["answer"] for one in run["queries"]]
    return ", ".join(f"{words.count(word)} {word}" for word in ("right", "same", "wrong", "failed", "unchecked") if word in words)


def system_rows(record: Record) -> list[list[str]]:
    rows = []
    for one in record["systems"]:
        steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in one["load"]["seconds"].items()) or "–"
        rows.append([one["title"], answers(one["run"]), gib(one["peak"]), gib(one["load"]["peak"]), steps])
    if "file_load" in record and not any(one["name"] == "duckdb-file" for one in record["systems"]):
        load = record["file_load"]
        steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in load["seconds"].items())
        rows.append(["DuckDB into its file", "–", "–", gib(load["peak"]), steps])
    return rows


SYSTEM_HEAD = ["System", "answers", "peak memory in the queries, GiB", "in the load, GiB", "load, seconds"]


def load_ratios(record: Record) -> list[str]:
    """Lines about Quire's load beside DuckDB's."""
    loads = {one["name"]: one["load"]["seconds"] for one in record["systems"]}
    ours = loads.get("quire", {}).get("copy")
    if ours is None:
        return []
    peers = {"DuckDB into its file, checkpointed": record.get("file_load", {}).get("seconds", {}).get("copy")}
    peers["DuckDB into memory"] = loads.get("duckdb", {}).get("copy")
    return [f"COPY into Quire / {name}: {ours / theirs:.2f}" for name, theirs in peers.items() if theirs]


def shuffled(record: Record) -> str:
    """The ratio of each query with its FROM lists shuffled."""
    chosen = [one for one in record["systems"] if "shuffled" in one]
    if not chosen:
        return ""
    rows = []
    for one in chosen[0]["run"]["queries"]:
        n = one["query"]
        rows.append([f"Q{n}", *(f"{number(s['shuffled_ratio']['queries'].get(n), 2)}" for s in chosen)])
    rows.append(["Sum", *(number(s["shuffled_ratio"]["sum"], 2) for s in chosen)])
    rows.append(["Geometric mean", *(number(s["shuffled_ratio"]["geomean"], 2) for s in chosen)])
    return f"\n## FROM lists shuffled (seed {record['shuffle']}) / not shuffled\n\n" + table(
        ["Query", *(one["title"] for one in chosen)], rows
    )


def metrics_rows(record: Record) -> list[list[str]]:
    rows = []
    for name, of in record.get("metrics", {}).items():
        if "problem" in of:
            rows.append([name, of["problem"], "–", "–", "–"])
            continue
        power, throughput = of["power"], of["throughput"]
        figures = [of["qphh_at_size"], power["power_at_size"], throughput["throughput_at_size"]]
        rows.append([name, *(number(figure) for figure in figures), str(of["streams"])])
    return rows


def metrics(record: Record) -> str:
    if "metrics" not in record:
        return ""
    size = f"{record['scale']:g}GB"
    head = ["System", f"QphH@{size}", f"Power@{size}", f"Throughput@{size}", "streams"]
    return "\n## Power and throughput, unaudited\n\n" + table(head, metrics_rows(record))


def problems(record: Record) -> list[str]:
    lines = []
    for one in record["systems"]:
        for kind in ("run", "shuffled"):
            found = [q for q in one.get(kind, {}).get("queries", []) if "problem" in q]
            lines += [f"{one['title']}{', shuffled' if kind == 'shuffled' else ''}, Q{q['query']}: {q['problem']}" for q in found]
    return lines


def conditions(record: Record) -> list[str]:
    params = "the validation parameters" if record["params"] is None else f"parameters of seed {record['params']}"
    runs = ", ".join(f"{one['title']} {one['run']['repeats']}" for one in record["systems"])
    lines = [f"{when(record)} UTC; scale {record['scale']:g}, {params}; {record['threads']} threads for each system"]
    lines.append(f"Machine: {machine_line(record)}")
    lines.append(f"Timed runs of each query, after a first one, all systems in turn: {runs}")
    for one in record["systems"]:
        settings = ", ".join(f"{name} {value}" for name, value in one["settings"].items())
        lines.append(f"{one['title']}: {one['version']}" + (f"; {settings}" if settings else ""))
    return lines


def listed(lines: Iterable[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def report(record: dict[str, Any]) -> str:
    text = f"# TPC-H at scale {record['scale']:g}\n\n{listed(conditions(record))}\n{NOT_TPC} [How to read it](README.md).\n"
    if record["bars"]:
        text += f"\n## Bars\n\n{bars(record)}"
    of = record["systems"][0]["title"]
    text += f"\n## Medians, ms, and ratios of {of} to each\n\n{medians(record)}"
    text += shuffled(record)
    text += f"\n## First runs, ms\n\n{firsts(record)}"
    text += f"\n## Answers, memory, load\n\n{table(SYSTEM_HEAD, system_rows(record), left=2)}"
    if ratios := load_ratios(record):
        text += "\n" + listed(ratios)
    text += metrics(record)
    if found := problems(record):
        text += f"\n## Problems\n\n{listed(found)}"
    return text
