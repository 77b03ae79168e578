"""The report as one HTML page that needs nothing else: charts are inline SVG."""

import html
import math
from collections.abc import Iterable

from . import markdown as md
from .summary import Record, medians
from .texts import BENCH

WIDTH, LEFT, RIGHT, ROW = 720.0, 40.0, 60.0, 22.0
# The colours of the page's style; more systems than these cannot be told apart.
COLOURS = 8

esc = html.escape


def head(title: str) -> str:
    """The style of `quire tpch report`: colours are distinct for the colour-blind too, on a light and on a dark ground."""
    extra = "<style> .grid { stroke: var(--line) } .mark { stroke: var(--bad); stroke-dasharray: 4 3 } svg text.axis { text-anchor: middle; fill: var(--faint) } </style>"
    return (BENCH / "src/report_head.html").read_text().replace("{title}", esc(title)).replace("<main>", f"{extra}\n<main>")


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def cells(tag: str, values: Iterable[str]) -> str:
        return "".join(f"<{tag}>{value}</{tag}>" for value in values)

    body = "".join(f"<tr>{cells('td', map(plain, row))}</tr>\n" for row in rows)
    return f"<div class=wide><table>\n<tr>{cells('th', map(esc, columns))}</tr>\n{body}</table></div>\n"


def plain(cell: str) -> str:
    """A cell of a Markdown table as HTML."""
    if cell.startswith("**"):
        return f"<span class=bad>{esc(cell.strip('*'))}</span>"
    bad = "(wrong)" in cell or "(failed)" in cell
    return f"<span class=bad>{esc(cell)}</span>" if bad else esc(cell)


def markdown_table(text: str) -> str:
    """A table of the Markdown report: both reports say the same."""
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    return table(lines[0], lines[1:]) if lines else ""


def tiles(record: Record) -> str:
    def tile(value: str, what: str) -> str:
        return f"<div><b>{esc(value)}</b><span>{esc(what)}</span></div>\n"

    parts = []
    for one in record["systems"]:
        run = one["run"]
        parts.append(tile(f"{run['sum_ms'] / 1e3:.2f} s", f"{one['title']}: sum of medians, geometric mean {run['geomean_ms']:.1f} ms"))
    for of in record.get("metrics", {}).values():
        if "qphh_at_size" in of:
            parts.append(tile(f"{of['qphh_at_size']:,.0f}", f"QphH@{record['scale']:g}GB, unaudited"))
    return f"<div class=tiles>\n{''.join(parts)}</div>\n"


def legend(systems: list[Record]) -> str:
    items = (f"<span><i class=c{index % COLOURS}></i>{esc(one['title'])}</span>" for index, one in enumerate(systems))
    return f"<p class=legend>{' '.join(items)}</p>\n"


class LogAxis:
    """Positions from left to right, each power of ten as wide as the next."""

    def __init__(self, least: float, most: float) -> None:
        self.low, self.high = math.floor(math.log10(least)), math.ceil(math.log10(most))
        self.high = max(self.high, self.low + 1)

    def x(self, value: float) -> float:
        share = (math.log10(max(value, 1e-9)) - self.low) / (self.high - self.low)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]

    def grid(self, height: float) -> str:
        lines = (f'<line class=grid x1={self.x(v):.1f} x2={self.x(v):.1f} y1=0 y2="{height - ROW:.0f}"/>' for v in self.ticks())
        names = (f'<text class=axis x={self.x(v):.1f} y="{height - ROW / 2:.0f}">{v:g}</text>' for v in self.ticks())
        return "".join([*lines, *names]) + "\n"


