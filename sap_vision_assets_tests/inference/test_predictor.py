"""A released folder answers as evaluation measured it, takes unlabelled pages, and needs no torch."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sap_vision_assets.artifacts import ArtifactSpec, ArtifactStore
from sap_vision_assets.documents import DocumentError, RejectReason
from sap_vision_assets.errors import ArtifactError, InputError, SapVisionError, VocabularyMismatchError
from sap_vision_assets.export import OnnxRunner
from sap_vision_assets.export.parity import predict_as_production
from sap_vision_assets.inference import Predictor, predict_page
from sap_vision_assets.inference.page import read_page
from sap_vision_assets.shards import load_tokenizer, open_shards
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.export.tiny import HEIGHT_PX, WIDTH_PX, WORDS_PER_PAGE, page_json, tiny

VOCABULARY = load_vocabulary()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """An unlabelled page with its image beside it."""
    file = tmp_path / "page.json"
    file.write_text(json.dumps(page_json(30)))
    Image.new("RGB", (WIDTH_PX, HEIGHT_PX), "white").save(tmp_path / "page.png")
    return file


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A copy of the export that a test may change."""
    shutil.copytree(tiny().onnx, tmp_path / "release")
    return tmp_path / "release"


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_answers_are_those_that_evaluation_measured(variant: str) -> None:
    predictor = Predictor(tiny().onnx, variant=variant, providers="cpu", threads=1)
    runner = OnnxRunner(predictor.runner.path, providers="cpu", threads=1)
    measured = predict_as_production(runner, open_shards(tiny().shards, VOCABULARY))
    for expected, num_words in zip(measured, WORDS_PER_PAGE, strict=True):
        file = tiny().root / "data" / "annotations" / f"{expected.document_id}.json"
        page = read_page(file, image=None, vocabulary=VOCABULARY)
        found = predictor.predict_words(page)
        np.testing.assert_array_equal(found.word_labels, expected.word_labels)
        np.testing.assert_array_equal(found.word_confidences, expected.word_confidences)
        np.testing.assert_array_equal(found.doc_type_probabilities, expected.doc_type_probabilities)
        np.testing.assert_array_equal(found.po_subtype_probabilities, expected.po_subtype_probabilities)
        answer = predictor.predict(page)
        assert answer.num_words == num_words
        assert answer.doc_type.value == VOCABULARY.doc_type_names[expected.doc_type]
        num_fields = len(answer.fields) + sum(len(row) for row in answer.line_items)
        assert num_fields == len(expected.entities())


def test_a_release_with_minilms_tokenizer_answers_for_every_word(page: Path) -> None:
    words = ["\u0301", "Menge", "😀", "übereinkunft", "0000000000000000", "שלום"]
    record = page_json(len(words)) | {"words": words}
    page.write_text(json.dumps(record))
    for tokenizer in ("minilm", "builtin"):
        predictor = Predictor(tiny(tokenizer).onnx, providers="cpu", threads=1)
        assert predictor.tokenizer.digest == load_tokenizer(tokenizer).digest
        read = read_page(page, image=None, vocabulary=VOCABULARY)
        assert len(predictor.predict_words(read).word_labels) == len(words)
        assert predictor.predict(read).num_words == len(words)


def test_labels_are_not_asked_for_and_not_looked_at(page: Path) -> None:
    predictor = Predictor(tiny().onnx, providers="cpu", threads=1)
    unlabelled = predictor.predict_file(page)
    record = json.loads(page.read_bytes())
    page.write_text(json.dumps(record | {"doc_type": "NONSENSE", "po_subtype": "X", "token_labels": [999]}))
    assert predictor.predict_file(page) == unlabelled
    assert predict_page(tiny().onnx, page, providers="cpu", threads=1) == unlabelled.to_json()


def test_image_may_be_named(page: Path, tmp_path: Path) -> None:
    predictor = Predictor(tiny().onnx, providers="cpu", threads=1)
    expected = predictor.predict_file(page)
    (tmp_path / "scans").mkdir()
    (tmp_path / "page.png").rename(tmp_path / "scans" / "other name.png")
    with pytest.raises(DocumentError, match=r"page\.png.* is not in .*; put it there, or pass --image"):
        predictor.predict_file(page)
    assert predictor.predict_file(page, image=tmp_path / "scans" / "other name.png") == expected


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"boxes": [[0, 0, 1001, 10]] * 30}, RejectReason.BOX_OUT_OF_RANGE),
        ({"boxes": [[0, 0, 10, 10]] * 29}, RejectReason.LENGTHS_DIFFER),
        ({"words": None}, RejectReason.ANNOTATION_SCHEMA),
        ({"colour": "red"}, RejectReason.ANNOTATION_SCHEMA),
        ({"image_path": "../page.png"}, RejectReason.IMAGE_PATH_UNSAFE),
        ({"image_path": "page.json"}, RejectReason.IMAGE_FORMAT),
        ({"width": 299}, RejectReason.IMAGE_SIZE_MISMATCH),
    ],
)
def test_unusable_page_is_refused_with_its_reason(
    page: Path, change: dict[str, Any], reason: RejectReason
) -> None:
    page.write_text(json.dumps(json.loads(page.read_bytes()) | change))
    with pytest.raises(DocumentError) as caught:
        read_page(page, image=None, vocabulary=VOCABULARY)
    assert caught.value.reason is reason


