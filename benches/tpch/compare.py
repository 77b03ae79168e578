"""Whether two answers are the same: crates/quire-bench/src/answers.rs in Python, and with room for ties that a LIMIT cuts.

Rows are compared as a multiset, since ORDER BY leaves ties open; then each row's sort keys with those of the next. All is
compared exactly but for averages and ratios.
"""

import functools
import itertools
import math
import re
from collections import Counter
from decimal import Decimal, InvalidOperation

from .texts import BENCH, PROMISES, Promise

Row = tuple[str, ...]

# as in answers.rs
ABSOLUTE = 2e-6
RELATIVE = 1e-9
NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?", re.IGNORECASE)


def canonical(value: object) -> str:
    """A cell as it is compared: NULL is `\\N`, no blanks at the end, no zeros at the end of a fraction."""
    if value is None:
        return "\\N"
    if isinstance(value, bytes):
        value = value.decode()
    text = (format(value, "f") if isinstance(value, Decimal) else str(value)).rstrip(" ")
    if re.fullmatch(r"-?\d+\.\d+", text):
        text = text.rstrip("0").rstrip(".")
        text = "0" if text == "-0" else text
    return text


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def compare_cells(a: str, b: str) -> int:
    if NUMBER.fullmatch(a) and NUMBER.fullmatch(b):
        left, right = Decimal(a), Decimal(b)
        return (left > right) - (left < right)
    left_bytes, right_bytes = a.encode(), b.encode()
    return (left_bytes > right_bytes) - (left_bytes < right_bytes)


def compare_keys(promise: Promise, a: Row, b: Row) -> int:
    for column in promise.sort:
        order = compare_cells(a[column], b[column]) if column >= 0 else -compare_cells(a[~column], b[~column])
        if order:
            return order
    return 0


def out_of_order(promise: Promise, rows: list[Row]) -> str | None:
    for index, (row, following) in enumerate(itertools.pairwise(rows), start=1):
        if compare_keys(promise, row, following) > 0:
            return f"row {index} comes before row {index + 1} against ORDER BY: {'|'.join(row)}"
    return None


def same_cell(a: str, b: str, approximate: bool) -> bool:
    if a == b or not approximate:
        return a == b
    try:
        return math.isclose(Decimal(a), Decimal(b), rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    except (InvalidOperation, ValueError):
        return False


def sorted_rows(promise: Promise, rows: list[Row]) -> list[Row]:
    """By the cells that must be equal, then by those that need not quite."""

    def order(a: Row, b: Row) -> int:
        exact = [tuple(cell for column, cell in enumerate(row) if column not in promise.approximate) for row in (a, b)]
        if exact[0] != exact[1]:
            return -1 if exact[0] < exact[1] else 1
        return next((o for o in (compare_cells(a[c], b[c]) for c in sorted(promise.approximate)) if o), 0)

    return sorted(rows, key=functools.cmp_to_key(order))


def without_cut_ties(promise: Promise, rows: list[Row]) -> list[Row]:
    """Of an answer that is as long as its LIMIT, the rows before those that tie with the last one: which of these come is open."""
    if promise.limit is None or len(rows) < promise.limit:
        return rows
    return [row for row in rows if compare_keys(promise, row, rows[-1]) != 0]


def difference(number: int, ours: list[Row], theirs: list[Row]) -> str | None:
    """What is wrong with our rows, if theirs are right; both in the order in which they came."""
    promise = PROMISES[number]
    if len(ours) != len(theirs):
        return f"{len(ours)} rows instead of {len(theirs)}"
    if any(len(row) != len(theirs[0]) for row in ours):
        return f"{len(ours[0])} columns instead of {len(theirs[0])}"
    if problem := out_of_order(promise, ours):
        return problem
    if ours and compare_keys(promise, ours[-1], theirs[-1]) != 0 and not promise.approximate:
        return f"the last row is {'|'.join(ours[-1])} instead of {'|'.join(theirs[-1])}"
    ours, theirs = without_cut_ties(promise, ours), without_cut_ties(promise, theirs)
    if Counter(ours) == Counter(theirs):
        return None
    for our, their in zip(sorted_rows(promise, ours), sorted_rows(promise, theirs), strict=True):
        if not all(same_cell(a, b, column in promise.approximate) for column, (a, b) in enumerate(zip(our, their))):
            return f"{'|'.join(our)} instead of {'|'.join(their)}"
    return None


def reference(number: int, scale: float) -> list[str] | None:
    """The lines of the repository's answer to the validation parameters, where it has one."""
    path = BENCH / f"answers/sf{scale:g}/q{number:02}.csv"
    return path.read_text().splitlines()[1:] if path.exists() else None


def difference_from_reference(number: int, ours: list[Row], lines: list[str]) -> str | None:
    if not (lines and lines[0].startswith("#rows ")):
        # the file's rows are in an order that is right
        return difference(number, ours, [tuple(line.split("|")) for line in lines])
    total = sum(fnv1a("|".join(row).encode()) for row in ours) % 2**64
    if lines != [f"#rows {len(ours)}", f"#hash {total:016x}"]:
        return f"{len(ours)} rows with the hash {total:016x} instead of {' '.join(lines)}"
    return out_of_order(PROMISES[number], ours)
