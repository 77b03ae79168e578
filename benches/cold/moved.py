"""What a run fetched: differences of the nodes' counters, and what the proxy has seen."""

import json
import time
from dataclasses import dataclass
from typing import Any

from cluster import Cluster, Metrics, page, since  # benches/cluster.py

# Pages that were prefetched may still be on their way when the last row has come.
SETTLE_SECONDS = 0.1
SETTLE_SECONDS_MAX = 10.0

Record = dict[str, Any]


@dataclass
class Watch:
    """Counts from its making to `moved`."""

    cluster: Cluster
    control: str

    def __post_init__(self) -> None:
        self.settle()
        self.storage, self.compute = self.cluster.storage_metrics(), self.cluster.compute_metrics()
        page(f"{self.control}/reset")

    def proxy(self) -> Record:
        stats = json.loads(page(f"{self.control}/stats"))
        assert isinstance(stats, dict)
        return stats

    def settle(self) -> Record:
        """What has passed when nothing is in flight any more."""
        end = time.monotonic() + SETTLE_SECONDS_MAX
        while True:
            before = self.proxy()
            time.sleep(SETTLE_SECONDS)
            now = self.proxy()
            if not now["in_flight"] and now["requests"] == before["requests"] or time.monotonic() > end:
                return now

    def moved(self) -> Record:
        proxy = self.settle()
        storage, compute = self.cluster.storage_metrics(), self.cluster.compute_metrics()
        return {"proxy": proxy} | storage_figures(self.storage, storage, proxy) | compute_figures(self.compute, compute)


def storage_figures(before: Metrics, now: Metrics, proxy: Record) -> Record:
    """Of all storage nodes together.

    `pages_again`: pages that compute asked for when a storage node had them already. With caches that were empty at first it had them
    because compute had asked before.

    `page_bytes_again`: bytes of pages that were read from the object store more than once, at least. A read also covers gaps between
    pages, and a page in a gap may be read later; so the proxy's `range_bytes_again` is what it is at most.
    """

    def count(name: str, **labels: str) -> int:
        return since(before, now, name, **labels)

    page_bytes = count("quire_cache_remote_bytes_total", cache="storage")
    return {
        # bodies of range reads: what has moved, failed attempts included
        "bytes": proxy["range_bytes"],
        "reads": proxy["range_reads"],
        "object_bytes": count("quire_objects_bytes_total", direction="in"),
        "page_bytes": page_bytes,
        "page_bytes_again": max(0, page_bytes - (proxy["range_bytes"] - proxy["range_bytes_again"])),
        "pages_asked": count("quire_storage_pages_total"),
        "pages_failed": count("quire_storage_pages_failed_total"),
        "pages_read": count("quire_cache_pages_total", cache="storage", tier="remote"),
        "pages_again": sum(count("quire_cache_pages_total", cache="storage", tier=tier) for tier in ("disk", "memory")),
    }


def compute_figures(before: Metrics, now: Metrics) -> Record:
    def count(name: str, **labels: str) -> int:
        return since(before, now, name, **labels)

    return {
        "pages_fetched": count("quire_cache_pages_total", cache="compute", tier="remote"),
        "pages_from_disk": count("quire_cache_pages_total", cache="compute", tier="disk"),
        "page_requests": count("quire_client_page_requests_total"),
        "page_retries": count("quire_client_page_retries_total"),
    }
