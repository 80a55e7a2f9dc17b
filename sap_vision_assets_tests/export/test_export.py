"""The deliverable: what is in it, and that its graph is the checkpoint's for every batch and length."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest

from sap_vision_assets.documents import build_dataset
from sap_vision_assets.errors import ArtifactError, CheckpointError, InputError, VocabularyMismatchError
from sap_vision_assets.evaluation.predict import TorchRunner
from sap_vision_assets.evaluation.stitching import Logits
from sap_vision_assets.export import ExportConfig, OnnxRunner, export_onnx, graph, read_labels
from sap_vision_assets.export.graph import save_graph, write_int8
from sap_vision_assets.export.parity import predict_as_production
from sap_vision_assets.export.session import external_files
from sap_vision_assets.export.variants import Judge
from sap_vision_assets.shards import ShardConfig, build_shards, load_tokenizer, open_shards
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.export.tiny import CONFIG, MAX_TOKENS, tiny


def batch(num_windows: int, num_tokens: int, seed: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Random windows with boxes all over the page; all but the first end in padding."""
    random = np.random.default_rng(seed)
    mask = np.ones((num_windows, num_tokens), np.int64)
    for row in range(1, num_windows):
        mask[row, -(row * num_tokens) // (2 * num_windows) :] = 0
    corner = random.integers(0, 1001, (2, num_windows, num_tokens, 2))
    bbox = np.concatenate([corner.min(axis=0), corner.max(axis=0)], axis=-1) * mask[..., None]
    ids = np.where(mask == 1, random.integers(5, 4000, mask.shape), 1)
    pixels = random.uniform(-1, 1, (num_windows, 3, 224, 224)).astype(np.float32)
    return ids, bbox, mask, pixels


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 511), (1, 512), (5, 33)])
def test_graph_gives_the_checkpoints_logits_for_every_shape(shape: tuple[int, int]) -> None:
    inputs = batch(*shape, seed=shape[1])
    expected = TorchRunner(tiny().checkpoint, device="cpu")(*inputs)
    found = OnnxRunner(tiny().onnx / "model.onnx", providers="cpu", threads=1)(*inputs)
    assert found.token.shape == (*shape, 181)
    is_token = inputs[2].astype(bool)
    # Worst measured: 4e-6 at logits of up to 13, 512 tokens.
    np.testing.assert_allclose(found.token[is_token], expected.token[is_token], rtol=0, atol=2e-5)
    np.testing.assert_allclose(found.doc_type, expected.doc_type, rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.po_subtype, expected.po_subtype, rtol=0, atol=2e-6)


def test_folder_is_a_complete_deliverable() -> None:
    folder, vocabulary = tiny().onnx, load_vocabulary()
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json",
        "export.json",
        "labels.json",
        "model.int8.onnx",
        "model.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert json.loads((folder / "export.json").read_bytes()) == json.loads(json.dumps(tiny().record))
    assert read_labels(folder) == vocabulary
    assert load_tokenizer(folder).digest == load_tokenizer("builtin").digest
    for name in ("model.onnx", "model.int8.onnx"):
        model = onnx.load(folder / name)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert metadata["vocabulary_digest"] == vocabulary.digest
        assert metadata["tokenizer_digest"] == load_tokenizer("builtin").digest
        assert json.loads(metadata["token_labels"]) == list(vocabulary.labels)
        assert metadata["window_tokens"] == str(MAX_TOKENS)
        assert [entry.version for entry in model.opset_import if not entry.domain] == [18]


def test_minilms_tokenizer_goes_along_and_its_graph_is_the_checkpoints() -> None:
    """WordPiece pads with id 0, where positions are counted from 1."""
    made = tiny("minilm")
    minilm = load_tokenizer("minilm")
    assert load_tokenizer(made.onnx).digest == minilm.digest != load_tokenizer("builtin").digest
    assert made.record["tokenizer_digest"] == minilm.digest
    assert made.record["num_flips"] == 0
    ids, bbox, mask, pixels = batch(3, 40, seed=5)
    inputs = (np.where(mask == 1, ids, minilm.pad_id), bbox, mask, pixels)
    expected = TorchRunner(made.checkpoint, device="cpu")(*inputs)
    found = OnnxRunner(made.onnx / "model.onnx", providers="cpu", threads=1)(*inputs)
    is_token = mask.astype(bool)
    np.testing.assert_allclose(found.token[is_token], expected.token[is_token], rtol=0, atol=2e-5)
    np.testing.assert_allclose(found.doc_type, expected.doc_type, rtol=0, atol=2e-6)


