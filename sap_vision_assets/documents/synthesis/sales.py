"""What a seller writes about money: invoices, receipts, confirmations, quotations, credit and debit memos."""

from sap_vision_assets.documents.synthesis import blocks
from sap_vision_assets.documents.synthesis.assembly import (
    finish,
    items_of,
    ship_to,
    third_party,
    usual_closing,
)
from sap_vision_assets.documents.synthesis.blocks import labelled
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.content import DocumentContent, KeyValue
from sap_vision_assets.documents.synthesis.item_tables import (
    choose_sublines,
    item_table,
    price_columns,
    settlement,
    tax_summary,
    totals,
)

_MOST_CASH_CENTS = 300_000
_RECEIPT_COLUMNS = (
    ("description", "netAmount"),
    ("description", "quantity", "unitPrice", "netAmount"),
    ("materialNumber", "description", "quantity", "netAmount"),
)


def invoice(case: Case) -> DocumentContent:
    items = items_of(case, discounts=0.2)
    parties = [blocks.receiver_party(case), *ship_to(case, 0.25), *third_party(case)]
    if case.chance(0.12):
        parties.append(blocks.named_party(case, "remit_to", case.sender, "sender"))
    keys = price_columns(case, items)
    choose_sublines(case, keys, ("supplierMaterialNumber", "batchNumber", "tariff", "deliveryDate"))
    tables = [item_table(case, items, keys)]
    if case.chance(0.1):
        tables.append(tax_summary(case, items))
        gross = case.money(case.gross_cents, "grossAmount")
        sums: tuple[KeyValue, ...] = (KeyValue(caption=case.caption("grossAmount"), value=gross),)
    else:
        sums = totals(case, items)
    return finish(
        case,
        header=blocks.type_header(case),
        parties=parties,
        tables=tables,
        totals=sums + settlement(case),
        closing=usual_closing(case),
        bank=case.chance(0.7),
    )


def receipt(case: Case) -> DocumentContent:
    """A till receipt: no addressee, few captions, and what was paid (label O).

    Its type is OTHER: an invoice asks for payment, a receipt says that it was made.
    """
    case.kind = "RECEIPT"
    words = case.words["receipt"]
    items = items_of(case)
    header = list(blocks.type_header(case, "RECEIPT", low=2, high=4))
    header.append(KeyValue(caption=case.pick(words["cashier"]) + case.colon, value=case.line("user")))
    header.append(
        KeyValue(caption=case.pick(case.words["decoys"]["time"]) + case.colon, value=case.line("time"))
    )
    sums = list(totals(case, items, extras=False))
    if case.chance(0.5):
        sums = sums[-1:]
    in_cash = case.gross_cents < _MOST_CASH_CENTS and case.chance(0.8)
    given = -(-case.gross_cents // 1000) * 1000 if in_cash else case.gross_cents
    means = case.pick(words["cash" if in_cash else "card"])
    sums.append(KeyValue(caption=means + case.colon, value=case.money(given, None)))
    if in_cash:
        change = case.money(given - case.gross_cents, None)
        sums.append(KeyValue(caption=case.pick(words["change"]) + case.colon, value=change))
    return finish(
        case,
        header=tuple(header),
        parties=[],
        tables=[item_table(case, items, case.pick(_RECEIPT_COLUMNS))],
        totals=tuple(sums),
        introduction=[],
        closing=[blocks.sentence(case, case.pick(words["thanks"]))],
        title=case.pick(words["titles"]),
        bank=False,
        signatures=0.0,
    )


def sales_order(case: Case) -> DocumentContent:
    items = items_of(case, discounts=0.2)
    keys = price_columns(case, items)
    choose_sublines(case, keys, ("supplierMaterialNumber", "deliveryDate"))
    return finish(
        case,
        header=blocks.type_header(case),
        parties=[blocks.receiver_party(case), *ship_to(case, 0.4), *third_party(case)],
        tables=[item_table(case, items, keys)],
        totals=totals(case, items, tax=case.chance(0.75)) + settlement(case),
        closing=usual_closing(case),
    )


def quotation(case: Case) -> DocumentContent:
    items = items_of(case, discounts=0.3)
    return finish(
        case,
        header=blocks.type_header(case),
        parties=[blocks.receiver_party(case)],
        tables=[item_table(case, items, price_columns(case, items))],
        totals=totals(case, items, tax=case.chance(0.55)),
        closing=usual_closing(case),
        signatures=0.3,
    )


def memo(case: Case) -> DocumentContent:
    """Credit and debit memos: an amount about an earlier invoice, with its reason."""
    credit = case.doc_type == "CREDIT_MEMO"
    items = items_of(case, most=3)
    sign = -1 if credit and case.chance(0.3) else 1
    return finish(
        case,
        header=blocks.type_header(case, extra=_reason(case, "credit" if credit else "debit")),
        parties=[blocks.receiver_party(case)],
        tables=[item_table(case, items, price_columns(case, items))],
        totals=totals(case, items, sign=sign, extras=False),
        closing=usual_closing(case),
        bank=case.chance(0.4),
    )


def _reason(case: Case, kind: str) -> list[KeyValue]:
    if not case.chance(0.6):
        return []
    value = labelled(case.pick(case.words["reasons"][kind]))
    return [KeyValue(caption=case.pick(case.words["reason_captions"]) + case.colon, value=value)]
