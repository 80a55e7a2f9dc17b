"""Purchase orders of all 35 subtypes.

An order's subtype always shows in a clause of its own and, where SAP has one, in a field, column or table of
its own; in two of three orders the kind is also named in the title, below it or in the header. A standard order
has none of these.

Label rules: tables of provided components, of invoicing plans, and cumulative or open quantities are O; schedule
lines are lineItem.deliveryDate and lineItem.quantity. Every plant and company code is plant and companyCode,
whether it supplies or receives. An order's own number is documentNumber; changed and cancelled orders keep it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from sap_vision_assets.documents.synthesis import blocks, order_tables
from sap_vision_assets.documents.synthesis.blocks import labelled
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.companies import make_address, make_company
from sap_vision_assets.documents.synthesis.content import (
    DocumentContent,
    KeyValue,
    Line,
    Paragraph,
    Party,
    Table,
    Text,
)
from sap_vision_assets.documents.synthesis.goods import Item, make_items
from sap_vision_assets.documents.synthesis.item_tables import totals
from sap_vision_assets.documents.synthesis.phrases import orders
from sap_vision_assets.documents.synthesis.trade import ROW_COUNTS, finish, price_columns, ship_to

_ORDINARY = (
    "receiverId", "senderContact", "senderPhone", "deliveryDate", "paymentTerms", "incoterms", "purchasingGroup",
    "purchasingOrganization", "companyCode", "requisitionNumber", "quotationNumber", "referenceNumber", "currencyCode",
    "senderId", "taxId", "shippingMethod", "senderEmail", "receiverContact",
)  # fmt: skip
_STOCK = ("plant", "storageLocation")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What an order of one subtype shows besides the ordinary."""

    required: tuple[str, ...] = ()
    """Header fields that are always there."""
    columns: str = "priced"
    """"priced", "quantity", "zero", "text", "import", "agreed", "target" or "limit": see order_tables."""
    goods: tuple[str, ...] = ()
    """Industries that the goods come from; empty for any that sells goods."""
    tables: Callable[[Case, tuple[Item, ...]], tuple[Table, ...]] | None = None
    """Further tables."""
    rows: tuple[int, ...] = ROW_COUNTS
    stock: bool = True
    """True when plant and storage location make sense."""
    delivery: bool = True
    """False when a delivery date makes no sense."""


_GOODS = ("metal", "electronics", "chemicals", "office", "food", "construction", "pharma", "machinery", "packaging",
          "textiles", "automotive")  # fmt: skip
_FEW = (1, 1, 2, 2, 3)

