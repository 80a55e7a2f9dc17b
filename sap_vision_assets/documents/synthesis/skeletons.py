"""Skeletons: which arrangement a page uses for each of its parts, and which split owns which combination.

Every single choice occurs in training. Letterhead, title, parties and header data are what a page shows in
any case, so a hash of these four deals the combinations out: no skeleton of val or test is in train.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product

LETTERHEADS = (
    "logo_left_address_right",
    "logo_right_address_left",
    "stacked_left",
    "stacked_right",
    "stacked_center",
    "banner",
    "one_line",
    "name_and_rule",
)
TITLES = ("left", "center", "right", "corner", "bar", "above_header")
PARTIES = (
    "beside_header",
    "header_first",
    "one_column",
    "two_columns",
    "three_columns",
    "boxes",
    "caption_left",
)
HEADERS = (
    "inline",
    "aligned",
    "aligned_right",
    "captions_right",
    "underlined",
    "sentence",
    "grid",
    "two_columns",
    "above",
    "above_boxed",
    "table_row",
)
TABLES = (
    "ruled",
    "boxed",
    "zebra",
    "underlined",
    "filled_header",
    "vertical_rules",
    "double_rules",
    "row_rules",
)
TOTALS = ("plain", "ruled", "boxed", "filled_last", "across", "leaders")
CLOSINGS = ("one_column", "two_columns", "small_print", "framed", "beside_totals")
ANCHORS = ("none", "none", "none", "table", "totals", "closing", "signatures")
"""What moves down to the page's foot when the page is not full."""
FOOTERS = ("columns", "columns_ruled", "centered", "stacked", "band")

SPLIT_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    letterhead: str
    title: str
    parties: str
    header: str
    table: str
    totals: str
    closing: str
    footer: str
    anchor: str

    @property
    def arrangement(self) -> tuple[str, str, str, str]:
        """What the splits are told apart by."""
        return self.letterhead, self.title, self.parties, self.header


def split_of(arrangement: tuple[str, str, str, str]) -> str:
    """The one split in which the arrangement may occur."""
    point = int.from_bytes(hashlib.sha256("/".join(arrangement).encode()).digest()[:8], "big") / 2**64
    for split, share in SPLIT_SHARES.items():
        if point < share:
            return split
        point -= share
    return split


@cache
def arrangements(split: str) -> tuple[tuple[str, str, str, str], ...]:
    """All arrangements that belong to `split`."""
    every = product(LETTERHEADS, TITLES, PARTIES, HEADERS)
    return tuple(arrangement for arrangement in every if split_of(arrangement) == split)


def choose_skeleton(
    rng: random.Random, split: str, allowed: Callable[[tuple[str, str, str, str]], bool] | None = None
) -> Skeleton:
    """A skeleton of the split, of the `allowed` arrangements only where some paper cannot hold all."""
    candidates = [
        arrangement for arrangement in arrangements(split) if allowed is None or allowed(arrangement)
    ]
    letterhead, title, parties, header = rng.choice(candidates)
    return Skeleton(
        letterhead=letterhead,
        title=title,
        parties=parties,
        header=header,
        table=rng.choice(TABLES),
        totals=rng.choice(TOTALS),
        closing=rng.choice(CLOSINGS),
        footer=rng.choice(FOOTERS),
        anchor=rng.choice(ANCHORS),
    )
