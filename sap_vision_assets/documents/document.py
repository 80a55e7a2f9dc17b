"""A document: one labelled page, checked, as every later station gets it."""

from collections import Counter
from dataclasses import dataclass, field

from sap_vision_assets.documents.annotation import Box
from sap_vision_assets.documents.reasons import RejectReason


@dataclass(frozen=True, kw_only=True)
class Document:
    """One page with its words and labels. words, boxes and labels are of one length, which may be 0."""

    document_id: str
    doc_type: str
    po_subtype: str | None
    """None where the page is no purchase order, or its subtype is not known: never to be scored."""
    words: tuple[str, ...]
    boxes: tuple[Box, ...]
    """Thousandths of the upright page."""
    labels: tuple[int, ...]
    """Label ids of the vocabulary."""
    width: int
    """Pixels of the upright page."""
    height: int
    image_bytes: bytes = field(repr=False)
    """The file as it was found, or a PNG where the page had to be turned or converted to be plain."""
    image_path: str
    """Name of the file in images/."""
    page_sha256: str
    """Hash of size and upright RGB pixels: equal for equal pages under whatever name and format."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A document, and what was repaired or noticed on the way."""

    document: Document
    counters: Counter[str]


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A file that gave no document, and why."""

    document_id: str | None
    """None where the file stands for no document."""
    file: str
    """Path below the split's folder, printable."""
    reason: RejectReason
    detail: str


Outcome = Accepted | Rejection

COUNTERS = (
    "blank_words_dropped",
    "words_cleaned",
    "words_cut",
    "zero_area_boxes",
    "repaired_labels",
    "duplicates_dropped",
    "documents_without_words",
    "unlabelled_po_subtypes",
    "pages_turned",
    "pages_converted",
    "repeated_pages",
    "images_without_annotation",
    "unexpected_files",
)
"""Everything that is counted without rejecting a document; a summary has each, if only as 0."""
