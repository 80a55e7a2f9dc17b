"""From labels and probabilities to fields, thresholds and line items, on a page made by hand."""

import numpy as np
import pytest

from sap_vision_assets.evaluation.stitching import DocumentPrediction
from sap_vision_assets.inference.results import FieldAnswer, PageAnswer, Thresholds, assemble, group_rows
from sap_vision_assets.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
WORDS = ["Invoice", "No.", "4711", "Blue", "pen", "10", "12.50", "Ink", "3", "Total", "20.00"]
LABELS = [
    *("O", "O", "B-documentNumber"),
    *("B-lineItem.description", "I-lineItem.description", "B-lineItem.quantity", "B-lineItem.netAmount"),
    *("B-lineItem.description", "B-lineItem.quantity"),
    *("O", "B-grossAmount"),
]
CONFIDENCES = [0.9, 0.9, 0.8, 0.7, 0.6, 0.5, 0.95, 0.9, 0.9, 0.9, 0.99]
BOXES = [
    *((50, 50, 150, 70), (160, 50, 190, 70), (200, 50, 260, 70)),
    # The item's second row of words is printed a little higher than its first word.
    *((50, 300, 120, 320), (130, 300, 170, 320), (400, 296, 420, 316), (600, 302, 660, 322)),
    *((50, 340, 90, 360), (400, 345, 410, 365)),
    *((500, 600, 560, 620), (600, 600, 660, 620)),
]


def prediction(doc_type: str = "INVOICE") -> DocumentPrediction:
    doc_types = np.full(15, 0.01, np.float32)
    doc_types[VOCABULARY.doc_type_names.index(doc_type)] = 0.86
    po_subtypes = np.zeros(35, np.float32)
    po_subtypes[VOCABULARY.po_subtype_names.index("BLANKET")] = 0.75
    return DocumentPrediction(
        document_id="page",
        doc_type_probabilities=doc_types,
        po_subtype_probabilities=po_subtypes,
        word_labels=np.array([VOCABULARY.labels.index(label) for label in LABELS], np.int16),
        word_confidences=np.array(CONFIDENCES, np.float32),
        word_is_scored=np.ones(len(WORDS), bool),
    )


def answer(thresholds: Thresholds, doc_type: str = "INVOICE") -> PageAnswer:
    return assemble(prediction(doc_type), WORDS, BOXES, VOCABULARY, thresholds)


def texts(rows: tuple[tuple[FieldAnswer, ...], ...]) -> list[list[str]]:
    return [[field.text for field in row] for row in rows]


def test_header_fields_and_line_items_are_told_apart() -> None:
    page = answer(Thresholds(is_known=False))
    assert [(field.field, field.text) for field in page.fields] == [
        ("documentNumber", "4711"),
        ("grossAmount", "20.00"),
    ]
    assert [[(field.field, field.text) for field in row] for row in page.line_items] == [
        [
            ("lineItem.description", "Blue pen"),
            ("lineItem.quantity", "10"),
            ("lineItem.netAmount", "12.50"),
        ],
        [("lineItem.description", "Ink"), ("lineItem.quantity", "3")],
    ]
    description = page.line_items[0][0]
    assert description.boxes == ((50, 300, 120, 320), (130, 300, 170, 320))
    assert description.confidence == pytest.approx(0.6)  # of "pen", its least certain word
    assert page.num_words == 11


def test_only_a_purchase_order_has_a_subtype() -> None:
    thresholds = Thresholds(doc_type=0.8, po_subtype=0.8)
    invoice = answer(thresholds)
    assert (invoice.doc_type.value, invoice.po_subtype) == ("INVOICE", None)
    assert invoice.doc_type.confidence == pytest.approx(0.86)
    order = answer(thresholds, "PURCHASE_ORDER")
    assert order.doc_type.value == "PURCHASE_ORDER"
    assert order.po_subtype is not None
    assert (order.po_subtype.value, order.po_subtype.confidence) == ("BLANKET", 0.75)
    assert (order.doc_type.above_threshold, order.po_subtype.above_threshold) == (True, False)


def test_thresholds_decide_field_by_field() -> None:
    page = answer(Thresholds(fields={"documentNumber": 0.8, "grossAmount": None, "lineItem.quantity": 0.6}))
    assert {field.field: field.above_threshold for field in page.fields} == {
        "documentNumber": True,  # 0.8 reaches 0.8
        "grossAmount": False,  # no confidence is enough
    }
    quantities = [row[1].above_threshold for row in page.line_items]
    assert quantities == [False, True]  # 0.5 and 0.9
    assert not page.doc_type.above_threshold


def test_without_thresholds_nobody_knows() -> None:
    page = answer(Thresholds(is_known=False), "PURCHASE_ORDER")
    everything = [
        page.doc_type,
        page.po_subtype,
        *page.fields,
        *(field for row in page.line_items for field in row),
    ]
    assert {found.above_threshold for found in everything if found} == {None}


def test_json_has_the_keys_that_callers_read() -> None:
    record = answer(Thresholds(is_known=False)).to_json()
    assert set(record) == {"doc_type", "po_subtype", "fields", "line_items", "num_words"}
    assert set(record["fields"][0]) == {"field", "text", "confidence", "above_threshold", "boxes"}
    assert record["doc_type"]["value"] == "INVOICE"


def field(text: str, *boxes: tuple[int, int, int, int]) -> FieldAnswer:
    return FieldAnswer(
        field="lineItem.description", text=text, confidence=1.0, above_threshold=None, boxes=boxes
    )


@pytest.mark.parametrize(
    ("answers", "rows"),
    [
        ([], []),
        # Heights 20 and 20, overlap 10: half is enough; 9 is not.
        ([field("a", (0, 0, 9, 20)), field("b", (50, 10, 59, 30))], [["a", "b"]]),
        ([field("a", (0, 0, 9, 20)), field("b", (50, 11, 59, 31))], [["a"], ["b"]]),
        # A small print beside a tall one: overlap 10 of its own height 10.
        ([field("a", (50, 0, 59, 60)), field("b", (0, 40, 9, 50))], [["b", "a"]]),
        # A description that runs on to the next item's line stays in the row of its first word.
        (
            [
                field("a", (0, 0, 9, 20), (0, 30, 9, 50)),
                field("b", (50, 0, 59, 20)),
                field("c", (50, 30, 59, 50)),
            ],
            [["a", "b"], ["c"]],
        ),
        # Rows do not chain: c overlaps b, but not the row's first.
        (
            [field("a", (0, 0, 9, 20)), field("b", (50, 10, 59, 30)), field("c", (80, 20, 89, 40))],
            [["a", "b"], ["c"]],
        ),
        # Flat boxes of one line, and of two.
        ([field("a", (0, 5, 9, 5)), field("b", (50, 5, 59, 5))], [["a", "b"]]),
        ([field("a", (0, 5, 9, 5)), field("b", (50, 6, 59, 6))], [["a"], ["b"]]),
    ],
)
def test_fields_beside_each_other_are_a_row(answers: list[FieldAnswer], rows: list[list[str]]) -> None:
    assert texts(group_rows(answers)) == rows
    assert texts(group_rows(answers[::-1])) == rows
