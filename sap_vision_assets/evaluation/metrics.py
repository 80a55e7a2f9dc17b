"""Metrics on counts and arrays. What has no support is None ("undefined, n=0"), never 0 or 1.

Averages over classes ("macro", "weighted") run over the classes with support. A supported class that was
never predicted counts with precision 0 there, as in scikit-learn; its own precision is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE_LEVEL = 0.95
NUM_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float
    method: str
    """"bootstrap" (documents resampled) or "wilson"."""


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One document type, subtype or field."""

    name: str
    precision: float | None
    """None when the class has no support or was never predicted."""
    recall: float | None
    f1: float | None
    support: int
    """How many there truly are."""
    num_predicted: int
    num_correct: int


@dataclass(frozen=True, kw_only=True)
class ClassificationScores:
    """What one document head does on the documents that have a truth for it."""

    num_scored: int
    accuracy: float | None
    accuracy_interval: Interval | None
    precision_weighted: float | None
    recall_weighted: float | None
    f1_weighted: float | None
    precision_macro: float | None
    recall_macro: float | None
    f1_macro: float | None
    num_classes_with_support: int
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Row: truth, column: prediction, in the order of `per_class`."""


@dataclass(frozen=True, kw_only=True)
class EntityScores:
    """Strict entity scores: an entity is correct when field, first and last word all are."""

    support: int
    num_predicted: int
    num_correct: int
    precision: float | None
    recall: float | None
    f1: float | None
    """Micro average: over all entities of all fields."""
    f1_interval: Interval | None
    precision_weighted: float | None
    recall_weighted: float | None
    f1_weighted: float | None
    precision_macro: float | None
    recall_macro: float | None
    f1_macro: float | None
    num_fields_with_support: int
    per_field: tuple[ClassScore, ...]


def class_score(name: str, *, correct: int, support: int, predicted: int) -> ClassScore:
    """Precision, recall and F1 from counts."""
    return ClassScore(
        name=name,
        precision=correct / predicted if support and predicted else None,
        recall=correct / support if support else None,
        f1=2 * correct / (support + predicted) if support else None,
        support=support,
        num_predicted=predicted,
        num_correct=correct,
    )


def classification_scores(
    truth_D: ArrayLike, predicted_D: ArrayLike, names: Sequence[str]
) -> ClassificationScores:
    """Scores of one class per document; `truth_D` and `predicted_D` are indices into `names`."""
    truth, predicted = np.asarray(truth_D, np.int64), np.asarray(predicted_D, np.int64)
    confusion = confusion_matrix(truth, predicted, len(names))
    correct, support, num_predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    per_class = _class_scores(names, correct, support, num_predicted)
    macro, weighted = _averages(per_class, weighted=False), _averages(per_class, weighted=True)
    is_correct_D = truth == predicted
    return ClassificationScores(
        num_scored=len(truth),
        accuracy=float(is_correct_D.mean()) if len(truth) else None,
        accuracy_interval=accuracy_interval(is_correct_D),
        precision_weighted=weighted[0],
        recall_weighted=weighted[1],
        f1_weighted=weighted[2],
        precision_macro=macro[0],
        recall_macro=macro[1],
        f1_macro=macro[2],
        num_classes_with_support=int((support > 0).sum()),
        per_class=per_class,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def entity_scores(
    correct_DF: NDArray[np.int64],
    support_DF: NDArray[np.int64],
    predicted_DF: NDArray[np.int64],
    names: Sequence[str],
) -> EntityScores:
    """Scores from entity counts by document and field."""
    correct, support, predicted = (counts.sum(axis=0) for counts in (correct_DF, support_DF, predicted_DF))
    per_field = _class_scores(names, correct, support, predicted)
    micro = class_score(
        "all", correct=int(correct.sum()), support=int(support.sum()), predicted=int(predicted.sum())
    )
    macro, weighted = _averages(per_field, weighted=False), _averages(per_field, weighted=True)
    return EntityScores(
        support=micro.support,
        num_predicted=micro.num_predicted,
        num_correct=micro.num_correct,
        precision=micro.precision,
        recall=micro.recall,
        f1=micro.f1,
        f1_interval=bootstrap_interval(2 * correct_DF.sum(axis=1), (support_DF + predicted_DF).sum(axis=1))
        if micro.support
        else None,
        precision_weighted=weighted[0],
        recall_weighted=weighted[1],
        f1_weighted=weighted[2],
        precision_macro=macro[0],
        recall_macro=macro[1],
        f1_macro=macro[2],
        num_fields_with_support=int((support > 0).sum()),
        per_field=per_field,
    )


def confusion_matrix(
    truth_D: NDArray[np.int64], predicted_D: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """[num_classes, num_classes] counts; row: truth, column: prediction."""
    cells = np.bincount(truth_D * num_classes + predicted_D, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def accuracy_interval(is_correct_D: NDArray[np.bool_]) -> Interval | None:
    """Bootstrap over documents; Wilson's score interval where every document is right, or wrong.

    There every resample is the same, and the bootstrap would claim certainty. None below two documents.
    """
    if len(is_correct_D) < 2:
        return None
    resampled = bootstrap_interval(is_correct_D.astype(np.int64), np.ones(len(is_correct_D), np.int64))
    return resampled or wilson_interval(int(is_correct_D.sum()), len(is_correct_D))


def bootstrap_interval(
    numerators_D: NDArray[np.int64],
    denominators_D: NDArray[np.int64],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Percentile interval of sum(numerators) / sum(denominators), documents drawn with replacement.

    Words of one page are not independent, so documents are the unit. None when there are fewer than two
    documents, or when all resamples agree.
    """
    num_documents = len(numerators_D)
    if num_documents < 2:
        return None
    rng = np.random.default_rng(seed)
    share = np.full(num_documents, 1 / num_documents)
    ratios = []
    # In blocks: 2,000 resamples of 100,000 documents at once would take 1.6 GB.
    for _ in range(0, num_resamples, 100):
        times_drawn_RD = rng.multinomial(num_documents, share, size=100)
        below = times_drawn_RD @ denominators_D
        ratios.append((times_drawn_RD @ numerators_D)[below > 0] / below[below > 0])
    ratio_R = np.concatenate(ratios)
    if ratio_R.size == 0 or np.ptp(ratio_R) == 0:
        return None
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.quantile(ratio_R, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), method="bootstrap")


