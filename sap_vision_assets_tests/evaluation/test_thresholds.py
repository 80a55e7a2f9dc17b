import json

import pytest

from sap_vision_assets.errors import InputError
from sap_vision_assets.evaluation.outcomes import DocumentOutcome
from sap_vision_assets.evaluation.thresholds import (
    POOLED,
    REACHED,
    TOO_FEW,
    UNREACHABLE,
    ThresholdConfig,
    apply_thresholds,
    choose_thresholds,
)
from sap_vision_assets_tests.evaluation.helpers import (
    INVOICE,
    PURCHASE_ORDER,
    SALES_ORDER,
    VOCABULARY,
    labels,
    outcome,
)

CONFIG = ThresholdConfig(doc_type_precision=0.75, field_precision=0.75, min_answers=4)


def answer(field: str, confidence: float, *, right: bool = True) -> DocumentOutcome:
    """A page of one word, predicted as `field`."""
    truth = labels(f"B-{field}" if right else "O")
    return outcome(truth, labels(f"B-{field}"), word_confidences=[confidence])


def typed(confidence: float, *, right: bool) -> DocumentOutcome:
    return outcome(
        true_doc_type=INVOICE, doc_type=INVOICE if right else SALES_ORDER, doc_type_confidence=confidence
    )


def test_smallest_confidence_that_is_right_often_enough() -> None:
    # From the top: right .9 .8 .7, wrong .6, right .5, wrong .4 .3.
    # Precision from each on: 1 1 1 3/4 4/5 4/6 4/7. The smallest with at least 3/4 is .5.
    is_right = {0.9: True, 0.8: True, 0.7: True, 0.6: False, 0.5: True, 0.4: False, 0.3: False}
    outcomes = [typed(confidence, right=right) for confidence, right in is_right.items()]
    chosen = choose_thresholds(outcomes, VOCABULARY, CONFIG).doc_type
    assert chosen.threshold == pytest.approx(0.5)
    assert chosen.source == REACHED
    assert chosen.coverage == pytest.approx(5 / 7)
    assert chosen.precision == pytest.approx(4 / 5)


def test_equal_confidences_are_accepted_together() -> None:
    # The four at .9 are 100 % right, but with them come the .8, of which one right and three wrong.
    outcomes = [typed(0.9, right=True)] * 4 + [
        typed(0.8, right=right) for right in (True, False, False, False)
    ]
    chosen = choose_thresholds(outcomes, VOCABULARY, CONFIG).doc_type
    assert chosen.threshold == pytest.approx(0.9)


def test_unreachable_is_not_too_few() -> None:
    wrong = [typed(0.9, right=False)] * 6
    chosen = choose_thresholds(wrong, VOCABULARY, CONFIG).doc_type
    assert (chosen.threshold, chosen.source, chosen.coverage, chosen.precision) == (
        None,
        UNREACHABLE,
        0.0,
        None,
    )
    few = choose_thresholds(wrong[:3], VOCABULARY, CONFIG).doc_type
    assert (few.threshold, few.source) == (None, TOO_FEW)
    none = choose_thresholds([], VOCABULARY, CONFIG).doc_type
    assert (none.threshold, none.source, none.coverage, none.num_answers) == (None, TOO_FEW, None, 0)


def test_a_threshold_must_accept_enough_answers() -> None:
    # Two certain answers are right, and the four below are not: two are no evidence.
    outcomes = [typed(0.99, right=True)] * 2 + [typed(0.5, right=False)] * 4
    assert choose_thresholds(outcomes, VOCABULARY, CONFIG).doc_type.source == UNREACHABLE


def test_fields_with_few_answers_are_pooled() -> None:
    outcomes = [answer("taxId", confidence) for confidence in (0.9, 0.8, 0.7, 0.6)]
    outcomes += [answer("netAmount", 0.95, right=False)] * 5
    outcomes += [answer("dueDate", 0.8), answer("dueDate", 0.7), answer("plant", 0.6), answer("volume", 0.55)]
    outcomes += [answer("carrierName", 0.5, right=False)] * 3
    chosen = choose_thresholds(outcomes, VOCABULARY, CONFIG)
    assert chosen.fields["taxId"].source == REACHED
    assert chosen.fields["taxId"].threshold == pytest.approx(0.6)
    # Enough answers, all wrong: the others' success does not excuse it.
    assert chosen.fields["netAmount"].source == UNREACHABLE
    assert chosen.fields["netAmount"].threshold is None
    # Rare ones from the top: right .8 .7 .6 .55, wrong .5 three times: 4/7 with them.
    assert chosen.rare_fields.threshold == pytest.approx(0.55)
    for name in ("dueDate", "carrierName", "senderName"):
        assert chosen.fields[name].source == POOLED
        assert chosen.fields[name].threshold == chosen.rare_fields.threshold
    assert chosen.fields["senderName"].num_answers == 0


