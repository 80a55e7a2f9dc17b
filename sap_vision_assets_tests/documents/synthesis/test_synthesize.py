import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sap_vision_assets.documents.synthesis import contact_sheet
from sap_vision_assets.documents.synthesis.synthesize import make_sample, norm1000, synthesize
from sap_vision_assets.errors import ArtifactError, InputError
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.documents.folders import full_disk


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def die(job: object) -> None:
    os._exit(1)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic")
    synthesize(out, num_samples=6, split="train", seed=11, workers=1)
    return out


def test_the_folder_has_the_documented_form(written: Path) -> None:
    vocabulary = load_vocabulary()
    names = [f"doc_{number:06d}" for number in range(6)]
    folder = written / "general" / "train"
    assert sorted(path.name for path in (folder / "images").iterdir()) == [f"{name}.jpg" for name in names]
    assert sorted(path.name for path in (folder / "annotations").iterdir()) == [
        f"{name}.json" for name in names
    ]
    for name in names:
        annotation = json.loads((folder / "annotations" / f"{name}.json").read_text())
        with Image.open(folder / "images" / f"{name}.jpg") as image:
            assert image.format == "JPEG"
            assert image.size == (annotation["width"], annotation["height"])
        assert annotation["image_path"] == f"{name}.jpg"
        assert annotation["doc_type"] in vocabulary.doc_type_names
        assert ("po_subtype" in annotation) == (annotation["doc_type"] == "PURCHASE_ORDER")
        words, boxes, labels = annotation["words"], annotation["boxes"], annotation["token_labels"]
        assert len(words) == len(boxes) == len(labels) > 20
        assert all(word and not any(character.isspace() for character in word) for word in words)
        assert all(
            0 <= left <= right <= 1000 and 0 <= top <= bottom <= 1000 for left, top, right, bottom in boxes
        )
        assert all(0 <= label < len(vocabulary.labels) for label in labels)
        assert any(labels)


def test_the_same_call_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    synthesize(tmp_path, num_samples=6, split="train", seed=11, workers=1)
    assert digests(tmp_path) == digests(written)


def test_workers_change_nothing(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sap_vision_assets.documents.synthesis.synthesize.CHUNK", 3)
    synthesize(tmp_path, num_samples=6, split="train", seed=11, workers=2)
    assert digests(tmp_path) == digests(written)


def test_seed_split_and_number_change_the_page() -> None:
    vocabulary = load_vocabulary()
    pages = [
        make_sample(number, split=split, seed=seed, dpi=100, vocabulary=vocabulary).jpeg
        for number, split, seed in ((0, "train", 1), (1, "train", 1), (0, "val", 1), (0, "train", 2))
    ]
    assert len(set(pages)) == 4


def test_more_samples_extend_fewer(written: Path, tmp_path: Path) -> None:
    synthesize(tmp_path, num_samples=2, split="train", seed=11, workers=1)
    synthesize(tmp_path, num_samples=6, split="train", seed=11, workers=1)
    assert digests(tmp_path) == digests(written)


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("images/scan_1.png", {}),
        ("annotations/doc_000000.json", {}),
        ("images/doc_000004.jpg", {"num_samples": 4}),
        ("images/doc_000000.jpg", {"seed": 12}),
        ("notes.txt", {}),
    ],
)
def test_a_folder_with_other_documents_is_refused(
    written: Path, tmp_path: Path, file: str, settings: dict[str, int]
) -> None:
    """The first two are somebody else's; the others are more, or other, samples than the ones asked for."""
    folder = tmp_path / "general" / "train"
    path = folder / file
    path.parent.mkdir(parents=True)
    ours = written / "general" / "train" / file
    path.write_bytes(ours.read_bytes() if settings else b"somebody's work")
    before = digests(tmp_path)
    with pytest.raises(InputError, match=r"already holds other documents .*choose another output folder"):
        synthesize(tmp_path, **{"num_samples": 6, "split": "train", "seed": 11, "workers": 1, **settings})  # type: ignore[arg-type]
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    "settings",
    [{"split": "dev"}, {"num_samples": -1}, {"dpi": 20}, {"workers": -2}, {"domain": "a/b"}, {"domain": "A"}],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(InputError):
        synthesize(tmp_path, **{"num_samples": 1, "split": "train", "seed": 0, **settings})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_full_disk_fails_with_path_and_fix_and_the_next_call_goes_on(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr("sap_vision_assets.documents.synthesis.synthesize.CHUNK", 3)
    settings: dict[str, Any] = {"num_samples": 6, "split": "train", "seed": 11}
    with (
        full_disk(1000),
        pytest.raises(ArtifactError, match=r"general/train: cannot be written .*free space"),
    ):
        synthesize(tmp_path, **settings, workers=workers)
    assert digests(tmp_path) == {}
    synthesize(tmp_path, **settings, workers=1)
    assert digests(tmp_path) == digests(written)


def test_output_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ArtifactError, match=r"out/general/train: cannot be written"):
        synthesize(tmp_path / "out", num_samples=1, split="train", seed=0)


def test_worker_that_dies_is_told_with_path_and_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{synthesize.__module__}.CHUNK", 1)
    monkeypatch.setattr(f"{synthesize.__module__}._write_samples", die)
    with pytest.raises(
        ArtifactError, match=r"general/val: a process that writes samples died .*fewer workers"
    ):
        synthesize(tmp_path, num_samples=2, split="val", seed=0, workers=2)


def test_boxes_are_thousandths_of_the_page() -> None:
    assert norm1000((82.7, 0, 413.5, 1169), (827, 1169)) == [100, 0, 500, 1000]
    assert norm1000((0, 0, 827.4, 1169.6), (827, 1169)) == [0, 0, 1000, 1000]


def test_contact_sheet_shows_every_page(written: Path) -> None:
    files = sorted((written / "general" / "train" / "images").iterdir())
    sheet = contact_sheet.contact_sheet(files, columns=4, page_width=100, page_height=140)
    assert sheet.size == (4 * 114 + 14, 2 * 154 + 14)
    cells = [(14 + (number % 4) * 114 + 50, 14 + (number // 4) * 154 + 5) for number in range(8)]
    shown = [sheet.getpixel(cell) != contact_sheet.GROUND for cell in cells]
    assert shown == [True] * 6 + [False] * 2
    with pytest.raises(InputError):
        contact_sheet.contact_sheet([])


def test_contact_sheet_command(tmp_path: Path) -> None:
    contact_sheet.main(["--out", str(tmp_path / "sheet.jpg"), "--num-pages", "2", "--columns", "2"])
    with Image.open(io.BytesIO((tmp_path / "sheet.jpg").read_bytes())) as image:
        assert image.size == (2 * 434 + 14, 594 + 28)