def test_files_carry_nothing_of_this_machine() -> None:
    here = str(Path(graph.__file__).parent).encode()
    for file in tiny().onnx.iterdir():
        assert here not in file.read_bytes()
        assert b"stack_trace" not in file.read_bytes()


def test_int8_is_reported_beside_fp32() -> None:
    record = tiny().record
    int8, fp32 = record["int8"], record["fp32"]
    assert int8["num_bytes"] == (tiny().onnx / "model.int8.onnx").stat().st_size
    assert int8["size_ratio"] == int8["num_bytes"] / fp32["num_bytes"] < 1
    assert int8["speed"]["speed_ratio"] > 0
    assert int8["speed"]["device"] == "cpu"
    for metrics in (fp32["test"], int8["test"], int8["val"]["fp32"], int8["val"]["int8"]):
        assert metrics["num_documents"] == 8
        assert metrics["num_entities"] == 307
        assert 0 <= metrics["field_f1"] <= 1
    # Val and test are the same shards here, and the metrics are a function of the shards.
    assert int8["val"]["fp32"] == fp32["test"]
    assert int8["val"]["int8"] == int8["test"]
    model = onnx.load(tiny().onnx / "model.int8.onnx")
    # Per layer query, key, value, dense, two of the feed-forward; the token head.
    assert sum(node.op_type == "MatMulInteger" for node in model.graph.node) >= 2 * 6 + 1


class Insists:
    """A model that says the same label of every word: B of the first field (1) or O (0)."""

    def __init__(self, *, label: int) -> None:
        self.path = tiny().onnx / "model.onnx"
        self.runner = OnnxRunner(self.path, providers="cpu", threads=1)
        self.label = label

    def __call__(self, *inputs: Any) -> Logits:
        logits = self.runner(*inputs)
        logits.token[..., self.label] += 1000
        return logits


@pytest.mark.parametrize(
    ("label", "has_val", "is_offered", "reason"),
    [
        (1, True, True, "offered: on val field_f1 falls by 0.0000, doc_type_accuracy falls by 0.0000; "),
        # Every fourth word is of the first field: 1 + 10 + 2 + 0 + 40 + 3 + 7 + 15 = 78 of 307 are correct,
        # F1 2 * 78 / (307 + 307); with O it is 0.
        (0, True, False, "not offered: on val field_f1 falls by 0.2541, doc_type_accuracy falls by 0.0000; "),
        (1, False, False, "not offered: there are no validation documents"),
    ],
)
def test_int8_is_offered_by_its_metrics_on_val(
    label: int, has_val: bool, is_offered: bool, reason: str
) -> None:
    shards = open_shards(tiny().shards, load_vocabulary())
    product: Any = Insists(label=1)
    int8: Any = Insists(label=label)
    judge = Judge(product=product, test=shards, val=shards if has_val else None, vocabulary=load_vocabulary())
    answers = predict_as_production(product, shards)
    record = judge.judge_int8(int8, answers, max_drop=0.005, tie_margin=1e-5, timed_pages=1)
    assert record["int8_offered"] is is_offered
    assert record["int8_reason"].startswith(reason)
    assert record["int8"]["test_flips"]["word_labels"] == (0 if label else 307)


