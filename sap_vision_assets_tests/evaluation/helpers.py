"""Predictions made by hand."""

from collections.abc import Sequence

import numpy as np

from sap_vision_assets.evaluation.outcomes import DocumentOutcome, compare_document
from sap_vision_assets.evaluation.predict import DocumentPrediction
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary

VOCABULARY: Vocabulary = load_vocabulary()
INVOICE, PURCHASE_ORDER, SALES_ORDER = 0, 1, 2


def label(name: str) -> int:
    return VOCABULARY.labels.index(name)


def labels(*names: str) -> list[int]:
    return [label(name) for name in names]


def prediction(
    word_labels: Sequence[int] = (),
    *,
    document_id: str = "doc",
    doc_type: int = INVOICE,
    doc_type_confidence: float = 0.9,
    po_subtype: int = 0,
    po_subtype_confidence: float = 0.9,
    word_confidences: Sequence[float] | None = None,
    unscored: Sequence[int] = (),
) -> DocumentPrediction:
    is_scored = np.ones(len(word_labels), bool)
    is_scored[list(unscored)] = False
    return DocumentPrediction(
        document_id=document_id,
        doc_type_probabilities=_peak(len(VOCABULARY.doc_types), doc_type, doc_type_confidence),
        po_subtype_probabilities=_peak(len(VOCABULARY.po_subtypes), po_subtype, po_subtype_confidence),
        word_labels=np.array(word_labels, np.int16),
        word_confidences=np.array(
            [0.9] * len(word_labels) if word_confidences is None else word_confidences, np.float32
        ),
        word_is_scored=is_scored,
    )


def outcome(
    truth: Sequence[int] = (),
    predicted: Sequence[int] | None = None,
    *,
    true_doc_type: int = INVOICE,
    true_po_subtype: int | None = None,
    **told: object,
) -> DocumentOutcome:
    """Truth and prediction compared; the prediction's labels are the truth's unless given."""
    return compare_document(
        prediction(truth if predicted is None else predicted, **told),  # type: ignore[arg-type]
        doc_type=true_doc_type,
        po_subtype=true_po_subtype,
        word_labels=list(truth),
    )


def _peak(num_classes: int, index: int, height: float) -> np.ndarray:
    probabilities = np.full(num_classes, (1 - height) / (num_classes - 1), np.float32)
    probabilities[index] = height
    return probabilities
