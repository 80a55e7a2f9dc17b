"""Finds a value that is given as text among the words of a page, whatever the spacing and punctuation."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Match:
    """Words first..last (inclusive) hold the value."""

    first: int
    last: int
    num_errors: int
    """Letters and digits that differ; 0 is the value itself."""


def squeeze(text: str) -> str:
    """Letters and digits alone, in lower case."""
    return "".join(char for char in text.lower() if char.isalnum())


class PageText:
    """The words of a page as one string of letters and digits."""

    def __init__(self, words: Sequence[str]) -> None:
        squeezed = [squeeze(word) for word in words]
        self._text = "".join(squeezed)
        self._word_of = [index for index, word in enumerate(squeezed) for _ in word]

    def find(self, value: str, *, free: Sequence[bool], max_errors: int = 0) -> Match | None:
        """The first place that holds `value` in words that are all `free`.

        A place that starts and ends with a word goes before one inside of words, and that before one with
        up to `max_errors` insertions, deletions or replacements.
        """
        wanted = squeeze(value)
        if not wanted:
            return None
        exact = self.find_all(value, free=free)
        if exact:
            return exact[0]
        approximate = self._approximate(wanted, max_errors) if max_errors else None
        if approximate is None or not all(free[i] for i in self._words(approximate[:2])):
            return None
        return self._match(approximate[:2], approximate[2])

    def find_all(self, value: str, *, free: Sequence[bool]) -> list[Match]:
        """Every place that holds `value` without an error in words that are all `free`.

        Places inside of words count only where there is none that starts and ends with a word.
        """
        wanted = squeeze(value)
        spans = [span for span in self._exact(wanted) if all(free[i] for i in self._words(span))]
        whole = [span for span in spans if self._is_whole(span)]
        return [self._match(span, 0) for span in whole or spans]

    def _exact(self, wanted: str) -> list[tuple[int, int]]:
        spans, start = [], self._text.find(wanted) if wanted else -1
        while start >= 0:
            spans.append((start, start + len(wanted)))
            start = self._text.find(wanted, start + 1)
        return spans

    def _is_whole(self, span: tuple[int, int]) -> bool:
        start, end = span
        starts = start == 0 or self._word_of[start - 1] != self._word_of[start]
        return starts and (end == len(self._text) or self._word_of[end] != self._word_of[end - 1])

    def _approximate(self, wanted: str, max_errors: int) -> tuple[int, int, int] | None:
        """Sellers' algorithm (1980): start, end and errors of the place with the fewest errors."""
        if len(wanted) - max_errors > len(self._text):
            return None
        # For the prefix of `wanted` read so far: (errors, start) of the best match ending at each place.
        row = [(0, end) for end in range(len(self._text) + 1)]
        for position, char in enumerate(wanted, start=1):
            before, row = row, [(position, 0)]
            for end, other in enumerate(self._text, start=1):
                replaced = (before[end - 1][0] + (char != other), before[end - 1][1])
                inserted = (row[-1][0] + 1, row[-1][1])
                deleted = (before[end][0] + 1, before[end][1])
                row.append(min(replaced, inserted, deleted, key=lambda cell: cell[0]))
        end = min(range(len(row)), key=lambda index: row[index][0])
        errors, start = row[end]
        return (start, end, errors) if errors <= max_errors and start < end else None

    def _words(self, span: tuple[int, int]) -> range:
        return range(self._word_of[span[0]], self._word_of[span[1] - 1] + 1)

    def _match(self, span: tuple[int, int], num_errors: int) -> Match:
        words = self._words(span)
        return Match(first=words[0], last=words[-1], num_errors=num_errors)
