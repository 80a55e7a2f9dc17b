"""What an order of each subtype shows besides the ordinary; its words are in orders_<language>.json."""

from collections.abc import Callable
from dataclasses import dataclass

from sap_vision_assets.documents.synthesis.assembly import ROW_COUNTS
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.content import Table
from sap_vision_assets.documents.synthesis.goods import Item
from sap_vision_assets.documents.synthesis.order_tables import (
    calls,
    components,
    forecast,
    invoicing_plan,
    schedule,
)

_GOODS = (
    "metal",
    "electronics",
    "chemicals",
    "office",
    "food",
    "construction",
    "pharma",
    "machinery",
    "packaging",
    "textiles",
    "automotive",
)
_PARTS = ("metal", "machinery", "automotive", "electronics")
_EQUIPMENT = ("machinery", "office", "electronics")
_FEW = (1, 1, 2, 2, 3)
_ONE_OR_TWO = (1, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The shape of one subtype."""

    required: tuple[str, ...] = ()
    """Header fields that are always there."""
    likely: tuple[str, ...] = ()
    """Header fields that are there in two of three orders."""
    columns: str = "priced"
    """Form of the item table, see order_tables.main_table."""
    industries: tuple[str, ...] = _GOODS
    """Whose goods are ordered."""
    goods: str = ""
    """Special goods of goods.json, in place of the industry's."""
    tables: Callable[[Case, tuple[Item, ...]], tuple[Table, ...]] | None = None
    """Further tables."""
    rows: tuple[int, ...] = ROW_COUNTS
    stock: bool = True
    """True when plant and storage location make sense."""
    delivery: bool = True
    """False when one delivery date for the order makes no sense."""
    ordinary: bool = True
    """False when "please deliver" and the usual delivery sentences would be wrong."""


SPECS: dict[str, Spec] = {
    "STANDARD": Spec(required=("plant",), rows=(1, 2, 2, 3, 4, 5)),
    "BLANKET": Spec(
        ordinary=False,
        required=("validity", "targetValue"),
        columns="limit",
        goods="blanket",
        rows=(1,),
        stock=False,
        delivery=False,
    ),
    "CONTRACT": Spec(
        ordinary=False, required=("validity",), columns="agreed", rows=_FEW, stock=False, delivery=False
    ),
    "STOCK_TRANSPORT": Spec(ordinary=False, likely=("shippingMethod",), columns="quantity", stock=False),
    "INTERCOMPANY_TRANSPORT": Spec(rows=_FEW),
    "SUBCONTRACTING": Spec(tables=components, rows=_ONE_OR_TWO, industries=_PARTS),
    "CONSIGNMENT": Spec(columns="quantity"),
    "THIRD_PARTY": Spec(stock=False),
    "SERVICE": Spec(ordinary=False, industries=("services",), stock=False, delivery=False),
    "LIMIT": Spec(
        ordinary=False,
        likely=("validity", "costCenter"),
        required=("targetValue",),
        columns="limit",
        goods="limit",
        rows=(1,),
        stock=False,
        delivery=False,
    ),
    "ENHANCED_LIMIT": Spec(
        ordinary=False,
        likely=("validity",),
        required=("targetValue",),
        columns="limit",
        goods="limit",
        rows=(1,),
        stock=False,
        delivery=False,
    ),
    "TEXT_ITEM": Spec(columns="text", rows=_FEW, stock=False),
    "RETURN": Spec(
        ordinary=False,
        likely=("deliveryNoteNumber", "materialDocumentNumber"),
        required=("purchaseOrderNumber",),
        rows=_FEW,
        delivery=False,
    ),
    "FREE_OF_CHARGE": Spec(columns="zero", rows=_FEW),
    "SAMPLE": Spec(columns="quantity", rows=_FEW),
    "SCHEDULING_AGREEMENT": Spec(
        ordinary=False,
        required=("validity",),
        columns="agreed",
        tables=schedule,
        rows=_ONE_OR_TWO,
        delivery=False,
    ),
    "STOCK_TRANSPORT_AGREEMENT": Spec(
        ordinary=False,
        required=("validity",),
        columns="plain",
        tables=schedule,
        rows=_ONE_OR_TWO,
        stock=False,
        delivery=False,
    ),
    "FORECAST_SCHEDULE": Spec(ordinary=False, columns="plain", tables=forecast, rows=(1,), delivery=False),
    "JIT_SCHEDULE": Spec(columns="plain", tables=calls, rows=(1,), delivery=False, industries=_PARTS),
    "CONTRACT_RELEASE": Spec(required=("contractNumber",)),
    "QUANTITY_CONTRACT": Spec(
        ordinary=False, required=("validity",), columns="target", rows=_FEW, stock=False, delivery=False
    ),
    "VALUE_CONTRACT": Spec(
        ordinary=False,
        required=("validity", "targetValue"),
        columns="agreed",
        rows=_FEW,
        stock=False,
        delivery=False,
    ),
    "ASSET": Spec(
        likely=("glAccount", "costCenter"),
        required=("assetNumber",),
        rows=_ONE_OR_TWO,
        industries=_EQUIPMENT,
        stock=False,
    ),
    "COST_CENTER": Spec(likely=("glAccount",), required=("costCenter",), rows=_FEW, stock=False),
    "PROJECT": Spec(likely=("glAccount",), required=("wbsElement",), rows=_FEW, stock=False),
    "INTERNAL_ORDER": Spec(likely=("glAccount",), required=("internalOrder",), rows=_FEW, stock=False),
    "SALES_ORDER": Spec(required=("salesOrderNumber",), rows=_FEW),
    "NETWORK": Spec(rows=_FEW, stock=False),
    "PIPELINE": Spec(ordinary=False, goods="pipeline", rows=_ONE_OR_TWO, stock=False, delivery=False),
    "RETURNABLE_PACKAGING": Spec(goods="returnable", columns="quantity", rows=_FEW),
    "RUSH": Spec(likely=("carrierName", "shippingMethod"), rows=_FEW),
    "IMPORT": Spec(likely=("billOfLadingNumber",), required=("incoterms",), columns="import", rows=_FEW),
    "INVOICING_PLAN": Spec(
        ordinary=False,
        likely=("downPaymentAmount",),
        industries=("services",),
        tables=invoicing_plan,
        rows=_ONE_OR_TWO,
        stock=False,
        delivery=False,
    ),
    "CHANGE_ORDER": Spec(rows=_FEW),
    "CANCELLATION": Spec(ordinary=False, rows=_FEW),
}
