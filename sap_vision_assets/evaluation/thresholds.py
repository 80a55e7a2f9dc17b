"""From which confidence on an answer may be used unseen by a person; chosen on val, never on test.

A threshold is the smallest confidence at which the answers that reach it are right often enough. Fields with
too few answers on val are pooled and share one. Where no confidence is enough, or there is too little to
judge by, the threshold is None: every answer goes to a person.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sap_vision_assets.errors import InputError
from sap_vision_assets.evaluation.outcomes import DocumentOutcome
from sap_vision_assets.vocabulary import Vocabulary

SCHEMA_VERSION = 1

REACHED = "reached"
"""Its own threshold."""
UNREACHABLE = "unreachable"
"""Enough answers, but no confidence at which they are right often enough."""
POOLED = "pooled"
"""Too few answers: the threshold of all such fields together."""
TOO_FEW = "too_few"
"""Too few answers, and too few together with all such fields."""


@dataclass(frozen=True, kw_only=True)
class ThresholdConfig:
    """What answers must reach to be used unseen."""

    doc_type_precision: float = 0.98
    """Share of accepted document types that must be right on val; the same for PO subtypes."""
    field_precision: float = 0.95
    """Share of accepted entities of a field that must be right on val."""
    min_answers: int = 20
    """Answers on val that a threshold of its own takes, and that it must accept at least."""
    min_confidence: float = 0.5
    """No threshold is below: what the model itself holds for less likely than not is never used unseen."""

    def __post_init__(self) -> None:
        for name in ("doc_type_precision", "field_precision"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)}: must be above 0 and at most 1; 95 % is 0.95")
        if not 0 <= self.min_confidence < 1:
            raise InputError(f"min_confidence={self.min_confidence}: must be at least 0 and below 1")
        if self.min_answers < 1:
            raise InputError(f"min_answers={self.min_answers}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """One threshold and what it does to a set of answers."""

    threshold: float | None
    """Accept at this confidence or above; None: accept nothing."""
    source: str
    """REACHED, UNREACHABLE, POOLED or TOO_FEW."""
    num_answers: int
    coverage: float | None
    """Share of the answers that is accepted."""
    precision: float | None
    """Share of the accepted answers that is right."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """All thresholds of one model, with coverage and precision on the split that they were chosen on."""

    config: ThresholdConfig
    doc_type: Threshold
    po_subtype: Threshold
    rare_fields: Threshold
    """Of the fields with too few answers on val, pooled."""
    fields: Mapping[str, Threshold]
    """By field name, one for every field of the vocabulary."""

    def to_json(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """What thresholds.json holds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "vocabulary_digest": vocabulary.digest,
            "chosen_on": "val",
            **asdict(self),
        }


@dataclass(frozen=True, kw_only=True)
class _Answers:
    confidence: NDArray[np.float64]
    is_right: NDArray[np.bool_]


def choose_thresholds(
    val_outcomes: Sequence[DocumentOutcome], vocabulary: Vocabulary, config: ThresholdConfig | None = None
) -> Thresholds:
    """Thresholds from the outcomes on val."""
    config = config or ThresholdConfig()
    by_field = dict(zip(vocabulary.field_names, _entity_answers(val_outcomes, vocabulary), strict=True))
    rare = {
        name: answers for name, answers in by_field.items() if len(answers.confidence) < config.min_answers
    }
    rare_fields = _choose(_pool(rare.values()), config.field_precision, config)
    fields = {
        name: _apply(answers, rare_fields.threshold, POOLED if rare_fields.source == REACHED else TOO_FEW)
        if name in rare
        else _choose(answers, config.field_precision, config)
        for name, answers in by_field.items()
    }
    return Thresholds(
        config=config,
        doc_type=_choose(_doc_type_answers(val_outcomes), config.doc_type_precision, config),
        po_subtype=_choose(_po_subtype_answers(val_outcomes), config.doc_type_precision, config),
        rare_fields=rare_fields,
        fields=fields,
    )


