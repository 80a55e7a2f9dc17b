"""One document to windows of tokens, the same for training, evaluation and inference.

T tokens of a window, specials included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sap_vision_assets.errors import InputError
from sap_vision_assets.shards.config import ShardConfig
from sap_vision_assets.shards.tokenizer import EncodedWords, Tokenizer
from sap_vision_assets.shards.windows import WordSpan, plan_windows

NOT_SCORED = -100
"""Label of specials, of a word's further pieces, and of words that another window scores."""
NO_WORD = -1
"""Word index of specials."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """At most max_tokens tokens of one document: <s> words </s>, no padding."""

    document: int
    """Which document: in shards its row in `documents` and `pages`."""
    input_ids: NDArray[np.int32]
    """[T]"""
    boxes: NDArray[np.int16]
    """[T, 4] x1, y1, x2, y2 in 0..1000; zeros at specials."""
    labels: NDArray[np.int16]
    """[T] the word's label id at the first piece of each word that this window scores, else NOT_SCORED."""
    word_index: NDArray[np.int32]
    """[T] the word in its document; NO_WORD at specials."""

    def __len__(self) -> int:
        return len(self.input_ids)

    def scored_positions(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Positions of the tokens that are scored here, and the word of each, in reading order.

        Over all windows of a document each word comes exactly once: what a model says at these positions is
        what it says of the words.
        """
        positions = np.flatnonzero(self.labels != NOT_SCORED)
        return positions, np.asarray(self.word_index[positions])


@dataclass(frozen=True, kw_only=True)
class EncodedDocument:
    windows: tuple[Window, ...]
    """At least one, without words where the document has none."""
    num_tokens: int
    """Of all words, each counted once."""
    num_truncated_words: int
    """Words cut to max_tokens_per_word."""


def encode_document(
    words: Sequence[str],
    boxes: Sequence[Sequence[int]],
    labels: Sequence[int] | None,
    *,
    tokenizer: Tokenizer,
    config: ShardConfig,
    document: int = 0,
) -> EncodedDocument:
    """The windows of one document. Without `labels`, scored words have label 0.

    Raises InputError when the lists differ in length, or for a blank word, which could never be scored.
    """
    labels = [0] * len(words) if labels is None else labels
    if not len(words) == len(boxes) == len(labels):
        raise InputError(
            f"{len(words)} words, {len(boxes)} boxes, {len(labels)} labels: give one of each per word"
        )
    encoded = tokenizer.encode_words(words, max_tokens_per_word=config.max_tokens_per_word)
    counts = np.bincount(encoded.word_index, minlength=len(words))
    if not counts.all():
        raise InputError(f"word {int(np.argmin(counts))} is blank; drop it with its box and label")
    ends = np.concatenate(([0], np.cumsum(counts)))
    boxes_of_words = np.asarray(boxes, np.int16).reshape(-1, 4)
    labels_of_words = np.asarray(labels, np.int16)
    spans = plan_windows(counts, capacity=config.capacity, stride=config.stride)
    return EncodedDocument(
        windows=tuple(
            _window(
                span,
                encoded,
                ends,
                boxes=boxes_of_words,
                labels=labels_of_words,
                tokenizer=tokenizer,
                document=document,
            )
            for span in spans
        ),
        num_tokens=len(encoded.ids),
        num_truncated_words=encoded.num_truncated_words,
    )


def _window(
    span: WordSpan,
    encoded: EncodedWords,
    ends: NDArray[np.int64],
    *,
    boxes: NDArray[np.int16],
    labels: NDArray[np.int16],
    tokenizer: Tokenizer,
    document: int,
) -> Window:
    tokens = slice(ends[span.first], ends[span.last])
    words = encoded.word_index[tokens]
    scored = slice(span.scored_first, span.scored_last)
    window_labels = np.full(len(words) + 2, NOT_SCORED, np.int16)
    window_labels[ends[:-1][scored] - tokens.start + 1] = labels[scored]
    return Window(
        document=document,
        input_ids=np.concatenate(
            ([tokenizer.cls_id], encoded.ids[tokens], [tokenizer.sep_id]), dtype=np.int32
        ),
        boxes=np.pad(boxes[words], ((1, 1), (0, 0))),
        labels=window_labels,
        word_index=np.pad(words, 1, constant_values=NO_WORD),
    )
