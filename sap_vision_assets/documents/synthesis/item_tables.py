"""Tables of goods and the sums below them.

Label rules: a row's values are lineItem.*; quantities that only compare (ordered, open, cumulative),
weights, bins, tariff numbers and countries of origin are O. The sum of the lines before discount and freight
is O where it is not the net total itself. What remains after a down payment is O, the total before it
grossAmount.
"""

from collections.abc import Callable, Sequence

from sap_vision_assets.documents.synthesis.blocks import labelled
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.content import Column, KeyValue, Line, Table, Text
from sap_vision_assets.documents.synthesis.goods import Item

Cell = Callable[[Case, Item], tuple[Line, ...]]


def _one(text: str, field: str | None) -> tuple[Line, ...]:
    return (labelled(text, field),)


def _description(case: Case, item: Item) -> tuple[Line, ...]:
    """The text, at times a second line of it, and what the page prints below it with captions of its own."""
    lines = [labelled(item.description, "lineItem.description")]
    if item.detail:
        lines.append(labelled(item.detail, "lineItem.description", continues=True))
    for key in case.sublines:
        value = CELLS[key](case, item)
        if value:
            caption = case.subline_captions[key] + (case.colon or ":")
            lines.append((Text(text=caption), *value[0]))
    return tuple(lines)


def _quantity_and_unit(case: Case, item: Item) -> tuple[Line, ...]:
    quantity = Text(text=case.style.quantity(item.quantity), field="lineItem.quantity")
    return ((quantity, Text(text=case.units[item.unit], field="lineItem.unitOfMeasure")),)


def _price_per(case: Case, item: Item) -> tuple[Line, ...]:
    price = Text(text=case.style.cell(item.price), field="lineItem.unitPrice")
    unit = Text(text=str(item.price_unit), field="lineItem.priceUnit")
    return ((price, Text(text="/"), unit, Text(text=case.units[item.unit])),)


def _discount(case: Case, item: Item) -> tuple[Line, ...]:
    return _one(case.style.percent(item.discount), "lineItem.discount") if item.discount else ()


CELLS: dict[str, Cell] = {
    "itemNumber": lambda _, item: _one(item.number, "lineItem.itemNumber"),
    "materialNumber": lambda _, item: _one(item.material, "lineItem.materialNumber"),
    "supplierMaterialNumber": lambda _, item: _one(item.supplier_material, "lineItem.supplierMaterialNumber"),
    "description": _description,
    "quantity": lambda case, item: _one(case.style.quantity(item.quantity), "lineItem.quantity"),
    "quantity_unit": _quantity_and_unit,
    "unitOfMeasure": lambda case, item: _one(case.units[item.unit], "lineItem.unitOfMeasure"),
    "unitPrice": lambda case, item: _one(case.style.cell(item.price), "lineItem.unitPrice"),
    "price_per": _price_per,
    "priceUnit": lambda _, item: _one(str(item.price_unit), "lineItem.priceUnit"),
    "netAmount": lambda case, item: _one(case.style.cell(item.net), "lineItem.netAmount"),
    "taxRate": lambda case, _: (case.line("lineItem.taxRate"),),
    "discount": _discount,
    "deliveryDate": lambda case, item: _one(case.style.day(item.delivery), "lineItem.deliveryDate"),
    "batchNumber": lambda _, item: _one(item.batch, "lineItem.batchNumber"),
    "tariff": lambda _, item: _one(item.tariff, None) if item.tariff else (),
    "origin": lambda case, _: (case.line("country"),),
    "ordered": lambda case, item: _one(case.style.quantity(item.quantity * 2), None),
    "bin": lambda case, _: (case.line("internal_code"),),
    "hu": lambda case, item: _one(f"{int(case.text('hu')) + int(item.number)}", None),
    "weight": lambda case, item: _one(case.style.quantity(item.grams, 1), None),
    "zero_price": lambda case, _: _one(case.style.cell(0), "lineItem.unitPrice"),
    "zero_amount": lambda case, _: _one(case.style.cell(0), "lineItem.netAmount"),
}
"""By column: what a row prints there."""

_WIDTHS = {"description": 3.4, "itemNumber": 0.5, "unitOfMeasure": 0.6, "priceUnit": 0.5, "taxRate": 0.6}
_RIGHT = {
    "quantity",
    "unitPrice",
    "netAmount",
    "discount",
    "ordered",
    "weight",
    "zero_price",
    "zero_amount",
    "quantity_unit",
    "price_per",
}
_FIELD_OF = {
    "quantity_unit": "quantity",
    "zero_price": "unitPrice",
    "zero_amount": "netAmount",
    "price_per": "unitPrice",
}


def column(case: Case, key: str) -> Column:
    """The column `key`, its heading from the language's wordings."""
    own = case.words["columns"].get(key)
    caption = case.pick(own or case.wordings(f"lineItem.{_FIELD_OF.get(key, key)}"))
    if key in ("netAmount", "unitPrice") and not case.style.cell_symbol and case.chance(0.15):
        caption += case.pick((" {}", " ({})", " in {}")).format(case.style.currency)
    return Column(caption=caption, align="right" if key in _RIGHT else "left", weight=_WIDTHS.get(key, 1.0))


