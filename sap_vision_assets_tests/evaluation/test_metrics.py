import numpy as np
import pytest
from seqeval.metrics.v1 import precision_recall_fscore_support as seqeval_scores
from seqeval.scheme import IOB2
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import precision_recall_fscore_support as sklearn_scores

from sap_vision_assets.evaluation.metrics import (
    accuracy_interval,
    bootstrap_interval,
    classification_scores,
    wilson_interval,
)
from sap_vision_assets.evaluation.scores import score_outcomes
from sap_vision_assets_tests.evaluation.helpers import (
    INVOICE,
    PURCHASE_ORDER,
    SALES_ORDER,
    VOCABULARY,
    labels,
    outcome,
)


def test_classification_by_hand() -> None:
    # truth:     a a a b b c      (d never occurs, and is predicted once)
    # predicted: a a b b b d
    scores = classification_scores([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 3], ["a", "b", "c", "d"])
    a, b, c, d = scores.per_class
    assert (a.precision, a.recall, a.f1, a.support) == (1.0, pytest.approx(2 / 3), pytest.approx(0.8), 3)
    assert (b.precision, b.recall, b.f1) == (pytest.approx(2 / 3), 1.0, pytest.approx(0.8))
    assert (c.precision, c.recall, c.f1, c.support, c.num_predicted) == (None, 0.0, 0.0, 1, 0)
    assert (d.precision, d.recall, d.f1, d.support, d.num_predicted) == (None, None, None, 0, 1)
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.f1_macro == pytest.approx((0.8 + 0.8 + 0) / 3)
    assert scores.f1_weighted == pytest.approx((3 * 0.8 + 2 * 0.8 + 0) / 6)
    assert scores.precision_macro == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert scores.recall_weighted == pytest.approx(4 / 6)
    assert scores.num_classes_with_support == 3
    assert scores.confusion == ((2, 1, 0, 0), (0, 2, 0, 0), (0, 0, 0, 1), (0, 0, 0, 0))


def test_nothing_to_score_is_undefined_not_zero() -> None:
    scores = classification_scores([], [], ["a", "b"])
    assert scores.num_scored == 0
    assert scores.accuracy is None
    assert scores.accuracy_interval is None
    assert [scores.f1_macro, scores.f1_weighted, scores.precision_macro, scores.recall_weighted] == [None] * 4
    assert [row.f1 for row in scores.per_class] == [None, None]


def test_classification_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        truth = rng.integers(0, 6, size=60)
        predicted = np.where(rng.random(60) < 0.6, truth, rng.integers(0, 8, size=60))
        scores = classification_scores(truth, predicted, list("abcdefgh"))
        assert scores.confusion == tuple(
            tuple(row) for row in sklearn_confusion(truth, predicted, labels=range(8)).tolist()
        )
        supported = sorted(set(truth.tolist()))
        for average, ours in (
            ("macro", (scores.precision_macro, scores.recall_macro, scores.f1_macro)),
            ("weighted", (scores.precision_weighted, scores.recall_weighted, scores.f1_weighted)),
        ):
            theirs = sklearn_scores(truth, predicted, labels=supported, average=average, zero_division=0.0)
            assert ours == pytest.approx(theirs[:3])


def test_entity_scores_by_hand() -> None:
    # Document 1: one of two right, one with a word too many. Document 2: one missed, one invented.
    first = outcome(
        labels("B-documentNumber", "O", "B-senderName", "I-senderName", "O"),
        labels("B-documentNumber", "O", "B-senderName", "I-senderName", "I-senderName"),
    )
    second = outcome(labels("B-documentNumber", "O"), labels("O", "B-taxId"))
    scores = score_outcomes([first, second], VOCABULARY).fields
    assert (scores.support, scores.num_predicted, scores.num_correct) == (3, 3, 1)
    assert (scores.precision, scores.recall, scores.f1) == (pytest.approx(1 / 3),) * 3
    by_name = {row.name: row for row in scores.per_field}
    assert by_name["documentNumber"].precision == 1.0
    assert by_name["documentNumber"].recall == 0.5
    assert by_name["documentNumber"].f1 == pytest.approx(2 / 3)
    assert by_name["senderName"].f1 == 0.0
    # Predicted, but without support: undefined, and it still costs the micro precision above.
    assert (by_name["taxId"].precision, by_name["taxId"].f1, by_name["taxId"].num_predicted) == (
        None,
        None,
        1,
    )
    assert scores.f1_macro == pytest.approx((2 / 3 + 0) / 2)
    assert scores.f1_weighted == pytest.approx((2 * 2 / 3 + 1 * 0) / 3)
    assert scores.num_fields_with_support == 2


def test_entities_are_counted_per_document() -> None:
    # The last word of one page and the first of the next are not one entity.
    begin, inside = labels("B-netAmount", "I-netAmount")
    scores = score_outcomes([outcome([0, begin]), outcome([inside, 0])], VOCABULARY).fields
    assert (scores.support, scores.num_predicted) == (1, 1)


