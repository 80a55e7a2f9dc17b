"""The tables of purchase orders: items in several forms, components, schedule lines, calls, plans."""

from collections.abc import Sequence
from datetime import date, timedelta

from sap_vision_assets.documents.synthesis.blocks import labelled
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.content import Column, Line, Table
from sap_vision_assets.documents.synthesis.goods import Item, make_items
from sap_vision_assets.documents.synthesis.item_tables import (
    CELLS,
    choose_sublines,
    column,
    price_keys,
    quantity_keys,
)
from sap_vision_assets.documents.synthesis.phrases import orders

Row = tuple[tuple[Line, ...], ...]
_FORMS = {
    "priced": (
        "itemNumber materialNumber supplierMaterialNumber? description deliveryDate? QUANTITY PRICE netAmount"
    ),
    "quantity": "itemNumber materialNumber description deliveryDate? QUANTITY",
    "plain": "itemNumber materialNumber description unitOfMeasure",
    "zero": "itemNumber materialNumber description QUANTITY zero_price zero_amount",
    "text": "itemNumber description deliveryDate? QUANTITY PRICE netAmount",
    "import": "itemNumber materialNumber description tariff origin? QUANTITY PRICE netAmount",
    "agreed": "itemNumber materialNumber description unitOfMeasure unitPrice priceUnit",
    "target": "itemNumber materialNumber description target unitOfMeasure released open PRICE",
    "limit": "itemNumber description netAmount",
}
_RIGHT = {"target", "released", "open", "cumulative", "plan_amount", "component_quantity"}


def main_table(case: Case, items: Sequence[Item], form: str) -> tuple[Table, bool]:
    """The item table in one of its forms, and whether it shows line amounts.

    Forms: "priced", "quantity" (no prices), "plain" (neither, a schedule follows), "zero" (prices are 0),
    "text" (no material number), "import" (tariff numbers), "agreed" (prices without quantities), "target"
    (target, released and open quantity), "limit" (one amount).
    """
    keys = _keys(case, items, form)
    if len(items) == 1 and case.chance(0.15):
        keys = [key for key in keys if key != "itemNumber"]
    if form in ("priced", "quantity"):
        choose_sublines(case, keys, ("supplierMaterialNumber", "deliveryDate"))
    rows = tuple(tuple(_cell(case, key, item) for key in keys) for item in items)
    table = Table(columns=tuple(_column(case, key) for key in keys), rows=rows)
    return table, "netAmount" in keys or form == "zero"


def _keys(case: Case, items: Sequence[Item], form: str) -> list[str]:
    """The columns of a form; "?" marks those that chance keeps, capitals stand for a group of columns."""
    keys: list[str] = []
    for key in _FORMS[form].split():
        if key == "QUANTITY":
            keys += quantity_keys(case)
        elif key == "PRICE":
            keys += price_keys(case, items)
        elif not key.endswith("?") or case.chance(0.3):
            keys.append(key.rstrip("?"))
    return keys


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
    if key not in own:
        return column(case, key)
    return Column(caption=case.pick(own[key]), align="right" if key in _RIGHT else "left", weight=1.0)


def _table(case: Case, keys: Sequence[str], rows: Sequence[Sequence[Line]]) -> Table:
    """A table whose cells have one line each."""
    cells: tuple[Row, ...] = tuple(tuple((line,) for line in row) for row in rows)
    return Table(columns=tuple(_column(case, key) for key in keys), rows=cells)


def components(case: Case, items: Sequence[Item]) -> tuple[Table, ...]:
    """Material that we provide for the first item; label O."""
    parts = make_items(
        case.rng,
        language=case.language,
        industry=case.pick(("metal", "electronics", "chemicals")),
        count=case.pick((1, 2, 3)),
        day=items[0].delivery,
    )
    rows = [
        (
            labelled(part.material),
            labelled(part.description),
            labelled(f"{case.style.quantity(part.quantity)} {case.units[part.unit]}"),
        )
        for part in parts
    ]
    return (_table(case, ("component", "component_text", "component_quantity"), rows),)


def _dates(items: Sequence[Item], count: int, step: int) -> list[date]:
    return [items[0].delivery + timedelta(days=step * index) for index in range(count)]


def _day(case: Case, day: date) -> Line:
    return labelled(case.style.day(day), "lineItem.deliveryDate")


def _quantity(case: Case, milli: int) -> Line:
    return labelled(case.style.quantity(milli), "lineItem.quantity")


def _unit(case: Case, items: Sequence[Item]) -> Line:
    return labelled(case.units[items[0].unit], "lineItem.unitOfMeasure")


def schedule(case: Case, items: Sequence[Item]) -> tuple[Table, ...]:
    """Schedule lines of the first item: a date and a quantity each."""
    days = _dates(items, case.pick((2, 3, 4)), case.pick((7, 14, 30)))
    rows = [
        (
            labelled(str(index + 1)),
            _day(case, day),
            _quantity(case, items[0].quantity * case.pick((1, 1, 2))),
            _unit(case, items),
        )
        for index, day in enumerate(days)
    ]
    return (_table(case, ("schedule_no", "deliveryDate", "quantity", "unitOfMeasure"), rows),)


def forecast(case: Case, items: Sequence[Item]) -> tuple[Table, ...]:
    """Weekly or monthly buckets with cumulative quantities, which go on from what was received."""
    firm, planned, week, month = orders(case.language)["WORDS"]["buckets"]
    step, cumulative, rows = case.pick((7, 30)), case.received, []
    by_period = case.chance(0.5)
    for index, day in enumerate(_dates(items, case.pick((3, 4, 5, 6)), step)):
        quantity = items[0].quantity * case.pick((1, 1, 2))
        cumulative += quantity
        bucket = (week if step == 7 else month) if by_period else (firm if index < 2 else planned)
        total = labelled(case.style.quantity(cumulative))
        rows.append((labelled(bucket), _day(case, day), _quantity(case, quantity), total))
    return (_table(case, ("bucket", "deliveryDate", "quantity", "cumulative"), rows),)


def calls(case: Case, items: Sequence[Item]) -> tuple[Table, ...]:
    """Just-in-time calls: day, hour, quantity."""
    hour, rows = case.rng.randint(5, 9), []
    for _ in range(case.pick((3, 4, 5))):
        time = labelled(f"{hour:02d}:{case.pick(('00', '15', '30', '45'))}")
        rows.append(
            (_day(case, items[0].delivery), time, _quantity(case, items[0].quantity), _unit(case, items))
        )
        hour += case.pick((1, 2, 3))
    return (_table(case, ("deliveryDate", "hour", "quantity", "unitOfMeasure"), rows),)


def invoicing_plan(case: Case, items: Sequence[Item]) -> tuple[Table, ...]:
    """Billing dates and partial amounts that add up to the order; label O."""
    total, count = sum(item.net for item in items), case.pick((2, 3, 4))
    amounts = [total // count] * (count - 1) + [total - total // count * (count - 1)]
    days = _dates(items, count, 30)
    rows = [
        (labelled(case.style.day(day)), labelled(case.style.cell(amount)))
        for day, amount in zip(days, amounts, strict=True)
    ]
    return (_table(case, ("plan_date", "plan_amount"), rows),)
