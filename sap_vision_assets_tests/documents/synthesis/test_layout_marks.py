"""Stamps, signatures, emblems, barcodes and till slips."""

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sap_vision_assets.documents.synthesis import layout
from sap_vision_assets.documents.synthesis.content import Text
from sap_vision_assets.documents.synthesis.fonts import FAMILIES
from sap_vision_assets.documents.synthesis.logos import logo
from sap_vision_assets.documents.synthesis.marks import barcode, signature
from sap_vision_assets.documents.synthesis.skeletons import arrangements
from sap_vision_assets.documents.synthesis.slips import choose_slip_skeleton, may_be_slip
from sap_vision_assets.documents.synthesis.stamps import place_stamp
from sap_vision_assets.documents.synthesis.styles import Style, choose_style
from sap_vision_assets.documents.synthesis.typesetting import Block, paint
from sap_vision_assets_tests.documents.synthesis.sample_content import make_sample_content

BOLD = FAMILIES["train"][0].bold


def ink_of(block: Block) -> np.ndarray:
    image = Image.new("RGB", (400, 200), "white")
    paint(block, image, 20, 20)
    return 255 - np.asarray(image.convert("L"), dtype=int)


def a_style(seed: int = 0) -> Style:
    return choose_style(random.Random(seed), "train", characters=frozenset("abc"), px_per_pt=100 / 72)


def test_words_of_a_stamp_lie_on_its_ink() -> None:
    for seed in range(10):
        image = Image.new("RGB", (500, 400), "white")
        words = place_stamp("RECEIVED 12 MAR 2024", image, random.Random(seed), BOLD, 14)
        assert [word.text for word in words] == ["RECEIVED", "12", "MAR", "2024"]
        grey = np.asarray(image.convert("L"))
        for word in words:
            left, top, right, bottom = (round(value) for value in word.box_px)
            inside = (grey[top:bottom, left:right] < 200).sum()
            # Enlarging the box finds hardly more of this word: the frame and the neighbours are further away.
            around = (grey[top - 1 : bottom + 1, left - 1 : right + 1] < 200).sum()
            assert inside > 30
            assert around - inside < 0.12 * inside


def test_a_full_page_gets_no_stamp() -> None:
    image = Image.new("RGB", (500, 400), "black")
    assert place_stamp("PAID", image, random.Random(0), BOLD, 14) == []
    assert image.getextrema() == ((0, 0), (0, 0), (0, 0))


def test_stamps_cover_no_ink() -> None:
    image = Image.new("RGB", (500, 400), "white")
    image.paste("black", (0, 0, 500, 250))
    words = place_stamp("PAID", image, random.Random(0), BOLD, 14)
    assert words[0].box_px[1] > 250


def test_signatures_differ_between_names_and_stay_inside() -> None:
    drawn = [ink_of(signature(seed, 200, 50, (0, 0, 0))) for seed in range(20)]
    assert len({ink.tobytes() for ink in drawn}) == 20
    for ink in drawn:
        assert 200 < (ink > 60).sum() < 3000
        assert ink.sum() == ink[20:70, 20:220].sum()
    assert (ink_of(signature(3, 200, 50, (0, 0, 0))) == drawn[3]).all()


def test_emblems_differ_and_keep_to_their_square() -> None:
    drawn = [ink_of(logo(seed, 40, (0, 60, 120))) for seed in range(60)]
    assert len({ink.tobytes() for ink in drawn}) > 20
    for ink in drawn:
        assert (ink > 30).sum() > 200
        assert ink.sum() == ink[20:60, 20:60].sum()


def test_a_barcode_is_code_128_and_carries_its_label() -> None:
    image = Image.new("RGB", (400, 120), "white")
    block = barcode(Text(text="RE-4711", field="documentNumber"), a_style(), 300, 40)
    (word,) = paint(block, image, 10, 10)
    assert (word.text, word.label) == ("RE-4711", "B-documentNumber")
    row = "".join("1" if value < 128 else "0" for value in np.asarray(image.convert("L"))[30, 10:])
    module = row.index("0") // 2
    modules = row[: round(block.width) : module]
    # Start B and the stop pattern of Code 128; all other symbols are 11 modules wide.
    assert modules.startswith("11010010000")
    assert modules.endswith("1100011101011")
    assert (len(modules) - 13) % 11 == 0


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_slips_use_arrangements_of_their_split(split: str) -> None:
    chosen = {choose_slip_skeleton(random.Random(seed), split).arrangement for seed in range(50)}
    assert len(chosen) > 5
    assert chosen <= set(arrangements(split))


def test_an_invoice_on_a_till_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SLIP_SHARE", 1.0)
    content = replace(make_sample_content(random.Random(1), num_rows=4), signatories=(), stamps=())
    assert may_be_slip(content)
    for seed in range(12):
        page = layout.lay_out(content, rng=random.Random(seed), split="train", dpi=100)
        assert 76 / 25.4 * 100 - 1 <= page.image.width <= 105 / 25.4 * 100 + 1
        assert page.labels.count("B-lineItem.quantity") == 4
        quantity, price = (page.labels.index(f"B-lineItem.{name}") for name in ("quantity", "unitPrice"))
        # A row's numbers stand on one line, from left to right.
        assert page.boxes_px[quantity][2] < page.boxes_px[price][0]
        assert page.boxes_px[quantity][1] == pytest.approx(page.boxes_px[price][1], abs=4)
        bottom = max(box[3] for box in page.boxes_px)
        assert page.image.height * 0.85 < bottom < page.image.height


def test_a_contract_is_never_on_a_till_slip() -> None:
    content = make_sample_content(random.Random(1), num_rows=4)
    assert not may_be_slip(content)
    assert not may_be_slip(replace(content, signatories=(), doc_type="CONTRACT"))
    assert not may_be_slip(replace(make_sample_content(random.Random(1), num_rows=30), signatories=()))
