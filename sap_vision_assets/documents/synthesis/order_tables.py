"""The tables of purchase orders: items in several forms, components, schedule lines, calls, invoicing plans."""

from collections.abc import Sequence
from datetime import date, timedelta

from sap_vision_assets.documents.synthesis.blocks import labelled
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.content import Column, Line, Table, Text
from sap_vision_assets.documents.synthesis.goods import Item, make_items
from sap_vision_assets.documents.synthesis.item_tables import CELLS, choose_sublines, column
from sap_vision_assets.documents.synthesis.phrases import orders

Row = tuple[tuple[Line, ...], ...]


def main_table(case: Case, items: Sequence[Item], form: str) -> tuple[Table, bool]:
    """The item table in one of its forms, and whether it shows line amounts."""
    head = ["itemNumber", "materialNumber"] if form != "text" and form != "limit" else ["itemNumber"]
    unit = ["quantity_unit"] if case.chance(0.35) else ["quantity", "unitOfMeasure"]
    due = ["deliveryDate"] if case.chance(0.3) else []
    match form:
        case "priced":
            price = ["unitPrice", "netAmount"]
            if any(item.price_unit > 1 for item in items) or case.chance(0.15):
                price = case.pick((["unitPrice", "priceUnit", "netAmount"], ["price_per", "netAmount"]))
            supplier = ["supplierMaterialNumber"] if case.chance(0.2) else []
            keys = [*head, *supplier, "description", *due, *unit, *price]
        case "quantity":
            keys = [*head, "description", *due, *unit]
        case "plain":
            keys = [*head, "description", "unitOfMeasure"]
        case "zero":
            keys = [*head, "description", *unit, "zero_price", "zero_amount"]
        case "text":
            keys = [*head, "description", *unit, "unitPrice", "netAmount"]
        case "import":
            keys = [
                *head,
                "description",
                "tariff",
                *(["origin"] if case.chance(0.7) else []),
                *unit,
                "unitPrice",
                "netAmount",
            ]
        case "agreed":
            keys = [*head, "description", "unitOfMeasure", "unitPrice", "priceUnit"]
        case "target":
            keys = [*head, "description", "target", "unitOfMeasure", "released", "open", "unitPrice"]
        case _:
            keys = [*head, "description", "netAmount"]
    if len(items) == 1 and case.chance(0.15):
        keys = [key for key in keys if key != "itemNumber"]
    if form in ("priced", "quantity"):
        choose_sublines(case, keys, ("supplierMaterialNumber", "deliveryDate"))
    rows = tuple(tuple(_cell(case, key, item) for key in keys) for item in items)
    return Table(
        columns=tuple(_column(case, key) for key in keys), rows=rows
    ), "netAmount" in keys or form == "zero"


def _cell(case: Case, key: str, item: Item) -> tuple[Line, ...]:
    released = item.quantity // 4000 * 1000
    match key:
        case "target":
            return (labelled(case.style.quantity(item.quantity), "lineItem.quantity"),)
        case "released":
            return (labelled(case.style.quantity(released)),)
        case "open":
            return (labelled(case.style.quantity(item.quantity - released)),)
        case _:
            return CELLS[key](case, item)


def _column(case: Case, key: str) -> Column:
    own = orders(case.language)["WORDS"]["columns"]
    if key in own:
        align = (
            "right"
            if key in ("target", "released", "open", "cumulative", "plan_amount", "component_quantity")
            else "left"
        )
        return Column(caption=case.pick(own[key]), align=align, weight=1.0)
    return column(case, key)


def components(case: Case, items: Sequence[Item]) -> tuple[Table, ...]:
    """Material that we provide for the first item; label O."""
    parts = make_items(
        case.rng, language=case.language, industry=case.pick(("metal", "electronics", "chemicals")), count=case.pick((1, 2, 3)),
        day=items[0].delivery,
    )  # fmt: skip
    rows = tuple(
        ((labelled(part.material),), (labelled(part.description),),
         (labelled(f"{case.style.quantity(part.quantity)} {case.units[part.unit]}"),))
        for part in parts
    )  # fmt: skip
    return (_extra_table(case, ("component", "component_text", "component_quantity"), rows),)


def _extra_table(case: Case, keys: Sequence[str], rows: tuple[Row, ...]) -> Table:
    return Table(columns=tuple(_column(case, key) for key in keys), rows=rows)


def _dates(case: Case, items: Sequence[Item], count: int, step: int) -> list[date]:
    return [items[0].delivery + timedelta(days=step * index) for index in range(count)]


def schedule(case: Case, items: Sequence[Item]) -> tuple[Table, ...]:
    """Schedule lines: a date and a quantity each."""
    item = items[0]
    rows = tuple(
        ((labelled(str(index + 1)),), (labelled(case.style.day(day), "lineItem.deliveryDate"),),
         _quantity(case, item.quantity * case.pick((1, 1, 2))), (labelled(case.units[item.unit], "lineItem.unitOfMeasure"),))
        for index, day in enumerate(_dates(case, items, case.pick((2, 3, 4)), case.pick((7, 14, 30))))
    )  # fmt: skip
    return (_extra_table(case, ("schedule_no", "deliveryDate", "quantity", "unitOfMeasure"), rows),)


def forecast(case: Case, items: Sequence[Item]) -> tuple[Table, ...]:
    """Weekly or monthly buckets with cumulative quantities."""
    item, cumulative, rows = items[0], items[0].quantity * case.rng.randint(3, 9), []
    for day in _dates(case, items, case.pick((3, 4, 5, 6)), case.pick((7, 30))):
        quantity = item.quantity * case.pick((1, 1, 2))
        cumulative += quantity
        rows.append(
            ((labelled(case.pick(orders(case.language)["WORDS"]["buckets"])),),
             (labelled(case.style.day(day), "lineItem.deliveryDate"),), _quantity(case, quantity),
             (labelled(case.style.quantity(cumulative)),))
        )  # fmt: skip
    return (_extra_table(case, ("bucket", "deliveryDate", "quantity", "cumulative"), tuple(rows)),)


def calls(case: Case, items: Sequence[Item]) -> tuple[Table, ...]:
    """Just-in-time calls: day, hour, quantity."""
    item, hour, rows = items[0], case.rng.randint(5, 9), []
    for _ in range(case.pick((3, 4, 5))):
        rows.append(
            ((labelled(case.style.day(item.delivery), "lineItem.deliveryDate"),),
             (labelled(f"{hour:02d}:{case.pick(('00', '15', '30', '45'))}"),), _quantity(case, item.quantity),
             (labelled(case.units[item.unit], "lineItem.unitOfMeasure"),))
        )  # fmt: skip
        hour += case.pick((1, 2, 3))
    return (_extra_table(case, ("deliveryDate", "hour", "quantity", "unitOfMeasure"), tuple(rows)),)


def invoicing_plan(case: Case, items: Sequence[Item]) -> tuple[Table, ...]:
    """Billing dates and partial amounts that add up to the order; label O."""
    total, count = sum(item.net for item in items), case.pick((2, 3, 4))
    part = total // count
    rows = []
    for index, day in enumerate(_dates(case, items, count, 30)):
        amount = part if index < count - 1 else total - part * (count - 1)
        rows.append(((labelled(case.style.day(day)),), (labelled(case.style.cell(amount)),)))
    return (_extra_table(case, ("plan_date", "plan_amount"), tuple(rows)),)


def _quantity(case: Case, milli: int) -> tuple[Line, ...]:
    return ((Text(text=case.style.quantity(milli), field="lineItem.quantity"),),)