SPECS: dict[str, Spec] = {
    "STANDARD": Spec(required=("plant",), rows=(1, 2, 2, 3, 4, 5)),
    "BLANKET": Spec(required=("validity", "targetValue"), columns="limit", goods=("limit",), rows=(1,), stock=False, delivery=False),
    "CONTRACT": Spec(required=("validity",), columns="agreed", rows=_FEW, stock=False, delivery=False),
    "STOCK_TRANSPORT": Spec(columns="quantity", stock=False),
    "INTERCOMPANY_TRANSPORT": Spec(rows=_FEW),
    "SUBCONTRACTING": Spec(tables=order_tables.components, rows=(1, 1, 2), goods=("metal", "machinery", "automotive", "electronics")),
    "CONSIGNMENT": Spec(columns="quantity"),
    "THIRD_PARTY": Spec(stock=False),
    "SERVICE": Spec(goods=("services",), stock=False, delivery=False),
    "LIMIT": Spec(required=("targetValue",), columns="limit", goods=("limit",), rows=(1,), stock=False, delivery=False),
    "ENHANCED_LIMIT": Spec(required=("targetValue",), columns="limit", goods=("limit",), rows=(1,), stock=False, delivery=False),
    "TEXT_ITEM": Spec(columns="text", rows=_FEW, stock=False),
    "RETURN": Spec(required=("purchaseOrderNumber",), rows=_FEW, delivery=False),
    "FREE_OF_CHARGE": Spec(columns="zero", rows=_FEW),
    "SAMPLE": Spec(columns="quantity", rows=_FEW),
    "SCHEDULING_AGREEMENT": Spec(required=("validity",), columns="agreed", tables=order_tables.schedule, rows=(1, 1, 2), delivery=False),
    "STOCK_TRANSPORT_AGREEMENT": Spec(required=("validity",), columns="plain", tables=order_tables.schedule, rows=(1, 1, 2), stock=False, delivery=False),
    "FORECAST_SCHEDULE": Spec(columns="plain", tables=order_tables.forecast, rows=(1,), delivery=False),
    "JIT_SCHEDULE": Spec(columns="plain", tables=order_tables.calls, rows=(1,), delivery=False, goods=("automotive", "metal", "electronics")),
    "CONTRACT_RELEASE": Spec(required=("contractNumber",)),
    "QUANTITY_CONTRACT": Spec(required=("validity",), columns="target", rows=_FEW, stock=False, delivery=False),
    "VALUE_CONTRACT": Spec(required=("validity", "targetValue"), columns="agreed", rows=_FEW, stock=False, delivery=False),
    "ASSET": Spec(required=("assetNumber",), rows=(1, 1, 2), goods=("machinery", "office", "electronics"), stock=False),
    "COST_CENTER": Spec(required=("costCenter",), rows=_FEW, stock=False),
    "PROJECT": Spec(required=("wbsElement",), rows=_FEW, stock=False),
    "INTERNAL_ORDER": Spec(required=("internalOrder",), rows=_FEW, stock=False),
    "SALES_ORDER": Spec(required=("salesOrderNumber",), rows=_FEW),
    "NETWORK": Spec(rows=_FEW, stock=False),
    "PIPELINE": Spec(goods=("pipeline",), rows=(1, 1, 2), stock=False, delivery=False),
    "RETURNABLE_PACKAGING": Spec(goods=("returnable",), columns="quantity", rows=_FEW),
    "RUSH": Spec(rows=_FEW),
    "IMPORT": Spec(required=("incoterms",), columns="import", rows=_FEW),
    "INVOICING_PLAN": Spec(goods=("services",), tables=order_tables.invoicing_plan, rows=(1, 1, 2), stock=False, delivery=False),
    "CHANGE_ORDER": Spec(rows=_FEW),
    "CANCELLATION": Spec(rows=_FEW),
}  # fmt: skip
_LIKELY = {
    "ASSET": ("glAccount", "costCenter"), "COST_CENTER": ("glAccount",), "PROJECT": ("glAccount",), "INTERNAL_ORDER": ("glAccount",),
    "RETURN": ("deliveryNoteNumber", "materialDocumentNumber"), "IMPORT": ("billOfLadingNumber",), "RUSH": ("carrierName", "shippingMethod"),
    "STOCK_TRANSPORT": ("shippingMethod",), "CANCELLATION": ("purchaseOrderDate",), "INVOICING_PLAN": ("downPaymentAmount",),
}  # fmt: skip


STOCK_TRANSPORTS = frozenset({"STOCK_TRANSPORT", "STOCK_TRANSPORT_AGREEMENT"})
"""Orders between two plants of one company."""


def purchase_order(case: Case, subtype: str) -> DocumentContent:
    """An order of `subtype`, which must be one of SPECS."""
    spec, words = SPECS[subtype], orders(case.language)[subtype]
    items = _items(case, subtype, spec)
    table, priced = order_tables.main_table(case, items, spec.columns)
    extras = _extras(case, words)
    kind_place = case.pick(("title", "title", "subtitle", "subtitle", "header", "none", "none"))
    if subtype == "STANDARD" and case.chance(0.7):
        kind_place = "none"
    kind = case.pick(words["kinds"])
    if kind_place == "header":
        extras = [
            KeyValue(caption=case.pick(case.words["order_kind"]) + case.colon, value=labelled(kind)),
            *extras,
        ]
    header = _header(case, subtype, spec, extras)
    sums = (
        totals(case, items, tax=case.chance(0.4), extras=case.chance(0.5))
        if priced and spec.columns == "priced"
        else ()
    )
    if subtype in ("FREE_OF_CHARGE", "IMPORT", "LIMIT") and priced and not sums:
        sums = _net_total(case, 0 if subtype == "FREE_OF_CHARGE" else sum(item.net for item in items))
    return finish(
        case,
        header=header,
        parties=_parties(case, subtype),
        tables=[table, *(spec.tables(case, items) if spec.tables else ())],
        totals=sums,
        closing=_clauses(case, words["clauses"]),
        title=kind if kind_place == "title" else None,
        subtitle=labelled(kind) if kind_place == "subtitle" else (),
        subtype=subtype,
        bank=False if case.chance(0.85) else None,
        signatures=0.25,
    )


