"""The parts that business documents share: header, party blocks, sentences, footer.

Label rules (the same situation always gets the same label):
- A party block is labelled by whom it names: the issuer sender*, the counterparty receiver*, a third
  company nothing. One exception: a block captioned as the goods' destination is shipTo*, whoever is there.
- receiverId is the number under which the sender keeps the receiver (a customer number on an invoice, a
  vendor number on a purchase order), senderId the number under which the receiver keeps the sender.
- Purchase orders, RFQs, goods receipts and payment papers are issued by the buyer: the buyer is sender*.
- senderBank* is the issuer's bank wherever it stands; the counterparty's account on a payment paper is O.
- A plant or company code is labelled without the town that may follow it.
- Weights and volumes include their unit, a number of packages does not; the unit of measure of a price unit
  is O.
- Departments, fax, web, register, GLN, captions and column headings are O.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.companies import Address, Company
from sap_vision_assets.documents.synthesis.content import KeyValue, Line, Paragraph, Party, Text


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where goods go: a name and an address."""

    name: str
    address: Address


def labelled(text: str, field: str | None = None, *, continues: bool = False) -> Line:
    return (Text(text=text, field=field, continues=continues),)


def party_lines(
    case: Case, company: Company | Site, prefix: str | None, *, contact: str = "", department: bool = False
) -> tuple[Line, ...]:
    """Name, department, contact, address, one a line; `prefix` is "sender", "receiver", "shipTo" or None."""
    name_field, address_field = (f"{prefix}Name", f"{prefix}Address") if prefix else (None, None)
    lines: list[Line] = [labelled(company.name, name_field)]
    if department:
        lines.append(labelled(case.text("department")))
    if contact:
        attention = Text(text=case.pick(case.words["attention"]))
        lines.append(
            (attention, Text(text=contact, field="receiverContact" if prefix == "receiver" else None))
        )
    for index, line in enumerate(company.address.lines()):
        lines.append(labelled(line, address_field, continues=index > 0 and address_field is not None))
    return tuple(lines)


def letterhead(case: Case) -> Party:
    """The issuer's block; telephone, e-mail and tax number stand in it or in the footer."""
    lines = list(party_lines(case, case.sender, "sender"))
    if case.chance(0.25):
        address = case.sender.address
        joined = case.pick((", ", " · ", " | ")).join(address.lines())
        lines = [labelled(case.sender.name, "senderName"), labelled(joined, "senderAddress")]
    captions = case.words["captions"]
    if case.chance(0.1):
        lines.append(case.line("slogan"))
    if case.chance(0.5):
        lines.append((Text(text=case.pick(captions["senderPhone"]) + case.colon), *case.line("senderPhone")))
        if case.chance(0.35):
            lines.append((Text(text=case.pick(case.words["decoys"]["fax"]) + case.colon), *case.line("fax")))
    if case.chance(0.4):
        lines.append(case.line("senderEmail"))
    if case.chance(0.2):
        lines.append(case.line("web"))
    if case.chance(0.2):
        lines.append((Text(text=case.caption("taxId")), *case.line("taxId")))
    return Party(role="sender", caption="", lines=tuple(lines))


def receiver_party(case: Case) -> Party:
    """The addressee's block."""
    key = "supplier" if case.buyer_issues else "receiver"
    contact = case.text("receiverContact") if case.chance(0.25) else ""
    lines = party_lines(case, case.receiver, "receiver", contact=contact, department=case.chance(0.12))
    return Party(
        role="receiver", caption=_with_colon(case, case.pick(case.words["parties"][key])), lines=lines
    )


def ship_to_party(case: Case, site: Company | Site) -> Party:
    caption = _with_colon(case, case.pick(case.words["parties"]["ship_to"]))
    return Party(role="ship_to", caption=caption, lines=party_lines(case, site, "shipTo"))


def named_party(case: Case, key: str, company: Company | Site, prefix: str | None) -> Party:
    """A further block such as "Invoice to" or "Agent"; `prefix` None makes it a decoy."""
    caption = _with_colon(case, case.pick(case.words["parties"][key]))
    role = {"sender": "sender", "receiver": "receiver"}.get(prefix or "", "other")
    return Party(role=role, caption=caption, lines=party_lines(case, company, prefix))


def _with_colon(case: Case, caption: str) -> str:
    return caption + case.colon if caption else ""


def pair(case: Case, field: str, variant: str = "") -> KeyValue:
    """A caption of `field` and its value; "a+b" prints two fields under one caption."""
    if "+" in field:
        first, second = field.split("+")
        both: Line = (*case.line(first), Text(text=case.pick(("/", "/", "-"))), *case.line(second))
        return KeyValue(caption=case.pick(case.words["combined"][field]) + case.colon, value=both)
    if field == "incoterms" and case.chance(0.75):
        value: Line = (*case.line("incoterms"), *case.line("incotermsLocation"))
        return KeyValue(caption=case.caption(field), value=value)
    if field == "validity":
        dash = Text(text=case.pick(("-", "-", case.words["to"])))
        value = (*case.line("validFrom"), dash, *case.line("validTo"))
        return KeyValue(caption=case.caption(field), value=value)
    return KeyValue(caption=case.caption(field, variant), value=case.line(field))