def wilson_interval(num_correct: int, num_scored: int) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); `num_scored` is at least 1."""
    z = 1.959963984540054  # the standard normal's 97.5 % quantile
    share = num_correct / num_scored
    centre = share + z**2 / (2 * num_scored)
    spread = z * np.sqrt(share * (1 - share) / num_scored + z**2 / (4 * num_scored**2))
    scale = 1 + z**2 / num_scored
    # The formula gives exactly 0 and 1 at the ends; floating point does not.
    low = 0.0 if num_correct == 0 else float((centre - spread) / scale)
    high = 1.0 if num_correct == num_scored else float((centre + spread) / scale)
    return Interval(low=low, high=high, method="wilson")


def _class_scores(
    names: Sequence[str],
    correct_C: NDArray[np.int64],
    support_C: NDArray[np.int64],
    predicted_C: NDArray[np.int64],
) -> tuple[ClassScore, ...]:
    counts = zip(names, correct_C.tolist(), support_C.tolist(), predicted_C.tolist(), strict=True)
    return tuple(
        class_score(name, correct=correct, support=support, predicted=predicted)
        for name, correct, support, predicted in counts
    )


def _averages(
    scores: Sequence[ClassScore], *, weighted: bool
) -> tuple[float | None, float | None, float | None]:
    supported = [score for score in scores if score.support]
    if not supported:
        return None, None, None
    weights = [score.support if weighted else 1 for score in supported]
    rows = [[score.precision or 0.0, score.recall or 0.0, score.f1 or 0.0] for score in supported]
    precision, recall, f1 = np.average(rows, axis=0, weights=weights).tolist()
    return precision, recall, f1
