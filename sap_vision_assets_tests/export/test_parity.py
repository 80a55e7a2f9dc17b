"""FAULTS 67: an exported model with other numbers or other answers never passes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sap_vision_assets.errors import ParityError
from sap_vision_assets.evaluation.predict import TorchRunner
from sap_vision_assets.evaluation.stitching import DocumentPrediction, Logits
from sap_vision_assets.export import OnnxRunner
from sap_vision_assets.export.parity import Parity, check_parity, count_flips
from sap_vision_assets.shards import open_shards
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.export.tiny import CONFIG, tiny


def compare(exported: Callable[..., Logits], *, tolerance: float = CONFIG.logits_tolerance) -> Parity:
    parity, _ = check_parity(
        TorchRunner(tiny().checkpoint, device="cpu"),
        exported,
        open_shards(tiny().shards, load_vocabulary()),
        batch_size=3,
        tolerance=tolerance,
        tie_margin=CONFIG.tie_margin,
    )
    return parity


def tampered(folder: Path, weight: str, change: Callable[[np.ndarray[Any, Any]], object]) -> OnnxRunner:
    """The exported model with one weight changed in place by `change`."""
    model = onnx.load(tiny().onnx / "model.onnx")
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == weight]
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, weight))
    onnx.save(model, folder / "model.onnx")
    return OnnxRunner(folder / "model.onnx", providers="cpu", threads=1)


def nothing(_: np.ndarray[Any, Any]) -> None:
    """The twin of a fault."""


def test_untouched_graph_passes(tmp_path: Path) -> None:
    parity = compare(tampered(tmp_path, "model.token_head.bias", nothing))
    # Worst measured: 2.9e-6 at logits of up to 13.
    assert max(parity.max_abs_difference.values()) < 1e-5
    assert parity.flips.num_documents == 8
    assert parity.flips.num_words == 307
    assert (parity.flips.doc_types, parity.flips.po_subtypes, parity.flips.word_labels) == (0, 0, 0)
    # Whole padded batches of 3, and batch 1 cut from them.
    assert {batch for batch, _ in parity.shapes} == {1, 3}
    assert len({tokens for _, tokens in parity.shapes}) > 3


def test_one_weight_off_by_a_thousandth_fails(tmp_path: Path) -> None:
    def change(bias_C: np.ndarray[Any, Any]) -> None:
        bias_C[5] += 1e-3

    with pytest.raises(ParityError, match=r"'token_logits': 0\.00100"):
        compare(tampered(tmp_path, "model.token_head.bias", change))


def test_answers_that_flip_fail_though_the_numbers_are_tolerated(tmp_path: Path) -> None:
    def change(bias_C: np.ndarray[Any, Any]) -> None:
        bias_C[5] += 100.0

    runner = tampered(tmp_path, "model.token_head.bias", change)
    with pytest.raises(ParityError, match=r"other answers.*word_labels=[1-9]"):
        compare(runner, tolerance=1000.0)


def test_a_wrong_document_type_alone_fails(tmp_path: Path) -> None:
    def change(bias_C: np.ndarray[Any, Any]) -> None:
        bias_C[14] += 50.0

    runner = tampered(tmp_path, "model.doc_type_head.out_proj.bias", change)
    with pytest.raises(ParityError, match=r"doc_types=8, po_subtypes=0, word_labels=0"):
        compare(runner, tolerance=100.0)


def test_nan_fails() -> None:
    exported = OnnxRunner(tiny().onnx / "model.onnx", providers="cpu", threads=1)

    def with_nan(*inputs: Any) -> Logits:
        logits = exported(*inputs)
        if len(inputs[0]) == 3:
            logits.token[0, 0, 0] = np.nan
        return logits

    with pytest.raises(ParityError, match="nan"):
        compare(with_nan, tolerance=1e9)


def prediction(
    doc_type: list[float], labels: list[int], confidences: list[float], po_subtype: list[float] | None = None
) -> DocumentPrediction:
    return DocumentPrediction(
        document_id="doc",
        doc_type_probabilities=np.array(doc_type, np.float32),
        po_subtype_probabilities=np.array(po_subtype or [1.0, 0.0], np.float32),
        word_labels=np.array(labels, np.int16),
        word_confidences=np.array(confidences, np.float32),
        word_is_scored=np.ones(len(labels), bool),
    )


@pytest.mark.parametrize(
    ("one", "other", "doc_types", "po_subtypes", "word_labels", "num_ties"),
    [
        pytest.param(
            prediction([0.6, 0.4], [1, 2, 0], [0.9, 0.9, 0.9]),
            prediction([0.6, 0.4], [1, 2, 0], [0.9, 0.9, 0.9]),
            *(0, 0, 0, 0),
            id="equal",
        ),
        pytest.param(
            prediction([0.6, 0.4], [1, 2, 0], [0.9, 0.9, 0.9]),
            prediction([0.4, 0.6], [1, 0, 3], [0.9, 0.9, 0.8]),
            *(1, 0, 2, 0),
            id="real flips",
        ),
        pytest.param(
            prediction([0.5, 0.5], [0], [0.9], po_subtype=[0.5, 0.5]),
            prediction([0.499999, 0.500001], [0], [0.9], po_subtype=[0.49, 0.51]),
            *(1, 1, 0, 2),
            id="the expected model's own tie decides, however sure the other is",
        ),
        pytest.param(
            prediction([0.6, 0.4], [1, 3], [0.25, 0.5]),
            prediction([0.6, 0.4], [3, 4], [0.5, 0.25]),
            *(0, 0, 2, 2),
            id="two label paths of one probability",
        ),
        pytest.param(
            prediction([0.6, 0.4], [1, 3], [0.25, 0.5]),
            prediction([0.6, 0.4], [3, 4], [0.5, 0.2501]),
            *(0, 0, 2, 0),
            id="two label paths, not of one probability",
        ),
    ],
)
def test_flips_and_ties(  # noqa: PLR0917  one parameter a count
    one: DocumentPrediction,
    other: DocumentPrediction,
    doc_types: int,
    po_subtypes: int,
    word_labels: int,
    num_ties: int,
) -> None:
    flips = count_flips([one], [other], tie_margin=1e-5)
    assert (flips.doc_types, flips.po_subtypes, flips.word_labels) == (doc_types, po_subtypes, word_labels)
    assert flips.num_ties == num_ties
    assert flips.num_real == doc_types + po_subtypes + word_labels - num_ties
