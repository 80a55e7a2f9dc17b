"""Whether an exported model gives the checkpoint's numbers and answers on real pages.

Shapes: B batch, T tokens, C classes, W words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sap_vision_assets.errors import ParityError
from sap_vision_assets.evaluation.predict import Runner, predict_documents
from sap_vision_assets.evaluation.stitching import DocumentPrediction, Logits
from sap_vision_assets.export.session import OUTPUT_NAMES
from sap_vision_assets.shards import Shards


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Answers of one model that are not the other's, over the same documents."""

    num_documents: int
    num_words: int
    doc_types: int
    po_subtypes: int
    word_labels: int
    num_ties: int
    """How many of the three are ties: the reference itself holds both answers for equally likely."""

    @property
    def num_real(self) -> int:
        """Flips that are no ties."""
        return self.doc_types + self.po_subtypes + self.word_labels - self.num_ties


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What was compared, and the worst of it."""

    max_abs_difference: dict[str, float]
    """By output name: largest difference of a logit at any position that is no padding."""
    tolerance: float
    shapes: tuple[tuple[int, int], ...]
    """(batch, tokens) of the batches compared, each once, sorted."""
    flips: Flips


def check_parity(
    checkpoint: Runner,
    exported: Runner,
    shards: Shards,
    *,
    batch_size: int,
    tolerance: float,
    tie_margin: float,
) -> tuple[Parity, list[DocumentPrediction]]:
    """Compares `exported` with `checkpoint` on every page of `shards`; returns also what the latter answers.

    Numbers: the logits of padded batches of `batch_size`, and of smaller batches cut from them. Answers: the
    checkpoint's in batches of `batch_size` against the exported model's page by page, as production asks it.
    Raises ParityError, saying how far, when a logit differs by more than `tolerance` or an answer flips that
    is no tie (see `count_flips`).
    """
    pair = _PairRunner(checkpoint, exported)
    expected = predict_documents(pair, shards, batch_size)
    found = predict_as_production(exported, shards)
    parity = Parity(
        max_abs_difference=dict(zip(OUTPUT_NAMES, pair.worst.tolist(), strict=True)),
        tolerance=tolerance,
        shapes=tuple(sorted(pair.shapes)),
        flips=count_flips(expected, found, tie_margin=tie_margin),
    )
    # Written so that NaN fails too.
    if not all(worst <= tolerance for worst in parity.max_abs_difference.values()):
        raise ParityError(
            f"the exported model's logits differ from the checkpoint's by up to {parity.max_abs_difference}, "
            f"tolerated is {tolerance:g}; the graph is not the model: report it with the versions of torch, "
            "onnxscript and onnxruntime"
        )
    if parity.flips.num_real:
        raise ParityError(f"the exported model gives other answers than the checkpoint: {parity.flips}")
    return parity, found


def predict_as_production(runner: Runner, shards: Shards) -> list[DocumentPrediction]:
    """What production answers: one window at a time and no padding.

    It matters to int8, whose activation scales are taken over all that is in a batch.
    """

    def unpadded(
        input_ids: NDArray[np.int64],
        bbox: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        pixel_values: NDArray[np.float32],
    ) -> Logits:
        tokens = slice(int(attention_mask.sum()))
        text = (input_ids[:, tokens], bbox[:, tokens], attention_mask[:, tokens])
        return Logits(*runner(*text, pixel_values))

    return predict_documents(unpadded, shards, 1)


def count_flips(
    expected: Sequence[DocumentPrediction], found: Sequence[DocumentPrediction], *, tie_margin: float
) -> Flips:
    """Different answers to the same documents.

    A flip is a tie when log-probabilities differ by at most `tie_margin` nats: for a document head the
    expected model's between both answers, for words the two label paths' over the words that differ,
    `tie_margin` a word.
    """
    counts = dict.fromkeys(("doc_types", "po_subtypes", "word_labels", "num_ties"), 0)
    for one, other in zip(expected, found, strict=True):
        heads = {
            "doc_types": (one.doc_type_probabilities, other.doc_type),
            "po_subtypes": (one.po_subtype_probabilities, other.po_subtype),
        }
        for head, (probabilities_C, answer) in heads.items():
            if int(probabilities_C.argmax()) != answer:
                counts[head] += 1
                counts["num_ties"] += (
                    _log(probabilities_C.max()) - _log(probabilities_C[answer]) <= tie_margin
                )
        differs_W = one.word_labels != other.word_labels
        num_different = int(differs_W.sum())
        gap = _log(one.word_confidences[differs_W]).sum() - _log(other.word_confidences[differs_W]).sum()
        counts["word_labels"] += num_different
        counts["num_ties"] += num_different if abs(gap) <= tie_margin * num_different else 0
    return Flips(
        num_documents=len(expected),
        num_words=sum(len(one.word_labels) for one in expected),
        **{name: int(count) for name, count in counts.items()},
    )


class _PairRunner:
    """Asks both models, remembers their largest differences, and answers as the first."""

    def __init__(self, checkpoint: Runner, exported: Runner) -> None:
        self.checkpoint = checkpoint
        self.exported = exported
        self.worst = np.zeros(len(OUTPUT_NAMES))
        self.shapes: set[tuple[int, int]] = set()
        self.num_calls = 0

    def __call__(
        self,
        input_ids: NDArray[np.int64],
        bbox: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        pixel_values: NDArray[np.float32],
    ) -> Logits:
        inputs = (input_ids, bbox, attention_mask, pixel_values)
        answer = self._compare(inputs)
        self.num_calls += 1
        # Smaller batches too, now and then: calls 1, 2, 4, 8, ... reach all lengths, for they come sorted.
        if self.num_calls & (self.num_calls - 1) == 0:
            for num_rows in {1, len(input_ids) // 2} - {0, len(input_ids)}:
                length = int(attention_mask[:num_rows].sum(axis=1).max())
                rows = tuple(array[:num_rows] for array in inputs)
                self._compare((*(array[:, :length] for array in rows[:3]), rows[3]))
        return answer

    def _compare(self, inputs: tuple[NDArray[Any], ...]) -> Logits:
        ones, others = Logits(*self.checkpoint(*inputs)), self.exported(*inputs)
        is_token_BT = inputs[2].astype(bool)
        differences = [np.abs(one - other) for one, other in zip(ones, others, strict=True)]
        differences[2] = differences[2][is_token_BT]
        # np.maximum, unlike max, keeps a NaN.
        self.worst = np.maximum(self.worst, [difference.max() for difference in differences])
        self.shapes.add((int(inputs[0].shape[0]), int(inputs[0].shape[1])))
        return ones


def _log(probability: Any) -> Any:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(probability, np.float64))
