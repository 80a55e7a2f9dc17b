"""Where the values of a case come from: number ranges, distances between dates, and the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from importlib import resources
from typing import TYPE_CHECKING

from sap_vision_assets.documents.synthesis.companies import fill_pattern, make_person
from sap_vision_assets.documents.synthesis.content import Line, Text
from sap_vision_assets.documents.synthesis.phrases import orders

if TYPE_CHECKING:
    from sap_vision_assets.documents.synthesis.case import Case


@cache
def number_patterns() -> dict[str, tuple[str, ...]]:
    """By field or by field and document type: "#" a digit, "%" one that is not 0, "@" a letter."""
    text = resources.files(__package__).joinpath("numbers.json").read_text(encoding="utf-8")
    return {name: tuple(patterns) for name, patterns in json.loads(text).items()}


SELLER_NUMBERS = frozenset({"salesOrderNumber", "deliveryNoteNumber", "invoiceNumber", "quotationNumber"})
"""Numbers that the seller gives, whoever issues the page."""

DATE_OFFSETS: dict[str, tuple[int, int]] = {
    "documentDate": (0, 0),
    "purchaseOrderDate": (-60, -3),
    "dueDate": (30, 30),
    "deliveryDate": (5, 70),
    "deliveryDate.INVOICE": (-12, -1),
    "deliveryDate.CREDIT_MEMO": (-30, -5),
    "deliveryDate.DEBIT_MEMO": (-30, -5),
    "deliveryDate.GOODS_RECEIPT": (-3, 0),
    "deliveryDate.DELIVERY_NOTE": (0, 4),
    "deliveryDate.ASN": (1, 9),
    "shippingDate": (-3, 2),
    "shippingDate.SALES_ORDER": (3, 30),
    "shippingDate.PURCHASE_ORDER": (3, 30),
    "postingDate": (0, 4),
    "paymentDate": (-2, 0),
    "paymentDate.PAYMENT_ADVICE": (1, 10),
    "validFrom": (0, 30),
    "validTo": (365, 730),
    "validTo.QUOTATION": (14, 90),
    "submissionDeadline": (7, 35),
    "o_date": (-90, 90),
    "print_date": (0, 3),
    "last_change": (2, 40),
    "o_provision": (1, 20),
    "o_assignment_a": (5, 60),
    "o_phone_order": (-2, 0),
    "next_release": (20, 120),
    "period_start": (5, 40),
    "period_end": (50, 200),
}
"""Days from the document's date, lowest and highest; the due date follows the terms of payment instead."""

_CARRIER_STEMS = ("Trans", "Euro", "Rapid", "Nord", "Alpha", "Blue", "Continental", "Speed", "Atlas", "Inter")
_COUNTRIES = ("DE", "CN", "US", "IT", "FR", "TR", "PL", "JP", "ES")
_INCOTERMS = ("EXW", "FCA", "FOB", "CIF", "CPT", "CIP", "DAP", "DDP", "DPU", "CFR", "FAS")
_ORDER_WORDS = (
    "o_return_reason",
    "o_free_reason",
    "o_cancel_reason",
    "o_project",
    "o_port",
    "o_place",
    "o_notice",
)
_WORD_LISTS = {
    "paymentMethod": "methods",
    "shippingMethod": "transports",
    "department": "departments",
    "slogan": "slogans",
}
_AMOUNTS = {
    "downPaymentAmount": (25_000, 90),
    "targetValue": (100_000, 500),
    "o_deposit": (250, 60),
}
"""Step in cents and the most steps."""


def _payment_terms(case: Case) -> str:
    if case.term_days == 0:
        return str(case.pick(case.words["immediate_terms"]))
    template = str(case.pick(case.words["payment_terms"]))
    discount = case.style.percent(case.pick((200, 300, 150)))
    return template.format(n=case.term_days, s=case.pick((7, 8, 10)), p=discount)


def _carrier(case: Case) -> str:
    stem = case.pick(_CARRIER_STEMS)
    return str(case.pick(case.words["carriers"])).format(stem=stem)


def _weight(case: Case, grams: int) -> str:
    unit = case.pick(("kg", "KG", "kg", "kgs" if case.language == "en" else "kg"))
    return f"{case.style.quantity(grams, case.pick((0, 1, 2, 3)))} {unit}"


def _incoterms_place(case: Case) -> str:
    return str(case.pick((case.sender.address.city, case.receiver.address.city, case.receiver.address.city)))


