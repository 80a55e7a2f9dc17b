"""Papers of goods on their way: delivery notes, shipping notices, goods receipts; and RFQs."""

from collections.abc import Sequence

from sap_vision_assets.documents.synthesis import blocks
from sap_vision_assets.documents.synthesis.assembly import (
    finish,
    items_of,
    ship_to,
    third_party,
    usual_closing,
)
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.content import DocumentContent
from sap_vision_assets.documents.synthesis.goods import Item
from sap_vision_assets.documents.synthesis.item_tables import choose_sublines, item_table, quantity_columns


def delivery_note(case: Case) -> DocumentContent:
    items = items_of(case)
    _weigh(case, items)
    keys = [*quantity_columns(case, batches=0.35), *_some(case, weight=0.15)]
    choose_sublines(case, keys, ("supplierMaterialNumber", "batchNumber", "tariff"))
    return finish(
        case,
        header=blocks.type_header(case),
        parties=[blocks.receiver_party(case), *ship_to(case, 0.5), *third_party(case)],
        tables=[item_table(case, items, keys)],
        closing=usual_closing(case),
        signatures=0.3,
    )


def asn(case: Case) -> DocumentContent:
    items = items_of(case)
    _weigh(case, items)
    keys = [*quantity_columns(case, batches=0.35), *_some(case, weight=0.25, hu=0.3)]
    return finish(
        case,
        header=blocks.type_header(case, low=8, high=13),
        parties=[blocks.receiver_party(case), *ship_to(case, 0.5), *third_party(case)],
        tables=[item_table(case, items, keys)],
        closing=usual_closing(case),
    )


def goods_receipt(case: Case) -> DocumentContent:
    """A receiving slip; its own number is its documentNumber, or the material document alone."""
    items = items_of(case)
    number = case.pick(("documentNumber", "documentNumber", "materialDocumentNumber"))
    required = [number, case.pick(("documentDate", "postingDate"))]
    optional = [
        field for field in blocks.header_fields()["GOODS_RECEIPT"]["optional"] if field not in required
    ]
    return finish(
        case,
        header=blocks.header(case, required, optional),
        parties=[blocks.receiver_party(case)] if case.chance(0.85) else [],
        tables=[
            item_table(
                case, items, [*quantity_columns(case, batches=0.35), *_some(case, ordered=0.3, bin=0.25)]
            )
        ],
        closing=usual_closing(case),
        signatures=0.4,
    )


def rfq(case: Case) -> DocumentContent:
    items = items_of(case)
    return finish(
        case,
        header=blocks.type_header(case),
        parties=[blocks.receiver_party(case), *ship_to(case, 0.3)],
        tables=[
            item_table(case, items, [*quantity_columns(case, batches=0.0), *_some(case, deliveryDate=0.4)])
        ],
        closing=usual_closing(case),
        signatures=0.3,
    )


def _some(case: Case, **columns: float) -> list[str]:
    """The columns that chance keeps, each with its own probability."""
    return [key for key, probability in columns.items() if case.chance(probability)]


def _weigh(case: Case, items: Sequence[Item]) -> None:
    case.set("grams", str(max(100, sum(item.grams for item in items) // 100 * 100)))
