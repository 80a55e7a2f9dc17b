"""The lines of a document: goods and services of twelve industries, in amounts that add up."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib import resources
from typing import Any

from sap_vision_assets.documents.synthesis.companies import fill_pattern

_SERVICE_UNITS = {"H", "DAY", "LS", "MON"}
_SIZES = ("S", "M", "L", "XL", "7", "8", "9")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One line. Money in cents, quantities in thousandths."""

    number: str
    material: str
    supplier_material: str
    description: str
    detail: str
    """A second description line; may be empty."""
    quantity: int
    whole: bool
    """True when the unit is only counted in whole numbers."""
    unit: str
    price: int
    price_unit: int
    discount: int
    """Hundredths of a per cent."""
    net: int
    delivery: date
    batch: str
    tariff: str
    """Customs tariff number; empty for services."""
    grams: int
    """Weight of the whole line."""


@cache
def _data() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("goods.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def industries() -> tuple[str, ...]:
    return tuple(_data()["goods"])


def net_of(quantity: int, price: int, price_unit: int, discount: int = 0) -> int:
    """quantity x price / price unit less discount, rounded half up to a cent."""
    gross = (2 * quantity * price + 1000 * price_unit) // (2000 * price_unit)
    return gross - (2 * gross * discount + 10_000) // 20_000


def make_items(
    rng: random.Random,
    *,
    language: str,
    industry: str,
    count: int,
    day: date,
    details: Sequence[str] = (),
    discounts: bool = False,
) -> tuple[Item, ...]:
    """At most `count` different lines, to be delivered from `day` on, numbered in one of the usual ways.

    `details` are wordings for a second description line, which some pages have.
    """
    rows = _data()["goods"].get(industry) or _data()["special"][industry]
    chosen = rng.sample(rows, min(count, len(rows)))
    step, width = rng.choice(((10, 1), (10, 5), (10, 1), (1, 1), (1, 1), (1, 3), (10, 4)))
    material = rng.choice(_MATERIAL_PATTERNS)
    article = rng.choice(_ARTICLE_PATTERNS)
    split_dates = rng.random() < 0.4
    detailed = 0.6 if details and rng.random() < 0.2 else 0.0
    return tuple(
        _make_item(
            rng,
            row,
            language=language,
            number=f"{(index + 1) * step:0{width}d}",
            material=fill_pattern(rng, material),
            article=fill_pattern(rng, article),
            day=day + timedelta(days=7 * index if split_dates else 0),
            detail=_detail(rng, details) if row["tariff"] != "-" and rng.random() < detailed else "",
            discount=rng.choice((0, 300, 500, 1000, 1250)) if discounts else 0,
        )
        for index, row in enumerate(chosen)
    )


_MATERIAL_PATTERNS = (
    "%######",
    "100-###",
    "R-%###",
    "@@-%####",
    "%##-####",
    "M%#####",
    "00000000000%######",
    "@@#-@###",
    "%###.###.##",
    "FG%####",
    "%#######",
    "##-###-@#",
)
_ARTICLE_PATTERNS = ("@@%###", "%####-##", "@-####-@", "%##.###", "ART-%####", "@@@##%##", "%######")
_SLOTS: dict[str, Any] = {
    "thread": lambda rng: f"M{rng.choice((4, 5, 6, 8, 10, 12, 16))}x{rng.choice((12, 20, 40, 55, 80))}",
    "din": lambda rng: f"DIN {rng.choice((125, 127, 433, 9021))}",
    "dim": lambda rng: f"{rng.randint(2, 60) * 5}x{rng.randint(2, 40) * 5}",
    "dia": lambda rng: str(rng.choice((6, 8, 10, 12, 16, 20, 28, 32))),
    "dn": lambda rng: f"DN{rng.choice((15, 25, 32, 50, 80, 100))}",
    "n": lambda rng: str(rng.choice((2, 3, 4, 5, 8, 10, 12, 15, 24, 42))),
    "inch": lambda rng: str(rng.choice((10, 13, 14, 15, 17, 24, 27))),
    "wear": lambda rng: str(rng.choice((38, 40, 42, 44, 46, 48, 50, 52))),
    "code": lambda rng: fill_pattern(rng, rng.choice(("@%#", "@@-%##", "%##@", "@@%#", "%###"))),
    "pct": lambda rng: str(rng.choice((25, 32, 50))),
    "ral": lambda rng: str(rng.choice((1021, 3020, 5010, 6005, 7035, 9005, 550, 405, 6204))),
    "size": lambda rng: rng.choice(_SIZES),
}


def _detail(rng: random.Random, details: Sequence[str]) -> str:
    return rng.choice(details).format(code=_SLOTS["code"](rng), n=_SLOTS["n"](rng))


def _make_item(
    rng: random.Random,
    row: dict[str, Any],
    *,
    language: str,
    number: str,
    material: str,
    article: str,
    day: date,
    detail: str,
    discount: int,
) -> Item:
    name = row["names"][language]
    slots = {slot: make(rng) for slot, make in _SLOTS.items() if "{" + slot + "}" in name}
    whole = row["unit"] not in ("KG", "M", "L", "TO", "H", "M2", "M3", "DAY")
    scale = rng.choice((0.1, 0.25, 0.5, 1, 1, 1.5, 2))
    quantity = max(1, round(row["quantity"] * scale)) * 1000
    if not whole and quantity < 100_000 and rng.random() < 0.3:
        quantity += rng.choice((250, 500, 750))
    low, high = row["price"]
    price = rng.randint(low, high)
    price_unit = (
        rng.choice((100, 100, 1000)) if high <= 60 else rng.choice((1, 1, 1, 1, 100 if high < 3000 else 1))
    )
    price *= price_unit
    return Item(
        number=number,
        material=material,
        supplier_material=article,
        description=name.format(**slots),
        detail=detail,
        quantity=quantity,
        whole=whole,
        unit=row["unit"],
        price=price,
        price_unit=price_unit,
        discount=discount,
        net=net_of(quantity, price, price_unit, discount),
        delivery=day,
        batch=fill_pattern(rng, rng.choice(("##########", "CH-%####", "@##%####", "SN%######", "L##%##@"))),
        tariff="" if row["unit"] in _SERVICE_UNITS or row["tariff"] == "-" else row["tariff"],
        grams=row["grams"] * quantity // 1000,
    )


def unit_words(language: str, style: int) -> dict[str, str]:
    """Units of measure as one document writes them; `style` picks the same wording for every call."""
    return {unit: names[language][style % len(names[language])] for unit, names in _data()["units"].items()}
