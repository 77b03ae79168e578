"""Sums, bounds and bars of a record: all that follows from its figures."""

from dataclasses import asdict

from tpch.summary import Bar

from .moved import Record

# Of the time when warm; the time to move the bytes once comes on top.
WARM_TIMES = 2.0
SUMMED = ("bytes", "reads", "page_bytes", "page_bytes_again", "pages_read", "pages_fetched", "pages_again", "page_retries")


def bound_ms(warm_ms: float, count: int, bytes_per_second: float) -> float:
    """2 × warm + the bytes over the link."""
    return WARM_TIMES * warm_ms + count / bytes_per_second * 1e3


def complete_query(one: Record, warm_ms: float | None, bytes_per_second: float) -> None:
    one["warm_ms"], one["bound_ms"], one["met"] = warm_ms, None, False
    if warm_ms is not None and one["cold_ms"] is not None:
        one["bound_ms"] = bound_ms(warm_ms, one["bytes"], bytes_per_second)
        one["met"] = one["cold_ms"] <= one["bound_ms"]


def totals(queries: list[Record], bytes_per_second: float) -> Record:
    """Sums over the 22; no times when one of them has none or is wrong."""
    sums: Record = {name: sum(one[name] for one in queries) for name in SUMMED}
    sums["range_bytes_again"] = sum(one["proxy"]["range_bytes_again"] for one in queries)
    sums["busy_seconds"] = sum(one["proxy"]["busy_seconds"] for one in queries)
    sums["in_flight_max"] = max((one["proxy"]["in_flight_max"] for one in queries), default=0)
    whole = all(one["bound_ms"] is not None and one["answer"] not in ("wrong", "failed") for one in queries)
    for name in ("warm_ms", "cold_ms", "bound_ms"):
        sums[name] = sum(one[name] for one in queries) if whole and queries else None
    sums["ratio"] = sums["cold_ms"] / sums["bound_ms"] if sums["bound_ms"] else None
    # if the bytes came over as many streams as were open at once, in each query
    sums["ratio_all_streams"] = None
    if sums["bound_ms"]:
        streams = [max(1, one["proxy"]["in_flight_max"]) for one in queries]
        bounds = [bound_ms(q["warm_ms"], q["bytes"], n * bytes_per_second) for q, n in zip(queries, streams, strict=True)]
        sums["ratio_all_streams"] = sums["cold_ms"] / sum(bounds)
    return sums


def bars(title: str, total: Record) -> list[Bar]:
    """A phase that has read nothing was not cold, or its counters are not those that we look for: it shows nothing."""
    read = total["bytes"] > 0 and total["pages_read"] > 0
    figures = {
        "sum of the 22 / (2 × warm + bytes over one stream)": (1.0, total["ratio"]),
        "pages that compute asked for twice": (0.0, total["pages_again"]),
        "MB of pages read twice from the object store, at least": (0.0, total["page_bytes_again"] / 1e6),
    }
    return [Bar(f"{title}: {what}", bound, value if read else None) for what, (bound, value) in figures.items()]


def complete(record: Record) -> Record:
    warm = {one["query"]: one["median_ms"] for one in record["warm"]}
    rate = record["link"]["bytes_per_second"]
    found = []
    for phase in record["cold"]:
        for one in phase["queries"]:
            complete_query(one, warm.get(one["query"]), rate)
        phase["total"] = totals(phase["queries"], rate)
        found += bars(phase["title"], phase["total"])
    record["bars"] = [asdict(bar) for bar in found]
    return record
