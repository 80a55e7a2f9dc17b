"""Documents that go with the goods and their bill: invoices, memos, confirmations, quotations, deliveries, receipts."""

from collections.abc import Sequence

from sap_vision_assets.documents.synthesis import blocks
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
from sap_vision_assets.documents.synthesis.item_tables import (
    choose_sublines,
    item_table,
    settlement,
    tax_summary,
    totals,
)

ROW_COUNTS = (1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6, 8)


def finish(
    case: Case, *, header: tuple[KeyValue, ...], parties: Sequence[Party], tables: Sequence[Table] = (),
    totals: tuple[KeyValue, ...] = (), closing: Sequence[Paragraph] = (), introduction: Sequence[Paragraph] | None = None,
    title: str | None = None, subtitle: Line = (), subtype: str | None = None, bank: bool | None = None,
    signatures: float = 0.15,
) -> DocumentContent:  # fmt: skip
    """The parts with what every page has: letterhead, footer, stamps, signatures, a barcode at times."""
    stamps = case.words["stamps"]
    stamp = (case.pick(stamps.get(case.doc_type, stamps["default"])),) if case.chance(0.1) else ()
    if not subtitle and subtype is None and case.chance(0.1):
        subtitle = blocks.labelled(case.pick(case.words["subtitles"]))
    people = tuple(case.text(name) for name in ("person", "person2")[: case.pick((1, 1, 2))])
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


def items_of(case: Case, *, discounts: float = 0.0) -> tuple[Item, ...]:
    return make_items(
        case.rng,
        language=case.language,
        industry=case.industry,
        count=case.pick(ROW_COUNTS),
        day=case.day("deliveryDate"),
        details=case.words["details"],
        discounts=case.chance(discounts),
    )


def price_columns(case: Case, items: Sequence[Item]) -> list[str]:
    """The columns of a priced table: number, material, description, quantity, price, amount and some others."""
    keys = ["itemNumber"] if case.chance(0.75) else []
    keys += ["materialNumber"] if case.chance(0.65) else []
    keys += ["supplierMaterialNumber"] if case.chance(0.15) else []
    keys.append("description")
    keys += ["deliveryDate"] if case.chance(0.15) else []
    keys += ["quantity_unit"] if case.chance(0.3) else ["quantity", "unitOfMeasure"]
    if any(item.price_unit > 1 for item in items) or case.chance(0.15):
        keys += case.pick((["price_per"], ["unitPrice", "priceUnit"], ["unitPrice", "priceUnit"]))
    else:
        keys.append("unitPrice")
    keys += ["discount"] if any(item.discount for item in items) else []
    if case.chance(0.2):
        case.set(
            "lineItem.taxRate",
            case.pick((case.text("taxRate"), case.text("taxRate"), "V1", "A1", "VN", "I1")),
        )
        keys.append("taxRate")
    return [*keys, "netAmount"]


def quantity_columns(case: Case) -> list[str]:
    """The columns of a table without prices."""
    keys = ["itemNumber"] if case.chance(0.8) else []
    keys += ["materialNumber"] if case.chance(0.8) else []
    keys += ["supplierMaterialNumber"] if case.chance(0.15) else []
    keys.append("description")
    keys += ["batchNumber"] if case.chance(0.35) else []
    return [*keys, *(["quantity_unit"] if case.chance(0.35) else ["quantity", "unitOfMeasure"])]


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
        address = make_address(
            case.rng, split=case.split, country=address.country_code, foreign=address.country
        )
    name = buyer.name if case.chance(0.7) else f"{buyer.name.split()[0]} {case.pick(case.words['sites'])}"
    return [blocks.ship_to_party(case, blocks.Site(name=name, address=address))]


def invoice(case: Case) -> DocumentContent:
    if case.chance(0.1):
        return receipt(case)
    items = items_of(case, discounts=0.2)
    header = blocks.header(
        case,
        ["documentNumber", "documentDate"],
        ["receiverId", "purchaseOrderNumber", "purchaseOrderDate", "salesOrderNumber", "deliveryNoteNumber",
         "deliveryDate", "referenceNumber", "senderContact", "senderPhone", "taxId", "receiverTaxId", "paymentTerms", "dueDate",
         "paymentMethod", "incoterms", "currencyCode", "contractNumber", "senderId", "costCenter", "paymentReference",
         "shippingMethod", "grossWeight", "internalOrder", "materialDocumentNumber"],
    )  # fmt: skip
    parties = [blocks.receiver_party(case), *ship_to(case, 0.25), *third_party(case)]
    if case.chance(0.12):
        parties.append(blocks.named_party(case, "remit_to", case.sender, "sender"))
    keys = price_columns(case, items)
    choose_sublines(case, keys, ("supplierMaterialNumber", "batchNumber", "tariff", "deliveryDate"))
    tables = [item_table(case, items, keys)]
    if case.chance(0.1):
        tables.append(tax_summary(case, items))
        sums: tuple[KeyValue, ...] = (
            KeyValue(caption=case.caption("grossAmount"), value=case.money(case.gross_cents, "grossAmount")),
        )
    else:
        sums = totals(case, items)
    return finish(
        case, header=header, parties=parties, tables=tables, totals=sums + settlement(case),
        closing=blocks.closing(case, case.words["closing"]["INVOICE"], case.pick((1, 1, 2))), bank=case.chance(0.7),
    )  # fmt: skip


