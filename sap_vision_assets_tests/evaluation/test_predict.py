from pathlib import Path

import numpy as np
import pytest

from sap_vision_assets.encoder import EncoderConfig, MultiTaskLayoutLMv3
from sap_vision_assets.errors import ArtifactError, CheckpointError, InputError
from sap_vision_assets.evaluation.outcomes import compare
from sap_vision_assets.evaluation.predict import TorchRunner, predict_documents
from sap_vision_assets.evaluation.scores import score
from sap_vision_assets.evaluation.stitching import Logits, Stitcher
from sap_vision_assets.shards import Shards
from sap_vision_assets_tests.evaluation.helpers import VOCABULARY, label, labels
from sap_vision_assets_tests.evaluation.pages import KnowingRunner, Page, logits_of, shards_of

LONG = tuple(
    ((f"Item {row}", "lineItem.description"), (str(100 + row), "lineItem.quantity"), ("pieces", None))
    for row in range(30)
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """A page of several windows, one of a single word, and one without words."""
    pages = [
        Page(document_id="a_long", doc_type="PURCHASE_ORDER", po_subtype="BLANKET", lines=LONG),
        Page(document_id="b_word", doc_type="CONTRACT", lines=((("4711", "documentNumber"),),)),
        Page(document_id="c_empty", doc_type="OTHER"),
    ]
    shards = shards_of(
        tmp_path_factory.mktemp("pages"), pages, max_tokens=40, stride=8, max_tokens_per_word=12
    )
    assert len(shards.document_windows(0)) > 3
    assert list(shards.num_words) == [120, 1, 0]
    return shards


def test_windows_are_stitched_word_by_word(shards: Shards) -> None:
    runner = KnowingRunner(shards)
    predictions = predict_documents(runner, shards, batch_size=2)
    assert [one.document_id for one in predictions] == ["a_long", "b_word", "c_empty"]
    for document, one in enumerate(predictions):
        assert one.word_labels.tolist() == shards.word_labels(document).tolist()
        assert one.word_is_scored.all()
        assert one.word_confidences == pytest.approx(0.9)
        assert one.doc_type == shards.doc_types[document]
        assert one.doc_type_confidence == pytest.approx(0.9, abs=1e-5)
    assert predictions[0].po_subtype == 1
    scores = score(predictions, shards, VOCABULARY)
    assert (scores.fields.f1, scores.fields.support, scores.num_unscored_words) == (1.0, 61, 0)


def test_batches_hold_windows_of_like_length(shards: Shards) -> None:
    runner = KnowingRunner(shards)
    predict_documents(runner, shards, batch_size=2)
    lengths = [length for _, length in runner.batch_shapes]
    assert lengths == sorted(lengths)
    assert lengths[0] < max(lengths)
    assert sum(rows for rows, _ in runner.batch_shapes) == shards.num_windows
    with pytest.raises(InputError, match="batch_size=0"):
        predict_documents(runner, shards, batch_size=0)


def test_answers_do_not_depend_on_the_batch(shards: Shards) -> None:
    one, other = (predict_documents(KnowingRunner(shards), shards, size) for size in (1, 7))
    for left, right in zip(one, other, strict=True):
        assert left.word_confidences.tobytes() == right.word_confidences.tobytes()
        assert left.doc_type_probabilities.tobytes() == right.doc_type_probabilities.tobytes()


def test_words_beyond_a_wrong_one_are_decoded_together(shards: Shards) -> None:
    # "Item 3" is B-, I- in truth; the runner calls the first word O, less surely than the second I-.
    inside, outside = label("I-lineItem.description"), 0

    def err(document: str, word: int, truth: int) -> tuple[int, float]:
        return (outside, 0.5) if document == "a_long" and word == 12 else (truth, 0.95)

    truth = shards.word_labels(0)
    assert truth[12:14].tolist() == labels("B-lineItem.description", "I-lineItem.description")
    predicted = predict_documents(KnowingRunner(shards, err_word=err), shards)[0]
    # Greedy is O, I-: invalid. B- for the first word costs log(0.5 / (0.5 / 180)) = 5.2 nats; O or a B- for
    # the second log(0.95 / (0.05 / 180)) = 8.1: so the entity is begun.
    assert predicted.word_labels[12:14].tolist() == [inside - 1, inside]
    assert predicted.word_confidences[12] == pytest.approx(0.5 / 180, rel=1e-3)
    [repaired] = [found for found in predicted.entities() if found.entity.start == 12]
    assert repaired.confidence == pytest.approx(0.5 / 180, rel=1e-3)


def test_logits_that_are_not_finite_are_refused(shards: Shards) -> None:
    runner = KnowingRunner(shards)
    broken = KnowingRunner(
        shards, err_doc_type=lambda document, truth: (truth, float("nan") if document == "b_word" else 0.9)
    )
    assert len(predict_documents(runner, shards, batch_size=1)) == 3
    with pytest.raises(CheckpointError, match=r"not finite on documents \['b_word'\]"):
        predict_documents(broken, shards, batch_size=1)


def test_document_logits_are_averaged_over_windows() -> None:
    stitcher = Stitcher("doc", num_words=0)
    nothing = np.zeros(0, np.int64)
    for doc_type in ([2.0, 0.0, 0.0], [-1.0, 0.0, 3.0]):
        window = Logits(np.array(doc_type), np.zeros(2), np.zeros((4, 5)))
        stitcher.add(nothing, nothing.astype(np.int32), window)
    # Means 0.5, 0, 1.5.
    expected = np.exp([0.5, 0.0, 1.5]) / np.exp([0.5, 0.0, 1.5]).sum()
    prediction = stitcher.finish()
    assert prediction.doc_type_probabilities == pytest.approx(expected, rel=1e-5)
    assert prediction.po_subtype_probabilities.tolist() == [0.5, 0.5]
    assert len(prediction.word_labels) == 0


def test_words_that_no_window_scores_are_outside_and_end_entities() -> None:
    begin, inside = 1, 2
    stitcher = Stitcher("doc", num_words=5)
    rows = [logits_of(5, answer, 0.9) for answer in (begin, inside, inside, begin)]
    window = Logits(np.zeros(3), np.zeros(2), np.stack(rows))
    # Word 2 is in no window; windows may come in any order.
    stitcher.add(np.array([2, 3]), np.array([3, 4], np.int32), window)
    stitcher.add(np.array([0, 1]), np.array([0, 1], np.int32), window)
    prediction = stitcher.finish()
    assert prediction.word_is_scored.tolist() == [True, True, False, True, True]
    assert prediction.word_labels[:3].tolist() == [begin, inside, 0]
    assert prediction.word_confidences[2] == 0
    # Word 3 cannot go on with what the gap cut off.
    assert prediction.word_labels[3] != inside


def test_predictions_of_other_shards_are_refused(shards: Shards) -> None:
    predictions = predict_documents(KnowingRunner(shards), shards)
    with pytest.raises(ArtifactError, match="2 predictions are not those of the 3 documents"):
        compare(predictions[:2], shards)


@pytest.fixture(scope="module")
def checkpoint(shards: Shards, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    config = EncoderConfig(
        vocab_size=int(shards.info["vocab_size"]),
        hidden_size=24,
        coordinate_size=4,
        shape_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=514,
        input_size=224,
        patch_size=56,
        vocabulary_digest=VOCABULARY.digest,
        tokenizer_digest=shards.info["tokenizer_digest"],
    )
    MultiTaskLayoutLMv3(config).save_pretrained(directory)
    return directory


def test_padding_does_not_move_the_checkpoints_answers(shards: Shards, checkpoint: Path) -> None:
    runner = TorchRunner(checkpoint, device="cpu")
    alone, together = (predict_documents(runner, shards, size) for size in (1, 8))
    for left, right in zip(alone, together, strict=True):
        assert left.word_labels.tolist() == right.word_labels.tolist()
        # Worst seen 6e-8.
        assert left.word_confidences == pytest.approx(right.word_confidences, abs=1e-5)
        assert left.doc_type_probabilities == pytest.approx(right.doc_type_probabilities, abs=1e-5)


def test_damaged_checkpoints_are_refused_by_name(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        TorchRunner(tmp_path)
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    weights = (checkpoint / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        TorchRunner(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    TorchRunner(tmp_path)