def test_entity_scores_agree_with_seqeval() -> None:
    rng = np.random.default_rng(2)
    num_labels = 7  # three fields; invalid sequences on both sides
    for _ in range(20):
        documents = []
        for _ in range(12):
            truth = rng.integers(0, num_labels, size=rng.integers(1, 15))
            predicted = np.where(rng.random(len(truth)) < 0.8, truth, rng.integers(0, num_labels, len(truth)))
            documents.append((truth.tolist(), predicted.tolist()))
        ours = score_outcomes([outcome(*document) for document in documents], VOCABULARY).fields
        true_names, predicted_names = (
            [[VOCABULARY.labels[one] for one in document[side]] for document in documents] for side in (0, 1)
        )
        for average, expected in (
            ("micro", (ours.precision, ours.recall, ours.f1)),
            ("macro", (ours.precision_macro, ours.recall_macro, ours.f1_macro)),
            ("weighted", (ours.precision_weighted, ours.recall_weighted, ours.f1_weighted)),
        ):
            theirs = seqeval_scores(
                true_names, predicted_names, average=average, scheme=IOB2, zero_division=0
            )
            assert expected == pytest.approx(theirs[:3])
        precision, recall, f1, support = seqeval_scores(
            true_names, predicted_names, average=None, scheme=IOB2, zero_division=0
        )
        # seqeval lists fields by name.
        rows = sorted((row for row in ours.per_field if row.support), key=lambda row: row.name)
        assert [row.support for row in rows] == support.tolist()
        assert [row.precision or 0.0 for row in rows] == pytest.approx(precision.tolist())
        assert [row.recall for row in rows] == pytest.approx(recall.tolist())
        assert [row.f1 for row in rows] == pytest.approx(f1.tolist())


def test_words_that_no_window_scored_are_misses() -> None:
    truth = labels("B-documentNumber", "O", "B-senderName", "I-senderName")
    seen = outcome(truth)
    cut = outcome(truth, labels("B-documentNumber", "O", "O", "O"), unscored=(2, 3))
    assert score_outcomes([seen], VOCABULARY).fields.f1 == 1.0
    scores = score_outcomes([cut], VOCABULARY)
    assert scores.num_unscored_words == 2
    assert scores.fields.recall == 0.5
    assert scores.fields.precision == 1.0
    assert scores.fields.f1 == pytest.approx(2 / 3)


def test_po_subtype_is_scored_only_where_there_is_one() -> None:
    outcomes = [
        outcome(true_doc_type=INVOICE, po_subtype=0),
        outcome(true_doc_type=PURCHASE_ORDER, doc_type=PURCHASE_ORDER, po_subtype=0),  # not labelled
        outcome(true_doc_type=PURCHASE_ORDER, doc_type=PURCHASE_ORDER, true_po_subtype=3, po_subtype=3),
        # Scored by its true subtype, though the document type was taken for another.
        outcome(true_doc_type=PURCHASE_ORDER, doc_type=SALES_ORDER, true_po_subtype=3, po_subtype=5),
    ]
    scores = score_outcomes(outcomes, VOCABULARY)
    assert scores.po_subtype.num_scored == 2
    assert scores.po_subtype.accuracy == 0.5
    assert scores.doc_type.accuracy == 0.75
    assert scores.po_subtype.per_class[0].f1 is None
    summary = score_outcomes(outcomes[:2], VOCABULARY).summary()
    assert summary["po_subtype_accuracy"] is None
    assert summary["num_po_subtype_documents"] == 0
    assert summary["field_f1"] is None


def test_bootstrap_has_the_width_of_theory() -> None:
    # 360 of 400 right: standard error sqrt(0.9 * 0.1 / 400) = 0.015, so 0.9 +- 0.0294.
    is_correct = np.arange(400) >= 40
    interval = accuracy_interval(is_correct)
    assert interval is not None
    assert interval.method == "bootstrap"
    assert interval.low == pytest.approx(0.9 - 0.0294, abs=0.004)
    assert interval.high == pytest.approx(0.9 + 0.0294, abs=0.004)
    assert accuracy_interval(is_correct) == interval


def test_bootstrap_resamples_documents_not_entities() -> None:
    # 40 documents of 10 entities, half all right, half all wrong: as uncertain as 40 coins, not as 400.
    correct = np.repeat([10, 0], 20)
    interval = bootstrap_interval(2 * correct, np.full(40, 20))
    assert interval is not None
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), abs=0.03)


def test_all_right_is_not_certainty() -> None:
    # Wilson, 10 of 10: low = 10 / (10 + 1.96**2) = 0.7225.
    interval = accuracy_interval(np.ones(10, bool))
    assert interval is not None
    assert (interval.low, interval.high, interval.method) == (pytest.approx(0.7225, abs=1e-4), 1.0, "wilson")
    assert wilson_interval(0, 10).high == pytest.approx(0.2775, abs=1e-4)
    assert accuracy_interval(np.ones(1, bool)) is None
    assert bootstrap_interval(np.array([2, 2]), np.array([2, 2])) is None
