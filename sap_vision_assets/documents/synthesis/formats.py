"""How one document writes numbers, dates and amounts: chosen once a page and kept.

Label rule for currencies: a code or symbol that stands as a word of its own is labelled currencyCode, beside
an amount as in "Currency: EUR"; one that is glued to the digits ("$1,250.00") belongs to the amount. Captions
and column headings are never labelled.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sap_vision_assets.documents.synthesis.content import Line, Text

_GROUPING = {
    "comma_point": (",", "."),
    "point_comma": (".", ","),
    "blank_comma": (" ", ","),
    "apostrophe_point": ("'", "."),
    "none_comma": ("", ","),
    "none_point": ("", "."),
}
_NUMBERS_OF_COUNTRY = {
    "US": "comma_point",
    "GB": "comma_point",
    "IE": "comma_point",
    "MY": "comma_point",
    "SG": "comma_point",
    "CA": "comma_point",
    "IN": "comma_point",
    "AU": "comma_point",
    "MX": "comma_point",
    "DE": "point_comma",
    "AT": "point_comma",
    "CH": "apostrophe_point",
    "FR": "blank_comma",
    "BE": "point_comma",
    "LU": "point_comma",
    "ES": "point_comma",
    "IT": "point_comma",
    "NL": "point_comma",
    "CO": "point_comma",
}
_DATES_OF_COUNTRY: dict[str, tuple[str, ...]] = {
    "US": ("mm/dd/yyyy", "m/d/yyyy", "mm/dd/yy", "month d, yyyy", "mon dd, yyyy", "mm-dd-yyyy"),
    "CA": ("mm/dd/yyyy", "yyyy-mm-dd", "month d, yyyy"),
    "GB": ("dd/mm/yyyy", "d month yyyy", "dd-mon-yy", "dd mon yyyy", "dd/mm/yy"),
    "IE": ("dd/mm/yyyy", "d month yyyy", "dd mon yyyy"),
    "MY": ("dd/mm/yyyy", "dd-mm-yyyy", "dd/mm/yy", "dd mon yyyy"),
    "SG": ("dd/mm/yyyy", "dd mon yyyy", "dd-mon-yyyy"),
    "IN": ("dd-mm-yyyy", "dd/mm/yyyy", "dd-mon-yy"),
    "AU": ("dd/mm/yyyy", "d month yyyy"),
    "DE": ("dd.mm.yyyy", "dd.mm.yyyy", "dd.mm.yy", "d. month yyyy"),
    "AT": ("dd.mm.yyyy", "d. month yyyy", "d.m.yyyy"),
    "CH": ("dd.mm.yyyy", "d.m.yyyy", "d. month yyyy"),
    "FR": ("dd/mm/yyyy", "d month yyyy", "dd.mm.yyyy", "dd/mm/yy"),
    "BE": ("dd/mm/yyyy", "d month yyyy", "dd-mm-yyyy"),
    "LU": ("dd/mm/yyyy", "dd.mm.yyyy"),
    "ES": ("dd/mm/yyyy", "dd-mm-yyyy", "d de month de yyyy", "dd.mm.yyyy"),
    "MX": ("dd/mm/yyyy", "dd-mon-yyyy", "d de month de yyyy"),
    "CO": ("dd/mm/yyyy", "yyyy-mm-dd"),
    "IT": ("dd/mm/yyyy", "d month yyyy", "dd.mm.yyyy"),
    "NL": ("dd-mm-yyyy", "d month yyyy", "dd/mm/yyyy"),
}
_ISO_SHARE = 0.12
_SYMBOLS = {
    "EUR": "€",
    "USD": "$",
    "GBP": "£",
    "CHF": "Fr.",
    "MYR": "RM",
    "SGD": "S$",
    "CAD": "C$",
    "INR": "Rs.",
    "AUD": "A$",
    "MXN": "$",
    "COP": "$",
}
_MONEY_FORMS = {
    "plain": 26,
    "code_before": 16,
    "code_after": 22,
    "symbol_glued_before": 16,
    "symbol_before": 6,
    "symbol_after": 9,
    "symbol_glued_after": 5,
}


@dataclass(frozen=True, kw_only=True)
class PageStyle:
    """The writing habits of one page."""

    thousands: str
    decimal: str
    date_pattern: str
    months: tuple[str, ...]
    currency: str
    """ISO 4217 code."""
    money_form: str
    """How an amount and its currency stand together in totals."""
    cell_symbol: bool
    """True when amounts in table cells carry the glued symbol too."""
    negative: str
    """"before", "after" (as SAP prints it) or "brackets"."""
    percent_glued: bool
    quantity_places: int
    """Decimals that every quantity has at least."""

    def number(self, value: int, places: int) -> str:
        """`value` counts units of 10**-places: number(123456, 2) is "1,234.56"."""
        digits = f"{abs(value):0{places + 1}d}"
        whole, fraction = (digits[:-places], digits[-places:]) if places else (digits, "")
        grouped = f"{int(whole):,}".replace(",", self.thousands)
        text = grouped + (self.decimal + fraction if fraction else "")
        return self._signed(text) if value < 0 else text

    def quantity(self, milli: int, places: int | None = None) -> str:
        """A quantity in thousandths, with `places` decimals (the page's habit) or as many as it needs."""
        places = self.quantity_places if places is None else places
        while places < 3 and milli % 10 ** (3 - places):
            places += 1
        return self.number(milli // 10 ** (3 - places), places)

    def day(self, day: date) -> str:
        month = self.months[day.month - 1]
        parts = {
            "dd": f"{day.day:02d}",
            "d": str(day.day),
            "mm": f"{day.month:02d}",
            "m": str(day.month),
            "yyyy": str(day.year),
            "yy": f"{day.year % 100:02d}",
            "month": month,
            "mon": month[:3],
        }
        return _fill_date(self.date_pattern, parts)

    def cell(self, cents: int) -> str:
        """An amount as one run of words without a separate currency."""
        if not self.cell_symbol:
            return self.number(cents, 2)
        symbol = _SYMBOLS[self.currency]
        text = self.number(abs(cents), 2)
        text = f"{text}{symbol}" if self.money_form == "symbol_glued_after" else f"{symbol}{text}"
        return self._signed(text) if cents < 0 else text

    def money(self, cents: int, field: str | None) -> Line:
        """An amount with its currency in the page's form; `field` is the label of the number."""
        number = Text(text=self.number(cents, 2), field=field)
        symbol = _SYMBOLS[self.currency]
        code, sign = Text(text=self.currency, field="currencyCode"), Text(text=symbol, field="currencyCode")
        match self.money_form:
            case "code_before":
                return (code, number)
            case "code_after":
                return (number, code)
            case "symbol_before":
                return (sign, number)
            case "symbol_after":
                return (number, sign)
            case "symbol_glued_before" | "symbol_glued_after":
                return (Text(text=self._glued(cents, symbol), field=field),)
            case _:
                return (number,)

    def percent(self, hundredths: int) -> str:
        places = 0 if hundredths % 100 == 0 else 2
        text = self.number(hundredths // (1 if places else 100), places)
        return f"{text}%" if self.percent_glued else f"{text} %"

    def _glued(self, cents: int, symbol: str) -> str:
        text = self.number(abs(cents), 2)
        text = f"{symbol}{text}" if self.money_form == "symbol_glued_before" else f"{text}{symbol}"
        return self._signed(text) if cents < 0 else text

    def _signed(self, text: str) -> str:
        return {"before": f"-{text}", "after": f"{text}-", "brackets": f"({text})"}[self.negative]


def choose_style(rng: random.Random, *, country: str, currency: str, months: Sequence[str]) -> PageStyle:
    """A style that a company in `country` may well use; one page in ten has somebody else's."""
    grouping = _NUMBERS_OF_COUNTRY[country]
    if rng.random() < 0.1:
        grouping = rng.choice(tuple(_GROUPING))
    thousands, decimal = _GROUPING[grouping]
    pattern = "yyyy-mm-dd" if rng.random() < _ISO_SHARE else rng.choice(_DATES_OF_COUNTRY[country])
    form = rng.choices(tuple(_MONEY_FORMS), weights=tuple(_MONEY_FORMS.values()))[0]
    return PageStyle(
        thousands=thousands,
        decimal=decimal,
        date_pattern=pattern,
        months=tuple(months),
        currency=currency,
        money_form=form,
        cell_symbol="glued" in form and rng.random() < 0.5,
        negative=rng.choice(("before", "before", "before", "after", "brackets")),
        percent_glued=rng.random() < 0.55,
        quantity_places=rng.choice((0, 0, 0, 0, 0, 0, 2, 2, 3)),
    )


def _fill_date(pattern: str, parts: dict[str, str]) -> str:
    filled, token = [], ""
    for character in pattern + "\0":
        if character.isalpha():
            token += character
            continue
        filled.append(parts.get(token, token))
        token = ""
        filled.append(character)
    return "".join(filled)[:-1]