def _items(case: Case, subtype: str, spec: Spec) -> tuple[Item, ...]:
    industry = case.pick(spec.goods) if spec.goods else case.pick(_GOODS)
    items = make_items(
        case.rng, language=case.language, industry=industry, count=case.pick(spec.rows), day=case.day("deliveryDate"),
        details=case.words["details"],
    )  # fmt: skip
    if spec.columns == "limit":
        limit = items[0].net // 10_000 * 10_000
        items = (replace(items[0], quantity=1000, price=limit, net=limit),)
        case.set("targetValue", case.money(limit, "targetValue"))
    case.set("first_item", items[0].number)
    case.set("new_quantity", case.style.quantity(items[0].quantity))
    case.set("old_quantity", case.style.quantity(items[0].quantity * 2))
    case.set("new_date", case.style.day(items[0].delivery))
    case.set("old_date", case.style.day(items[0].delivery - timedelta(days=case.rng.randint(5, 30))))
    case.set("target_quantity", f"{case.style.quantity(items[0].quantity * 12)} {case.units[items[0].unit]}")
    case.set("o_cumulative", case.style.quantity(items[0].quantity * case.rng.randint(3, 9)))
    return items


def _extras(case: Case, words: dict[str, dict[str, list[str]]]) -> list[KeyValue]:
    """The subtype's own captioned values, at least one where it has any."""
    names = list(words.get("extras", {}))
    kept = case.rng.sample(names, case.rng.randint(1, len(names))) if names else []
    if {"supplying_plant", "supplying_company"} & set(names):
        kept = names
    return [
        KeyValue(caption=case.pick(words["extras"][name]) + case.colon, value=case.line(name))
        for name in kept
    ]


def _header(case: Case, subtype: str, spec: Spec, extras: list[KeyValue]) -> tuple[KeyValue, ...]:
    optional = [
        field
        for field in _ORDINARY
        if field not in spec.required and (spec.delivery or field != "deliveryDate")
    ]
    optional += [field for field in _STOCK if field not in spec.required] if spec.stock else []
    likely = [field for field in _LIKELY.get(subtype, ()) if case.chance(0.7)]
    return blocks.header(
        case,
        ["documentNumber", "documentDate", *spec.required, *likely],
        optional,
        low=7,
        high=11,
        extra=extras,
    )


def _parties(case: Case, subtype: str) -> list[Party]:
    if subtype in STOCK_TRANSPORTS:
        parties = [blocks.named_party(case, "supplying_plant", case.receiver, "receiver")]
    else:
        parties = [blocks.receiver_party(case)]
    if subtype == "THIRD_PARTY":
        customer = make_company(
            case.rng, split=case.split, country=case.receiver.address.country_code, industry=case.industry
        )
        parties.append(blocks.ship_to_party(case, customer))
    else:
        parties += ship_to(case, 0.4)
    if case.chance(0.15):
        parties.append(blocks.named_party(case, "bill_to", case.sender, "sender"))
    return parties


def _net_total(case: Case, cents: int) -> tuple[KeyValue, ...]:
    return (
        KeyValue(
            caption=case.caption("netAmount"), value=case.set("netAmount", case.money(cents, "netAmount"))
        ),
    )


def _clauses(case: Case, clauses: list[str]) -> tuple[Paragraph, ...]:
    own = case.rng.sample(clauses, min(len(clauses), case.pick((1, 1, 2))))
    ordinary = case.rng.sample(
        case.words["closing"]["PURCHASE_ORDER"], case.pick((0, 1, 1, 2)) if own else case.pick((1, 2, 3))
    )
    chosen = [*own, *ordinary]
    case.rng.shuffle(chosen)
    return tuple(Paragraph(text=case.fill(template)) for template in chosen)
