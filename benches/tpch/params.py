"""Substitution parameters other than the validation ones (clauses 2.4.1.3 to 2.4.22.3), chosen by a seed.

Each query names the words of its text that are parameters, and what takes their place.
"""

import random
import re
from collections.abc import Callable

from .texts import NUMBERS, validation_text

# Nations in the order of their keys, with their regions (clause 4.2.3).
NATIONS = {
    "ALGERIA": "AFRICA", "ARGENTINA": "AMERICA", "BRAZIL": "AMERICA", "CANADA": "AMERICA", "EGYPT": "MIDDLE EAST",
    "ETHIOPIA": "AFRICA", "FRANCE": "EUROPE", "GERMANY": "EUROPE", "INDIA": "ASIA", "INDONESIA": "ASIA",
    "IRAN": "MIDDLE EAST", "IRAQ": "MIDDLE EAST", "JAPAN": "ASIA", "JORDAN": "MIDDLE EAST", "KENYA": "AFRICA",
    "MOROCCO": "AFRICA", "MOZAMBIQUE": "AFRICA", "PERU": "AMERICA", "CHINA": "ASIA", "ROMANIA": "EUROPE",
    "SAUDI ARABIA": "MIDDLE EAST", "VIETNAM": "ASIA", "RUSSIA": "EUROPE", "UNITED KINGDOM": "EUROPE",
    "UNITED STATES": "AMERICA",
}  # fmt: skip
REGIONS = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"]
SEGMENTS = ["AUTOMOBILE", "BUILDING", "FURNITURE", "MACHINERY", "HOUSEHOLD"]
MODES = ["REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB"]
TYPES = [
    ["STANDARD", "SMALL", "MEDIUM", "LARGE", "ECONOMY", "PROMO"],
    ["ANODIZED", "BURNISHED", "PLATED", "POLISHED", "BRUSHED"],
    ["TIN", "NICKEL", "BRASS", "STEEL", "COPPER"],
]
CONTAINERS = [["SM", "LG", "MED", "JUMBO", "WRAP"], ["CASE", "BOX", "BAG", "JAR", "PKG", "PACK", "CAN", "DRUM"]]
COLORS = (
    "almond antique aquamarine azure beige bisque black blanched blue blush brown burlywood burnished chartreuse chiffon "
    "chocolate coral cornflower cornsilk cream cyan dark deep dim dodger drab firebrick floral forest frosted gainsboro "
    "ghost goldenrod green grey honeydew hot indian ivory khaki lace lavender lawn lemon light lime linen magenta maroon "
    "medium metallic midnight mint misty moccasin navajo navy olive orange orchid pale papaya peach peru pink plum powder "
    "puff purple red rose rosy royal saddle salmon sandy seashell sienna sky slate smoke snow spring steel tan thistle "
    "tomato turquoise violet wheat white yellow"
).split()
WORDS = [["special", "pending", "unusual", "express"], ["packages", "requests", "accounts", "deposits"]]

Dice = random.Random
Swaps = dict[str, str]


def year(dice: Dice) -> str:
    return f"{dice.randint(1993, 1997)}-01-01"


def month(dice: Dice, first: tuple[int, int], last: tuple[int, int]) -> str:
    """The first day of a month from `first` to `last`, both (year, month)."""
    number = dice.randint(first[0] * 12 + first[1] - 1, last[0] * 12 + last[1] - 1)
    return f"{number // 12}-{number % 12 + 1:02}-01"


def brand(dice: Dice) -> str:
    return f"Brand#{dice.randint(1, 5)}{dice.randint(1, 5)}"


def phrase(dice: Dice, syllables: list[list[str]]) -> str:
    return " ".join(map(dice.choice, syllables))


def nation(dice: Dice) -> str:
    return dice.choice(list(NATIONS))


def q1(dice: Dice) -> Swaps:
    return {"'90'": f"'{dice.randint(60, 120)}'"}


def q2(dice: Dice) -> Swaps:
    return {"p_size = 15": f"p_size = {dice.randint(1, 50)}", "BRASS": dice.choice(TYPES[2]), "EUROPE": dice.choice(REGIONS)}


def q3(dice: Dice) -> Swaps:
    return {"BUILDING": dice.choice(SEGMENTS), "1995-03-15": f"1995-03-{dice.randint(1, 31):02}"}


