import random

import numpy as np
import pytest
from PIL import Image

from sap_vision_assets.documents.synthesis.damage import Box, Damage, apply_damage, choose_damage, encode

SIZE = (827, 1169)
BOXES: list[Box] = [
    (100, 90, 160, 110),
    (600, 120, 700, 135),
    (300, 580, 420, 600),
    (90, 1050, 130, 1070),
    (640, 1000, 760, 1020),
]


def page_with_bars(mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, SIZE, "white")
    for left, top, right, bottom in BOXES:
        image.paste("black", (int(left), int(top), int(right), int(bottom)))
    return image


def centre_of_ink(image: Image.Image, box: Box, reach: float = 6) -> tuple[float, float]:
    """Centroid of the dark pixels in and around the box."""
    left, top, right, bottom = (
        int(box[0] - reach),
        int(box[1] - reach),
        int(box[2] + reach),
        int(box[3] + reach),
    )
    ink = 255.0 - np.asarray(image.convert("L"), dtype=float)[top:bottom, left:right]
    ink[ink < 60] = 0
    y, x = np.mgrid[top:bottom, left:right]
    return float((x * ink).sum() / ink.sum()) + 0.5, float((y * ink).sum() / ink.sum()) + 0.5


@pytest.mark.parametrize(
    "damage",
    [
        Damage(degrees=2.0),
        Damage(degrees=-1.3, shift_x=0.01, shift_y=-0.006),
        Damage(shear=0.004, stretch=1.01),
        Damage(keystone=0.012, degrees=0.5),
        Damage(degrees=1.0, grey=True, blur=0.8, noise=5, fade=0.2, paper=235, shadow=0.2, shadow_angle=1.0),
    ],
)
def test_boxes_move_with_the_ink(damage: Damage) -> None:
    image, boxes = apply_damage(page_with_bars(), BOXES, damage)
    assert image.size == SIZE
    for before, after in zip(BOXES, boxes, strict=True):
        x, y = centre_of_ink(image, after)
        assert (after[0] + after[2]) / 2 == pytest.approx(x, abs=1.0)
        assert (after[1] + after[3]) / 2 == pytest.approx(y, abs=1.0)
        # Worst seen: 0.4 pixels; a box that had stayed behind would be off by this much:
        assert before != after


def test_two_degrees_move_the_page_edge_by_a_known_distance() -> None:
    """A point 413.5 px right of the centre goes 413.5 * sin(2 degrees) px down as the page turns."""
    _, (box,) = apply_damage(page_with_bars(), [(827.0, 584.5, 827.0, 584.5)], Damage(degrees=2.0))
    assert box[1] == pytest.approx(584.5 + 413.5 * np.sin(np.radians(2)), abs=0.01)


def test_no_damage_leaves_the_page_as_it_is() -> None:
    image, boxes = apply_damage(page_with_bars(), BOXES, Damage())
    assert image.tobytes() == page_with_bars().tobytes()
    assert boxes == BOXES


def test_boxes_stay_inside_the_page() -> None:
    _, boxes = apply_damage(page_with_bars(), [(0, 0, 827, 1169)], Damage(degrees=2, shift_x=0.05))
    # The left edge: 413.5 * (1 - cos) + 827 * 0.05 - 584.5 * sin = 21.2; the other three leave the page.
    assert boxes == [(pytest.approx(21.2, abs=0.01), 0.0, 827.0, 1169.0)]


@pytest.mark.parametrize("mode", ["grey", "colour"])
def test_each_kind_of_damage_changes_pixels(mode: str) -> None:
    grey = mode == "grey"
    plain, _ = apply_damage(page_with_bars(), BOXES, Damage(grey=grey))
    for damage in (
        Damage(grey=grey, blur=0.6),
        Damage(grey=grey, fade=0.2),
        Damage(grey=grey, paper=240),
        Damage(grey=grey, shadow=0.2),
        Damage(grey=grey, noise=3),
        Damage(grey=grey, specks=20),
        Damage(grey=grey, streaks=1),
        Damage(grey=grey, punch_holes=True),
        Damage(grey=grey, fax=True, noise=40),
    ):
        image, _ = apply_damage(page_with_bars(), BOXES, damage)
        assert image.mode == ("L" if grey or damage.fax else "RGB")
        assert image.tobytes() != plain.convert(image.mode).tobytes(), damage


def test_ink_stays_darker_than_paper() -> None:
    """The text of every page stays legible: bars against paper, at all strengths that are ever chosen."""
    for seed in range(60):
        damage = choose_damage(random.Random(seed))
        image, boxes = apply_damage(page_with_bars(), BOXES, damage)
        grey = np.asarray(image.convert("L"), dtype=float)
        for left, top, right, bottom in boxes:
            inside = np.median(grey[round(top) + 5 : round(bottom) - 5, round(left) + 5 : round(right) - 5])
            paper = np.median(grey[round(top) - 12 : round(top) - 4, round(left) : round(right)])
            assert paper - inside > 70, damage


def test_a_third_of_the_pages_is_clean_and_few_are_damaged_heavily() -> None:
    chosen = [choose_damage(random.Random(seed)) for seed in range(2000)]
    clean = sum(damage.noise == 0 for damage in chosen) / len(chosen)
    assert clean == pytest.approx(0.35, abs=0.04)
    assert all(abs(damage.degrees) <= 2 for damage in chosen)
    assert 0.005 < sum(damage.fax for damage in chosen) / len(chosen) < 0.12


def test_damage_is_the_same_every_time() -> None:
    damage = Damage(degrees=1, noise=4, specks=30, streaks=1, punch_holes=True, seed=5)
    first, second = (encode(apply_damage(page_with_bars(), BOXES, damage)[0], damage) for _ in range(2))
    assert first == second
    other = Damage(degrees=1, noise=4, specks=30, streaks=1, punch_holes=True, seed=6)
    assert encode(apply_damage(page_with_bars(), BOXES, other)[0], other) != first
