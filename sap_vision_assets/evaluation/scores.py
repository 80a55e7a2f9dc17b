"""All scores of a set of predictions in one value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sap_vision_assets.evaluation.metrics import (
    ClassificationScores,
    EntityScores,
    Interval,
    classification_scores,
    entity_scores,
)
from sap_vision_assets.evaluation.outcomes import DocumentOutcome, compare, count_entities
from sap_vision_assets.evaluation.predict import DocumentPrediction
from sap_vision_assets.shards import Shards
from sap_vision_assets.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What the three heads do on one split."""

    doc_type: ClassificationScores
    po_subtype: ClassificationScores
    """On the documents that have a subtype, whatever type was predicted for them."""
    fields: EntityScores
    num_documents: int
    num_words: int
    num_unscored_words: int
    outcomes: tuple[DocumentOutcome, ...]

    def summary(self) -> dict[str, Any]:
        """The headline figures as JSON values; None where there is nothing to score."""
        return {
            "num_documents": self.num_documents,
            "num_words": self.num_words,
            "num_unscored_words": self.num_unscored_words,
            "num_doc_types": self.doc_type.num_classes_with_support,
            "num_po_subtype_documents": self.po_subtype.num_scored,
            "num_po_subtypes": self.po_subtype.num_classes_with_support,
            "num_entities": self.fields.support,
            "num_fields": self.fields.num_fields_with_support,
            "doc_type_accuracy": self.doc_type.accuracy,
            "doc_type_accuracy_interval": _bounds(self.doc_type.accuracy_interval),
            **_averages("doc_type", self.doc_type),
            "po_subtype_accuracy": self.po_subtype.accuracy,
            "po_subtype_accuracy_interval": _bounds(self.po_subtype.accuracy_interval),
            **_averages("po_subtype", self.po_subtype),
            "field_precision": self.fields.precision,
            "field_recall": self.fields.recall,
            "field_f1": self.fields.f1,
            "field_f1_interval": _bounds(self.fields.f1_interval),
            **_averages("field", self.fields),
        }


def score(predictions: Sequence[DocumentPrediction], shards: Shards, vocabulary: Vocabulary) -> Scores:
    """Scores of the predictions of `shards`. Raises ArtifactError when they belong to other documents."""
    return score_outcomes(compare(predictions, shards), vocabulary)


def score_outcomes(outcomes: Sequence[DocumentOutcome], vocabulary: Vocabulary) -> Scores:
    """Scores of any selection of documents."""
    po_subtypes = [
        (outcome.po_subtype, outcome.predicted_po_subtype)
        for outcome in outcomes
        if outcome.po_subtype is not None
    ]
    counts = count_entities(outcomes, len(vocabulary.field_names))
    return Scores(
        doc_type=classification_scores(
            [outcome.doc_type for outcome in outcomes],
            [outcome.predicted_doc_type for outcome in outcomes],
            vocabulary.doc_type_names,
        ),
        po_subtype=classification_scores(
            [truth for truth, _ in po_subtypes],
            [predicted for _, predicted in po_subtypes],
            vocabulary.po_subtype_names,
        ),
        fields=entity_scores(counts.correct, counts.support, counts.predicted, vocabulary.field_names),
        num_documents=len(outcomes),
        num_words=sum(outcome.num_words for outcome in outcomes),
        num_unscored_words=sum(outcome.num_unscored_words for outcome in outcomes),
        outcomes=tuple(outcomes),
    )


def _averages(head: str, scores: ClassificationScores | EntityScores) -> dict[str, float | None]:
    return {
        f"{head}_{score}_{average}": getattr(scores, f"{score}_{average}")
        for average in ("weighted", "macro")
        for score in ("precision", "recall", "f1")
    }


def _bounds(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
