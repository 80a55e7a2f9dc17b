"""Purchase orders of all 35 subtypes.

An order's subtype always shows in a clause of its own and, where SAP has one, in a field, column or table
of its own; in two of three orders the kind is also named in the title, below it or in the header. A standard
order has none of these.

Label rules: tables of provided components, of invoicing plans, and cumulative or open quantities are O;
schedule lines are lineItem.deliveryDate and lineItem.quantity. Every plant and company code is plant and
companyCode, whether it supplies or receives. An order's own number is documentNumber; changed and cancelled
orders keep it.
"""

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sap_vision_assets.documents.synthesis import blocks
from sap_vision_assets.documents.synthesis.assembly import finish, ship_to
from sap_vision_assets.documents.synthesis.blocks import labelled
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.companies import make_company
from sap_vision_assets.documents.synthesis.content import DocumentContent, KeyValue, Paragraph, Party
from sap_vision_assets.documents.synthesis.goods import Item, make_items
from sap_vision_assets.documents.synthesis.item_tables import totals
from sap_vision_assets.documents.synthesis.order_tables import main_table
from sap_vision_assets.documents.synthesis.phrases import orders
from sap_vision_assets.documents.synthesis.subtypes import SPECS, Spec

_RELATED = {
    "STOCK_TRANSPORT": "same",
    "STOCK_TRANSPORT_AGREEMENT": "same",
    "INTERCOMPANY_TRANSPORT": "sister",
}
_KIND_PLACES = ("title", "title", "subtitle", "subtitle", "header", "none", "none")
_TRANSFER_KEYS = {"supplying_plant", "supplying_company"}


def purchase_order(rng: random.Random, *, split: str, language: str, subtype: str) -> DocumentContent:
    """An order of `subtype`, which must be one of SPECS."""
    spec, words = SPECS[subtype], orders(language)[subtype]
    case = Case(
        rng,
        split=split,
        doc_type="PURCHASE_ORDER",
        language=language,
        industry=rng.choice(spec.industries),
        abroad=subtype == "IMPORT",
        related=_RELATED.get(subtype, ""),
    )
    items = _items(case, spec)
    table, has_amounts = main_table(case, items, spec.columns)
    extras = _extras(case, words)
    place = "none" if subtype == "STANDARD" and case.chance(0.7) else case.pick(_KIND_PLACES)
    kind = case.pick(words["kinds"])
    if place == "header":
        extras.insert(
            0, KeyValue(caption=case.pick(case.words["order_kind"]) + case.colon, value=labelled(kind))
        )
    return finish(
        case,
        header=_header(case, spec, extras),
        parties=_parties(case, subtype),
        introduction=None if spec.ordinary else (),
        tables=[table, *(spec.tables(case, items) if spec.tables else ())],
        totals=_totals(case, spec, items) if has_amounts else (),
        closing=_clauses(case, words["clauses"], spec),
        title=kind if place == "title" else None,
        subtitle=labelled(kind) if place == "subtitle" else (),
        subtype=subtype,
        bank=False if case.chance(0.85) else None,
        signatures=0.25,
    )


def _items(case: Case, spec: Spec) -> tuple[Item, ...]:
    """The lines, and the facts that the subtype's clauses tell of the first one."""
    items = make_items(
        case.rng,
        language=case.language,
        industry=spec.goods or case.industry,
        count=case.pick(spec.rows),
        day=case.day("deliveryDate"),
        details=case.words["details"],
    )
    if spec.columns == "limit":
        limit = items[0].net // 10_000 * 10_000
        items = (replace(items[0], quantity=1000, price=limit, net=limit),)
        _set_target(case, limit)
    elif "targetValue" in spec.required:
        _set_target(case, case.rng.randint(2, 500) * 100_000)
    if "downPaymentAmount" in spec.likely:
        share = sum(item.net for item in items) * case.pick((10, 20, 30)) // 100
        case.set("downPaymentAmount", case.money(share, "downPaymentAmount"))
    first, style = items[0], case.style
    case.set("first_item", first.number)
    case.set("new_quantity", style.quantity(first.quantity))
    case.set("old_quantity", style.quantity(first.quantity * 2))
    case.set("new_date", style.day(first.delivery))
    case.set("old_date", style.day(first.delivery - timedelta(days=case.rng.randint(5, 30))))
    case.set("target_quantity", f"{style.quantity(first.quantity * 12)} {case.units[first.unit]}")
    case.received = first.quantity * case.rng.randint(3, 9)
    case.set("o_cumulative", style.quantity(case.received))
    return items