def svg(height: float, label: str, parts: Iterable[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role=img aria-label="{esc(label)}">\n{"".join(parts)}</svg>\n'


def query_name(row: int, number: int) -> str:
    return f'<text class=q x="{LEFT - 8:.0f}" y="{(row + 0.5) * ROW:.0f}">Q{number}</text>\n'


def dots(record: Record) -> str:
    """A row for each query, a dot for each system."""
    values = [medians(one["run"]) for one in record["systems"]]
    everything = [value for run in values for value in run.values()]
    if not everything:
        return ""
    axis = LogAxis(min(everything), max(everything))
    numbers = [one["query"] for one in record["systems"][0]["run"]["queries"]]
    height = ROW * (len(numbers) + 1)
    parts = [axis.grid(height)]
    for row, number in enumerate(numbers):
        parts.append(query_name(row, number))
        # the first system on top
        for index, run in reversed(list(enumerate(values))):
            if number in run:
                title = f"{record['systems'][index]['title']}, Q{number}: {md.ms(run[number])} ms"
                radius = 6 if index == 0 else 5
                parts.append(
                    f"<circle class=c{index % COLOURS} cx={axis.x(run[number]):.1f} cy={(row + 0.5) * ROW:.1f} r={radius}>"
                    f"<title>{esc(title)}</title></circle>\n"
                )
    return svg(height, "median time of each query, by system", parts)


def ratio_bars(record: Record, peer: Record, marks: Iterable[float]) -> str:
    """A bar for each query, to the left of 1 where the first system is faster."""
    each = record["ratios"][peer["name"]]["queries"]
    if not each:
        return ""
    axis = LogAxis(min([*each.values(), 0.99]), max([*each.values(), 1.01]))
    height = ROW * (len(each) + 1)
    parts = [axis.grid(height)]
    for mark in marks:
        parts.append(f'<line class=mark x1={axis.x(mark):.1f} x2={axis.x(mark):.1f} y1=0 y2="{height - ROW:.0f}"/>\n')
    for row, (number, ratio) in enumerate(each.items()):
        start, end = sorted((axis.x(1.0), axis.x(ratio)))
        index = 0 if ratio <= 1 else record["systems"].index(peer)
        parts.append(query_name(row, number))
        parts.append(
            f"<rect class=c{index % COLOURS} x={start:.1f} y={row * ROW + 3:.1f} width={max(end - start, 1):.1f} height={ROW - 6:.0f} rx=2 />"
            f'<text class=v x="{end + 5:.1f}" y="{(row + 0.5) * ROW:.0f}">{ratio:.2f}</text>\n'
        )
    return svg(height, f"ratio to {peer['title']}", parts)


def memory_bars(record: Record) -> str:
    systems = [one for one in record["systems"] if one["peak"].get("bytes")]
    if not systems:
        return ""
    most = max(one["peak"]["bytes"] for one in systems)
    parts = []
    for row, one in enumerate(systems):
        width = one["peak"]["bytes"] / most * (WIDTH - LEFT - RIGHT)
        index = record["systems"].index(one)
        parts.append(
            f"<rect class=c{index % COLOURS} x={LEFT:.0f} y={row * ROW + 3:.1f} width={width:.1f} height={ROW - 6:.0f} rx=2>"
            f"<title>{esc(one['title'])}</title></rect>"
            f'<text class=v x="{LEFT + width + 5:.1f}" y="{(row + 0.5) * ROW:.0f}">{md.gib(one["peak"])}</text>\n'
        )
    return svg(ROW * len(systems), "peak memory in the queries", parts)


# What the bars of a query say, beside the line at 1.
MARKS = {"duckdb": [1.0, 2.5]}


def ratio_charts(record: Record) -> str:
    of = record["systems"][0]["title"]
    parts = []
    for peer in record["systems"][1:]:
        chart = ratio_bars(record, peer, MARKS.get(peer["name"], [1.0]) if record["ratios_of"] == "quire" else [1.0])
        parts.append(f"<h2>{esc(of)} / {esc(peer['title'])}, logarithmic; left of 1, {esc(of)} is faster</h2>\n{chart}")
    return "".join(parts)


def listed(lines: Iterable[str]) -> str:
    return f"<ul>\n{''.join(f'<li>{esc(line)}</li>{chr(10)}' for line in lines)}</ul>\n"


def section(title: str, content: str) -> str:
    return f"<h2>{esc(title)}</h2>\n{content}" if content else ""


def report(record: Record) -> str:
    title, systems = f"TPC-H at scale {record['scale']:g}", record["systems"]
    parts = [head(title), f"<h1>{esc(title)}</h1>\n", tiles(record)]
    parts.append(section("Bars", markdown_table(md.bars(record))))
    parts.append(section("Medians, ms, logarithmic", legend(systems) + dots(record)))
    parts.append(ratio_charts(record))
    parts.append(section(f"Medians, ms, and ratios of {systems[0]['title']} to each", markdown_table(md.medians(record))))
    parts.append(section(f"FROM lists shuffled (seed {record['shuffle']}) / not shuffled", markdown_table(md.shuffled(record))))
    parts.append(section("First runs, ms", markdown_table(md.firsts(record))))
    parts.append(section("Peak memory in the queries, GiB", legend(systems) + memory_bars(record)))
    parts.append(section("Answers, memory, load", markdown_table(md.table(md.SYSTEM_HEAD, md.system_rows(record)))))
    parts.append(listed(lines) if (lines := md.load_ratios(record)) else "")
    parts.append(section("Power and throughput, unaudited", markdown_table(md.metrics(record))))
    parts.append(section("Problems", listed(found) if (found := md.problems(record)) else ""))
    parts.append(section("What was measured", listed(md.conditions(record)) + f"<p>{esc(md.NOT_TPC)}</p>\n"))
    return "".join(parts) + "</main>\n"
