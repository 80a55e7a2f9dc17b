"""Windows by hand, and for any document."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sap_vision_assets.shards import WordSpan, plan_windows


def span(first: int, last: int, scored_first: int, scored_last: int) -> WordSpan:
    return WordSpan(first=first, last=last, scored_first=scored_first, scored_last=scored_last)


def test_no_words_are_one_window() -> None:
    assert plan_windows([], capacity=10, stride=2) == [span(0, 0, 0, 0)]


def test_what_fits_is_one_window() -> None:
    assert plan_windows([2, 3, 5], capacity=10, stride=2) == [span(0, 3, 0, 3)]


def test_windows_overlap_by_whole_words_within_the_stride() -> None:
    # 10 words of one token, 6 in a window, 4 shared: 0-5, 2-7, 4-9.
    # Word 3 has min(3, 2) = 2 in the first window and min(1, 4) = 1 in the second: scored in the first.
    # Word 4 has min(4, 1) = 1, min(2, 3) = 2 and min(0, 5) = 0: scored in the second; and so on.
    assert plan_windows([1] * 10, capacity=6, stride=4) == [
        span(0, 6, 0, 4),
        span(2, 8, 4, 6),
        span(4, 10, 6, 10),
    ]


def test_a_word_larger_than_the_stride_is_not_shared() -> None:
    # 3 + 3 + 3 = 9 <= 9; the last word alone has 3 > 2 tokens, so nothing is shared.
    assert plan_windows([3, 3, 3, 3], capacity=9, stride=2) == [span(0, 3, 0, 3), span(3, 4, 3, 4)]


def test_without_overlap_each_word_is_in_one_window() -> None:
    assert plan_windows([1] * 5, capacity=2, stride=0) == [
        span(0, 2, 0, 2),
        span(2, 4, 2, 4),
        span(4, 5, 4, 5),
    ]


@st.composite
def documents(draw: st.DrawFn) -> tuple[list[int], int, int]:
    stride = draw(st.integers(0, 40))
    counts = draw(st.lists(st.integers(1, draw(st.integers(1, 12))), max_size=150))
    capacity = stride + max(counts, default=1) + draw(st.integers(0, 40))
    return counts, capacity, stride


@settings(max_examples=400, deadline=None)
@given(documents())
def test_any_document_is_covered(document: tuple[list[int], int, int]) -> None:
    counts, capacity, stride = document
    windows = plan_windows(counts, capacity=capacity, stride=stride)
    ends = np.concatenate(([0], np.cumsum(counts))).astype(int)

    def context(window: WordSpan, word: int) -> int:
        return int(min(ends[word] - ends[window.first], ends[window.last] - ends[word + 1]))

    scored = [word for window in windows for word in range(window.scored_first, window.scored_last)]
    assert scored == list(range(len(counts)))
    assert windows[0].first == 0
    assert windows[-1].last == len(counts)
    for window in windows:
        assert ends[window.last] - ends[window.first] <= capacity
        for word in range(window.scored_first, window.scored_last):
            having = [other for other in windows if other.first <= word < other.last]
            assert window in having
            assert context(window, word) == max(context(other, word) for other in having)
    for left, right in itertools.pairwise(windows):
        assert left.first < right.first <= left.last < right.last
        shared = ends[left.last] - ends[right.first]
        assert shared <= stride
        # One more word would not have fitted, neither into the window nor into the overlap.
        assert ends[left.last + 1] - ends[left.first] > capacity
        assert ends[left.last] - ends[right.first - 1] > stride
