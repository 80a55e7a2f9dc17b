"""Words of a page from the characters of its text layer, in reading order.

A text layer has characters where the program that wrote it drew them: not in reading order, some of them
twice, and with spaces or without. All of this works on places alone.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Rectangle = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels, origin top left."""

SAME_LINE = 0.4
"""Share of a height by which words of one line may stand higher or lower than their neighbour."""
SAME_WORD = 0.3
"""Share of a height that may be between two characters of a word, where the text layer has no space."""
SAME_PLACE = 0.05
"""Share of a height within which two places are one."""
DRAWN_TWICE = 0.5
"""Share of the characters' width by which a text may be drawn aside of itself to look bold."""
CELL_GAP = 0.35
"""Share of a height from which on a gap ends a cell: a space is a quarter of the height."""
WRAPPED_GAP = 0.25
"""Share of a height that may be between the lines of one cell; rows of a table stand further apart."""
SAME_EDGE = 0.3
"""Share of a height by which the left edges of a cell's lines may differ."""


@dataclass(frozen=True, slots=True)
class Glyph:
    """A visible character."""

    text: str
    ink: Rectangle
    """What is drawn."""
    cell: Rectangle
    """From this character's origin to the next one's, and from the font's descent to its ascent."""
    turns: int
    """Quarter turns, clockwise, by which it lies on the page: 0 is upright."""
    follows_space: bool


@dataclass(frozen=True, kw_only=True)
class PlacedWord:
    """A word, and where it stands in the page's order."""

    text: str
    ink: Rectangle
    frame: Rectangle
    """Its characters' cells, turned with them until they are upright."""
    line: int
    """Words with one number stand beside each other."""
    cell: int
    """Words with one number are one piece of text: no gap between them is wider than a space."""


class _Run:
    """Characters that follow each other without a space."""

    def __init__(self, glyphs: Sequence[Glyph]) -> None:
        self.glyphs = list(glyphs)
        self.turns = glyphs[0].turns
        self.frame = _union(_upright(glyph) for glyph in glyphs)
        self.height = self.frame[3] - self.frame[1]
        self.middle = (self.frame[1] + self.frame[3]) / 2

    def placed(self, line: int, cell: int) -> PlacedWord:
        text = unicodedata.normalize("NFC", "".join(glyph.text for glyph in self.glyphs))
        ink = _union(glyph.ink for glyph in self.glyphs)
        return PlacedWord(text=text, ink=ink, frame=self.frame, line=line, cell=cell)


_Line = list[_Run]


def place_words(glyphs: Sequence[Glyph], *, apart: re.Pattern[str] | None = None) -> list[PlacedWord]:
    """The words in reading order: lines from top to bottom, the words of a line from left to right.

    A cell whose text goes on in the next line is read as one piece. There are no columns beyond that: two
    texts beside each other are read line by line. Text that is not upright comes where it stands, word by
    word. What `apart` matches inside of a word becomes a word of its own.
    """
    runs = [part for run in _runs(glyphs) for part in _split(run, apart)]
    upright = _lines([run for run in runs if run.turns == 0])
    lines = sorted([*upright, *([run] for run in runs if run.turns)], key=_line_middle)
    placed, cell = [], 0
    for row in _rows(lines):
        for parts in row:
            placed += [run.placed(line, cell) for line, part in parts for run in part]
            cell += 1
    return placed


