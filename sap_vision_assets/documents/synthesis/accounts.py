"""Papers of accounts payable and receivable: payment and remittance advices, account statements.

Label rules: a row's document, its date and its amount are lineItem.documentNumber, .documentDate and
.grossAmount, a cash discount is lineItem.discount; what is paid of a row, running balances, due dates of
rows, kinds of posting and the dates of a statement's period are O.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from sap_vision_assets.documents.synthesis import blocks
from sap_vision_assets.documents.synthesis.assembly import finish, usual_closing
from sap_vision_assets.documents.synthesis.blocks import labelled
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.content import Column, DocumentContent, KeyValue, Line, Table, Text

_WIDTHS = {"number": 1.4, "kind": 1.4}
_FIELDS = {
    "number": "lineItem.documentNumber",
    "date": "lineItem.documentDate",
    "gross": "lineItem.grossAmount",
    "discount": "lineItem.discount",
}
_OWN_CAPTIONS = {"discount": "cash_discount"}
_RIGHT = {"gross", "discount", "net_paid", "running"}
_INVOICE, _CREDIT, _PAYMENT, _INCOMING = range(4)
"""Positions of the kinds of posting in the language's list."""


def payment(case: Case) -> DocumentContent:
    """Payment advice (to be paid) and remittance advice (paid): the documents that a payment settles."""
    table, total = _settled_documents(case)
    case.set("paidAmount", case.money(total, "paidAmount"))
    header = blocks.type_header(case)
    if case.chance(0.25):
        caption = case.pick(case.words["your_account"]) + case.colon
        header = (*header, KeyValue(caption=caption, value=case.line("counterpart_account")))
    return finish(
        case,
        header=header,
        parties=[blocks.receiver_party(case)],
        tables=[table],
        totals=(blocks.pair(case, "paidAmount"),),
        closing=usual_closing(case),
        bank=case.chance(0.5),
    )


def _settled_documents(case: Case) -> tuple[Table, int]:
    """Rows of documents with their amounts, and what is paid for them together, in cents."""
    deductions = case.chance(0.45)
    keys = ["number", "date", *(["kind"] if case.chance(0.3) else []), "gross"]
    keys += ["discount", "net_paid"] if deductions else []
    rows, total = [], 0
    for index in range(case.pick((1, 2, 3, 3, 4, 5, 6))):
        gross = case.rng.randint(2_000, 2_500_000)
        credit = index > 0 and case.chance(0.15)
        if credit:
            gross = -min(gross, total // 2)
        off = (gross * case.pick((0, 2, 3)) + 50) // 100 if deductions and not credit else 0
        total += gross - off
        day = case.date - timedelta(days=case.rng.randint(5, 70))
        values = {
            **_posting(case, day, _CREDIT if credit else _INVOICE, gross),
            "discount": case.style.cell(off),
            "net_paid": case.style.cell(gross - off),
        }
        rows.append(values)
    return _table(case, keys, rows), total


def statement(case: Case) -> DocumentContent:
    """Opening balance, the postings of a period, closing balance."""
    balance = case.rng.randint(0, 900_000)
    case.set("openingBalance", case.money(balance, "openingBalance"))
    keys = ["date", "number", "kind", *(["due"] if case.chance(0.3) else []), "gross"]
    keys += ["running"] if case.chance(0.5) else []
    rows = []
    day = case.date - timedelta(days=30)
    for _ in range(case.pick((2, 3, 3, 4, 5, 6))):
        day += timedelta(days=case.rng.randint(0, 6))
        kind = case.pick((_INVOICE,) * 6 + (_CREDIT, _PAYMENT, _INCOMING, _INCOMING))
        amount = case.rng.randint(5_000, 700_000) * (1 if kind == _INVOICE else -1)
        balance += amount
        due = case.style.day(day + timedelta(days=case.term_days))
        rows.append({**_posting(case, day, kind, amount), "due": due, "running": case.style.cell(balance)})
    case.set("closingBalance", case.money(balance, "closingBalance"))
    period = [_period(case)] if case.chance(0.6) else []
    return finish(
        case,
        header=blocks.type_header(case, low=5, high=9, extra=period),
        parties=[blocks.receiver_party(case)],
        tables=[_table(case, keys, rows)],
        totals=(blocks.pair(case, "openingBalance"), blocks.pair(case, "closingBalance")),
        closing=usual_closing(case),
        bank=case.chance(0.6),
    )


def _posting(case: Case, day: date, kind: int, amount: int) -> dict[str, str]:
    return {
        "number": case.fresh("invoiceNumber"),
        "date": case.style.day(day),
        "kind": case.words["reasons"]["postings"][kind],
        "gross": case.style.cell(amount),
    }


def _table(case: Case, keys: Sequence[str], rows: Sequence[dict[str, str]]) -> Table:
    columns = tuple(
        Column(
            caption=_caption(case, key),
            align="right" if key in _RIGHT else "left",
            weight=_WIDTHS.get(key, 1.0),
        )
        for key in keys
    )
    cells = tuple(tuple((labelled(row[key], _FIELDS.get(key)),) for key in keys) for row in rows)
    return Table(columns=columns, rows=cells)


def _caption(case: Case, key: str) -> str:
    own = case.words["columns"].get(_OWN_CAPTIONS.get(key, key))
    return str(case.pick(own or case.wordings(_FIELDS[key])))


def _period(case: Case) -> KeyValue:
    dash = Text(text=case.pick(("-", case.words["to"])))
    start = Text(text=case.style.day(case.date - timedelta(days=30)))
    value: Line = (start, dash, Text(text=case.style.day(case.date)))
    return KeyValue(caption=case.pick(case.words["period_captions"]) + case.colon, value=value)
