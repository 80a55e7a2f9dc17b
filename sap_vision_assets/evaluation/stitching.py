"""From the logits of windows to one prediction a document. No torch here: production imports it.

Shapes: B batch, T tokens of a window, C classes, W words of a document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sap_vision_assets.evaluation.entities import Entity, decode, entities_of


class Logits(NamedTuple):
    """float32 logits of a batch, [B, C], [B, C] and [B, T, C], or of one window, without B."""

    doc_type: NDArray[np.float32]
    po_subtype: NDArray[np.float32]
    token: NDArray[np.float32]


class PredictedEntity(NamedTuple):
    """An entity and how sure the model is of its least certain word, 0 to 1."""

    entity: Entity
    confidence: float


@dataclass(frozen=True, kw_only=True, eq=False)
class DocumentPrediction:
    """What the model says of one document."""

    document_id: str
    doc_type_probabilities: NDArray[np.float32]
    """[C], softmax of the mean logits over the document's windows."""
    po_subtype_probabilities: NDArray[np.float32]
    """[C]; meaningful for purchase orders only."""
    word_labels: NDArray[np.int16]
    """[W] label ids, a valid IOB2 sequence; 0 where no window scored the word."""
    word_confidences: NDArray[np.float32]
    """[W] probability of the word's label; 0 where no window scored the word."""
    word_is_scored: NDArray[np.bool_]
    """[W]"""

    @property
    def doc_type(self) -> int:
        return int(self.doc_type_probabilities.argmax())

    @property
    def doc_type_confidence(self) -> float:
        return float(self.doc_type_probabilities.max())

    @property
    def po_subtype(self) -> int:
        return int(self.po_subtype_probabilities.argmax())

    @property
    def po_subtype_confidence(self) -> float:
        return float(self.po_subtype_probabilities.max())

    def entities(self) -> list[PredictedEntity]:
        """In reading order. The least certain word decides: one wrong word makes the whole entity wrong."""
        return [
            PredictedEntity(entity, float(self.word_confidences[entity.start : entity.end].min()))
            for entity in entities_of(self.word_labels)
        ]


class Stitcher:
    """Gathers one document's windows, in any order: `add` each, then `finish`."""

    def __init__(self, document_id: str, num_words: int) -> None:
        self.document_id = document_id
        self.num_words = num_words
        self.doc_type_logits: list[NDArray[np.float32]] = []
        self.po_subtype_logits: list[NDArray[np.float32]] = []
        self.words: list[NDArray[np.int32]] = []
        self.log_probs: list[NDArray[np.float32]] = []

    def add(self, positions: NDArray[np.int64], words: NDArray[np.int32], logits: Logits) -> None:
        """Logits of one window; it scores the words `words` at the token positions `positions`."""
        self.doc_type_logits.append(logits.doc_type)
        self.po_subtype_logits.append(logits.po_subtype)
        self.words.append(words)
        self.log_probs.append(log_softmax(logits.token[positions]))

    def finish(self) -> DocumentPrediction:
        """The prediction, from at least one window."""
        words = np.concatenate(self.words)
        log_probs_WC = np.concatenate(self.log_probs)
        order = np.argsort(words, kind="stable")
        words, log_probs_WC = words[order], log_probs_WC[order]
        labels = np.zeros(self.num_words, np.int16)
        confidences = np.zeros(self.num_words, np.float32)
        is_scored = np.zeros(self.num_words, bool)
        # A gap (a word that no window scored) ends an entity: what stands on both sides is decoded apart.
        for run in np.split(np.arange(len(words)), np.flatnonzero(np.diff(words) != 1) + 1):
            if len(run):
                decoded = decode(log_probs_WC[run])
                labels[words[run]] = decoded
                confidences[words[run]] = np.exp(log_probs_WC[run, decoded])
                is_scored[words[run]] = True
        return DocumentPrediction(
            document_id=self.document_id,
            doc_type_probabilities=_mean_probabilities(self.doc_type_logits),
            po_subtype_probabilities=_mean_probabilities(self.po_subtype_logits),
            word_labels=labels,
            word_confidences=confidences,
            word_is_scored=is_scored,
        )


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Over the last axis."""
    shifted: NDArray[np.float32] = (logits - logits.max(axis=-1, keepdims=True)).astype(np.float32)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def _mean_probabilities(logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = np.exp(log_softmax(np.mean(logits, axis=0, dtype=np.float64)))
    return probabilities
