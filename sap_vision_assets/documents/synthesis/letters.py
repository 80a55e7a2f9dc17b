"""Contracts, and pages of no business type: letters, memos, certificates, forms."""

from sap_vision_assets.documents.synthesis import blocks
from sap_vision_assets.documents.synthesis.assembly import finish, items_of
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.content import DocumentContent, Paragraph, Text
from sap_vision_assets.documents.synthesis.order_tables import main_table
from sap_vision_assets.documents.synthesis.phrases import letters
from sap_vision_assets.documents.synthesis.sales import receipt

_RECEIPT_SHARE = 0.25


def contract(case: Case) -> DocumentContent:
    """Parties, articles, term, signatures; at times a price list."""
    words = letters(case.language)["contract"]
    for prefix, company in (("sender", case.sender), ("receiver", case.receiver)):
        case.set(f"{prefix}Address", ", ".join(company.address.lines()))
    roles = words["roles"] if not case.buyer_issues else words["roles"][::-1]
    case.set("sender_role", roles[0])
    case.set("receiver_role", roles[1])
    kept = sorted(case.rng.sample(range(len(words["articles"])), case.rng.randint(3, 6)))
    articles = [words["articles"][index] for index in kept]
    numbered = case.pick(("{n}. {t}", "§ {n} {t}", "Art. {n} {t}", "{t}"))
    paragraphs = [
        Paragraph(heading=numbered.format(n=index + 1, t=heading), text=case.fill(text))
        for index, (heading, text) in enumerate(articles)
    ]
    preamble = case.pick(words["preamble"])
    header = blocks.type_header(case, low=3, high=7)
    tables = []
    if case.chance(0.35):
        tables.append(main_table(case, items_of(case, most=3), case.pick(("agreed", "target")))[0])
    parties = [] if "Address" in preamble and case.chance(0.6) else [blocks.receiver_party(case)]
    return finish(
        case,
        header=header,
        parties=parties,
        introduction=[Paragraph(text=case.fill(preamble))],
        tables=tables,
        closing=paragraphs,
        signatures=0.85,
    )


def other(case: Case) -> DocumentContent:
    """A page that is none of the business documents, though it may well speak of them; or a till receipt."""
    if case.chance(_RECEIPT_SHARE):
        return receipt(case)
    kind = case.pick(letters(case.language)["other"])
    fields = kind["fields"]
    pairs = blocks.header(case, fields[:1], fields[1:], low=2, high=6)
    parties = [blocks.receiver_party(case)] if case.chance(0.7) else []
    texts = [Paragraph(text=case.fill(paragraph)) for paragraph in kind["paragraphs"]]
    subtitle = (Text(text=case.text("internal_code")),) if case.chance(0.1) else ()
    return finish(
        case,
        header=pairs,
        parties=parties,
        introduction=texts[:1],
        closing=texts[1:],
        title=case.pick(kind["titles"]),
        subtitle=subtitle,
        signatures=0.4,
    )
