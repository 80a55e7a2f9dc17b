"""Papers of accounts payable and receivable: payment and remittance advices, account statements."""

from datetime import date, timedelta

from sap_vision_assets.documents.synthesis import blocks
from sap_vision_assets.documents.synthesis.assembly import finish, usual_closing
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.content import Column, DocumentContent, KeyValue, Line, Table, Text


def payment(case: Case) -> DocumentContent:
    """Payment advice (going to be paid) and remittance advice (paid): the documents that a payment settles."""
    table, total = _settled_documents(case)
    case.set("paidAmount", case.money(total, "paidAmount"))
    header = blocks.type_header(case)
    if case.chance(0.25):
        account = KeyValue(
            caption=case.pick(case.words["your_account"]) + case.colon, value=case.line("counterpart_account")
        )
        header = (*header, account)
    sums = (blocks.pair(case, "paidAmount"),)
    return finish(
        case, header=header, parties=[blocks.receiver_party(case)], tables=[table], totals=sums,
        closing=usual_closing(case), bank=case.chance(0.5),
    )  # fmt: skip


def _number(case: Case) -> str:
    return str(case.fresh("invoiceNumber"))


def _settled_documents(case: Case) -> tuple[Table, int]:
    """Rows of documents with their amounts, and what is paid for them together, in cents."""
    deductions = case.chance(0.45)
    columns: list[tuple[str, str, float]] = [
        ("lineItem.documentNumber", "left", 1.4),
        ("lineItem.documentDate", "left", 1),
    ]
    if case.chance(0.3):
        columns.append(("kind", "left", 1.2))
    columns.append(("lineItem.grossAmount", "right", 1))
    if deductions:
        columns += [("lineItem.discount", "right", 1), ("net_paid", "right", 1)]
    rows, total = [], 0
    for _ in range(case.pick((1, 2, 3, 3, 4, 5, 6))):
        gross = case.rng.randint(2_000, 2_500_000)
        credit = case.chance(0.12)
        off = (gross * case.pick((0, 2, 3)) + 50) // 100 if deductions and not credit else 0
        gross = -gross if credit else gross
        total += gross - off
        day = case.date - timedelta(days=case.rng.randint(5, 70))
        cells: dict[str, tuple[Line, ...]] = {
            "lineItem.documentNumber": (blocks.labelled(_number(case), "lineItem.documentNumber"),),
            "lineItem.documentDate": (blocks.labelled(case.style.day(day), "lineItem.documentDate"),),
            "kind": (blocks.labelled(case.words["reasons"]["postings"][1 if credit else 0]),),
            "lineItem.grossAmount": (blocks.labelled(case.style.cell(gross), "lineItem.grossAmount"),),
            "lineItem.discount": (blocks.labelled(case.style.cell(off), "lineItem.discount"),),
            "net_paid": (blocks.labelled(case.style.cell(gross - off)),),
        }
        rows.append(tuple(cells[key] for key, _, _ in columns))
    return Table(columns=tuple(_column(case, *spec) for spec in columns), rows=tuple(rows)), total


def _column(case: Case, key: str, align: str, weight: float) -> Column:
    captions = case.words["columns"]
    if key == "lineItem.discount":
        caption = case.pick(captions["cash_discount"])
    else:
        caption = case.pick(captions.get(key) or case.words["captions"][key])
    return Column(caption=caption, align=align, weight=weight)


def statement(case: Case) -> DocumentContent:
    """Opening balance, the postings of a period, closing balance."""
    balance = case.rng.randint(0, 900_000)
    case.set("openingBalance", case.money(balance, "openingBalance"))
    running = case.chance(0.5)
    keys = [("lineItem.documentDate", "left", 1.0), ("lineItem.documentNumber", "left", 1.3), ("kind", "left", 1.5),
            ("lineItem.grossAmount", "right", 1.0)]  # fmt: skip
    if case.chance(0.3):
        keys.insert(3, ("due", "left", 1.0))
    keys += [("running", "right", 1.0)] if running else []
    rows = []
    day = case.date - timedelta(days=30)
    for _ in range(case.pick((2, 3, 3, 4, 5, 6))):
        day += timedelta(days=case.rng.randint(0, 6))
        kind = case.rng.choices(range(4), weights=(6, 1, 1, 2))[0]
        amount = case.rng.randint(5_000, 700_000) * (1 if kind == 0 else -1)
        balance += amount
        rows.append(_posting(case, [key for key, _, _ in keys], day, kind, amount, balance))
    case.set("closingBalance", case.money(balance, "closingBalance"))
    header = blocks.type_header(case, low=5, high=9, extra=[_period(case)] if case.chance(0.6) else [])
    return finish(
        case, header=header, parties=[blocks.receiver_party(case)],
        tables=[Table(columns=tuple(_column(case, *spec) for spec in keys), rows=tuple(rows))],
        totals=(blocks.pair(case, "openingBalance"), blocks.pair(case, "closingBalance")),
        closing=usual_closing(case), bank=case.chance(0.6),
    )  # fmt: skip


def _posting(
    case: Case, keys: list[str], day: date, kind: int, amount: int, balance: int
) -> tuple[tuple[Line, ...], ...]:
    cells: dict[str, tuple[Line, ...]] = {
        "lineItem.documentDate": (blocks.labelled(case.style.day(day), "lineItem.documentDate"),),
        "lineItem.documentNumber": (blocks.labelled(_number(case), "lineItem.documentNumber"),),
        "kind": (blocks.labelled(case.words["reasons"]["postings"][kind]),),
        "due": (blocks.labelled(case.style.day(day + timedelta(days=case.term_days))),),
        "lineItem.grossAmount": (blocks.labelled(case.style.cell(amount), "lineItem.grossAmount"),),
        "running": (blocks.labelled(case.style.cell(balance)),),
    }
    return tuple(cells[key] for key in keys)


def _period(case: Case) -> KeyValue:
    start = case.style.day(case.date - timedelta(days=30))
    value = (
        Text(text=start),
        Text(text=case.pick(("-", case.words["to"]))),
        Text(text=case.style.day(case.date)),
    )
    return KeyValue(caption=case.pick(case.words["period_captions"]) + case.colon, value=value)
