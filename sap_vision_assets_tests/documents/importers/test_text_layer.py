"""Words and their order, from characters that are placed by hand: 6 x 10 pixels, a space 2.5 wide."""

import re

import pytest

from sap_vision_assets.documents.importers.text_layer import Glyph, drop_drawn_twice, place_words

WIDTH, HEIGHT, SPACE = 6.0, 10.0, 2.5


def _glyphs(x: float, y: float, text: str, *, size: float = 1, turns: int = 0) -> list[Glyph]:
    """Characters from x, y on: their top left corner, if the page is held so that they are upright."""
    glyphs, follows_space, along = [], True, 0.0
    width, height = WIDTH * size, HEIGHT * size
    for char in text:
        if char == " ":
            follows_space = True
            along += SPACE * size
            continue
        cell = {
            0: (x + along, y, x + along + width, y + height),
            1: (x - height, y + along, x, y + along + width),
            3: (x, y - along - width, x + height, y - along),
        }[turns]
        glyphs.append(Glyph(char, cell, cell, turns, follows_space))
        follows_space = False
        along += width
    return glyphs


def _texts(*parts: list[Glyph], apart: str | None = None) -> list[str]:
    glyphs = [glyph for part in parts for glyph in part]
    words = place_words(glyphs, apart=re.compile(apart) if apart else None)
    return [word.text for word in words]


def test_lines_are_read_from_the_top_and_words_from_the_left_whatever_the_order_of_drawing() -> None:
    bottom, right, left = _glyphs(0, 50, "last line"), _glyphs(60, 2, "beside"), _glyphs(0, 0, "first of")
    assert _texts(bottom, right, left) == ["first", "of", "beside", "last", "line"]


def test_a_jump_ends_a_word_where_the_text_layer_has_no_space() -> None:
    together = [*_glyphs(0, 0, "ab"), *_continued(12 + 2.9, 0, "cd")]
    assert _texts(together) == ["abcd"]
    assert _texts([*_glyphs(0, 0, "ab"), *_continued(12 + 3.1, 0, "cd")]) == ["ab", "cd"]
    assert _texts([*_glyphs(0, 0, "ab"), *_continued(12, 5, "cd")]) == ["ab", "cd"]
    assert _texts([*_glyphs(30, 0, "ab"), *_continued(0, 0, "cd")]) == ["cd", "ab"]


def _continued(x: float, y: float, text: str) -> list[Glyph]:
    first, *rest = _glyphs(x, y, text)
    return [Glyph(first.text, first.ink, first.cell, first.turns, follows_space=False), *rest]


def test_a_line_may_slope() -> None:
    """3 pixels down from word to word, 9 in all: nearly a line's height."""
    parts = [_glyphs(40 * index, 3 * index, f"w{index}") for index in range(4)]
    below = [_glyphs(40 * index, 14 + 3 * index, f"x{index}") for index in range(4)]
    assert _texts(*below, *parts) == ["w0", "w1", "w2", "w3", "x0", "x1", "x2", "x3"]


def test_a_word_goes_to_the_line_that_is_nearest() -> None:
    assert _texts(_glyphs(0, 0, "high"), _glyphs(4, 7, "low"), _glyphs(60, 3.8, "x")) == ["high", "low", "x"]
    assert _texts(_glyphs(0, 0, "high"), _glyphs(4, 7, "low"), _glyphs(60, 3.2, "x")) == ["high", "x", "low"]


def test_a_watermark_is_on_no_line_of_print() -> None:
    mark = _glyphs(10, -4, "COPY", size=3)
    assert _texts(mark, _glyphs(0, 5, "left"), _glyphs(90, 5, "right")) == ["left", "right", "COPY"]


def test_a_cell_that_goes_on_below_is_read_as_one() -> None:
    row = [_glyphs(0, 0, "Name:"), _glyphs(40, 0, "Tom of"), _glyphs(120, 0, "Total:"), _glyphs(170, 0, "9")]
    wrapped = [_glyphs(40, 11, "Far"), _glyphs(40, 22, "Away")]
    assert _texts(*row, *wrapped) == ["Name:", "Tom", "of", "Far", "Away", "Total:", "9"]
    # Twins: further below, under no cell's edge, and a row of a table.
    assert _texts(*row, _glyphs(40, 13, "Far")) == ["Name:", "Tom", "of", "Total:", "9", "Far"]
    assert _texts(*row, _glyphs(50, 11, "Far")) == ["Name:", "Tom", "of", "Total:", "9", "Far"]
    table = [_glyphs(0, 11, "x"), _glyphs(40, 11, "y"), _glyphs(120, 11, "z"), _glyphs(170, 11, "8")]
    assert _texts(*row, *table) == ["Name:", "Tom", "of", "Total:", "9", "x", "y", "z", "8"]


def test_cells_and_lines_are_numbered() -> None:
    row = [*_glyphs(0, 0, "Due date"), *_glyphs(60, 0, "soon"), *_glyphs(60, 11, "enough")]
    words = place_words(row)
    assert [(word.text, word.line, word.cell) for word in words] == [
        ("Due", 0, 0),
        ("date", 0, 0),
        ("soon", 0, 1),
        ("enough", 1, 1),
    ]


@pytest.mark.parametrize("turns", [1, 3])
def test_text_that_is_not_upright_is_words_of_its_own(turns: int) -> None:
    words = place_words([*_glyphs(0, 0, "above"), *_glyphs(200, 100, "side", turns=turns)])
    assert [word.text for word in words] == ["above", "side"]
    assert words[1].ink == ((190, 100, 200, 124) if turns == 1 else (200, 76, 210, 100))
    assert words[1].frame[2] - words[1].frame[0] == 24


def test_what_is_to_stand_apart_does() -> None:
    words = place_words(_glyphs(0, 0, "1/2-3/4 5-6 -7/8"), apart=re.compile(r"-(?=\d/)"))
    assert [word.text for word in words] == ["1/2", "-", "3/4", "5-6", "-", "7/8"]
    assert [word.ink[::2] for word in words[:3]] == [(0, 18), (18, 24), (24, 42)]
    assert [word.text for word in place_words(_glyphs(0, 0, "1/2-3/4"))] == ["1/2-3/4"]


def test_letters_of_a_ligature_are_one_word() -> None:
    first, second, *rest = _glyphs(0, 0, "ffine")
    both = Glyph("f", first.ink, first.cell, 0, follows_space=False)
    assert _texts([first, both, *_continued(WIDTH, 0, "ine")]) == ["ffine"]
    assert _texts([first, Glyph("f", second.ink, second.cell, 0, follows_space=False), *rest]) == ["ffine"]


def test_what_is_drawn_twice_is_kept_once() -> None:
    first = _glyphs(0, 0, "(9.00")
    aside = _glyphs(WIDTH + 2, 0.2, "9.00)")
    kept = drop_drawn_twice([*first, *aside])
    assert "".join(glyph.text for glyph in kept) == "(9.00)"
    assert [word.text for word in place_words(kept)] == ["(9.00)"]
    # Twins: further aside, and one character alone.
    assert len(drop_drawn_twice([*first, *_glyphs(WIDTH + 3.1, 0, "9.00)")])) == 10
    assert len(drop_drawn_twice([*_glyphs(0, 0, "/"), *_glyphs(2, 0, "/")])) == 2
    assert len(drop_drawn_twice([*_glyphs(0, 0, "/"), *_glyphs(0.2, 0, "/")])) == 1
    assert drop_drawn_twice([]) == []


def test_no_characters_no_words() -> None:
    assert place_words([]) == []