def test_rare_fields_without_evidence_go_to_a_person() -> None:
    frequent = [answer("taxId", 0.9)] * 10
    few = choose_thresholds([*frequent, *[answer("dueDate", 0.9)] * 3], VOCABULARY, CONFIG)
    assert (few.fields["dueDate"].threshold, few.fields["dueDate"].source) == (None, TOO_FEW)
    wrong = [answer(name, 0.9, right=False) for name in ("dueDate", "plant")] * 2
    bad = choose_thresholds([*frequent, *wrong], VOCABULARY, CONFIG)
    assert bad.rare_fields.source == UNREACHABLE
    assert bad.fields["dueDate"].threshold is None


def test_no_threshold_below_what_is_likelier_than_not() -> None:
    all_right = [typed(confidence, right=True) for confidence in (0.9, 0.8, 0.7, 0.6, 0.4, 0.1)]
    assert choose_thresholds(all_right, VOCABULARY, CONFIG).doc_type.threshold == pytest.approx(0.6)


def test_entity_confidence_is_its_least_certain_word() -> None:
    pages = [
        outcome(labels("B-taxId", "I-taxId"), word_confidences=[0.99, low]) for low in (0.6, 0.7, 0.8, 0.9)
    ]
    assert choose_thresholds(pages, VOCABULARY, CONFIG).fields["taxId"].threshold == pytest.approx(0.6)


def test_thresholds_on_other_data() -> None:
    chosen = choose_thresholds([answer("taxId", c) for c in (0.9, 0.8, 0.7, 0.6)], VOCABULARY, CONFIG)
    test = [
        answer("taxId", 0.9),
        answer("taxId", 0.65, right=False),
        answer("taxId", 0.3),
        answer("taxId", 0.2, right=False),
        answer("plant", 0.61),
    ]
    result = apply_thresholds(chosen, test, VOCABULARY)
    assert result["fields"]["taxId"]["coverage"] == 0.5
    assert result["fields"]["taxId"]["precision"] == 0.5
    # Of taxId one right and one wrong value is accepted; plant was never seen on val, and goes to a person.
    assert result["all_fields"] == {"num_answers": 5, "coverage": 0.4, "precision": 0.5}
    assert result["rare_fields"]["num_answers"] == 1
    assert result["rare_fields"]["coverage"] == 0.0
    assert result["fields"]["dueDate"]["coverage"] is None
    json.dumps(result, allow_nan=False)


def test_subtype_threshold_reads_purchase_orders_only() -> None:
    orders = [
        outcome(true_doc_type=PURCHASE_ORDER, true_po_subtype=2, po_subtype=2, po_subtype_confidence=0.8)
    ] * 4
    invoices = [outcome(po_subtype=9, po_subtype_confidence=0.99)] * 10
    chosen = choose_thresholds(orders + invoices, VOCABULARY, CONFIG).po_subtype
    assert (chosen.num_answers, chosen.precision) == (4, 1.0)
    assert chosen.threshold == pytest.approx(0.8)


def test_json_survives_the_round_trip_to_the_bit() -> None:
    chosen = choose_thresholds([answer("taxId", 0.99999994)] * 4, VOCABULARY, CONFIG)
    read = json.loads(json.dumps(chosen.to_json(VOCABULARY), allow_nan=False))
    assert read["vocabulary_digest"] == VOCABULARY.digest
    assert read["chosen_on"] == "val"
    assert read["config"]["field_precision"] == 0.75
    # A rounded threshold would let nothing, or too much, through.
    assert read["fields"]["taxId"]["threshold"] == chosen.fields["taxId"].threshold
    assert len(read["fields"]) == len(VOCABULARY.field_names)


@pytest.mark.parametrize(
    "wrong",
    [{"field_precision": 95}, {"doc_type_precision": 0.0}, {"min_answers": 0}, {"min_confidence": 1.0}],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ThresholdConfig(**wrong)  # type: ignore[arg-type]