def price_columns(case: Case, items: Sequence[Item]) -> list[str]:
    """The columns of a priced table: number, material, description, quantity, price, amount and more."""
    keys = ["itemNumber"] if case.chance(0.75) else []
    keys += ["materialNumber"] if case.chance(0.65) else []
    keys += ["supplierMaterialNumber"] if case.chance(0.15) else []
    keys.append("description")
    keys += ["deliveryDate"] if case.chance(0.15) else []
    keys += quantity_keys(case)
    keys += price_keys(case, items)
    keys += ["discount"] if any(item.discount for item in items) else []
    if case.chance(0.2):
        rate = case.text("taxRate")
        case.set("lineItem.taxRate", case.pick((rate, rate, "V1", "A1", "VN", "I1")))
        keys.append("taxRate")
    return [*keys, "netAmount"]


def quantity_columns(case: Case, *, batches: float) -> list[str]:
    """The columns of a table without prices; `batches` is the probability of batch numbers."""
    keys = ["itemNumber"] if case.chance(0.8) else []
    keys += ["materialNumber"] if case.chance(0.8) else []
    keys += ["supplierMaterialNumber"] if case.chance(0.15) else []
    keys.append("description")
    keys += ["batchNumber"] if case.chance(batches) else []
    return [*keys, *quantity_keys(case)]


def quantity_keys(case: Case) -> list[str]:
    return ["quantity_unit"] if case.chance(0.33) else ["quantity", "unitOfMeasure"]


def price_keys(case: Case, items: Sequence[Item]) -> list[str]:
    """The price, with its price unit where one is not 1, and on some pages in any case."""
    if any(item.price_unit > 1 for item in items) or case.chance(0.15):
        return ["price_per"] if case.chance(0.35) else ["unitPrice", "priceUnit"]
    return ["unitPrice"]


def choose_sublines(case: Case, keys: Sequence[str], candidates: Sequence[str]) -> None:
    """Decides what is printed below each description instead of in a column of its own."""
    free = [key for key in candidates if key not in keys]
    if free and case.chance(0.22):
        case.sublines = tuple(case.rng.sample(free, min(len(free), case.pick((1, 1, 2)))))
    for key in case.sublines:
        case.subline_captions[key] = column(case, key).caption


def item_table(case: Case, items: Sequence[Item], keys: Sequence[str]) -> Table:
    """One row for each item with the columns `keys` of CELLS."""
    rows = tuple(tuple(CELLS[key](case, item) for key in keys) for item in items)
    return Table(columns=tuple(column(case, key) for key in keys), rows=rows)


def totals(
    case: Case, items: Sequence[Item], *, tax: bool = True, sign: int = 1, extras: bool = True
) -> tuple[KeyValue, ...]:
    """Discount, freight, net total, tax and total of the items. Without `tax` the net total stands alone."""
    goods = net = sum(item.net for item in items)
    lines: list[KeyValue] = []

    def add(field: str, cents: int, before: Line = ()) -> None:
        value = (*before, *case.set(field, case.money(cents, field)))
        lines.append(KeyValue(caption=case.caption(field), value=value))

    if extras and case.chance(0.22):
        off = (net * case.pick((2, 3, 5, 10)) + 50) // 100
        add("discountAmount", -sign * off)
        net -= off
    if extras and case.chance(0.25):
        freight = case.rng.randint(8, 240) * 50
        add("shippingAmount", sign * freight)
        net += freight
    if lines and case.chance(0.5):
        caption = case.pick(case.words["goods_value"]) + case.colon
        lines.insert(0, KeyValue(caption=caption, value=case.money(sign * goods, None)))
    add("netAmount", sign * net)
    case.gross_cents = sign * net
    if tax:
        amount = (net * case.tax_hundredths + 5000) // 10_000
        case.gross_cents = sign * (net + amount)
        add("taxAmount", sign * amount, case.line("taxRate") if case.chance(0.6) else ())
        add("grossAmount", case.gross_cents)
    return tuple(lines)


def settlement(case: Case) -> tuple[KeyValue, ...]:
    """Now and then a down payment or a payment on the spot below the total, and what remains."""
    if case.chance(0.14):
        field, share = "downPaymentAmount", case.pick((20, 30, 50))
    elif case.chance(0.06):
        field, share = "paidAmount", case.pick((25, 40, 100))
    else:
        return ()
    paid = case.gross_cents * share // 100
    first = KeyValue(caption=case.caption(field), value=case.set(field, case.money(-paid, field)))
    rest = case.money(case.gross_cents - paid, None)
    return first, KeyValue(caption=case.pick(case.words["remaining"]) + case.colon, value=rest)


def tax_summary(case: Case, items: Sequence[Item]) -> Table:
    """Rate, net, tax and gross of the whole document in one row, as many invoices have it."""
    net = sum(item.net for item in items)
    tax = (net * case.tax_hundredths + 5000) // 10_000
    case.gross_cents = net + tax
    cells = (
        ("taxRate", case.text("taxRate")),
        ("netAmount", case.style.cell(net)),
        ("taxAmount", case.style.cell(tax)),
        ("grossAmount", case.style.cell(net + tax)),
    )
    columns = tuple(
        Column(caption=case.pick(case.wordings(key)), align="right", weight=1.0) for key, _ in cells
    )
    return Table(columns=columns, rows=(tuple((labelled(text, key),) for key, text in cells),))