def receipt(case: Case) -> DocumentContent:
    """A till receipt: no addressee, few captions, cash and change."""
    words = case.words["receipt"]
    items = items_of(case)
    header = list(
        blocks.header(case, ["documentDate"], ["documentNumber", "taxId", "senderContact"], low=2, high=4)
    )
    header.append(KeyValue(caption=case.pick(words["cashier"]) + case.colon, value=case.line("user")))
    header.append(
        KeyValue(caption=case.pick(case.words["decoys"]["time"]) + case.colon, value=case.line("time"))
    )
    keys = case.pick((["description", "netAmount"], ["description", "quantity", "unitPrice", "netAmount"],
                      ["materialNumber", "description", "quantity", "netAmount"]))  # fmt: skip
    sums = list(totals(case, items, extras=False))
    if case.chance(0.5):
        sums = sums[-1:]
    given = -(-case.gross_cents // 1000) * 1000
    if case.chance(0.6):
        sums.append(KeyValue(caption=case.pick(words["cash"]) + case.colon, value=case.money(given, None)))
        change = case.money(given - case.gross_cents, None)
        sums.append(KeyValue(caption=case.pick(words["change"]) + case.colon, value=change))
    return finish(
        case, header=tuple(header), parties=[], tables=[item_table(case, items, keys)], totals=tuple(sums),
        introduction=[], closing=[blocks.sentence(case, case.pick(words["thanks"]))], title=case.pick(words["titles"]),
        bank=False, signatures=0.0,
    )  # fmt: skip


def sales_order(case: Case) -> DocumentContent:
    items = items_of(case, discounts=0.2)
    header = blocks.header(
        case,
        ["documentNumber", "documentDate"],
        ["purchaseOrderNumber", "purchaseOrderDate", "receiverId", "deliveryDate", "senderContact", "referenceNumber",
         "quotationNumber", "paymentTerms", "incoterms", "shippingMethod", "shippingDate", "currencyCode", "contractNumber",
         "receiverTaxId", "grossWeight", "netWeight", "carrierName", "plant"],
    )  # fmt: skip
    keys = price_columns(case, items)
    choose_sublines(case, keys, ("supplierMaterialNumber", "deliveryDate"))
    return finish(
        case, header=header, parties=[blocks.receiver_party(case), *ship_to(case, 0.4), *third_party(case)],
        tables=[item_table(case, items, keys)],
        totals=totals(case, items, tax=case.chance(0.75)) + settlement(case),
        closing=blocks.closing(case, case.words["closing"]["SALES_ORDER"], case.pick((1, 2))),
    )  # fmt: skip


def quotation(case: Case) -> DocumentContent:
    items = items_of(case, discounts=0.3)
    header = blocks.header(
        case,
        ["documentNumber", "documentDate"],
        ["validTo", "rfqNumber", "receiverId", "senderContact", "referenceNumber", "paymentTerms", "incoterms",
         "deliveryDate", "validFrom", "currencyCode", "senderPhone", "taxId", "shippingMethod", "submissionDeadline"],
    )  # fmt: skip
    return finish(
        case, header=header, parties=[blocks.receiver_party(case)],
        tables=[item_table(case, items, price_columns(case, items))],
        totals=totals(case, items, tax=case.chance(0.55)),
        closing=blocks.closing(case, case.words["closing"]["QUOTATION"], case.pick((1, 2))), signatures=0.3,
    )  # fmt: skip


def memo(case: Case) -> DocumentContent:
    """Credit and debit memos: an amount about an earlier invoice, with its reason."""
    credit = case.doc_type == "CREDIT_MEMO"
    items = items_of(case)[:3]
    header = blocks.header(
        case,
        ["documentNumber", "documentDate", "invoiceNumber"],
        ["receiverId", "purchaseOrderNumber", "deliveryNoteNumber", "salesOrderNumber", "referenceNumber", "senderContact",
         "taxId", "receiverTaxId", "currencyCode", "paymentTerms", "dueDate", "deliveryDate", "contractNumber",
         "materialDocumentNumber"],
        extra=[_reason(case, "credit" if credit else "debit")] if case.chance(0.6) else [],
    )  # fmt: skip
    sign = -1 if credit and case.chance(0.3) else 1
    return finish(
        case, header=header, parties=[blocks.receiver_party(case)],
        tables=[item_table(case, items, price_columns(case, items))],
        totals=totals(case, items, sign=sign, extras=False),
        closing=blocks.closing(case, case.words["closing"][case.doc_type], case.pick((1, 2))), bank=case.chance(0.4),
    )  # fmt: skip


def _reason(case: Case, kind: str) -> KeyValue:
    value = blocks.labelled(case.pick(case.words["reasons"][kind]))
    return KeyValue(caption=case.pick(case.words["reason_captions"]) + case.colon, value=value)


def delivery_note(case: Case) -> DocumentContent:
    items = items_of(case)
    _weigh(case, items)
    header = blocks.header(
        case,
        ["documentNumber", "documentDate"],
        ["purchaseOrderNumber", "purchaseOrderDate", "salesOrderNumber", "receiverId", "deliveryDate", "shippingDate",
         "shippingMethod", "carrierName", "trackingNumber", "incoterms", "grossWeight", "netWeight", "numberOfPackages",
         "volume", "plant", "storageLocation", "shipmentNumber", "referenceNumber", "senderContact", "senderId", "contractNumber"],
    )  # fmt: skip
    keys = quantity_columns(case) + (["weight"] if case.chance(0.15) else [])
    choose_sublines(case, keys, ("supplierMaterialNumber", "batchNumber", "tariff"))
    return finish(
        case, header=header, parties=[blocks.receiver_party(case), *ship_to(case, 0.5), *third_party(case)],
        tables=[item_table(case, items, keys)],
        closing=blocks.closing(case, case.words["closing"]["DELIVERY_NOTE"], case.pick((1, 2))), signatures=0.3,
    )  # fmt: skip


def goods_receipt(case: Case) -> DocumentContent:
    items = items_of(case)
    header = blocks.header(
        case,
        [case.pick(("documentNumber", "documentNumber", "materialDocumentNumber")), case.pick(("documentDate", "postingDate"))],
        ["materialDocumentNumber", "postingDate", "purchaseOrderNumber", "deliveryNoteNumber", "receiverId", "plant",
         "storageLocation", "deliveryDate", "senderContact", "billOfLadingNumber", "carrierName", "numberOfPackages",
         "grossWeight", "companyCode", "purchasingGroup", "costCenter", "wbsElement", "internalOrder", "assetNumber", "glAccount",
         "requisitionNumber", "purchasingOrganization"],
    )  # fmt: skip
    keys = (
        quantity_columns(case)
        + (["ordered"] if case.chance(0.3) else [])
        + (["bin"] if case.chance(0.25) else [])
    )
    return finish(
        case, header=_without_repeats(header), parties=[blocks.receiver_party(case)] if case.chance(0.85) else [],
        tables=[item_table(case, items, keys)],
        closing=blocks.closing(case, case.words["closing"]["GOODS_RECEIPT"], case.pick((1, 2))), signatures=0.4,
    )  # fmt: skip


def _without_repeats(pairs: tuple[KeyValue, ...]) -> tuple[KeyValue, ...]:
    seen: dict[Line, KeyValue] = {}
    for keyvalue in pairs:
        seen.setdefault(keyvalue.value, keyvalue)
    return tuple(seen.values())


def asn(case: Case) -> DocumentContent:
    items = items_of(case)
    _weigh(case, items)
    header = blocks.header(
        case,
        ["documentNumber", "documentDate", "deliveryDate"],
        ["shippingDate", "purchaseOrderNumber", "deliveryNoteNumber", "shipmentNumber", "trackingNumber",
         "billOfLadingNumber", "carrierName", "shippingMethod", "numberOfPackages", "grossWeight", "netWeight", "volume",
         "incoterms", "plant", "receiverId", "senderId", "storageLocation", "referenceNumber", "senderContact", "salesOrderNumber"],
        low=8, high=13,
    )  # fmt: skip
    keys = (
        quantity_columns(case)
        + (["weight"] if case.chance(0.25) else [])
        + (["hu"] if case.chance(0.3) else [])
    )
    return finish(
        case, header=header, parties=[blocks.receiver_party(case), *ship_to(case, 0.5), *third_party(case)],
        tables=[item_table(case, items, keys)],
        closing=blocks.closing(case, case.words["closing"]["ASN"], case.pick((1, 2))),
    )  # fmt: skip


def _weigh(case: Case, items: Sequence[Item]) -> None:
    case.set("grams", str(max(100, sum(item.grams for item in items) // 100 * 100)))


def rfq(case: Case) -> DocumentContent:
    items = items_of(case)
    keys = [key for key in quantity_columns(case) if key != "batchNumber"]
    header = blocks.header(
        case,
        ["documentNumber", "documentDate", "submissionDeadline"],
        ["receiverId", "senderContact", "senderPhone", "deliveryDate", "requisitionNumber", "referenceNumber", "plant",
         "purchasingOrganization", "purchasingGroup", "incoterms", "paymentTerms", "validity", "companyCode"],
    )  # fmt: skip
    return finish(
        case, header=header, parties=[blocks.receiver_party(case), *ship_to(case, 0.3)],
        tables=[item_table(case, items, keys + (["deliveryDate"] if case.chance(0.4) else []))],
        closing=blocks.closing(case, case.words["closing"]["RFQ"], case.pick((1, 2))), signatures=0.3,
    )  # fmt: skip
