"""Where the errors are: by document type, by length, by field, by document. Everything is JSON values."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sap_vision_assets.evaluation.entities import Entity, overlaps
from sap_vision_assets.evaluation.metrics import ClassificationScores, EntityScores
from sap_vision_assets.evaluation.outcomes import DocumentOutcome
from sap_vision_assets.evaluation.scores import score_outcomes
from sap_vision_assets.vocabulary import Vocabulary

WORD_BUCKETS = (0, 50, 100, 200, 400, 800)
"""Lower ends, in words per document; the last bucket is open."""

NOTHING = ""
"""Stands for "no entity" in a field confusion."""


def by_doc_type(outcomes: Sequence[DocumentOutcome], vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Headline scores for each true document type that occurs."""
    groups = [
        (name, [outcome for outcome in outcomes if outcome.doc_type == doc_type])
        for doc_type, name in enumerate(vocabulary.doc_type_names)
    ]
    return [_row("doc_type", name, group, vocabulary) for name, group in groups if group]


def by_num_words(outcomes: Sequence[DocumentOutcome], vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Headline scores for short to long documents; empty buckets are left out."""
    rows = []
    for low, high in zip(WORD_BUCKETS, (*WORD_BUCKETS[1:], None), strict=True):
        group = [o for o in outcomes if o.num_words >= low and (high is None or o.num_words < high)]
        if group:
            name = f"{low} or more" if high is None else f"{low} to {high - 1}"
            rows.append(_row("num_words", name, group, vocabulary))
    return rows


def confusion_pairs(scores: ClassificationScores, limit: int = 10) -> list[dict[str, Any]]:
    """The most frequent mistakes of a document head, with their share of the true class."""
    names = [row.name for row in scores.per_class]
    pairs: list[dict[str, Any]] = [
        {"truth": names[true], "predicted": names[predicted], "count": count, "share": count / sum(row)}
        for true, row in enumerate(scores.confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    pairs.sort(key=lambda pair: (-pair["count"], -pair["share"], pair["truth"], pair["predicted"]))
    return pairs[:limit]


def worst_fields(scores: EntityScores, limit: int = 10) -> list[dict[str, Any]]:
    """The fields that cost most entities, missed and spurious together."""
    rows: list[dict[str, Any]] = [
        {
            "name": row.name,
            "num_missed": row.support - row.num_correct,
            "num_spurious": row.num_predicted - row.num_correct,
            "f1": row.f1,
            "support": row.support,
        }
        for row in scores.per_field
        if row.num_correct < max(row.support, row.num_predicted)
    ]
    rows.sort(key=lambda row: (-(row["num_missed"] + row["num_spurious"]), row["name"]))
    return rows[:limit]


def worst_documents(
    outcomes: Sequence[DocumentOutcome], vocabulary: Vocabulary, limit: int = 10
) -> list[dict[str, Any]]:
    """The documents with the most errors, by id."""
    wrong = sorted(
        (outcome for outcome in outcomes if outcome.num_errors),
        key=lambda outcome: (-outcome.num_errors, outcome.document_id),
    )
    return [
        {
            "document_id": outcome.document_id,
            "num_errors": outcome.num_errors,
            "doc_type": vocabulary.doc_type_names[outcome.doc_type],
            "predicted_doc_type": vocabulary.doc_type_names[outcome.predicted_doc_type],
            "num_words": outcome.num_words,
            "num_unscored_words": outcome.num_unscored_words,
            "num_correct": len(outcome.correct),
            "num_missed": len(outcome.missed),
            "num_spurious": len(outcome.spurious),
        }
        for outcome in wrong[:limit]
    ]


def entity_errors(outcomes: Sequence[DocumentOutcome]) -> dict[str, int]:
    """What goes wrong with entities, counted.

    A spurious entity is "wrong_field" (a true entity has exactly its words), "wrong_extent" (one of its own
    field overlaps), "overlaps_other_field", or "invented"; a missed one that no spurious entity touches is
    "overlooked".
    """
    kinds = dict.fromkeys(
        ("wrong_field", "wrong_extent", "overlaps_other_field", "invented", "overlooked"), 0
    )
    for outcome in outcomes:
        for found in outcome.spurious:
            touching = [entity for entity in outcome.missed if overlaps(entity, found.entity)]
            kinds[_kind(found.entity, touching)] += 1
        kinds["overlooked"] += sum(
            not any(overlaps(entity, found.entity) for found in outcome.spurious) for entity in outcome.missed
        )
    return kinds


def field_confusions(
    outcomes: Sequence[DocumentOutcome], vocabulary: Vocabulary, limit: int = 15
) -> list[dict[str, Any]]:
    """Which field was taken for which; "" is no entity. Wrong extents of the right field are not in it."""
    pairs: Counter[tuple[str, str]] = Counter()
    names = vocabulary.field_names
    for outcome in outcomes:
        touched = set()
        for found in outcome.spurious:
            touching = [entity for entity in outcome.missed if overlaps(entity, found.entity)]
            touched.update(touching)
            fields = {entity.field for entity in touching}
            if found.entity.field not in fields:
                true = names[touching[0].field] if touching else NOTHING
                pairs[true, names[found.entity.field]] += 1
        for entity in outcome.missed:
            if entity not in touched:
                pairs[names[entity.field], NOTHING] += 1
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [{"truth": true, "predicted": predicted, "count": count} for (true, predicted), count in ordered]


def pick_examples(outcomes: Sequence[DocumentOutcome], count: int = 6) -> list[DocumentOutcome]:
    """Pages to show: half of them the worst, then typical ones, each of another document type if possible.

    Typical is a document whose number of errors is nearest the median; more entities are shown first.
    """
    with_words = [outcome for outcome in outcomes if outcome.num_words]
    worst = [outcome for outcome in with_words if outcome.num_errors]
    worst.sort(key=lambda outcome: (-outcome.num_errors, outcome.document_id))
    chosen = worst[: count // 2]
    errors = sorted(outcome.num_errors for outcome in with_words)
    median = errors[len(errors) // 2] if errors else 0
    rest = [outcome for outcome in with_words if outcome not in chosen]
    rest.sort(key=lambda o: (abs(o.num_errors - median), -len(o.correct), o.document_id))
    while rest and len(chosen) < count:
        shown = {outcome.doc_type for outcome in chosen}
        pick = next((outcome for outcome in rest if outcome.doc_type not in shown), rest[0])
        rest.remove(pick)
        chosen.append(pick)
    return chosen


def _kind(entity: Entity, touching: Sequence[Entity]) -> str:
    if any((other.start, other.end) == (entity.start, entity.end) for other in touching):
        return "wrong_field"
    if any(other.field == entity.field for other in touching):
        return "wrong_extent"
    return "overlaps_other_field" if touching else "invented"


def _row(key: str, name: str, group: Sequence[DocumentOutcome], vocabulary: Vocabulary) -> dict[str, Any]:
    scores = score_outcomes(group, vocabulary)
    return {
        key: name,
        "num_documents": scores.num_documents,
        "doc_type_accuracy": scores.doc_type.accuracy,
        "num_entities": scores.fields.support,
        "field_precision": scores.fields.precision,
        "field_recall": scores.fields.recall,
        "field_f1": scores.fields.f1,
    }
