"""The report as Markdown."""

from tpch.markdown import NOT_TPC, bars, listed, machine_line, ms, number, table, when

from .moved import Record

HEAD = ("Query", "warm, ms", "cold, ms", "bound, ms", "", "cold / warm", "MB moved", "reads", "reading, ms", "in flight, mean", "most")
PAGE_HEAD = ("pages", "asked twice", "MB read twice, at most")


def mb(count: float) -> str:
    return number(count / 1e6)


def ratio(one: Record) -> str:
    return number(one["cold_ms"] / one["warm_ms"], 1) if one["warm_ms"] and one["cold_ms"] is not None else "–"


def verdict(one: Record) -> str:
    return "met" if one["met"] else "**missed**"


def query_row(one: Record) -> list[str]:
    proxy = one["proxy"]
    note = f" ({one['answer']})" if one["answer"] in ("wrong", "failed") else ""
    row = [f"Q{one['query']}", ms(one["warm_ms"]), ms(one["cold_ms"]) + note, ms(one["bound_ms"]), verdict(one), ratio(one)]
    row += [mb(one["bytes"]), str(one["reads"]), ms(proxy["busy_seconds"] * 1e3)]
    row += [number(proxy["in_flight_mean"]), str(proxy["in_flight_max"])]
    return [*row, str(one["pages_fetched"]), str(one["pages_again"]), mb(proxy["range_bytes_again"])]


def total_row(total: Record) -> list[str]:
    met = "–" if total["ratio"] is None else "met" if total["ratio"] <= 1 else "**missed**"
    row = ["Sum", ms(total["warm_ms"]), ms(total["cold_ms"]), ms(total["bound_ms"]), met, ratio(total)]
    row += [mb(total["bytes"]), str(total["reads"]), ms(total["busy_seconds"] * 1e3), "–", str(total["in_flight_max"])]
    return [*row, str(total["pages_fetched"]), str(total["pages_again"]), mb(total["range_bytes_again"])]


def phase_text(phase: Record) -> str:
    total, rows = phase["total"], [query_row(one) for one in phase["queries"]]
    lines = [f"Object store and proxy used {phase['store_processor_seconds']:.1f} s of processor time."]
    if total["ratio_all_streams"] is not None:
        lines.append(f"Sum / (2 × warm + bytes over as many streams as were open at once): {total['ratio_all_streams']:.2f}.")
    if total["page_retries"]:
        lines.append(f"Pages that compute asked another node for, after a failure: {total['page_retries']}.")
    title = phase["title"][0].upper() + phase["title"][1:]
    return f"\n## {title}\n\n{phase['what']}\n\n{table([*HEAD, *PAGE_HEAD], [*rows, total_row(total)])}\n{listed(lines)}"


def conditions(record: Record) -> list[str]:
    link = record["link"]
    lines = [f"{when(record)} UTC; scale {record['scale']:g}, {record['threads']} threads; {record['version']}"]
    lines.append(f"Machine: {machine_line(record)}; the S3 server and the proxy run on it, too")
    rate = link["bytes_per_second"] / 1e6
    lines.append(f"Object store: S3 server behind a proxy, which answers reads itself from copies of what was put, {link['latency_ms']:g} ms to the first byte, {rate:g} MB/s a connection")
    lines.append(f"Warm: median of {record['repeats']} runs after a first one, before caches were emptied")
    lines.append(f"Bound of a query: 2 × warm + MB moved / {rate:g} MB/s (one stream)")
    return lines


def problems(record: Record) -> list[str]:
    runs = [("warm", record["warm"]), *((phase["title"], phase["queries"]) for phase in record["cold"])]
    return [f"{title}, Q{one['query']}: {one['problem']}" for title, queries in runs for one in queries if one.get("problem")]


def report(record: Record) -> str:
    text = f"# TPC-H at scale {record['scale']:g}, caches empty\n\n{listed(conditions(record))}\n"
    text += f"{NOT_TPC} [How to read it](README.md#caches-empty).\n\n## Bars\n\n{bars(record)}"
    text += "".join(map(phase_text, record["cold"]))
    if found := problems(record):
        text += f"\n## Problems\n\n{listed(found)}"
    return text
