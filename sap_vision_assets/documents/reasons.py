"""Why a document is not in the dataset: the one list of reasons, and the error that carries one."""

import re
from enum import StrEnum

from sap_vision_assets.errors import InputError

MAX_DETAIL_CHARS = 300
"""A detail quotes untrusted input; the reject table and the terminal get no more of it than this."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class RejectReason(StrEnum):
    """The value is what the reject table, summaries and reports carry."""

    FILE_NAME = "file_name"
    """The annotation's file name is no document id: not UTF-8, control characters, or over 200 characters."""
    DUPLICATE_ID = "duplicate_id"
    """Two annotation files with different content have one document id; neither can be trusted."""

    ANNOTATION_OUTSIDE_FOLDER = "annotation_outside_folder"
    """A symbolic link that leads out of the split's folder; never opened."""
    ANNOTATION_NOT_A_FILE = "annotation_not_a_file"
    """A folder, a FIFO, a socket or a device; never opened."""
    ANNOTATION_UNREADABLE = "annotation_unreadable"
    ANNOTATION_EMPTY = "annotation_empty"
    ANNOTATION_TOO_LARGE = "annotation_too_large"
    ANNOTATION_NOT_UTF8 = "annotation_not_utf8"
    ANNOTATION_NOT_JSON = "annotation_not_json"
    ANNOTATION_TOO_DEEP = "annotation_too_deep"
    ANNOTATION_DUPLICATE_KEY = "annotation_duplicate_key"
    ANNOTATION_NOT_FINITE = "annotation_not_finite"
    """NaN or an infinity, in a box or elsewhere."""
    ANNOTATION_LONE_SURROGATE = "annotation_lone_surrogate"
    """Half of a UTF-16 pair: text that no encoding can write."""
    ANNOTATION_SCHEMA = "annotation_schema"
    """A key is missing, unknown, or has another type than docs say."""

    UNKNOWN_DOC_TYPE = "unknown_doc_type"
    UNKNOWN_PO_SUBTYPE = "unknown_po_subtype"
    PO_SUBTYPE_NOT_ALLOWED = "po_subtype_not_allowed"
    """Only a PURCHASE_ORDER has a subtype."""
    TOO_MANY_WORDS = "too_many_words"
    LENGTHS_DIFFER = "lengths_differ"
    """words, boxes and token_labels are not of one length."""
    BOX_OUT_OF_RANGE = "box_out_of_range"
    BOX_INVERTED = "box_inverted"
    LABEL_OUT_OF_RANGE = "label_out_of_range"

    IMAGE_PATH_UNSAFE = "image_path_unsafe"
    """image_path is not the plain name of a file in images/; never opened."""
    IMAGE_OUTSIDE_FOLDER = "image_outside_folder"
    IMAGE_NOT_A_FILE = "image_not_a_file"
    IMAGE_MISSING = "image_missing"
    IMAGE_UNREADABLE = "image_unreadable"
    IMAGE_EMPTY = "image_empty"
    IMAGE_FILE_TOO_LARGE = "image_file_too_large"
    IMAGE_FORMAT = "image_format"
    """Neither PNG nor JPEG nor TIFF, whatever the name says."""
    IMAGE_TOO_MANY_PIXELS = "image_too_many_pixels"
    IMAGE_MULTIPLE_PAGES = "image_multiple_pages"
    """An animation or a file of several pages: which one the boxes mean cannot be told."""
    IMAGE_BOMB = "image_bomb"
    """Text chunks, scans or strips that unpack to far more than a page needs."""
    IMAGE_TRUNCATED = "image_truncated"
    IMAGE_DAMAGED = "image_damaged"
    IMAGE_MODE = "image_mode"
    """Pixels without a known way to 8-bit RGB, such as floating point."""
    IMAGE_SIZE_MISMATCH = "image_size_mismatch"
    """The declared width and height are not the file's."""
    IMAGE_ORIENTATION = "image_orientation"
    """EXIF turns the page, and the boxes could be of either frame."""

    UNEXPECTED_ERROR = "unexpected_error"
    """Reading the document raised something that no rule foresees."""
    READER_CRASHED = "reader_crashed"
    """The process that read the document died, twice."""

    IMAGE_WITHOUT_ANNOTATION = "image_without_annotation"
    UNEXPECTED_FILE = "unexpected_file"
    """Something in annotations/ that is no annotation file, such as notes.txt or .DS_Store."""

    @property
    def is_notice(self) -> bool:
        """True where no document was lost: the row is listed, and not counted as a rejected document."""
        return self in (RejectReason.IMAGE_WITHOUT_ANNOTATION, RejectReason.UNEXPECTED_FILE)


class DocumentError(InputError):
    """One document cannot be used; `reason` is enumerated, `detail` names value, place and fix."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        self.reason = reason
        self.detail = printable(detail)
        super().__init__(f"{reason}: {self.detail}")

    def __reduce__(self) -> tuple[type["DocumentError"], tuple[RejectReason, str]]:
        return DocumentError, (self.reason, self.detail)


def printable(text: str) -> str:
    """`text` on one line, without control characters or lone surrogates, at most MAX_DETAIL_CHARS long."""
    if len(text) > MAX_DETAIL_CHARS:
        text = text[: MAX_DETAIL_CHARS - 3] + "..."
    if text.isprintable():
        return text
    escaped = (char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return "".join(escaped)[: 2 * MAX_DETAIL_CHARS]


def described(error: Exception) -> str:
    """Type and text of `error`, without memory addresses: the same input must give the same bytes."""
    return f"{type(error).__name__}: {_ADDRESS.sub('', str(error))}"
