"""A hand-made invoice of any length, for layout tests that need no writer."""

import random

from sap_vision_assets.documents.synthesis.content import (
    Column,
    DocumentContent,
    KeyValue,
    Line,
    Paragraph,
    Party,
    Table,
    Text,
)


def line(*parts: tuple[str, str | None] | str) -> Line:
    return tuple(
        Text(text=part) if isinstance(part, str) else Text(text=part[0], field=part[1]) for part in parts
    )


def cell(text: str, field: str | None) -> tuple[Line, ...]:
    return (line((text, field)),)


def make_sample_content(rng: random.Random, *, num_rows: int = 6, language: str = "de") -> DocumentContent:
    """An invoice with `num_rows` items; two columns of small print, a stamp, a signature and a barcode."""
    sender = Party(
        role="sender",
        caption="",
        lines=(
            line(("Müller & Söhne Großhandel GmbH", "senderName")),
            line(("Industriestraße 14", "senderAddress")),
            (Text(text="70565 Stuttgart", field="senderAddress", continues=True),),
            line("Tel. ", "0711 / 445 12-0"),
        ),
    )
    receiver = Party(
        role="receiver",
        caption="Rechnungsempfänger:",
        lines=(
            line(("Açores Façade España S.A.", "receiverName")),
            line(("Rua das Flores 200, 3º andar", "receiverAddress")),
            (Text(text="1200-195 Lisboa", field="receiverAddress", continues=True),),
        ),
    )
    other = Party(role="other", caption="Lieferanschrift", lines=(line("Lager Nord, Tor 3"),))
    header = tuple(
        KeyValue(caption=caption, value=line(value))
        for caption, value in (
            ("Rechnungsnummer", (f"RE-{rng.randrange(10**6):06d}", "documentNumber")),
            ("Datum:", ("14.03.2024", "documentDate")),
            ("Ihre Bestellung", ("4500017283", "purchaseOrderNumber")),
            ("Kundennummer", "K-20017"),
            ("Zahlungsziel", ("30 Tage netto", "paymentTerms")),
        )
    )
    names = (
        "Sechskantschraube M8 x 40 verzinkt",
        "Kugellager 6204-2RS",
        "Dichtungssatz für Pumpe Typ ÜX-9, vollständig",
    )
    rows = tuple(
        (
            cell(str(10 * (number + 1)), None),
            (line((f"{rng.randrange(10**7):07d}", "lineItem.materialNumber")),),
            (line((rng.choice(names), "lineItem.description")), line("Zolltarif 8481.80")),
            cell(str(rng.randint(1, 900)), "lineItem.quantity"),
            cell("12,50", "lineItem.unitPrice"),
            cell("1.234,00", "lineItem.netAmount"),
        )
        for number in range(num_rows)
    )
    table = Table(
        columns=(
            Column(caption="Pos.", align="right", weight=0.5),
            Column(caption="Material", align="left", weight=1),
            Column(caption="Bezeichnung", align="left", weight=3),
            Column(caption="Menge", align="right", weight=0.8),
            Column(caption="Einzelpreis EUR", align="right", weight=1),
            Column(caption="Betrag", align="right", weight=1),
        ),
        rows=rows,
    )
    totals = (
        KeyValue(caption="Nettobetrag", value=line(("10.000,00", "netAmount"), ("€", "currencyCode"))),
        KeyValue(caption="zzgl. 19 % USt.", value=line(("1.900,00", "taxAmount"))),
        KeyValue(caption="Gesamtbetrag", value=line(("11.900,00", "grossAmount"))),
    )
    return DocumentContent(
        doc_type="INVOICE",
        po_subtype=None,
        language=language,
        title="Rechnung",
        subtitle=(),
        sender=sender,
        parties=(receiver, other),
        header=header,
        introduction=(Paragraph(text=line("Für unsere Lieferung erlauben wir uns zu berechnen:")),),
        tables=(table,),
        totals=totals,
        closing=(
            Paragraph(
                heading="Zahlung",
                text=line("Bitte überweisen Sie den Betrag ohne Abzug auf unser Konto. " * 3),
            ),
        ),
        footer=(
            (line("Müller & Söhne GmbH"), line("HRB 12345 Stuttgart")),
            (line("IBAN"), line(("DE89 3704 0044 0532 0130 00", "senderBankAccount"))),
            (line("USt-IdNr."), line(("DE123456789", "taxId"))),
        ),
        stamps=("EINGEGANGEN 18. MÄRZ 2024",),
        signatories=("Dr. Jürgen Weiß",),
        barcode=Text(text="RE000123", field="documentNumber"),
    )
