"""Which words of an ad-buy form are its fields, and which type of document it is.

A value may stand on its page many times: a total is an item's amount too, and a flight's dates are those of
its weeks. Labelled is the one place that a person would call the field: the one with the most telling
caption, of equals the first. A value without any caption is labelled only where it stands on the page once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sap_vision_assets.documents.importers.captions import Surroundings
from sap_vision_assets.documents.importers.projection import Match, PageText
from sap_vision_assets.documents.importers.text_layer import PlacedWord

FIELDS = {
    "contract_num": "contractNumber",
    "advertiser": "receiverName",
    "gross_amount": "grossAmount",
    "flight_from": "validFrom",
    "flight_to": "validTo",
}
"""Fields by the name of their column in labels.csv."""
DATE_RANGE_DASH = re.compile(r"(?:(?<=/\d\d)|(?<=/\d{4})|^)[-–—]+(?=\w{1,5}/\d)")
"""The dash before a range's second date: without spaces around it both dates would be one word."""
_UNCAPTIONED = 100
_DASHES = re.compile(r"[-–—]+")
_DATE = re.compile(r"(?:(\d{1,2})/|([A-Z][a-z]{2}))(\d{1,2})/(\d{2}|\d{4})")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_AMOUNT = re.compile(r"(?P<minus>[-(]*)\$?(?P<number>\d[\d,]*(?:\.\d+)?)\)?")
_NUMBER_CAPTION = re.compile(
    r"(?:contract|(?<!alt )order|hdln|invoice|inv)\W*(?:no|number|rev(?:ision)?)?\W*$"
)
_ADVERTISER = re.compile(r"advertiser(?: name)?\W*(?:\w+)?$")
"""One word may stand between: a text that is too long for its cell runs under the caption."""
_FLIGHT_BEFORE, _FLIGHT_ABOVE = (
    re.compile(r"(?:flight|dates)\W*$"),
    re.compile(r"(?:flight|contract) dates?$"),
)
_PERIOD = re.compile(r"period\W*$")
_GROSS_TOTAL, _TOTALS = re.compile(r"gross *total\W*$"), re.compile(r"\btotals?\b")
_TOTAL = re.compile(r"\btotals?\b[^a-z]*$")
_NET_TOTAL = re.compile(r"\bnet *total\b[^a-z]*$")
_CREDIT = re.compile(r"credit memo\b", re.IGNORECASE)
_INVOICE = re.compile(r"(?:[A-Z]+ )*INVOICE|Inv(?:oice)? (?:#|Date|Month)")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Words first..last (inclusive) hold a value."""

    first: int
    last: int
    rank: int
    """How telling its caption is; less is more."""
    num_errors: int = 0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Where a value is labelled, if anywhere, and how that was decided."""

    place: Place | None
    num_places: int
    """Places that hold the value as the field could."""
    num_equal: int
    """Of these, the ones with the best caption."""
    has_caption: bool


