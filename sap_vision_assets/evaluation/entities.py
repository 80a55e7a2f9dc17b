"""From a label per word to entities, and back to the best valid labels from the model's scores.

The one rule, for truth and prediction alike (strict IOB2): an entity is a B-x with the I-x words that follow
it without a gap. An I-x that does not follow a B-x or I-x of its own field belongs to no entity.

Label ids: 0 is "O", field k has B = 2k + 1 and I = 2k + 2. Shapes: W words, C labels, F fields.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BEGIN = slice(1, None, 2)
INSIDE = slice(2, None, 2)


class Entity(NamedTuple):
    """Words `start` up to and excluding `end` of one document, all of one field (its vocabulary index)."""

    field: int
    start: int
    end: int


def entities_of(labels_W: ArrayLike) -> list[Entity]:
    """Entities of one document in reading order; they never overlap."""
    labels = np.asarray(labels_W, dtype=np.int64)
    entities = []
    for start in np.flatnonzero((labels > 0) & (labels % 2 == 1)).tolist():
        begin, end = int(labels[start]), start + 1
        while end < len(labels) and labels[end] == begin + 1:
            end += 1
        entities.append(Entity(begin // 2, start, end))
    return entities


def overlaps(one: Entity, other: Entity) -> bool:
    """Whether two entities share a word."""
    return one.start < other.end and other.start < one.end


def is_valid(labels_W: NDArray[np.integer]) -> bool:
    """Whether every I-x follows a B-x or an I-x."""
    labels = np.asarray(labels_W)
    is_inside = (labels > 0) & (labels % 2 == 0)
    if not is_inside.any():
        return True
    before = np.concatenate([[0], labels[:-1]])
    return bool(np.all(~is_inside | (before == labels) | (before == labels - 1)))


def decode(log_probs_WC: NDArray[np.floating]) -> NDArray[np.int16]:
    """The most probable labels among the valid sequences (Viterbi; every allowed transition weighs the same).

    O and B-x may follow anything, I-x only B-x and I-x: two predecessors instead of C, so O(W * C).
    """
    labels = log_probs_WC.argmax(axis=1) if len(log_probs_WC) else np.zeros(0, np.int64)
    # The best label of every word is the best sequence when it is a valid one; a trained model's mostly is.
    return (labels if is_valid(labels) else _viterbi(log_probs_WC)).astype(np.int16)


def _viterbi(log_probs_WC: NDArray[np.floating]) -> NDArray[np.int64]:
    num_words = len(log_probs_WC)
    num_fields = log_probs_WC.shape[1] // 2
    best_before = np.zeros(num_words, np.int64)
    inside_goes_on_WF = np.zeros((num_words, num_fields), bool)
    score_C = log_probs_WC[0].astype(np.float64)
    score_C[INSIDE] = -np.inf
    for word in range(1, num_words):
        best = best_before[word] = score_C.argmax()
        np.greater(score_C[INSIDE], score_C[BEGIN], out=inside_goes_on_WF[word])
        same_field_F = np.maximum(score_C[INSIDE], score_C[BEGIN])
        score_C = score_C[best] + log_probs_WC[word]
        score_C[INSIDE] = same_field_F + log_probs_WC[word, INSIDE]
    labels = np.zeros(num_words, np.int64)
    labels[-1] = score_C.argmax()
    for word in range(num_words - 1, 0, -1):
        label = labels[word]
        if label > 0 and label % 2 == 0:
            labels[word - 1] = label if inside_goes_on_WF[word, label // 2 - 1] else label - 1
        else:
            labels[word - 1] = best_before[word]
    return labels
