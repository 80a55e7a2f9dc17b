"""Truth and prediction side by side, by document: what every metric, threshold and picture starts from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sap_vision_assets.errors import ArtifactError
from sap_vision_assets.evaluation.entities import Entity, entities_of
from sap_vision_assets.evaluation.predict import DocumentPrediction, PredictedEntity
from sap_vision_assets.shards import NOT_SCORED, Shards


@dataclass(frozen=True, kw_only=True)
class DocumentOutcome:
    """One document's truth, and what the model made of it."""

    document_id: str
    num_words: int
    num_unscored_words: int
    """Words that no window scored; their entities count as missed."""
    doc_type: int
    predicted_doc_type: int
    doc_type_confidence: float
    po_subtype: int | None
    """None: the document has none, and the subtype is not scored."""
    predicted_po_subtype: int
    po_subtype_confidence: float
    correct: tuple[PredictedEntity, ...]
    spurious: tuple[PredictedEntity, ...]
    """Predicted, and not in the truth: a wrong field, a wrong span, or nothing there."""
    missed: tuple[Entity, ...]

    @property
    def doc_type_is_correct(self) -> bool:
        return self.doc_type == self.predicted_doc_type

    @property
    def num_errors(self) -> int:
        """Wrong document type, wrong subtype, spurious and missed entities, each 1."""
        return (
            (not self.doc_type_is_correct)
            + (self.po_subtype is not None and self.po_subtype != self.predicted_po_subtype)
            + len(self.spurious)
            + len(self.missed)
        )


@dataclass(frozen=True, kw_only=True)
class EntityCounts:
    """Entities by document and field, [D, F]."""

    correct: NDArray[np.int64]
    support: NDArray[np.int64]
    predicted: NDArray[np.int64]


def compare(predictions: Sequence[DocumentPrediction], shards: Shards) -> list[DocumentOutcome]:
    """One outcome per document. Raises ArtifactError unless `predictions` are those of `shards`, in order."""
    predicted_ids = [prediction.document_id for prediction in predictions]
    if predicted_ids != [shards.document_id(document) for document in range(shards.num_documents)]:
        raise ArtifactError(
            f"{len(predicted_ids)} predictions are not those of the {shards.num_documents} documents in "
            f"{shards.path}; predict these shards again"
        )
    subtypes = shards.po_subtypes.tolist()
    return [
        compare_document(
            prediction,
            doc_type=int(shards.doc_types[document]),
            po_subtype=None if subtypes[document] == NOT_SCORED else subtypes[document],
            word_labels=shards.word_labels(document),
        )
        for document, prediction in enumerate(predictions)
    ]


def compare_document(
    prediction: DocumentPrediction,
    *,
    doc_type: int,
    po_subtype: int | None,
    word_labels: NDArray[np.integer] | Sequence[int],
) -> DocumentOutcome:
    """The outcome of one document; entities match when field, first and last word are equal."""
    if len(word_labels) != len(prediction.word_labels):
        raise ArtifactError(
            f"{prediction.document_id}: {len(prediction.word_labels)} words predicted, "
            f"{len(word_labels)} labelled; predict these shards again"
        )
    truth = entities_of(word_labels)
    predicted = prediction.entities()
    true_set = set(truth)
    predicted_set = {found.entity for found in predicted}
    return DocumentOutcome(
        document_id=prediction.document_id,
        num_words=len(word_labels),
        num_unscored_words=int((~prediction.word_is_scored).sum()),
        doc_type=doc_type,
        predicted_doc_type=prediction.doc_type,
        doc_type_confidence=prediction.doc_type_confidence,
        po_subtype=po_subtype,
        predicted_po_subtype=prediction.po_subtype,
        po_subtype_confidence=prediction.po_subtype_confidence,
        correct=tuple(found for found in predicted if found.entity in true_set),
        spurious=tuple(found for found in predicted if found.entity not in true_set),
        missed=tuple(entity for entity in truth if entity not in predicted_set),
    )


def count_entities(outcomes: Sequence[DocumentOutcome], num_fields: int) -> EntityCounts:
    """Counts for the entity metrics, one row per document."""
    correct, missed, spurious = (np.zeros((len(outcomes), num_fields), np.int64) for _ in range(3))
    for row, outcome in enumerate(outcomes):
        for found in outcome.correct:
            correct[row, found.entity.field] += 1
        for found in outcome.spurious:
            spurious[row, found.entity.field] += 1
        for entity in outcome.missed:
            missed[row, entity.field] += 1
    return EntityCounts(correct=correct, support=correct + missed, predicted=correct + spurious)