def apply_thresholds(
    thresholds: Thresholds, outcomes: Sequence[DocumentOutcome], vocabulary: Vocabulary
) -> dict[str, Any]:
    """What the thresholds do on another split: coverage and precision, as JSON values.

    "all_fields" is what production sees: every entity judged by its own field's threshold. "rare_fields" are
    those of them whose field had too few answers on val.
    """
    by_field = dict(zip(vocabulary.field_names, _entity_answers(outcomes, vocabulary), strict=True))
    fields = thresholds.fields
    rare = [name for name in by_field if fields[name].source in (POOLED, TOO_FEW)]
    everywhere = _pool(
        _Answers(
            # Above or below its own field's threshold: so all of them can be judged by one.
            confidence=_accepted(answers, fields[name].threshold).astype(np.float64),
            is_right=answers.is_right,
        )
        for name, answers in by_field.items()
    )
    return {
        "doc_type": asdict(_apply_same(thresholds.doc_type, _doc_type_answers(outcomes))),
        "po_subtype": asdict(_apply_same(thresholds.po_subtype, _po_subtype_answers(outcomes))),
        "rare_fields": asdict(_apply_same(thresholds.rare_fields, _pool(by_field[name] for name in rare))),
        "all_fields": {
            key: value
            for key, value in asdict(_apply(everywhere, 1.0, REACHED)).items()
            if key in ("num_answers", "coverage", "precision")
        },
        "fields": {name: asdict(_apply_same(fields[name], answers)) for name, answers in by_field.items()},
    }


def _choose(answers: _Answers, target: float, config: ThresholdConfig) -> Threshold:
    if len(answers.confidence) < config.min_answers:
        return _apply(answers, None, TOO_FEW)
    order = np.argsort(-answers.confidence, kind="stable")
    confidence, num_right = answers.confidence[order], np.cumsum(answers.is_right[order])
    num_accepted = np.arange(1, len(order) + 1)
    # Equal confidences are accepted together, so only the last of them can be a threshold.
    is_last_of_equals = np.append(confidence[:-1] != confidence[1:], True)
    good = (
        is_last_of_equals
        & (confidence >= config.min_confidence)
        & (num_accepted >= config.min_answers)
        & (num_right >= target * num_accepted - 1e-9)
    )
    if not good.any():
        return _apply(answers, None, UNREACHABLE)
    return _apply(answers, float(confidence[np.flatnonzero(good)[-1]]), REACHED)


def _apply_same(chosen: Threshold, answers: _Answers) -> Threshold:
    return _apply(answers, chosen.threshold, chosen.source)


def _apply(answers: _Answers, threshold: float | None, source: str) -> Threshold:
    accepted = _accepted(answers, threshold)
    return Threshold(
        threshold=threshold,
        source=source,
        num_answers=len(accepted),
        coverage=float(accepted.mean()) if len(accepted) else None,
        precision=float(answers.is_right[accepted].mean()) if accepted.any() else None,
    )


def _accepted(answers: _Answers, threshold: float | None) -> NDArray[np.bool_]:
    return answers.confidence >= (np.inf if threshold is None else threshold)


def _pool(parts: Iterable[_Answers]) -> _Answers:
    listed = [_answers(()), *parts]
    return _Answers(
        confidence=np.concatenate([answers.confidence for answers in listed]),
        is_right=np.concatenate([answers.is_right for answers in listed]),
    )


def _answers(pairs: Iterable[tuple[float, bool]]) -> _Answers:
    listed = list(pairs)
    return _Answers(
        confidence=np.array([confidence for confidence, _ in listed], np.float64),
        is_right=np.array([is_right for _, is_right in listed], bool),
    )


def _doc_type_answers(outcomes: Sequence[DocumentOutcome]) -> _Answers:
    return _answers((outcome.doc_type_confidence, outcome.doc_type_is_correct) for outcome in outcomes)


def _po_subtype_answers(outcomes: Sequence[DocumentOutcome]) -> _Answers:
    return _answers(
        (outcome.po_subtype_confidence, outcome.po_subtype == outcome.predicted_po_subtype)
        for outcome in outcomes
        if outcome.po_subtype is not None
    )


def _entity_answers(outcomes: Sequence[DocumentOutcome], vocabulary: Vocabulary) -> list[_Answers]:
    """By field, in the vocabulary's order."""
    pairs: list[list[tuple[float, bool]]] = [[] for _ in vocabulary.field_names]
    for outcome in outcomes:
        for found in outcome.correct:
            pairs[found.entity.field].append((found.confidence, True))
        for found in outcome.spurious:
            pairs[found.entity.field].append((found.confidence, False))
    return [_answers(of_field) for of_field in pairs]