class FormPage:
    """The words of a form, and what they may mean."""

    def __init__(self, words: Sequence[PlacedWord]) -> None:
        self.words = words
        self.around = Surroundings(words)
        self._text = PageText([word.text for word in words])
        self._ranges = _date_ranges(words)

    def find(self, key: str, values: Mapping[str, str], *, taken: Sequence[Place]) -> Finding:
        """Where the value of column `key` is labelled, among the words that are in no place of `taken`."""
        free = [True] * len(self.words)
        for place in taken:
            free[place.first : place.last + 1] = [False] * (place.last - place.first + 1)
        finders: dict[str, Callable[[], list[Place]]] = {
            "contract_num": lambda: self._texts(values[key], self._number_rank, free, 0),
            "advertiser": lambda: self._texts(
                values[key], self._advertiser_rank, free, len(values[key]) // 10
            ),
            "gross_amount": lambda: self._amounts(values[key]),
            "flight_from": lambda: self._dates(values, 0),
            "flight_to": lambda: self._dates(values, 1),
        }
        places = [place for place in finders[key]() if all(free[place.first : place.last + 1])]
        best = min((place.rank for place in places), default=_UNCAPTIONED)
        equal = [place for place in places if place.rank == best]
        has_caption = best < _UNCAPTIONED
        return Finding(
            place=equal[0] if equal and (has_caption or len(places) == 1) else None,
            num_places=len(places),
            num_equal=len(equal),
            has_caption=has_caption,
        )

    def text(self, place: Place) -> str:
        return " ".join(word.text for word in self.words[place.first : place.last + 1])

    def document_type(self) -> str:
        """CREDIT_MEMO or INVOICE where a title or a caption says so; else an order, which is a CONTRACT."""
        texts = self.around.cell_texts()
        if any(_CREDIT.match(text) for text in texts):
            return "CREDIT_MEMO"
        return "INVOICE" if any(_INVOICE.fullmatch(text) for text in texts) else "CONTRACT"

    def _texts(
        self, value: str, rank: Callable[[int], int], free: Sequence[bool], max_errors: int
    ) -> list[Place]:
        matches = self._text.find_all(value, free=free)
        if not matches:
            near = self._text.find(value, free=free, max_errors=max_errors)
            matches = [near] if near else []
        return [_place(match, rank(match.first)) for match in matches]

    def _number_rank(self, index: int) -> int:
        return self._caption_rank(index, ((_NUMBER_CAPTION, _NUMBER_CAPTION),))

    def _advertiser_rank(self, index: int) -> int:
        return self._caption_rank(index, ((_ADVERTISER, _ADVERTISER),))

    def _caption_rank(self, index: int, captions: Sequence[tuple[re.Pattern[str], re.Pattern[str]]]) -> int:
        """Of patterns for the text before and above, the number of the first that is met."""
        before, above = self.around.before(index), self.around.above(index)
        for rank, (beside, over) in enumerate(captions):
            if beside.search(before) or over.search(above):
                return rank
        return _UNCAPTIONED

    def _amounts(self, value: str) -> list[Place]:
        wanted = _amount(value.strip())
        if wanted is None:
            return []
        return [
            Place(first=index, last=index, rank=self._total_rank(index))
            for index, word in enumerate(self.words)
            if _amount(word.text) == wanted
        ]

    def _total_rank(self, index: int) -> int:
        before, head = self.around.before(index), self.around.column_head(index)
        is_gross = "gross" in head
        if _GROSS_TOTAL.search(before) or (is_gross and _TOTALS.search(before)):
            return 0
        if _TOTAL.search(before):
            return 3 if _NET_TOTAL.search(before) else 1
        return 2 if is_gross else _UNCAPTIONED

    def _dates(self, values: Mapping[str, str], side: int) -> list[Place]:
        """Places of a flight's first (side 0) or last date (1): that date of a range."""
        wanted = _date(values["flight_from"].strip()), _date(values["flight_to"].strip())
        places = []
        for both in self._ranges:
            is_same = [_date(self.words[index].text) == day for index, day in zip(both, wanted, strict=True)]
            if wanted[side] is not None and is_same[side]:
                caption = self._caption_rank(both[0], ((_FLIGHT_BEFORE, _FLIGHT_ABOVE), (_PERIOD, _PERIOD)))
                # Of equal captions, the one beside which the other date is right as well.
                rank = caption if caption == _UNCAPTIONED else 2 * caption + (not all(is_same))
                places.append(Place(first=both[side], last=both[side], rank=rank))
        return places


def _place(match: Match, rank: int) -> Place:
    return Place(first=match.first, last=match.last, rank=rank, num_errors=match.num_errors)


def _date_ranges(words: Sequence[PlacedWord]) -> list[tuple[int, int]]:
    """Pairs of dates with a dash between them."""
    return [
        (index, index + 2)
        for index in range(len(words) - 2)
        if _DASHES.fullmatch(words[index + 1].text)
        and _date(words[index].text) is not None
        and _date(words[index + 2].text) is not None
        and words[index].line == words[index + 2].line
    ]


def _date(text: str) -> date | None:
    """Month, day and year, such as 2/7/20, 02/07/2020 or Feb07/20."""
    found = _DATE.fullmatch(text)
    if found is None or (found[2] and found[2] not in _MONTHS):
        return None
    month = int(found[1]) if found[1] else _MONTHS.index(found[2]) + 1
    try:
        return date(2000 + int(found[4]) % 100, month, int(found[3]))
    except ValueError:
        return None


def _amount(text: str) -> Decimal | None:
    """The amount of dollars that `text` is; below zero with a minus or in brackets."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        return None
    number = Decimal(found["number"].replace(",", ""))
    return -number if found["minus"] else number