def q4(dice: Dice) -> Swaps:
    return {"1993-07-01": month(dice, (1993, 1), (1997, 10))}


def q5(dice: Dice) -> Swaps:
    return {"ASIA": dice.choice(REGIONS), "1994-01-01": year(dice)}


def q6(dice: Dice) -> Swaps:
    quantity = f"l_quantity < {dice.randint(24, 25)}"
    return {"1994-01-01": year(dice), "0.06": f"0.0{dice.randint(2, 9)}", "l_quantity < 24": quantity}


def q7(dice: Dice) -> Swaps:
    one, other = dice.sample(list(NATIONS), 2)
    return {"FRANCE": one, "GERMANY": other}


def q8(dice: Dice) -> Swaps:
    chosen = nation(dice)
    return {"BRAZIL": chosen, "AMERICA": NATIONS[chosen], "ECONOMY ANODIZED STEEL": phrase(dice, TYPES)}


def q9(dice: Dice) -> Swaps:
    return {"green": dice.choice(COLORS)}


def q10(dice: Dice) -> Swaps:
    return {"1993-10-01": month(dice, (1993, 2), (1995, 1))}


def q11(dice: Dice) -> Swaps:
    return {"GERMANY": nation(dice)}


def q12(dice: Dice) -> Swaps:
    one, other = dice.sample(MODES, 2)
    return {"'MAIL'": f"'{one}'", "'SHIP'": f"'{other}'", "1994-01-01": year(dice)}


def q13(dice: Dice) -> Swaps:
    return {"special": dice.choice(WORDS[0]), "requests": dice.choice(WORDS[1])}


def q14(dice: Dice) -> Swaps:
    return {"1995-09-01": month(dice, (1993, 1), (1997, 12))}


def q15(dice: Dice) -> Swaps:
    return {"1996-01-01": month(dice, (1993, 1), (1997, 10))}


def q16(dice: Dice) -> Swaps:
    sizes = ", ".join(map(str, dice.sample(range(1, 51), 8)))
    kind = phrase(dice, TYPES[:2])
    return {"Brand#45": brand(dice), "MEDIUM POLISHED": kind, "49, 14, 23, 45, 19, 3, 36, 9": sizes}


def q17(dice: Dice) -> Swaps:
    return {"Brand#23": brand(dice), "MED BOX": phrase(dice, CONTAINERS)}


def q18(dice: Dice) -> Swaps:
    return {"> 300": f"> {dice.randint(312, 315)}"}


def q19(dice: Dice) -> Swaps:
    swaps = {old: brand(dice) for old in ("Brand#12", "Brand#23", "Brand#34")}
    for old, low in ((1, 1), (10, 10), (20, 20)):
        new = dice.randint(low, low + 10 - (low == 1))
        swaps[f"l_quantity >= {old} and l_quantity <= {old} + 10"] = f"l_quantity >= {new} and l_quantity <= {new} + 10"
    return swaps


def q20(dice: Dice) -> Swaps:
    return {"forest": dice.choice(COLORS), "1994-01-01": year(dice), "CANADA": nation(dice)}


def q21(dice: Dice) -> Swaps:
    return {"SAUDI ARABIA": nation(dice)}


def q22(dice: Dice) -> Swaps:
    # a country's code is its nation's key + 10 (clause 4.2.2.9)
    codes = dice.sample(range(10, 10 + len(NATIONS)), 7)
    return {"'13', '31', '23', '29', '30', '18', '17'": ", ".join(f"'{code}'" for code in codes)}


CHOOSE: dict[int, Callable[[Dice], Swaps]] = dict(
    zip(NUMBERS, [q1, q2, q3, q4, q5, q6, q7, q8, q9, q10, q11, q12, q13, q14, q15, q16, q17, q18, q19, q20, q21, q22])
)


def swapped(text: str, swaps: Swaps) -> str:
    """All words at once: what takes one's place may be another."""
    missing = [old for old in swaps if old not in text]
    if missing:
        raise ValueError(f"not in the text: {missing}")
    return re.sub("|".join(map(re.escape, swaps)), lambda match: swaps[match[0]], text)


def chosen_text(number: int, scale: float, seed: int | str) -> str:
    """The statement with parameters of the seed's choice. The same seed chooses the same for ever."""
    dice = random.Random(f"{seed} {number}")
    return swapped(validation_text(number, scale), CHOOSE[number](dice))
