"""make_content: the one door to what synthetic documents say."""

import random
from collections.abc import Callable

from sap_vision_assets.documents.synthesis import accounts, letters, logistics, sales
from sap_vision_assets.documents.synthesis.case import Case
from sap_vision_assets.documents.synthesis.content import DocumentContent
from sap_vision_assets.documents.synthesis.orders import purchase_order
from sap_vision_assets.documents.synthesis.phrases import LANGUAGES
from sap_vision_assets.documents.synthesis.subtypes import SPECS
from sap_vision_assets.errors import InputError

SPLITS = ("train", "val", "test")
PURCHASE_ORDER_SHARE = 0.55
"""These pages alone have to tell 35 subtypes apart: with 0.4 of 3,000 documents, a quarter of the subtypes of
new vendors was mistaken."""
_LANGUAGE_WEIGHTS = {"en": 40, "de": 27, "fr": 13, "es": 12}

_WRITERS: dict[str, Callable[[Case], DocumentContent]] = {
    "INVOICE": sales.invoice,
    "SALES_ORDER": sales.sales_order,
    "GOODS_RECEIPT": logistics.goods_receipt,
    "DELIVERY_NOTE": logistics.delivery_note,
    "CREDIT_MEMO": sales.memo,
    "DEBIT_MEMO": sales.memo,
    "PAYMENT_ADVICE": accounts.payment,
    "REMITTANCE_ADVICE": accounts.payment,
    "STATEMENT": accounts.statement,
    "CONTRACT": letters.contract,
    "QUOTATION": sales.quotation,
    "RFQ": logistics.rfq,
    "ASN": logistics.asn,
    "OTHER": letters.other,
}


def make_content(
    rng: random.Random, *, split: str, doc_type: str | None = None, po_subtype: str | None = None
) -> DocumentContent:
    """One document's words and labels, drawn from `rng` alone: the same state gives the same document.

    Without `doc_type` PURCHASE_ORDER_SHARE of them are purchase orders and the other 14 types equally likely;
    without `po_subtype` an order's subtype is any of the 35. Companies and streets of one `split` never occur
    in another. Raises InputError for an unknown split, type or subtype, or a subtype of another type.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; use one of {', '.join(SPLITS)}")
    if doc_type is None and po_subtype is None:
        is_order = rng.random() < PURCHASE_ORDER_SHARE
        doc_type = "PURCHASE_ORDER" if is_order else rng.choice(tuple(_WRITERS))
    doc_type = doc_type or "PURCHASE_ORDER"
    if doc_type != "PURCHASE_ORDER" and (doc_type not in _WRITERS or po_subtype is not None):
        raise InputError(
            f"no document of type {doc_type!r} and subtype {po_subtype!r}; see `sap-vision labels`"
        )
    language = rng.choices(LANGUAGES, weights=[_LANGUAGE_WEIGHTS[code] for code in LANGUAGES])[0]
    if doc_type != "PURCHASE_ORDER":
        return _WRITERS[doc_type](Case(rng, split=split, doc_type=doc_type, language=language))
    subtype = po_subtype or rng.choice(tuple(SPECS))
    if subtype not in SPECS:
        raise InputError(f"no purchase order subtype {subtype!r}; see `sap-vision labels`")
    return purchase_order(rng, split=split, language=language, subtype=subtype)
