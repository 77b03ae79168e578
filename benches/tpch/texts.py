"""The 22 queries: their texts, what their answers promise, and the same texts with the FROM lists shuffled."""

import pathlib
import random
import re
from dataclasses import dataclass

BENCH = pathlib.Path(__file__).resolve().parents[2] / "crates/quire-bench"
NUMBERS = range(1, 23)


@dataclass(frozen=True)
class Promise:
    """What an answer promises, as in crates/quire-bench/src/queries.rs."""

    # columns of ORDER BY; a minus sign (~column) is a descending one
    sort: tuple[int, ...] = ()
    # averages and ratios: how many digits a division yields is the system's affair
    approximate: frozenset[int] = frozenset()
    limit: int | None = None


def promise(*sort: int, approximate: tuple[int, ...] = (), limit: int | None = None) -> Promise:
    return Promise(sort, frozenset(approximate), limit)


PROMISES = {
    1: promise(0, 1, approximate=(6, 7, 8)),
    2: promise(~0, 2, 1, 3, limit=100),
    3: promise(~1, 2, limit=10),
    4: promise(0),
    5: promise(~1),
    6: promise(),
    7: promise(0, 1, 2),
    8: promise(0, approximate=(1,)),
    9: promise(0, ~1),
    10: promise(~2, limit=20),
    11: promise(~1),
    12: promise(0),
    13: promise(~1, ~0),
    14: promise(approximate=(0,)),
    15: promise(0),
    16: promise(~3, 0, 1, 2),
    17: promise(approximate=(0,)),
    18: promise(~4, 3, limit=100),
    19: promise(),
    20: promise(0),
    21: promise(~1, 0, limit=100),
    22: promise(0),
}


def fraction(scale: float) -> str:
    """Query 11's (clause 2.4.11.3)."""
    return f"{0.0001 / scale:.14f}".rstrip("0")


def validation_text(number: int, scale: float) -> str:
    """The statement with the specification's validation parameters."""
    return (BENCH / f"queries/q{number:02}.sql").read_text().replace("{fraction}", fraction(scale))


# Tables with or without an alias, at least two: `extract(year from …)` and joins in words are left alone.
ITEM = r"\w+(?:\s+(?!where\b|group\b|order\b|having\b|limit\b)\w+)?"
FROM_LIST = re.compile(rf"(?<=\bfrom)(\s+)({ITEM}(?:\s*,\s*{ITEM})+)")


def shuffled(sql: str, seed: int) -> str:
    """The same statement with the tables of each FROM list in another order."""
    dice = random.Random(seed)

    def shuffle(match: re.Match[str]) -> str:
        tables = re.split(r"\s*,\s*", match[2])
        before = list(tables)
        while tables == before:
            dice.shuffle(tables)
        return match[1] + f",{match[1]}".join(tables)

    return FROM_LIST.sub(shuffle, sql)
