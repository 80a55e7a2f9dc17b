"""From which confidence on an answer may be used unseen by a person; chosen on val, never on test.

A threshold is the smallest confidence at which the answers that reach it are right often enough. A field with
too few answers on val gets the threshold of all fields together. Where no confidence is enough, the threshold
is None: every answer goes to a person.
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
"""The field's own threshold."""
UNREACHABLE = "unreachable"
"""Enough answers, but no confidence at which they are right often enough."""
GLOBAL = "global"
"""Too few answers: the threshold of all fields together holds."""
TOO_FEW = "too_few"
"""Too few answers, and nothing to fall back on."""


@dataclass(frozen=True, kw_only=True)
class ThresholdConfig:
    """What answers must reach to be used unseen."""

    doc_type_precision: float = 0.98
    """Share of accepted document types that must be right on val; the same for PO subtypes."""
    field_precision: float = 0.95
    """Share of accepted entities of a field that must be right on val."""
    min_answers: int = 20
    """Answers on val that a threshold of its own takes, and that it must accept at least."""

    def __post_init__(self) -> None:
        for name in ("doc_type_precision", "field_precision"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)}: must be above 0 and at most 1; 95 % is 0.95")
        if self.min_answers < 1:
            raise InputError(f"min_answers={self.min_answers}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """One threshold and what it does to a set of answers."""

    threshold: float | None
    """Accept at this confidence or above; None: accept nothing."""
    source: str
    """REACHED, UNREACHABLE, GLOBAL or TOO_FEW."""
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
    all_fields: Threshold
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
    by_field = _entity_answers(val_outcomes, len(vocabulary.field_names))
    everything = _Answers(
        confidence=np.concatenate([answers.confidence for answers in by_field]),
        is_right=np.concatenate([answers.is_right for answers in by_field]),
    )
    all_fields = _choose(everything, config.field_precision, config.min_answers)
    fields = {}
    for name, answers in zip(vocabulary.field_names, by_field, strict=True):
        own = _choose(answers, config.field_precision, config.min_answers)
        if own.source == TOO_FEW and all_fields.threshold is not None:
            own = _apply(answers, all_fields.threshold, GLOBAL)
        fields[name] = own
    return Thresholds(
        config=config,
        doc_type=_choose(_doc_type_answers(val_outcomes), config.doc_type_precision, config.min_answers),
        po_subtype=_choose(_po_subtype_answers(val_outcomes), config.doc_type_precision, config.min_answers),
        all_fields=all_fields,
        fields=fields,
    )


def apply_thresholds(
    thresholds: Thresholds, outcomes: Sequence[DocumentOutcome], vocabulary: Vocabulary
) -> dict[str, Any]:
    """What the thresholds do on another split: coverage and precision, as JSON values.

    "all_fields" is what production sees: every entity judged by its own field's threshold.
    """
    by_field = dict(
        zip(vocabulary.field_names, _entity_answers(outcomes, len(vocabulary.field_names)), strict=True)
    )
    fields = {
        name: _apply(answers, thresholds.fields[name].threshold, thresholds.fields[name].source)
        for name, answers in by_field.items()
    }
    num_answers = num_accepted = num_right = 0
    for name, answers in by_field.items():
        accepted = _accepted(answers, thresholds.fields[name].threshold)
        num_answers += len(accepted)
        num_accepted += int(accepted.sum())
        num_right += int(answers.is_right[accepted].sum())
    doc_type, po_subtype = thresholds.doc_type, thresholds.po_subtype
    return {
        "doc_type": asdict(_apply(_doc_type_answers(outcomes), doc_type.threshold, doc_type.source)),
        "po_subtype": asdict(_apply(_po_subtype_answers(outcomes), po_subtype.threshold, po_subtype.source)),
        "all_fields": {
            "num_answers": num_answers,
            "coverage": num_accepted / num_answers if num_answers else None,
            "precision": num_right / num_accepted if num_accepted else None,
        },
        "fields": {name: asdict(result) for name, result in fields.items()},
    }


def _choose(answers: _Answers, target: float, min_answers: int) -> Threshold:
    if len(answers.confidence) < min_answers:
        return _apply(answers, None, TOO_FEW)
    order = np.argsort(-answers.confidence, kind="stable")
    confidence, num_right = answers.confidence[order], np.cumsum(answers.is_right[order])
    num_accepted = np.arange(1, len(order) + 1)
    # Equal confidences are accepted together, so only the last of them can be a threshold.
    is_last_of_equals = np.append(confidence[:-1] != confidence[1:], True)
    good = is_last_of_equals & (num_accepted >= min_answers) & (num_right >= target * num_accepted - 1e-9)
    if not good.any():
        return _apply(answers, None, UNREACHABLE)
    return _apply(answers, float(confidence[np.flatnonzero(good)[-1]]), REACHED)


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


def _entity_answers(outcomes: Sequence[DocumentOutcome], num_fields: int) -> list[_Answers]:
    pairs: list[list[tuple[float, bool]]] = [[] for _ in range(num_fields)]
    for outcome in outcomes:
        for found in outcome.correct:
            pairs[found.entity.field].append((found.confidence, True))
        for found in outcome.spurious:
            pairs[found.entity.field].append((found.confidence, False))
    return [_answers(of_field) for of_field in pairs]
