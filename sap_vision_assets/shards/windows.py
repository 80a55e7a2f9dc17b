"""Which words of a document share a window, and in which window each word is scored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class WordSpan:
    """A window's words: [first, last) with last excluded."""

    first: int
    last: int
    scored_first: int
    """Words [scored_first, scored_last) are scored here. Over all windows they cover each word once."""
    scored_last: int


def plan_windows(
    tokens_per_word: Sequence[int] | NDArray[np.integer], *, capacity: int, stride: int
) -> list[WordSpan]:
    """Windows of at most `capacity` tokens, cut between words; one window without words for no words.

    Neighbours share as many words as fit into `stride` tokens. A word that is in several windows is scored
    where its shorter side has the most context, the first such window on a tie. Needs
    max(tokens_per_word) + stride <= capacity, so that each window reaches beyond the one before it.
    """
    counts = np.asarray(tokens_per_word, dtype=np.int64)
    assert stride >= 0
    assert counts.min(initial=1) >= 1
    assert counts.max(initial=0) + stride <= capacity
    # ends[i]: tokens of words 0..i-1.
    ends = np.concatenate(([0], np.cumsum(counts)))
    bounds = _bounds(ends, capacity=capacity, stride=stride)
    owners = _owners(ends, bounds)
    edges = np.searchsorted(owners, np.arange(len(bounds) + 1))
    return [
        WordSpan(first=first, last=last, scored_first=int(edges[window]), scored_last=int(edges[window + 1]))
        for window, (first, last) in enumerate(bounds)
    ]


def _bounds(ends: NDArray[np.int64], *, capacity: int, stride: int) -> list[tuple[int, int]]:
    num_words = len(ends) - 1
    bounds = []
    first = 0
    while True:
        last = int(np.searchsorted(ends, ends[first] + capacity, side="right")) - 1
        bounds.append((first, last))
        if last == num_words:
            return bounds
        first = int(np.searchsorted(ends, ends[last] - stride, side="left"))


def _owners(ends: NDArray[np.int64], bounds: list[tuple[int, int]]) -> NDArray[np.int64]:
    """The scoring window of each word. Never falls from one word to the next: what a later window adds on
    the left it lacks less and less, and what an earlier one has on the right it loses."""
    owners = np.zeros(len(ends) - 1, dtype=np.int64)
    best = np.full(len(ends) - 1, -1, dtype=np.int64)
    for window, (first, last) in enumerate(bounds):
        left = ends[first:last] - ends[first]
        right = ends[last] - ends[first + 1 : last + 1]
        context = np.minimum(left, right)
        better = context > best[first:last]
        owners[first:last][better] = window
        best[first:last][better] = context[better]
    return owners
