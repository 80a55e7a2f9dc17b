from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sap_vision_assets.evaluation.metrics import classification_scores
from sap_vision_assets.evaluation.pictures import (
    CORRECT,
    MISSED,
    THUMBNAIL_BYTES_MAX,
    WRONG,
    draw_confusion,
    draw_page,
    thumbnail,
)
from sap_vision_assets_tests.evaluation.helpers import VOCABULARY, labels, outcome

BOXES = [(100, 100, 200, 120), (210, 100, 300, 120), (100, 500, 200, 520), (100, 800, 200, 820)]


def has_colour(
    page: Image.Image, colour: tuple[int, int, int], box_norm1000: tuple[int, int, int, int]
) -> bool:
    """Whether the outline's colour occurs within 6 px of the box."""
    x1, y1, x2, y2 = (
        value * size // 1000 for value, size in zip(box_norm1000, (1400, 1400) * 2, strict=True)
    )
    part = np.asarray(page.crop((x1 - 6, y1 - 6, x2 + 6, y2 + 6))).astype(int)
    return bool((np.abs(part - np.array(colour)).max(axis=-1) <= 2).any())


def test_page_is_marked_green_red_and_orange() -> None:
    result = outcome(
        labels("B-senderName", "I-senderName", "O", "B-taxId"),
        labels("B-senderName", "I-senderName", "B-plant", "O"),
    )
    drawn = draw_page(Image.new("RGB", (500, 500), "white"), BOXES, result, VOCABULARY.field_names)
    # 1400 px wide, cut 60 px below the last word at 820 / 1000.
    assert drawn.size == (1400, 1208)
    assert has_colour(drawn, CORRECT, (100, 100, 300, 120))
    assert has_colour(drawn, WRONG, BOXES[2])
    assert has_colour(drawn, MISSED, BOXES[3])
    assert not has_colour(drawn, WRONG, BOXES[3])
    assert not has_colour(drawn, CORRECT, BOXES[2])


def test_a_receipt_is_drawn_less_wide_so_that_its_tags_stay_readable() -> None:
    drawn = draw_page(Image.new("RGB", (500, 2500), "white"), [], outcome([]), VOCABULARY.field_names)
    assert drawn.size == (448, 2240)


def test_a_tag_hides_a_heading_rather_than_a_marked_value() -> None:
    # The tag of the number in the middle finds words on all sides; most free is the place left of it.
    boxes = [(100, 55, 140, 98), (100, 100, 140, 118), (141, 100, 300, 118), (100, 120, 140, 138)]
    boxes.append((0, 100, 85, 118))
    result = outcome(labels("O", "B-plant", "B-taxId", "B-netAmount", "B-senderName"))
    drawn = draw_page(Image.new("RGB", (500, 500), "white"), boxes, result, VOCABULARY.field_names)

    def has_tag(box: tuple[int, int, int, int]) -> bool:
        x1, y1, x2, y2 = (value * 1400 // 1000 for value in box)
        part = np.asarray(drawn.crop((x1 + 6, y1 + 6, x2 - 6, y2 - 6))).astype(int)
        return bool((np.abs(part - np.array(CORRECT)).max(axis=-1) <= 40).any())

    assert has_tag(boxes[0])
    assert not any(has_tag(box) for box in boxes[1:])


def test_page_without_entities_is_the_page() -> None:
    page = Image.new("RGB", (700, 700), "white")
    drawn = draw_page(page, BOXES, outcome([0] * 4), VOCABULARY.field_names)
    assert drawn.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("num_classes", [1, 35])
def test_confusion_matrix_is_a_picture(num_classes: int, tmp_path: Path) -> None:
    truth = np.arange(num_classes).repeat(3)
    predicted = truth.copy()
    predicted[0] = num_classes - 1
    scores = classification_scores(truth, predicted, VOCABULARY.po_subtype_names[:num_classes])
    draw_confusion(scores, "Classes", tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as picture:
        assert min(picture.size) > 600
        # The diagonal is dark blue, the background white.
        assert picture.convert("L").getextrema()[0] < 80
        assert picture.convert("L").getextrema()[1] == 255


def test_confusion_matrix_of_nothing(tmp_path: Path) -> None:
    draw_confusion(classification_scores([], [], ["a", "b"]), "Classes", tmp_path / "none.png")
    with Image.open(tmp_path / "none.png") as picture:
        picture.verify()


def test_thumbnail_of_the_worst_case_is_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(1500, 1400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    encoded = thumbnail(tmp_path / "noise.png")
    assert encoded.startswith(b"\xff\xd8\xff")
    assert len(encoded) < THUMBNAIL_BYTES_MAX


def test_only_the_first_of_a_table_column_is_named() -> None:
    page = Image.new("RGB", (500, 500), "white")

    def dark_green(*names: str) -> int:
        """How much of the page the names and outlines take."""
        drawn = draw_page(page, BOXES, outcome(labels(*names)), VOCABULARY.field_names)
        pixels = np.asarray(drawn).astype(int)
        # Tags are the outline's colour, a little transparent.
        return int((np.abs(pixels - np.array(CORRECT)).max(axis=-1) <= 40).sum())

    column = dark_green("B-lineItem.quantity", "O", "B-lineItem.quantity", "B-lineItem.quantity")
    apart = dark_green("B-lineItem.quantity", "O", "B-lineItem.unitPrice", "B-lineItem.discount")
    assert column < 0.6 * apart
    # The document's own fields are named each time.
    assert dark_green("B-plant", "O", "B-plant", "B-plant") > 1.5 * dark_green("B-plant", "O", "O", "O")
