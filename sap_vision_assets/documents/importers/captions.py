"""What stands around a word: the text before it on its line, the cell above it, the head of its column."""

from collections import defaultdict
from collections.abc import Sequence

from sap_vision_assets.documents.importers.text_layer import PlacedWord

ABOVE = 2.5
"""Heights of a word within which a cell above it can be its caption."""


class Surroundings:
    """The words of a page by line and by cell. All texts are in lower case, one space between words."""

    def __init__(self, words: Sequence[PlacedWord]) -> None:
        self._words = words
        lines: dict[int, list[PlacedWord]] = defaultdict(list)
        cells: dict[tuple[int, int], list[PlacedWord]] = defaultdict(list)
        for word in words:
            lines[word.line].append(word)
            cells[word.line, word.cell].append(word)
        self._lines = {key: sorted(line, key=_left) for key, line in lines.items()}
        self._parts = list(cells.values())

    def before(self, index: int) -> str:
        """The text to the left of the word, on its line."""
        word = self._words[index]
        return _text([other for other in self._lines[word.line] if _left(other) < _left(word)])

    def above(self, index: int) -> str:
        """The text of the nearest line of a cell above the word's own, if it is near; else empty."""
        word = self._words[index]
        own = [other for other in self._words if (other.line, other.cell) == (word.line, word.cell)]
        left, right = _left(own[0]), max(other.frame[2] for other in own)
        height = word.frame[3] - word.frame[1]
        near = [
            part
            for part in self._over(word, left, right)
            if word.frame[1] - part[0].frame[3] < ABOVE * height
        ]
        return _text(max(near, key=_bottom)) if near else ""

    def column_head(self, index: int) -> str:
        """The text of the nearest line of a cell over the word that has letters and no digits; else empty."""
        word = self._words[index]
        heads = [
            part
            for part in self._over(word, word.frame[0], word.frame[2])
            if any(char.isalpha() for char in _text(part)) and not any(char.isdigit() for char in _text(part))
        ]
        return _text(max(heads, key=_bottom)) if heads else ""

    def cell_texts(self) -> list[str]:
        """The text of each cell's part of a line, as it stands."""
        return [" ".join(word.text for word in part) for part in self._parts]

    def _over(self, word: PlacedWord, left: float, right: float) -> list[list[PlacedWord]]:
        middle = (word.frame[1] + word.frame[3]) / 2
        return [
            part
            for part in self._parts
            if _bottom(part) < middle and part[0].frame[0] < right and part[-1].frame[2] > left
        ]


def _left(word: PlacedWord) -> float:
    return word.frame[0]


def _bottom(part: Sequence[PlacedWord]) -> float:
    return max(word.frame[3] for word in part)


def _text(words: Sequence[PlacedWord]) -> str:
    return " ".join(word.text for word in words).lower()
