"""What production gets for a page: types, and how line item fields become rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sap_vision_assets.documents.annotation import Box
from sap_vision_assets.evaluation.stitching import DocumentPrediction
from sap_vision_assets.vocabulary import Vocabulary

LINE_ITEM_PREFIX = "lineItem."
PURCHASE_ORDER = "PURCHASE_ORDER"
"""The one document type that has a subtype."""


@dataclass(frozen=True, kw_only=True)
class ClassAnswer:
    """One class of a page."""

    value: str
    confidence: float
    """0 to 1."""
    above_threshold: bool | None
    """Whether it may be used unseen; None when the release has no thresholds."""


@dataclass(frozen=True, kw_only=True)
class FieldAnswer:
    """One field found on a page."""

    field: str
    text: str
    """Its words in reading order, a blank between them."""
    confidence: float
    """0 to 1, of its least certain word."""
    above_threshold: bool | None
    """Whether it may be used unseen; None when the release has no thresholds."""
    boxes: tuple[Box, ...]
    """One a word: x1, y1, x2, y2 in thousandths of the upright page."""


@dataclass(frozen=True, kw_only=True)
class PageAnswer:
    """Everything that the model says of one page."""

    doc_type: ClassAnswer
    po_subtype: ClassAnswer | None
    """None unless the document type is PURCHASE_ORDER."""
    fields: tuple[FieldAnswer, ...]
    """All but line items, in reading order. A field may occur more than once."""
    line_items: tuple[tuple[FieldAnswer, ...], ...]
    """One tuple a row, from the top, fields from the left; see `group_rows`."""
    num_words: int
    """Words that were read; blank ones are not."""

    def to_json(self) -> dict[str, Any]:
        """JSON values, keys as the attributes."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From which confidence an answer may be used unseen; None: never."""

    doc_type: float | None = None
    po_subtype: float | None = None
    fields: Mapping[str, float | None] = field(default_factory=dict)
    is_known: bool = True
    """False where a release has none."""

    def accepts(self, confidence: float, threshold: float | None) -> bool | None:
        """Whether `confidence` reaches the threshold; None where none is known."""
        if not self.is_known:
            return None
        return threshold is not None and confidence >= threshold


def assemble(
    prediction: DocumentPrediction,
    words: Sequence[str],
    boxes: Sequence[Box],
    vocabulary: Vocabulary,
    thresholds: Thresholds,
) -> PageAnswer:
    """The answer for the page whose `words` and `boxes` were predicted."""
    doc_type = vocabulary.doc_type_names[prediction.doc_type]
    po_subtype = vocabulary.po_subtype_names[prediction.po_subtype]
    found = []
    for (field_id, start, end), confidence in prediction.entities():
        name = vocabulary.field_names[field_id]
        found.append(
            FieldAnswer(
                field=name,
                text=" ".join(words[start:end]),
                confidence=confidence,
                above_threshold=thresholds.accepts(confidence, thresholds.fields.get(name)),
                boxes=tuple(boxes[start:end]),
            )
        )
    return PageAnswer(
        doc_type=ClassAnswer(
            value=doc_type,
            confidence=prediction.doc_type_confidence,
            above_threshold=thresholds.accepts(prediction.doc_type_confidence, thresholds.doc_type),
        ),
        po_subtype=ClassAnswer(
            value=po_subtype,
            confidence=prediction.po_subtype_confidence,
            above_threshold=thresholds.accepts(prediction.po_subtype_confidence, thresholds.po_subtype),
        )
        if doc_type == PURCHASE_ORDER
        else None,
        fields=tuple(answer for answer in found if not answer.field.startswith(LINE_ITEM_PREFIX)),
        line_items=group_rows([answer for answer in found if answer.field.startswith(LINE_ITEM_PREFIX)]),
        num_words=len(words),
    )


def group_rows(answers: Sequence[FieldAnswer]) -> tuple[tuple[FieldAnswer, ...], ...]:
    """Line items as rows: a field stands where its first word stands, however many lines it runs on.

    From the top down, a field joins the row whose first field's height it overlaps by at least half of the
    lower of the two; else it starts a row. So a value on a line of its own below an item is a row of its own.
    """
    rows: list[list[FieldAnswer]] = []
    for answer in sorted(answers, key=lambda answer: (answer.boxes[0][1], answer.boxes[0][0])):
        if rows and _share_line(rows[-1][0].boxes[0], answer.boxes[0]):
            rows[-1].append(answer)
        else:
            rows.append([answer])
    return tuple(tuple(sorted(row, key=lambda answer: answer.boxes[0][0])) for row in rows)


def _share_line(one: Box, other: Box) -> bool:
    overlap = min(one[3], other[3]) - max(one[1], other[1])
    lower = min(one[3] - one[1], other[3] - other[1])
    return overlap >= 0 and 2 * overlap >= lower
