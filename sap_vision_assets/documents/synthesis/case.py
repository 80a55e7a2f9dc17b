"""One business case: who deals with whom, when, about what; all numbers and dates of a page come from here.

A fact is the printed form of one vocabulary field, or of a decoy, whose name is no field; it is made when
first asked for and stays the same for the whole page.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from sap_vision_assets.documents.synthesis import companies, goods
from sap_vision_assets.documents.synthesis.companies import Company, fill_pattern
from sap_vision_assets.documents.synthesis.content import Line, Text
from sap_vision_assets.documents.synthesis.facts import (
    DATE_OFFSETS,
    PLAIN_FACTS,
    SELLER_NUMBERS,
    number_patterns,
)
from sap_vision_assets.documents.synthesis.formats import PageStyle, choose_style
from sap_vision_assets.documents.synthesis.phrases import phrases
from sap_vision_assets.vocabulary import load_vocabulary

_BUYER_ISSUES = frozenset({"PURCHASE_ORDER", "RFQ", "GOODS_RECEIPT", "PAYMENT_ADVICE", "REMITTANCE_ADVICE"})
_COUNTRIES = {
    "en": ("US", "US", "US", "GB", "GB", "MY", "SG", "CA", "IN", "IE", "NL", "DE"),
    "de": ("DE", "DE", "DE", "DE", "AT", "CH"),
    "fr": ("FR", "FR", "FR", "BE", "LU", "CH"),
    "es": ("ES", "ES", "ES", "MX", "CO"),
}
_PLACEHOLDER = re.compile(r"([^\s{}]*)\{(\w+)\}([^\s{}]*)")
FIELDS = frozenset(load_vocabulary().field_names)


class Case:
    """The facts behind one page."""

    rng: random.Random
    """The page's one source of chance."""
    sender: Company
    """The issuer."""
    receiver: Company
    """The counterparty."""
    style: PageStyle
    words: dict[str, Any]
    """The language's wordings."""
    kind: str
    """What captions, number ranges and stamps go by: the document type, or "RECEIPT"."""
    titled: bool
    """False on a page without a title; then its other words must tell what it is."""
    colon: str
    """What follows a caption on this page: ":", " :" or nothing."""
    term_days: int
    """Days until payment is due, 0 for at once."""
    gross_cents: int
    """Total of the page, once totals() has written it."""
    sublines: tuple[str, ...]
    """Keys of item_tables.CELLS that are printed below each description."""
    received: int
    """Quantity received before this order, in thousandths; the start of cumulative quantities."""

    def __init__(
        self,
        rng: random.Random,
        *,
        split: str,
        doc_type: str,
        language: str,
        industry: str = "",
        abroad: bool = False,
        related: str = "",
    ) -> None:
        """`abroad` puts the counterparty into another country; `related` makes it a "sister" company of the
        sender, or the "same" company at another address."""
        self.rng, self.split, self.doc_type, self.language = rng, split, doc_type, language
        self.kind = doc_type
        self.buyer_issues = doc_type in _BUYER_ISSUES or (doc_type == "CONTRACT" and rng.random() < 0.5)
        self.words = phrases(language)
        self.industry = industry or rng.choice(goods.industries())
        self.date = date(2014, 1, 6) + timedelta(days=rng.randrange(4600))
        home = rng.choice(_COUNTRIES[language])
        away = rng.choice([c for c in companies.pools()["countries"] if c != home])
        other = away if abroad or rng.random() < 0.15 else home
        self.sender = self._company(home, other)
        self.receiver = self._company(other, home, stem=self.sender.stem if related else "")
        if related == "same":
            self.receiver = replace(self.receiver, name=self.sender.name)
        self.titled = rng.random() < 0.82
        currency = companies.pools()["countries"][home]["currency"]
        if other != home and rng.random() < 0.5:
            currency = rng.choice(("EUR", "USD"))
        self.style = choose_style(rng, country=home, currency=currency, months=self.words["months"])
        self.tax_hundredths: int = rng.choice(companies.pools()["countries"][home]["tax"])
        self.units = goods.unit_words(language, rng.randrange(60))
        self.colon = rng.choice((":", ":", ":", "", "", " :" if language == "fr" else ":"))
        self.term_days = rng.choice((0, 10, 14, 14, 20, 30, 30, 30, 45, 60, 90))
        self.gross_cents = 0
        self.sublines = ()
        self.subline_captions: dict[str, str] = {}
        self.received = 0
        self._facts: dict[str, Line] = {}
        self._days: dict[str, date] = {}
        self._patterns: dict[str, str] = {}

    @property
    def buyer(self) -> Company:
        return self.sender if self.buyer_issues else self.receiver

    @property
    def seller(self) -> Company:
        return self.receiver if self.buyer_issues else self.sender

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, choices: Sequence[Any]) -> Any:
        return self.rng.choice(choices)

    def set(self, name: str, value: str | Line) -> Line:
        """States a fact; a plain string becomes one run of words labelled with the field `name`."""
        line = value if isinstance(value, tuple) else (Text(text=value, field=_field(name)),)
        self._facts[name] = line
        return line

    def line(self, name: str) -> Line:
        """The printed form of the fact `name`, with its labels."""
        if name not in self._facts:
            self._facts[name] = self._make(name)
        return self._facts[name]

    def fresh(self, name: str) -> str:
        """Another number of the kind of `name`, in the form of the page's first one."""
        if name not in self._patterns:
            self._patterns[name] = self.pick(number_patterns()[name])
        return self._number(self._patterns[name], self.seller)

    def text(self, name: str) -> str:
        return " ".join(part.text for part in self.line(name))

    def day(self, name: str) -> date:
        """The date of a date fact such as "dueDate"."""
        low, high = DATE_OFFSETS.get(f"{name}.{self.doc_type}", DATE_OFFSETS[name])
        if name == "dueDate":
            low = high = self.term_days
        if name not in self._days:
            self._days[name] = self.date + timedelta(days=self.rng.randint(low, high))
        return self._days[name]

    def money(self, cents: int, field: str | None) -> Line:
        return self.style.money(cents, field)

    def fill(self, template: str) -> Line:
        """The template with its {facts}; punctuation that touches a fact stays with its words."""
        parts: list[Text] = []
        position = 0
        for match in _PLACEHOLDER.finditer(template):
            literal = template[position : match.start()].strip()
            if literal:
                parts.append(Text(text=literal))
            before, name, after = match.groups()
            parts.extend(_attach(before, self.line(name), after))
            position = match.end()
        rest = template[position:].strip()
        return (*parts, Text(text=rest)) if rest else tuple(parts)

    def caption(self, field: str, variant: str = "") -> str:
        """One of the wordings for `field` with the page's colon; see wordings()."""
        choices = self.wordings(field, variant)
        # The first wordings of a document number name the type; the later ones ("Document no.") need a title.
        if field == "documentNumber" and not self.titled:
            choices = choices[:3]
        return str(self.pick(choices)) + self.colon

    def wordings(self, field: str, variant: str = "") -> list[str]:
        """The most special wordings there are: of the variant, the kind, the issuer's side, or any."""
        captions = self.words["captions"]
        endings = (variant or self._variant(field), self.kind, "buyer" if self.buyer_issues else "seller")
        keys = (*(f"{field}.{ending}" for ending in endings), field)
        found: list[str] = next(captions[key] for key in keys if key in captions)
        return found

    def _variant(self, field: str) -> str:
        """Which of a field's sets of wordings fits its value and the side that the issuer is on."""
        variant = ""
        if field == "senderBankAccount" and self.sender.bank_account[:2].isalpha():
            variant = "iban"
        elif field == "senderBankCode" and self.sender.bank_code[:2].isdigit():
            variant = "routing"
        elif field in ("taxId", "receiverTaxId") and self._has_own_name(field):
            variant = self._tax_country(field)
        elif field == "taxId" and self.text("taxId") == self.sender.tax_number:
            variant = "number"
        elif field in ("receiverId", "senderId"):
            variant = "supplier" if self.buyer_issues == (field == "receiverId") else "customer"
        elif field == "receiverTaxId" and self.buyer_issues:
            variant = "supplier"
        return variant

    def _has_own_name(self, field: str) -> bool:
        """Whether the country calls this tax number by a name that others do not have, such as RFC."""
        return f"{field}.{self._tax_country(field)}" in self.words["captions"]

    def _tax_country(self, field: str) -> str:
        company = self.sender if field == "taxId" else self.receiver
        return company.address.country_code

    def _company(self, country: str, other: str, stem: str = "") -> Company:
        foreign = self.words["country_names"][country] if country != other or self.chance(0.15) else ""
        return companies.make_company(
            self.rng, split=self.split, country=country, industry=self.industry, foreign=foreign, stem=stem
        )

    def _make(self, name: str) -> Line:
        if name == "deliveryDate" and self.chance(0.05):
            year, week, _ = self.day(name).isocalendar()
            return self.set(
                name, f"{self.pick(self.words['weeks'])} {week:02d}{self.pick(('/', '.', ' / '))}{year}"
            )
        if name in DATE_OFFSETS:
            return self.set(name, self.style.day(self.day(name)))
        patterns = number_patterns().get(f"{name}.{self.kind}") or number_patterns().get(name)
        if patterns:
            owner = (
                self.sender
                if name == "documentNumber"
                else self.seller
                if name in SELLER_NUMBERS
                else self.buyer
            )
            return self.set(name, self._number(self.pick(patterns), owner))
        return self.set(name, PLAIN_FACTS[name](self))

    def _number(self, pattern: str, owner: Company) -> str:
        """<yy>, <yyyy> and <own> stand for the year and the owner's initials."""
        pattern = pattern.replace("<yyyy>", str(self.date.year)).replace(
            "<yy>", f"{self.date.year % 100:02d}"
        )
        return owner.initials.join(fill_pattern(self.rng, part) for part in pattern.split("<own>"))


def _field(name: str) -> str | None:
    return name if name in FIELDS else None


def _attach(before: str, line: Line, after: str) -> Line:
    """The line with what touches it; "S.A." at a sentence's end keeps its one full stop."""
    parts = list(line)
    if before:
        first = parts[0]
        parts[0] = Text(text=before + first.text, field=first.field, continues=first.continues)
    if after:
        last = parts[-1]
        after = after.removeprefix(".") if last.text.endswith(".") else after
        parts[-1] = Text(text=last.text + after, field=last.field, continues=last.continues)
    return tuple(parts)