def test_large_models_keep_their_weights_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "SINGLE_FILE_LIMIT_BYTES", 1_000_000)
    save_graph(onnx_ir.load(tiny().onnx / "model.onnx"), tmp_path / "model.onnx")
    write_int8(tmp_path / "model.onnx", tmp_path / "model.int8.onnx", per_channel=True, reduce_range=True)
    inputs = batch(2, 20, seed=0)
    for name in ("model.onnx", "model.int8.onnx"):
        assert external_files(tmp_path / name) == [(tmp_path / f"{name}.data").resolve()]
        whole, split = (OnnxRunner(folder / name, threads=1) for folder in (tiny().onnx, tmp_path))
        np.testing.assert_array_equal(split(*inputs).token, whole(*inputs).token)
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../model.onnx.data"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    shutil.copyfile(tmp_path / "model.onnx.data", tmp_path.parent / "model.onnx.data")
    with pytest.raises(ArtifactError, match="outside the model's folder"):
        OnnxRunner(tmp_path / "model.onnx")


def test_same_checkpoint_gives_the_same_graph_without_int8_where_it_is_off(tmp_path: Path) -> None:
    record = export(tmp_path, config=replace(CONFIG, int8=False))
    assert not (tmp_path / "model.int8.onnx").exists()
    assert (record["int8_offered"], "int8" in record) == (False, False)
    assert "switched off" in record["int8_reason"]
    assert record["fp32"] == tiny().record["fp32"]
    first, second = (
        hashlib.sha256((folder / "model.onnx").read_bytes()) for folder in (tiny().onnx, tmp_path)
    )
    assert first.hexdigest() == second.hexdigest()


def export(out: Path, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "checkpoint": tiny().checkpoint,
        "test_shards": tiny().shards,
        "vocabulary": load_vocabulary(),
        "config": CONFIG,
    }
    return export_onnx(out=out, **(arguments | changes))


def test_another_vocabulary_is_refused_before_any_work(tmp_path: Path) -> None:
    extension = tmp_path / "more.json"
    field = {"name": "lotNumber", "sap": "MCHA-CHARG", "meaning": "Batch of the goods"}
    extension.write_text(json.dumps({"version": 1, "fields": [field]}))
    (tmp_path / "out").mkdir()
    vocabulary = load_vocabulary(extension)
    with pytest.raises(VocabularyMismatchError, match=vocabulary.digest):
        export(tmp_path / "out", vocabulary=vocabulary)
    assert list((tmp_path / "out").iterdir()) == []


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    shutil.copytree(tiny().checkpoint, tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / "config.json"
    config = json.loads(file.read_bytes()) | {"tokenizer_digest": "0" * 64}
    file.write_text(json.dumps(config))
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError, match="its weights know 0000"):
        export(tmp_path / "out", checkpoint=tmp_path / "checkpoint")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("config", "has_documents", "error", "message"),
    [
        (ShardConfig(), False, InputError, "has no documents to compare"),
        (ShardConfig(max_tokens=600), True, InputError, "windows of 600 tokens"),
        (ShardConfig(page_size=96), True, InputError, "pages of 96 pixels"),
    ],
)
def test_shards_that_prove_nothing_are_refused(
    tmp_path: Path, config: ShardConfig, has_documents: bool, error: type[Exception], message: str
) -> None:
    for name in ("dataset", "shards", "out", "nothing"):
        (tmp_path / name).mkdir()
    folder = tiny().root / "data" if has_documents else tmp_path / "nothing"
    build_dataset(folder, tmp_path / "dataset", vocabulary=load_vocabulary())
    build_shards(tmp_path / "dataset", tmp_path / "shards", vocabulary=load_vocabulary(), config=config)
    with pytest.raises(error, match=message):
        export(tmp_path / "out", test_shards=tmp_path / "shards")
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        export(tmp_path, checkpoint=tmp_path)


@pytest.mark.parametrize(
    "setting",
    [
        {"opset": 17},
        {"logits_tolerance": 0.0},
        {"tie_margin": -1.0},
        {"max_int8_drop": 1.0},
        {"batch_size": 0},
        {"timed_pages": 0},
        {"threads": -1},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(setting))):
        ExportConfig(**setting)


def test_graph_has_no_dropout() -> None:
    runner = OnnxRunner(tiny().onnx / "model.onnx", providers="cpu", threads=1)
    inputs = batch(2, 9, seed=3)
    np.testing.assert_array_equal(runner(*inputs).token, runner(*inputs).token)
    model = onnx.load(tiny().onnx / "model.onnx")
    assert not [node for node in model.graph.node if node.op_type == "Dropout"]
