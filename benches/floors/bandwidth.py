"""How many bytes a second the threads together read from memory: a sum over a buffer that no cache holds."""

import time
from concurrent.futures import ThreadPoolExecutor

PASSES = 5
WORD_BYTES = 8


def bytes_per_second(threads: int, buffer_bytes: int) -> float:
    """The best of some passes: what disturbs one is no property of the memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = buffer_bytes // WORD_BYTES // threads * threads
    # written, since pages that nobody has written are all one and the same
    buffer = pa.py_buffer(b"\x01" * (words * WORD_BYTES))
    array = pa.Array.from_buffers(pa.int64(), words, [None, buffer])
    share = words // threads
    parts = [array.slice(part * share, share) for part in range(threads)]

    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(PASSES):
            started = time.perf_counter()
            # Arrow's kernels let other threads of Python run
            list(pool.map(pc.sum, parts))
            best = max(best, words * WORD_BYTES / (time.perf_counter() - started))
    return best
