"""What the splits may use: skeletons, typefaces, and the glyphs that those have."""

from itertools import combinations, product

import pytest

from sap_vision_assets.documents.synthesis.faces import FontFile, font, has_glyph
from sap_vision_assets.documents.synthesis.fonts import FAMILIES, Family, covers
from sap_vision_assets.documents.synthesis.skeletons import (
    HEADERS,
    LETTERHEADS,
    PARTIES,
    TITLES,
    arrangements,
    split_of,
)

SPLITS = ("train", "val", "test")
ALL_FAMILIES = [family for split in SPLITS for family in FAMILIES[split]]


def test_every_arrangement_belongs_to_exactly_one_split() -> None:
    dealt = [set(arrangements(split)) for split in SPLITS]
    assert all(not one & other for one, other in combinations(dealt, 2))
    assert set().union(*dealt) == set(product(LETTERHEADS, TITLES, PARTIES, HEADERS))


def test_shares_of_the_arrangements() -> None:
    total = len(LETTERHEADS) * len(TITLES) * len(PARTIES) * len(HEADERS)
    assert total > 3000
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert len(arrangements(split)) / total == pytest.approx(share, abs=0.02)


def test_every_single_choice_occurs_in_train() -> None:
    for position, choices in enumerate((LETTERHEADS, TITLES, PARTIES, HEADERS)):
        assert {arrangement[position] for arrangement in arrangements("train")} == set(choices)


def test_the_dealing_is_fixed() -> None:
    """Worked out once: a change here would move pages that models have trained on into val or test."""
    assert split_of(("one_line", "left", "boxes", "grid")) == "train"
    assert split_of(("banner", "bar", "boxes", "grid")) == "val"
    assert split_of(("banner", "left", "two_columns", "grid")) == "test"


def test_no_typeface_is_in_two_splits() -> None:
    files = [{family.regular, family.bold, family.italic, family.heavy} for family in ALL_FAMILIES]
    assert all(not one & other for one, other in combinations(files, 2))
    # Vera and DejaVu Sans are one design.
    assert {"Vera", "DejaVu Sans"} <= {family.name for family in FAMILIES["train"]}


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_has_sans_serif_and_mono(split: str) -> None:
    assert {family.kind for family in FAMILIES[split]} == {"sans", "serif", "mono"}


@pytest.mark.parametrize("family", ALL_FAMILIES, ids=lambda family: family.name)
def test_letters_of_the_languages_are_no_empty_boxes(family: Family) -> None:
    assert covers(family, "äöüÄÖÜßéèêàçîïôùûñáíóúÉÑ€£§°–„“’•·ABCabc0123456789%&@#/()[]+-.,:;!?*")


def test_missing_glyphs_are_seen() -> None:
    lato = next(family for family in ALL_FAMILIES if family.name == "Lato")
    assert not covers(lato, "ș")
    nine_pin = FAMILIES["test"][-1]
    assert not has_glyph(nine_pin.regular, "漢")


@pytest.mark.parametrize("family", ALL_FAMILIES, ids=lambda family: family.name)
def test_ink_stays_near_the_advance(family: Family) -> None:
    """A font file with wrong widths would print letters over each other."""
    from PIL import Image, ImageDraw

    for file in {family.regular, family.bold}:
        face = font(file, 40)
        for character in "abcxyzABCXYZ0123456789%\"'&@":
            left, _, right, _ = face.draw(ImageDraw.Draw(Image.new("L", (120, 80))), 40, 50, character, 255)
            assert left > 40 - 6, (file, character)
            assert right < 40 + face.length(character) + 6, (file, character)


def test_lengths_grow_with_the_size() -> None:
    file: FontFile = FAMILIES["train"][0].regular
    assert font(file, 20).length("Rechnung") == pytest.approx(2 * font(file, 10).length("Rechnung"))
    assert font(file, 10).length("") == 0
