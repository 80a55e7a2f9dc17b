"""One document's windows, token by token."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sap_vision_assets.errors import InputError
from sap_vision_assets.shards import ShardConfig, Tokenizer, encode_document, load_tokenizer
from sap_vision_assets_tests.shards.conftest import boxes_of

TOKENIZER = load_tokenizer("builtin")
MINILM = load_tokenizer("minilm")


def test_one_window_token_by_token() -> None:
    words = ["4500012345", "7", "8"]  # five tokens (45 00 01 23 45), one, one
    tokens = TOKENIZER.encode_words(words).ids.tolist()
    assert len(tokens) == 7
    boxes = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    encoded = encode_document(
        words, boxes, [5, 0, 180], tokenizer=TOKENIZER, config=ShardConfig(), document=4
    )
    (window,) = encoded.windows
    assert window.document == 4
    assert window.input_ids.tolist() == [0, *tokens, 2]
    assert window.word_index.tolist() == [-1, 0, 0, 0, 0, 0, 1, 2, -1]
    assert window.labels.tolist() == [-100, 5, -100, -100, -100, -100, 0, 180, -100]
    assert window.boxes.tolist() == [[0] * 4, *[boxes[0]] * 5, boxes[1], boxes[2], [0] * 4]
    assert [array.dtype.name for array in (window.input_ids, window.word_index)] == ["int32", "int32"]
    assert [array.dtype.name for array in (window.labels, window.boxes)] == ["int16", "int16"]
    positions, scored_words = window.scored_positions()
    assert positions.tolist() == [1, 6, 7]
    assert scored_words.tolist() == [0, 1, 2]
    assert (encoded.num_tokens, encoded.num_truncated_words) == (7, 0)


def test_two_windows_label_each_word_once() -> None:
    # Nine words of one token; room for 6, of which 2 are shared: words 0-5 and 4-8.
    # Word 4 has min(4, 1) and then min(0, 4) tokens around it, word 5 min(5, 0) and then min(1, 3).
    words = list("123456789")
    config = ShardConfig(max_tokens=8, stride=2, max_tokens_per_word=4)
    encoded = encode_document(words, boxes_of(9), range(1, 10), tokenizer=TOKENIZER, config=config)
    first, second = encoded.windows
    assert first.word_index.tolist() == [-1, 0, 1, 2, 3, 4, 5, -1]
    assert first.labels.tolist() == [-100, 1, 2, 3, 4, 5, -100, -100]
    assert second.word_index.tolist() == [-1, 4, 5, 6, 7, 8, -1]
    assert second.labels.tolist() == [-100, -100, 6, 7, 8, 9, -100]
    assert second.boxes[:, 0].tolist() == [0, 4, 5, 6, 7, 8, 0]


def test_no_words_are_one_window_of_specials() -> None:
    (window,) = encode_document([], [], [], tokenizer=TOKENIZER, config=ShardConfig()).windows
    assert window.input_ids.tolist() == [0, 2]
    assert window.boxes.tolist() == [[0] * 4] * 2
    assert window.labels.tolist() == [-100, -100]
    assert window.word_index.tolist() == [-1, -1]


@pytest.mark.parametrize("tokenizer", [TOKENIZER, MINILM], ids=["builtin", "minilm"])
def test_five_thousand_words_are_each_scored_once(tokenizer: Tokenizer) -> None:
    words = [f"word{index}" for index in range(5000)]
    encoded = encode_document(words, boxes_of(5000), None, tokenizer=tokenizer, config=ShardConfig())
    assert len(encoded.windows) > 5000 * 2 / 512
    assert max(len(window) for window in encoded.windows) <= 512
    scored = np.concatenate([window.scored_positions()[1] for window in encoded.windows])
    assert scored.tolist() == list(range(5000))


def test_a_huge_word_is_bounded_counted_and_scored() -> None:
    words = ["Total", "x" * 10_000, "5"]
    encoded = encode_document(words, boxes_of(3), [0, 7, 0], tokenizer=TOKENIZER, config=ShardConfig())
    (window,) = encoded.windows
    assert encoded.num_truncated_words == 1
    assert (window.word_index == 1).sum() == 64
    assert window.labels[window.labels != -100].tolist() == [0, 7, 0]


def test_words_that_minilm_cannot_spell_are_scored_too() -> None:
    words = ["\u0301", "Total", "😀", "x" * 10_000, "\x07"]
    encoded = encode_document(words, boxes_of(5), [1, 2, 3, 4, 5], tokenizer=MINILM, config=ShardConfig())
    (window,) = encoded.windows
    total = MINILM.encode_words(["total"]).ids.tolist()
    assert window.input_ids.tolist() == [101, 100, *total, 100, 100, 100, 102]
    assert window.labels.tolist() == [-100, 1, 2, 3, 4, 5, -100]


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15).filter(str.strip),
        max_size=60,
    ),
    stride=st.integers(0, 20),
)
def test_any_document_scores_each_word_once_at_its_first_token(words: list[str], stride: int) -> None:
    config = ShardConfig(max_tokens=34, stride=stride, max_tokens_per_word=12)
    labels = [index % 181 for index in range(len(words))]
    for tokenizer in (TOKENIZER, MINILM):
        encoded = encode_document(words, boxes_of(len(words)), labels, tokenizer=tokenizer, config=config)
        scored: list[int] = []
        for window in encoded.windows:
            assert 2 <= len(window) <= config.max_tokens
            assert (window.input_ids[0], window.input_ids[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
            positions, scored_words = window.scored_positions()
            assert window.labels[positions].tolist() == [labels[word] for word in scored_words]
            for position, word in zip(positions, scored_words, strict=True):
                assert window.word_index[position - 1] != word
            scored += scored_words.tolist()
        assert scored == list(range(len(words)))


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(InputError, match="word 1 is blank"):
        encode_document(["a", " "], boxes_of(2), [0, 0], tokenizer=TOKENIZER, config=ShardConfig())
    with pytest.raises(InputError, match="2 words, 1 boxes, 2 labels"):
        encode_document(["a", "b"], boxes_of(1), [0, 0], tokenizer=TOKENIZER, config=ShardConfig())


@pytest.mark.parametrize(
    "settings_",
    [
        {"stride": 400, "max_tokens_per_word": 111},
        {"max_tokens": 64},
        {"stride": -1},
        {"max_tokens_per_word": 0},
        {"page_size": 0},
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings_: dict[str, int]) -> None:
    with pytest.raises(InputError):
        ShardConfig(**settings_)
    assert ShardConfig(stride=400, max_tokens_per_word=110).capacity == 510
