from sap_vision_assets.evaluation import analysis
from sap_vision_assets.evaluation.metrics import classification_scores
from sap_vision_assets.evaluation.scores import score_outcomes
from sap_vision_assets_tests.evaluation.helpers import (
    INVOICE,
    PURCHASE_ORDER,
    SALES_ORDER,
    VOCABULARY,
    labels,
    outcome,
)

#            0              1              2              3    4       5          6          7
TRUTH = labels(
    "B-senderName", "I-senderName", "I-senderName", "O", "B-taxId", "B-plant", "I-plant", "B-volume"
)  # fmt: skip
PREDICTED = labels(
    "B-senderName", "I-senderName", "O", "B-dueDate", "B-netAmount", "B-taxRate", "O", "O"
)  # fmt: skip


def test_entity_errors_by_kind() -> None:
    # senderName cut short; dueDate invented; taxId taken for netAmount; taxRate on a part of plant;
    # volume overlooked.
    outcomes = [outcome(TRUTH, PREDICTED)]
    assert analysis.entity_errors(outcomes) == {
        "wrong_field": 1,
        "wrong_extent": 1,
        "overlaps_other_field": 1,
        "invented": 1,
        "overlooked": 1,
    }
    assert analysis.field_confusions(outcomes, VOCABULARY) == [
        {"truth": "", "predicted": "dueDate", "count": 1},
        {"truth": "plant", "predicted": "taxRate", "count": 1},
        {"truth": "taxId", "predicted": "netAmount", "count": 1},
        {"truth": "volume", "predicted": "", "count": 1},
    ]


def test_groups_by_type_and_length() -> None:
    outcomes = [
        outcome([0] * 10),
        outcome(labels("B-taxId", *["O"] * 49), labels(*["O"] * 50)),
        outcome([0] * 900, true_doc_type=SALES_ORDER, doc_type=INVOICE),
    ]
    by_type = analysis.by_doc_type(outcomes, VOCABULARY)
    assert [(row["doc_type"], row["num_documents"], row["doc_type_accuracy"]) for row in by_type] == [
        ("INVOICE", 2, 1.0),
        ("SALES_ORDER", 1, 0.0),
    ]
    assert [row["field_f1"] for row in by_type] == [0.0, None]
    by_length = analysis.by_num_words(outcomes, VOCABULARY)
    assert [row["num_words"] for row in by_length] == ["0 to 49", "50 to 99", "800 or more"]


def test_confusions_are_ordered_by_count() -> None:
    scores = classification_scores([0, 0, 0, 1, 2, 2], [1, 1, 0, 1, 0, 2], ["a", "b", "c"])
    assert analysis.confusion_pairs(scores) == [
        {"truth": "a", "predicted": "b", "count": 2, "share": 2 / 3},
        {"truth": "c", "predicted": "a", "count": 1, "share": 0.5},
    ]
    assert analysis.confusion_pairs(scores, limit=1)[0]["truth"] == "a"


def test_worst_fields_count_missed_and_spurious() -> None:
    rows = analysis.worst_fields(score_outcomes([outcome(TRUTH, PREDICTED)] * 2, VOCABULARY).fields)
    assert rows[0] == {"name": "senderName", "num_missed": 2, "num_spurious": 2, "f1": 0.0, "support": 2}
    # Never labelled, yet predicted: undefined, and still a cost.
    assert {"name": "dueDate", "num_missed": 0, "num_spurious": 2, "f1": None, "support": 0} in rows
    assert len(rows) == 7


def test_worst_documents_and_examples() -> None:
    right = [outcome(TRUTH, document_id=f"right_{index}") for index in range(3)]
    order = outcome(
        TRUTH,
        document_id="right_order",
        true_doc_type=PURCHASE_ORDER,
        doc_type=PURCHASE_ORDER,
        true_po_subtype=1,
        po_subtype=1,
    )
    one_error = outcome(TRUTH, document_id="b_one", doc_type=SALES_ORDER)
    many = outcome(TRUTH, PREDICTED, document_id="a_many")
    outcomes = [*right, order, one_error, many]
    rows = analysis.worst_documents(outcomes, VOCABULARY)
    assert [(row["document_id"], row["num_errors"]) for row in rows] == [("a_many", 8), ("b_one", 1)]
    assert (rows[0]["num_correct"], rows[0]["num_missed"], rows[0]["num_spurious"]) == (0, 4, 4)
    # Two worst, then typical ones; the one of a type not yet shown comes first.
    examples = [chosen.document_id for chosen in analysis.pick_examples(outcomes, 4)]
    assert examples == ["a_many", "b_one", "right_order", "right_0"]
    assert analysis.pick_examples([outcome([])], 4) == []
