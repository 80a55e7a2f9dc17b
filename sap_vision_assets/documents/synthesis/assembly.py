"""What every writer needs: the goods of the case, their destination, and the page put together."""

from collections.abc import Sequence

from sap_vision_assets.documents.synthesis import blocks
from sap_vision_assets.documents.synthesis.blocks import Site, labelled
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

ROW_COUNTS = (1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6, 8)


def finish(
    case: Case,
    *,
    header: tuple[KeyValue, ...],
    parties: Sequence[Party],
    tables: Sequence[Table] = (),
    totals: tuple[KeyValue, ...] = (),
    closing: Sequence[Paragraph] = (),
    introduction: Sequence[Paragraph] | None = None,
    title: str | None = None,
    subtitle: Line = (),
    subtype: str | None = None,
    bank: bool | None = None,
    signatures: float = 0.15,
) -> DocumentContent:
    """The parts with what every page has: letterhead, footer, stamps, signatures, a barcode at times.

    `introduction` and `title` None stand for the document type's usual ones; `bank` None leaves the bank
    details in the footer to chance; `signatures` is the probability of any.
    """
    stamps = case.words["stamps"]
    stamp = (case.pick(stamps.get(case.kind, stamps["default"])),) if case.chance(0.1) else ()
    people = tuple(case.text(name) for name in ("person", "person2")[: case.pick((1, 1, 2))])
    if not subtitle and subtype is None and case.chance(0.1):
        subtitle = labelled(case.pick(case.words["subtitles"]))
    return DocumentContent(
        doc_type=case.doc_type,
        po_subtype=subtype,
        language=case.language,
        title=blocks.title(case) if title is None else title,
        subtitle=subtitle,
        sender=blocks.letterhead(case),
        parties=tuple(parties),
        header=header,
        introduction=blocks.introduction(case) if introduction is None else tuple(introduction),
        tables=tuple(tables),
        totals=totals,
        closing=tuple(closing),
        footer=blocks.footer(case, bank=bank),
        stamps=stamp,
        signatories=people if case.chance(signatures) else (),
        barcode=_barcode(case),
    )


def _barcode(case: Case) -> Text | None:
    if not case.chance(0.08):
        return None
    return Text(text=case.text("documentNumber").replace(" ", ""), field="documentNumber")


def items_of(case: Case, *, most: int = 8, discounts: float = 0.0) -> tuple[Item, ...]:
    """At most `most` lines of the case's industry; `discounts` is the probability that lines have any."""
    return make_items(
        case.rng,
        language=case.language,
        industry=case.industry,
        count=min(most, case.pick(ROW_COUNTS)),
        day=case.day("deliveryDate"),
        details=case.words["details"],
        discounts=case.chance(discounts),
    )


def usual_closing(case: Case) -> tuple[Paragraph, ...]:
    """One or two of the document type's standard sentences."""
    return blocks.closing(case, case.words["closing"][case.doc_type], case.pick((1, 1, 2)))


def third_party(case: Case) -> list[Party]:
    """Now and then a company that is neither issuer nor addressee; label O."""
    if not case.chance(0.06):
        return []
    country = case.sender.address.country_code
    agent = make_company(case.rng, split=case.split, country=country, industry="services")
    return [blocks.named_party(case, "agent", agent, None)]


def ship_to(case: Case, chance: float) -> list[Party]:
    """The goods' destination: the buyer's own address or another site of the buyer."""
    if not case.chance(chance):
        return []
    buyer = case.buyer
    address = buyer.address
    if case.chance(0.6):
        country = address.country_code
        address = make_address(case.rng, split=case.split, country=country, foreign=address.country)
    name = buyer.name if case.chance(0.7) else f"{buyer.stem} {case.pick(case.words['sites'])}"
    return [blocks.ship_to_party(case, Site(name=name, address=address))]