@cache
def header_fields() -> dict[str, dict[str, list[str]]]:
    """headers.json: by document type, the captioned fields that are always there and those that may be."""
    text = resources.files(__package__).joinpath("headers.json").read_text(encoding="utf-8")
    data: dict[str, dict[str, list[str]]] = json.loads(text)
    return data


def header(
    case: Case,
    required: Sequence[str],
    optional: Sequence[str],
    *,
    low: int = 6,
    high: int = 11,
    extra: Sequence[KeyValue] = (),
) -> tuple[KeyValue, ...]:
    """Between `low` and `high` captioned values, and up to two decoys.

    All of `required` and `extra`, and some of `optional` in their order.
    """
    room = max(0, case.rng.randint(low, high) - len(required) - len(extra))
    kept = sorted(case.rng.sample(range(len(optional)), min(room, len(optional))))
    fields = [*required, *(optional[i] for i in kept)]
    for both in case.words["combined"]:
        first, second = both.split("+")
        if first in fields and second in fields and case.chance(0.25):
            fields[fields.index(first)] = both
            fields.remove(second)
    pairs = [pair(case, field) for field in fields]
    place = min(len(required), len(pairs))
    pairs[place:place] = extra
    for name in case.rng.sample(list(case.words["decoys"]), case.pick((0, 0, 1, 1, 2))):
        caption = case.pick(case.words["decoys"][name]) + case.colon
        pairs.insert(case.rng.randint(1, len(pairs)), KeyValue(caption=caption, value=case.line(name)))
    return tuple(pairs)


def type_header(
    case: Case, kind: str = "", *, low: int = 6, high: int = 11, extra: Sequence[KeyValue] = ()
) -> tuple[KeyValue, ...]:
    """header() with the fields that headers.json has for the document type, or for `kind`."""
    fields = header_fields()[kind or case.doc_type]
    return header(case, fields["required"], fields["optional"], low=low, high=high, extra=extra)


def sentence(case: Case, template: str) -> Paragraph:
    return Paragraph(text=case.fill(template))


def closing(case: Case, templates: Sequence[str], count: int) -> tuple[Paragraph, ...]:
    """`count` of the sentences, and now and then one that has nothing to do with the matter."""
    chosen = case.rng.sample(list(templates), min(count, len(templates)))
    if case.chance(0.15):
        chosen.append(case.pick(case.words["general"]))
    return tuple(sentence(case, template) for template in chosen)


_TOLD_BY_SENTENCE = frozenset({"PAYMENT_ADVICE", "REMITTANCE_ADVICE"})
"""Types whose title alone is ambiguous: only a sentence says whether the payment was made or will be."""


def introduction(case: Case) -> tuple[Paragraph, ...]:
    templates = case.words["introduction"][case.doc_type]
    wanted = not case.titled or case.doc_type in _TOLD_BY_SENTENCE or case.chance(0.55)
    return (sentence(case, case.pick(templates)),) if wanted else ()


def footer(case: Case, *, bank: bool | None = None) -> tuple[tuple[Line, ...], ...]:
    """Columns of small print; `bank` None lets chance decide whether the bank is there."""
    columns: list[tuple[Line, ...]] = []
    if case.chance(0.5):
        columns.append(party_lines(case, case.sender, "sender"))
    if case.chance(0.4):
        contact: list[Line] = [
            (Text(text=case.caption("senderPhone")), *case.line("senderPhone")),
            (Text(text=case.pick(case.words["decoys"]["fax"]) + case.colon), *case.line("fax")),
            (Text(text=case.caption("senderEmail")), *case.line("senderEmail")),
        ]
        columns.append(tuple(contact[: case.rng.randint(1, 3)]))
    if case.chance(0.4) if bank is None else bank:
        columns.append(bank_lines(case))
    if case.chance(0.45):
        words = case.words["footer"]
        legal = [case.fill(case.pick(words["register"])), case.fill(case.pick(words["managers"]))]
        if case.chance(0.6):
            legal.append((Text(text=case.caption("taxId")), *case.line("taxId")))
        columns.append(tuple(legal))
    return tuple(columns)


def bank_lines(case: Case) -> tuple[Line, ...]:
    """The issuer's bank, with or without captions."""
    lines: list[Line] = []
    for field in ("senderBankName", "senderBankAccount", "senderBankCode"):
        caption = case.caption(field) if field != "senderBankName" or case.chance(0.3) else ""
        lines.append((*((Text(text=caption),) if caption else ()), *case.line(field)))
    return tuple(lines)


def title(case: Case) -> str:
    return str(case.pick(case.words["titles"][case.doc_type])) if case.titled else ""