def _packages(case: Case) -> Line:
    number = Text(text=str(case.rng.randint(1, 24)), field="numberOfPackages")
    if case.chance(0.4):
        return (number, Text(text=case.pick(case.words["package_kinds"])))
    return (number,)


def _amount(case: Case, name: str) -> Line:
    step, most = _AMOUNTS[name]
    field = name if name in ("downPaymentAmount", "targetValue") else None
    return case.money(case.rng.randint(2, most) * step, field)


def _order_word(case: Case, name: str) -> str:
    return str(case.pick(orders(case.language)["WORDS"][name]))


def _place(case: Case, field: str, city: str) -> Line:
    """A plant or company code of its own, at times followed by its town (label O)."""
    code = Text(text=fill_pattern(case.rng, case.pick(number_patterns()[field])), field=field)
    return (code, Text(text=city)) if city and case.chance(0.5) else (code,)


def _word(case: Case, key: str) -> str:
    return str(case.pick(case.words[key]))


PLAIN_FACTS: dict[str, Callable[[Case], str | Line]] = {
    "senderName": lambda case: case.sender.name,
    "receiverName": lambda case: case.receiver.name,
    "senderPhone": lambda case: case.sender.phone,
    "senderEmail": lambda case: case.sender.email,
    "taxId": lambda case: case.sender.vat_id if case.chance(0.85) else case.sender.tax_number,
    "receiverTaxId": lambda case: case.receiver.vat_id,
    "senderContact": lambda case: case.sender.person,
    "receiverContact": lambda case: case.receiver.person,
    "senderBankName": lambda case: case.sender.bank_name,
    "senderBankAccount": lambda case: case.sender.bank_account,
    "senderBankCode": lambda case: case.sender.bank_code,
    "paymentTerms": _payment_terms,
    "carrierName": _carrier,
    "incoterms": lambda case: str(case.pick(_INCOTERMS)),
    "incotermsLocation": _incoterms_place,
    "grams": lambda case: str(case.rng.randint(20, 90_000) * 100),
    "netWeight": lambda case: _weight(case, int(case.text("grams"))),
    "grossWeight": lambda case: _weight(case, int(case.text("grams")) * 108 // 100 // 100 * 100),
    "volume": lambda case: (
        f"{case.style.number(case.rng.randint(2, 900), 2)} {case.pick(('m³', 'cbm', 'M3'))}"
    ),
    "numberOfPackages": _packages,
    "taxRate": lambda case: case.style.percent(case.tax_hundredths),
    "currencyCode": lambda case: case.style.currency,
    "person": lambda case: make_person(case.rng),
    "person2": lambda case: make_person(case.rng),
    "o_callers": lambda case: make_person(case.rng),
    "city": lambda case: case.sender.address.city,
    "register": lambda case: case.sender.register,
    "web": lambda case: case.sender.web,
    "fax": lambda case: case.sender.fax,
    "page": lambda case: case.pick(("1/1", "1 / 1", f"1 {case.words['page_of']} 1", "1", "001")),
    "revision": lambda case: f"{case.rng.randint(1, 9)}.{case.rng.randint(0, 9)}",
    "extension": lambda case: str(case.rng.randint(100, 999)),
    "internal_code": lambda case: fill_pattern(case.rng, case.pick(("@@%#", "%##@", "@%#/@"))),
    "gln": lambda case: fill_pattern(case.rng, "40#########%#"),
    "time": lambda case: f"{case.rng.randint(6, 19):02d}:{case.rng.randint(0, 59):02d}",
    "user": lambda case: fill_pattern(case.rng, "@@@@%#"),
    "region": lambda case: str(case.rng.randint(1, 40)),
    "country": lambda case: str(case.words["country_names"][case.pick(_COUNTRIES)]),
    "hu": lambda case: str(case.rng.randint(300_000, 900_000)),
    "counterpart_account": lambda case: case.receiver.bank_account,
    "small_number": lambda case: str(case.rng.randint(2, 12)),
    "supplying_plant": lambda case: _place(case, "plant", case.receiver.address.city),
    "receiving_plant": lambda case: _place(case, "plant", case.sender.address.city),
    "supplying_company": lambda case: _place(case, "companyCode", ""),
    "receiving_company": lambda case: _place(case, "companyCode", ""),
    "o_period": lambda case: f"{case.text('period_start')} - {case.text('period_end')}",
    **{name: partial(_order_word, name=name) for name in _ORDER_WORDS},
    **{name: partial(_word, key=key) for name, key in _WORD_LISTS.items()},
    **{name: partial(_amount, name=name) for name in _AMOUNTS},
}
"""How each fact that is neither a number from a range nor a date is made."""
