"""An annotation file's bytes become an `Annotation`, or a DocumentError that says why not.

The file is untrusted: its size was bounded when it was read, its nesting is bounded before Python's own
parser sees it, and nothing in it is believed before it was checked against the vocabulary.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from sap_vision_assets.documents.config import DatasetConfig
from sap_vision_assets.documents.reasons import DocumentError, RejectReason
from sap_vision_assets.vocabulary import Vocabulary
from sap_vision_assets.vocabulary.strict_json import JsonFault, StrictJsonError, parse_json

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in thousandths of the page's width and height, origin top left."""

SUBTYPED = "PURCHASE_ORDER"
"""The one document type that has a subtype."""
BOX_MAX = 1000
_REASON_OF = {
    JsonFault.NOT_UTF8: RejectReason.ANNOTATION_NOT_UTF8,
    JsonFault.NOT_JSON: RejectReason.ANNOTATION_NOT_JSON,
    JsonFault.TOO_DEEP: RejectReason.ANNOTATION_TOO_DEEP,
    JsonFault.DUPLICATE_KEY: RejectReason.ANNOTATION_DUPLICATE_KEY,
    JsonFault.NOT_FINITE: RejectReason.ANNOTATION_NOT_FINITE,
}


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What a person or a converter said of one page; every value is checked against the vocabulary."""

    image_path: str
    doc_type: str
    po_subtype: str | None
    words: tuple[str, ...]
    """Without blank words and control characters."""
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]
    """Label id of each word; every I- follows its B- or another I- of the same field."""
    width: int
    """Pixels of the page, in the frame that `boxes` are in."""
    height: int


class _AnnotationFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    image_path: str
    doc_type: str
    po_subtype: str | None = None
    words: Annotated[list[str], FailFast()]
    boxes: Annotated[list[Annotated[list[int], Len(4, 4), FailFast()]], FailFast()]
    token_labels: Annotated[list[int], FailFast()]
    width: int = Field(ge=1)
    height: int = Field(ge=1)


def parse_annotation(
    content: bytes, *, vocabulary: Vocabulary, config: DatasetConfig, labelled: bool = True
) -> tuple[Annotation, Counter[str]]:
    """The annotation in `content`, and how many words each of the stated repairs touched.

    Where it is not `labelled`, as a page to predict, its labels may be missing and are not looked at: the
    words come with label 0 and the vocabulary's first document type. Raises DocumentError.
    """
    raw = _parse_json(content)
    parsed = _check_schema(raw if labelled else _with_blank_labels(raw, vocabulary), config)
    _check_classes(parsed, vocabulary)
    _check_words(parsed, num_labels=len(vocabulary.labels))
    counters: Counter[str] = Counter()
    words, boxes, labels = [], [], []
    for word, box, label in zip(parsed.words, parsed.boxes, parsed.token_labels, strict=True):
        cleaned = _clean_word(word, config.max_word_chars, counters)
        if not cleaned:
            counters["blank_words_dropped"] += 1
            continue
        words.append(cleaned)
        boxes.append((box[0], box[1], box[2], box[3]))
        labels.append(label)
    counters["zero_area_boxes"] = sum(x1 == x2 or y1 == y2 for x1, y1, x2, y2 in boxes)
    counters["repaired_labels"] = _repair_labels(labels)
    annotation = Annotation(
        image_path=parsed.image_path,
        doc_type=parsed.doc_type,
        po_subtype=parsed.po_subtype,
        words=tuple(words),
        boxes=tuple(boxes),
        labels=tuple(labels),
        width=parsed.width,
        height=parsed.height,
    )
    return annotation, counters


def _with_blank_labels(raw: Any, vocabulary: Vocabulary) -> Any:
    if not isinstance(raw, dict):
        return raw
    words = raw.get("words")
    num_words = len(words) if isinstance(words, list) else 0
    return raw | {
        "doc_type": vocabulary.doc_type_names[0],
        "po_subtype": None,
        "token_labels": [0] * num_words,
    }


def _parse_json(content: bytes) -> Any:
    try:
        return parse_json(content)
    except StrictJsonError as error:
        raise DocumentError(_REASON_OF[error.fault], str(error)) from error


def _check_schema(raw: Any, config: DatasetConfig) -> _AnnotationFile:
    if not isinstance(raw, dict):
        raise DocumentError(
            RejectReason.ANNOTATION_SCHEMA,
            f"is a JSON {type(raw).__name__}, not an object with the keys of a page",
        )
    words = raw.get("words")
    if isinstance(words, list) and len(words) > config.max_words:
        raise DocumentError(
            RejectReason.TOO_MANY_WORDS, f"{len(words)} words, more than max_words={config.max_words}"
        )
    unknown = sorted(raw.keys() - _AnnotationFile.model_fields.keys())
    _check_surrogates("keys", unknown)
    if unknown:
        raise DocumentError(
            RejectReason.ANNOTATION_SCHEMA,
            f"unknown key {unknown[0][:80]!r}; known are {', '.join(_AnnotationFile.model_fields)}",
        )
    # Before pydantic, which would call half a pair of surrogates a wrong type.
    for key in ("image_path", "doc_type", "po_subtype"):
        _check_surrogates(key, [raw.get(key)])
    _check_surrogates("words", words if isinstance(words, list) else [])
    try:
        return _AnnotationFile.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        shown = "" if first["type"] == "missing" else f" (is {str(first['input'])[:60]!r})"
        raise DocumentError(RejectReason.ANNOTATION_SCHEMA, f"{place}: {first['msg']}{shown}") from error


def _check_surrogates(key: str, values: list[Any]) -> None:
    for index, value in enumerate(values):
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise DocumentError(
                    RejectReason.ANNOTATION_LONE_SURROGATE,
                    f"{key}, item {index}: {value[:40]!r}: {error.reason}",
                ) from error


def _check_classes(parsed: _AnnotationFile, vocabulary: Vocabulary) -> None:
    if parsed.doc_type not in vocabulary.doc_type_names:
        raise DocumentError(
            RejectReason.UNKNOWN_DOC_TYPE,
            f"doc_type {parsed.doc_type[:80]!r}; `sap-vision labels` lists the known",
        )
    if parsed.po_subtype is None:
        return
    if parsed.doc_type != SUBTYPED:
        raise DocumentError(
            RejectReason.PO_SUBTYPE_NOT_ALLOWED,
            f"po_subtype {parsed.po_subtype[:80]!r} on a {parsed.doc_type}; only a {SUBTYPED} has one",
        )
    if parsed.po_subtype not in vocabulary.po_subtype_names:
        raise DocumentError(
            RejectReason.UNKNOWN_PO_SUBTYPE,
            f"po_subtype {parsed.po_subtype[:80]!r}; `sap-vision labels` lists the known",
        )


def _check_words(parsed: _AnnotationFile, num_labels: int) -> None:
    lengths = {len(parsed.words), len(parsed.boxes), len(parsed.token_labels)}
    if len(lengths) > 1:
        raise DocumentError(
            RejectReason.LENGTHS_DIFFER,
            f"{len(parsed.words)} words, {len(parsed.boxes)} boxes, {len(parsed.token_labels)} token_labels",
        )
    for index, (x1, y1, x2, y2) in enumerate(parsed.boxes):
        if min(x1, y1, x2, y2) < 0 or max(x1, y1, x2, y2) > BOX_MAX:
            raise DocumentError(
                RejectReason.BOX_OUT_OF_RANGE,
                f"box {index} {_shown([x1, y1, x2, y2])} exceeds 0..{BOX_MAX}; divide by the page size",
            )
        if x2 < x1 or y2 < y1:
            raise DocumentError(
                RejectReason.BOX_INVERTED,
                f"box {index} {[x1, y1, x2, y2]}: is not [x1, y1, x2, y2] with x1 <= x2, y1 <= y2",
            )
    for index, label in enumerate(parsed.token_labels):
        if not 0 <= label < num_labels:
            raise DocumentError(
                RejectReason.LABEL_OUT_OF_RANGE,
                f"token_labels[{index}] is {_shown(label)}; the vocabulary has labels 0..{num_labels - 1}",
            )


def _shown(value: object) -> str:
    """Python refuses to print integers of more than 4,300 digits."""
    try:
        return str(value)[:80]
    except ValueError:
        return "(a number of thousands of digits)"


def _clean_word(word: str, max_chars: int, counters: Counter[str]) -> str:
    """The word as it is scored, or "" where nothing is left that a reader sees.

    White space that is a control character becomes a blank, other control characters go, blanks at the ends
    go, and what is longer than `max_chars` is cut.
    """
    if word.isprintable() and len(word) <= max_chars and word.strip() == word:
        return word
    # Ten times the limit: each character costs time, and a file may be one word of 16 MB.
    kept = "".join(
        " " if char.isspace() else char
        for char in word[: 10 * max_chars]
        if char.isspace() or unicodedata.category(char) != "Cc"
    ).strip()
    if all(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") for char in kept):
        return ""
    if len(word) > 10 * max_chars or len(kept) > max_chars:
        counters["words_cut"] += 1
        return kept[:max_chars].rstrip()
    counters["words_cleaned"] += kept != word
    return kept


def _repair_labels(labels: list[int]) -> int:
    """Turns every I- that does not continue its own field into B-, in place; returns how many there were."""
    repaired, previous = 0, 0
    for index, label in enumerate(labels):
        is_inside = label > 0 and label % 2 == 0
        if is_inside and previous not in (label, label - 1):
            labels[index] = label - 1
            repaired += 1
        previous = labels[index]
    return repaired