def drop_drawn_twice(glyphs: Sequence[Glyph]) -> list[Glyph]:
    """Without characters that are drawn again over themselves, a bit aside, to look bold.

    One that stands alone is the same only at the very same place: "//" can be as near as that.
    """
    # A character is looked for in its square of the page and in those around it.
    side = SAME_WORD * max((_height(glyph) for glyph in glyphs), default=1.0) or 1.0
    squares = [(int(glyph.cell[0] // side), int(glyph.cell[1] // side)) for glyph in glyphs]
    seen: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    kept: list[Glyph] = []
    index = 0
    while index < len(glyphs):
        text, (column, row) = glyphs[index].text, squares[index]
        near = [
            first
            for x in range(column - 1, column + 2)
            for y in range(row - 1, row + 2)
            for first in seen.get((text, x, y), ())
        ]
        length = max((_repeated(glyphs, index, first) for first in near), default=0)
        if not length:
            kept.append(glyphs[index])
        for position in range(index, index + max(length, 1)):
            seen[(glyphs[position].text, *squares[position])].append(position)
        index += max(length, 1)
    return kept


def _repeated(glyphs: Sequence[Glyph], index: int, first: int) -> int:
    """How many characters from `index` on are those from `first` on, drawn again."""
    shift, height = _shift(glyphs[index], glyphs[first]), _height(glyphs[index])
    if max(map(abs, shift)) > SAME_WORD * height:
        return 0
    length, width = 0, 0.0
    while index + length < len(glyphs) and first + length < index:
        again, before = glyphs[index + length], glyphs[first + length]
        other = _shift(again, before)
        moved = max(abs(other[0] - shift[0]), abs(other[1] - shift[1]))
        if (again.text, again.turns) != (before.text, before.turns) or moved > SAME_PLACE * height:
            break
        width += _upright(again)[2] - _upright(again)[0]
        length += 1
    distance = max(map(abs, shift))
    is_same = distance < SAME_PLACE * height or (length > 1 and distance < DRAWN_TWICE * width / length)
    return length if is_same else 0


def _height(glyph: Glyph) -> float:
    frame = _upright(glyph)
    return frame[3] - frame[1]


def _shift(glyph: Glyph, other: Glyph) -> tuple[float, float]:
    return glyph.cell[0] - other.cell[0], glyph.cell[1] - other.cell[1]


def _runs(glyphs: Sequence[Glyph]) -> list[_Run]:
    groups: list[list[Glyph]] = []
    for glyph in glyphs:
        if groups and not glyph.follows_space and _continues(groups[-1][-1], glyph):
            groups[-1].append(glyph)
        else:
            groups.append([glyph])
    return [_Run(group) for group in groups]


def _continues(before: Glyph, glyph: Glyph) -> bool:
    if glyph.turns != before.turns:
        return False
    old, new = _upright(before), _upright(glyph)
    if old == new:  # Letters of one ligature.
        return True
    height = old[3] - old[1]
    rise = abs(old[1] + old[3] - new[1] - new[3]) / 2
    return rise <= SAME_LINE * height and -0.5 * height < new[0] - old[2] < SAME_WORD * height


def _split(run: _Run, apart: re.Pattern[str] | None) -> list[_Run]:
    if apart is None:
        return [run]
    owners = [index for index, glyph in enumerate(run.glyphs) for _ in glyph.text]
    text = "".join(glyph.text for glyph in run.glyphs)
    cuts = {owners[at] for match in apart.finditer(text) for at in match.span() if at < len(owners)}
    edges = [0, *sorted(cuts - {0}), len(run.glyphs)]
    return [_Run(run.glyphs[start:end]) for start, end in pairwise(edges)]


def _lines(runs: Sequence[_Run]) -> list[_Line]:
    """Each word goes to the line whose last word is nearest in height, so that a line may slope."""
    lines: list[_Line] = []
    for run in sorted(runs, key=lambda run: run.frame[0]):
        near = [line for line in lines if _is_beside(line[-1], run)]
        if near:
            min(near, key=lambda line: abs(line[-1].middle - run.middle)).append(run)
        else:
            lines.append([run])
    return lines


def _is_beside(left: _Run, right: _Run) -> bool:
    low, high = sorted((left.height, right.height))
    # A watermark lies across lines of small print, and is on none of them.
    return high < 2 * low and abs(left.middle - right.middle) < SAME_LINE * low


def _line_middle(line: _Line) -> float:
    tops_and_bottoms = [
        edge for run in line for glyph in run.glyphs for edge in (glyph.cell[1], glyph.cell[3])
    ]
    return sum(tops_and_bottoms) / len(tops_and_bottoms)


_Cell = list[tuple[int, _Line]]
"""The cell's part of each line that it goes over, with the line's number."""


def _rows(lines: Sequence[_Line]) -> list[list[_Cell]]:
    """Lines, cut into cells; a line that only continues some cells of the row above becomes part of them."""
    rows: list[list[_Cell]] = []
    for number, line in enumerate(lines):
        parts = _cells(line)
        above = rows[-1] if rows else []
        parents = [next((cell for cell in above if _goes_on(cell[-1][1], part)), None) for part in parts]
        if len(parts) < len(above) and all(parent is not None for parent in parents):
            for parent, part in zip(parents, parts, strict=True):
                if parent is not None:
                    parent.append((number, part))
        else:
            rows.append([[(number, part)] for part in parts])
    return rows


def _cells(line: _Line) -> list[_Line]:
    cells = [[line[0]]]
    for before, run in pairwise(line):
        if run.frame[0] - before.frame[2] < CELL_GAP * min(run.height, before.height):
            cells[-1].append(run)
        else:
            cells.append([run])
    return cells


def _goes_on(above: _Line, below: _Line) -> bool:
    first, second = above[0], below[0]
    height = min(first.height, second.height)
    if first.turns or second.turns or max(first.height, second.height) > 1.25 * height:
        return False
    gap = second.frame[1] - first.frame[3]
    same_edge = abs(second.frame[0] - first.frame[0]) < SAME_EDGE * height
    return same_edge and -0.5 * height < gap < WRAPPED_GAP * height


def _upright(glyph: Glyph) -> Rectangle:
    x1, y1, x2, y2 = glyph.cell
    return ((x1, y1, x2, y2), (y1, -x2, y2, -x1), (-x2, -y2, -x1, -y1), (-y2, x1, -y1, x2))[glyph.turns]


def _union(rectangles: Iterable[Rectangle]) -> Rectangle:
    x1, y1, x2, y2 = zip(*rectangles, strict=True)
    return min(x1), min(y1), max(x2), max(y2)