def _set_target(case: Case, cents: int) -> None:
    """The limit or target value, and the parts of it that orders tell of (label O)."""
    case.set("targetValue", case.money(cents, "targetValue"))
    for name in ("expected_value", "released_value", "released_to_date"):
        case.set(name, case.money(cents * case.rng.randint(2, 17) // 20, None))


def _extras(case: Case, words: dict[str, Any]) -> list[KeyValue]:
    """The subtype's own captioned values, at least one where it has any; both ends of a transfer."""
    captions = words.get("extras", {})
    names = list(captions)
    if names and not _TRANSFER_KEYS & set(names):
        names = case.rng.sample(names, case.rng.randint(1, len(names)))
    return [KeyValue(caption=case.pick(captions[name]) + case.colon, value=case.line(name)) for name in names]


def _header(case: Case, spec: Spec, extras: list[KeyValue]) -> tuple[KeyValue, ...]:
    kind = "STOCK_TRANSPORT" if case.sender.name == case.receiver.name else "PURCHASE_ORDER"
    fields = blocks.header_fields()[kind]
    required = [*fields["required"], *spec.required, *(field for field in spec.likely if case.chance(0.67))]
    optional = [*fields["optional"], *(("plant", "storageLocation") if spec.stock else ())]
    left_out = {*required, *(() if spec.delivery else ("deliveryDate",))}
    optional = [field for field in optional if field not in left_out]
    return blocks.header(case, required, optional, low=7, high=11, extra=extras)


def _parties(case: Case, subtype: str) -> list[Party]:
    if case.sender.name == case.receiver.name:
        parties = [blocks.named_party(case, "supplying_plant", case.receiver, "receiver")]
    else:
        parties = [blocks.receiver_party(case)]
    if subtype == "THIRD_PARTY":
        country = case.sender.address.country_code
        customer = make_company(case.rng, split=case.split, country=country, industry=case.industry)
        parties.append(blocks.ship_to_party(case, customer))
    else:
        parties += ship_to(case, 0.4)
    if case.chance(0.15):
        parties.append(blocks.named_party(case, "bill_to", case.sender, "sender"))
    return parties


def _totals(case: Case, spec: Spec, items: tuple[Item, ...]) -> tuple[KeyValue, ...]:
    """The sums below the table: with discount, freight and tax where the goods have their usual price."""
    if spec.columns == "zero":
        items = tuple(replace(item, net=0) for item in items)
    usual = spec.columns in ("priced", "text")
    return totals(case, items, tax=usual and case.chance(0.4), extras=usual and case.chance(0.5))


def _clauses(case: Case, clauses: list[str], spec: Spec) -> tuple[Paragraph, ...]:
    """One or two of the subtype's own clauses among ordinary ones."""
    own = case.rng.sample(clauses, min(len(clauses), case.pick((1, 1, 2))))
    count = case.pick((0, 1, 1, 2)) if own else case.pick((1, 2, 3))
    usual = case.words["closing"]["PURCHASE_ORDER"]
    ordinary = case.rng.sample(usual, count) if spec.ordinary else case.rng.sample(usual[:3], min(count, 1))
    chosen = [*own, *ordinary]
    case.rng.shuffle(chosen)
    return tuple(blocks.sentence(case, template) for template in chosen)