def test_json_that_is_no_object_is_refused(page: Path) -> None:
    page.write_text("[1]")
    with pytest.raises(DocumentError, match="not an object"):
        read_page(page, image=None, vocabulary=VOCABULARY)


def write_thresholds(release: Path, **changes: Any) -> None:
    record = {
        "vocabulary_digest": VOCABULARY.digest,
        "doc_type": {"threshold": 0.0},
        "po_subtype": {"threshold": None},
        "fields": {name: {"threshold": 1.1} for name in VOCABULARY.field_names},
    }
    (release / "thresholds.json").write_text(json.dumps(record | changes))


def test_thresholds_of_the_release_are_applied(release: Path, page: Path) -> None:
    write_thresholds(release)
    answer = Predictor(release, providers="cpu", threads=1).predict_file(page)
    assert answer.doc_type.above_threshold is True
    found = [*answer.fields, *(field for row in answer.line_items for field in row)]
    assert found
    assert {field.above_threshold for field in found} == {False}
    without = Predictor(tiny().onnx, providers="cpu", threads=1).predict_file(page)
    assert without.doc_type.above_threshold is None


def test_files_that_do_not_belong_together_are_refused(release: Path, tmp_path: Path) -> None:
    write_thresholds(release, vocabulary_digest="0" * 64)
    with pytest.raises(VocabularyMismatchError, match=r"thresholds\.json"):
        Predictor(release)
    write_thresholds(release, fields={"documentNumber": 0.5})
    with pytest.raises(ArtifactError, match=r"thresholds\.json: is no thresholds\.json of evaluation"):
        Predictor(release)
    (release / "thresholds.json").unlink()
    tokenizer = json.loads((release / "tokenizer.json").read_bytes())
    tokenizer["model"]["merges"].pop()
    (release / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert load_tokenizer(release).digest != load_tokenizer("builtin").digest
    with pytest.raises(VocabularyMismatchError, match="its tokenizer is"):
        Predictor(release)


@pytest.mark.parametrize(
    ("missing", "variant", "error", "message"),
    [
        ("model.onnx", "fp32", ArtifactError, r"model\.onnx"),
        ("model.int8.onnx", "int8", ArtifactError, r"model\.int8\.onnx"),
        ("labels.json", "fp32", ArtifactError, r"labels\.json"),
        ("tokenizer.json", "fp32", InputError, "tokenizer"),
        ("export.json", "fp16", InputError, "variant='fp16'"),
    ],
)
def test_missing_file_is_named(
    release: Path, missing: str, variant: str, error: type[SapVisionError], message: str
) -> None:
    (release / missing).unlink()
    with pytest.raises(error, match=message):
        Predictor(release, variant=variant)


def test_prediction_loads_neither_torch_nor_training_libraries(promoted: Path, page: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from sap_vision_assets.inference import predict_page
answer = predict_page(Path({str(promoted)!r}), Path({str(page)!r}), providers="cpu", threads=1)
assert answer["num_words"] == 30
heavy = {{"torch", "transformers", "pandas", "sklearn", "matplotlib", "dagster"}} & set(sys.modules)
print("loaded:", *sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "loaded:\n"
    assert done.stderr == ""


@pytest.fixture
def promoted(release: Path, tmp_path: Path) -> Path:
    """A copy of a folder that the artefact store published, with thresholds and a manifest."""
    write_thresholds(release)

    def make(out: Path) -> dict[str, Any]:
        shutil.copytree(release, out, dirs_exist_ok=True)
        return {}

    made = ArtifactStore(tmp_path / "artifacts").produce(ArtifactSpec(asset="general/promoted_model"), make)
    shutil.copytree(made.path, tmp_path / "copy")
    return tmp_path / "copy"


def flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_copied_release_answers(promoted: Path, page: Path, caplog: pytest.LogCaptureFixture) -> None:
    answer = Predictor(promoted, providers="cpu", threads=1).predict_file(page)
    assert answer.doc_type.above_threshold is True
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("model.onnx", flip_last_byte, "or one has changed"),
        ("model.int8.onnx", flip_last_byte, "or one has changed"),
        ("tokenizer.json", flip_last_byte, "or one has changed"),
        ("thresholds.json", Path.unlink, "is missing"),
        ("labels.json", lambda file: file.write_bytes(file.read_bytes()[:200]), "its 200 bytes are not the"),
        ("manifest.json", lambda file: file.write_text("{}"), "lists no file's size and sha256"),
    ],
)
def test_a_tampered_release_is_refused_and_the_file_named(
    promoted: Path, name: str, damage: Callable[[Path], object], said: str
) -> None:
    damage(promoted / name)
    with pytest.raises(ArtifactError, match=said) as caught:
        Predictor(promoted, providers="cpu", threads=1)
    assert str(caught.value).startswith(f"{promoted / name}: ")


def test_a_folder_without_a_manifest_answers_with_a_warning(
    release: Path, page: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert Predictor(release, providers="cpu", threads=1).predict_file(page).num_words == 30
    assert f"{release}: has no manifest.json, so its files are not verified" in caplog.text
