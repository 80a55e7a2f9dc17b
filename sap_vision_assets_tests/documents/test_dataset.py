"""The Parquet files: contents, repeatability, damage, other readers."""

import hashlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from sap_vision_assets.documents import (
    DOCUMENTS_FILE,
    REJECTS_FILE,
    DatasetConfig,
    build_dataset,
    config,
    open_dataset,
    table,
)
from sap_vision_assets.errors import ArtifactError, InputError, VocabularyMismatchError
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.documents.folders import VOCABULARY, SplitFolder, encoded, page

ONE_WORKER = DatasetConfig(workers=1)


@pytest.fixture
def folder(tmp_path: Path) -> SplitFolder:
    made = SplitFolder(tmp_path / "general" / "train")
    made.add("b", doc_type="PURCHASE_ORDER", po_subtype="STANDARD")
    made.add("a")
    made.add("c", words=[], boxes=[], token_labels=[])
    made.add("bad", width=1)
    return made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def _digests(out: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(out.iterdir())}


def test_documents_come_back_sorted_and_as_they_were_read(folder: SplitFolder, out: Path) -> None:
    build_dataset(folder.path, out, vocabulary=VOCABULARY, config=ONE_WORKER)
    assert sorted(file.name for file in out.iterdir()) == [DOCUMENTS_FILE, REJECTS_FILE]
    dataset = open_dataset(out, VOCABULARY)
    documents = list(dataset.iter_documents())
    assert dataset.num_documents == 3
    assert [document.document_id for document in documents] == ["a", "b", "c"]
    assert {document.document_id: document for document in documents} == folder.read()[0]
    assert dataset.column(["doc_type"]).column("doc_type").to_pylist() == [
        "INVOICE",
        "PURCHASE_ORDER",
        "INVOICE",
    ]


def test_summary_and_reject_table(folder: SplitFolder, out: Path) -> None:
    folder.image("lonely.png").write_bytes(encoded(page()))
    summary = build_dataset(folder.path, out, vocabulary=VOCABULARY, config=ONE_WORKER)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["num_documents"] == 3
    assert summary["num_rejected"] == 1
    assert summary["reject_rate"] == 0.25
    assert summary["rejects_by_reason"] == {"image_size_mismatch": 1}
    assert summary["doc_type_counts"] == {"INVOICE": 2, "PURCHASE_ORDER": 1}
    assert summary["po_subtype_counts"] == {"STANDARD": 1}
    assert summary["field_counts"] == {"documentNumber": 2, "senderName": 2}
    assert summary["num_words"] == 8
    assert summary["vocabulary_digest"] == VOCABULARY.digest
    assert summary["counters"]["repeated_pages"] == 2
    assert summary["counters"]["documents_without_words"] == 1
    assert summary["counters"]["images_without_annotation"] == 1
    assert summary["counters"]["blank_words_dropped"] == 0
    rejects = pq.read_table(out / REJECTS_FILE).to_pylist()
    assert [(row["document_id"], row["file"], row["reason"]) for row in rejects] == [
        ("bad", "annotations/bad.json", "image_size_mismatch"),
        (None, "images/lonely.png", "image_without_annotation"),
    ]
    assert "1 x 80" in rejects[0]["detail"]


def test_same_input_gives_same_bytes_whatever_the_workers_and_row_groups_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "MIN_DOCUMENTS_PER_WORKER", 1)
    monkeypatch.setattr(table, "ROW_GROUP_ROWS", 4)
    folder = SplitFolder(tmp_path / "train")
    for number in range(10):
        folder.add(f"doc{number}", width=60 if number % 3 else 61)
    digests = []
    for workers in (1, 2, 1):
        out = tmp_path / f"out{len(digests)}"
        out.mkdir()
        build_dataset(folder.path, out, vocabulary=VOCABULARY, config=DatasetConfig(workers=workers))
        digests.append(_digests(out))
    assert digests[0] == digests[1] == digests[2]
    assert pq.ParquetFile(out / DOCUMENTS_FILE).metadata.num_row_groups == 2
    folder.add("doc3")
    out = tmp_path / "changed"
    out.mkdir()
    build_dataset(folder.path, out, vocabulary=VOCABULARY, config=ONE_WORKER)
    assert _digests(out)[DOCUMENTS_FILE] != digests[0][DOCUMENTS_FILE], "the twin: other input, other bytes"


def test_header_that_cannot_be_decoded_gives_the_same_rejects_each_time(
    folder: SplitFolder, tmp_path: Path
) -> None:
    """Pillow would name the stream by its address."""
    whole = folder.image("bad.png").read_bytes()
    folder.image("bad.png").write_bytes(whole[:25] + b"\x05" + whole[26:])
    digests = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        build_dataset(folder.path, tmp_path / name, vocabulary=VOCABULARY, config=ONE_WORKER)
        digests.append(_digests(tmp_path / name))
    assert digests[0] == digests[1]
    (row,) = pq.read_table(tmp_path / "first" / REJECTS_FILE).to_pylist()
    assert row["reason"] == "image_damaged"
    assert row["detail"].endswith("export or scan the page again")


def test_row_group_closes_when_its_pages_are_large(
    folder: SplitFolder, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "ROW_GROUP_BYTES", 1)
    build_dataset(folder.path, out, vocabulary=VOCABULARY, config=ONE_WORKER)
    assert pq.ParquetFile(out / DOCUMENTS_FILE).metadata.num_row_groups == 3
    assert len(list(open_dataset(out, VOCABULARY).iter_documents())) == 3


@pytest.mark.parametrize("exists", [True, False])
def test_empty_or_missing_folder_gives_zero_rows_with_the_schema(
    tmp_path: Path, out: Path, exists: bool
) -> None:
    folder = tmp_path / "receipts" / "val"
    if exists:
        folder.mkdir(parents=True)
    summary = build_dataset(folder, out, vocabulary=VOCABULARY, config=ONE_WORKER)
    assert (summary["num_documents"], summary["num_rejected"], summary["reject_rate"]) == (0, 0, 0.0)
    dataset = open_dataset(out, VOCABULARY)
    assert dataset.num_documents == 0
    assert list(dataset.iter_documents()) == []
    assert dataset.column(["words", "boxes"]).num_rows == 0


def test_folder_that_cannot_be_listed_is_refused(tmp_path: Path, out: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "annotations").write_text("a file")
    with pytest.raises(InputError, match="cannot be listed"):
        build_dataset(tmp_path / "train", out, vocabulary=VOCABULARY, config=ONE_WORKER)


def test_hugging_face_datasets_reads_it_with_images(folder: SplitFolder, out: Path, tmp_path: Path) -> None:
    import datasets

    build_dataset(folder.path, out, vocabulary=VOCABULARY, config=ONE_WORKER)
    loaded = datasets.load_dataset(
        "parquet", data_files=str(out / DOCUMENTS_FILE), cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert isinstance(loaded.features["image"], datasets.Image)
    row = loaded[1]
    assert row["document_id"] == "b"
    assert isinstance(row["image"], Image.Image)
    assert row["image"].size == (row["width"], row["height"]) == (60, 80)
    assert row["boxes"][0] == [100, 50, 200, 70]


def test_other_vocabulary_is_refused_with_both_digests(
    folder: SplitFolder, out: Path, tmp_path: Path
) -> None:
    build_dataset(folder.path, out, vocabulary=VOCABULARY, config=ONE_WORKER)
    extension = tmp_path / "more.json"
    extension.write_text('{"version": 1, "fields": [{"name": "extra", "sap": "-", "meaning": "One more."}]}')
    other = load_vocabulary(extension)
    with pytest.raises(VocabularyMismatchError) as caught:
        open_dataset(out, other)
    assert VOCABULARY.digest in str(caught.value)
    assert other.digest in str(caught.value)
    assert DOCUMENTS_FILE in str(caught.value)
    assert open_dataset(out, VOCABULARY).num_documents == 3


def test_cut_footer_and_missing_file_are_named(folder: SplitFolder, out: Path) -> None:
    build_dataset(folder.path, out, vocabulary=VOCABULARY, config=ONE_WORKER)
    file = out / DOCUMENTS_FILE
    os.truncate(file, file.stat().st_size - 5)
    with pytest.raises(ArtifactError, match=r"documents.parquet: is cut or damaged"):
        open_dataset(out, VOCABULARY)
    file.unlink()
    with pytest.raises(ArtifactError, match=r"documents.parquet: is missing"):
        open_dataset(out, VOCABULARY)


def test_flipped_byte_in_a_page_is_found_when_it_is_read(folder: SplitFolder, out: Path) -> None:
    build_dataset(folder.path, out, vocabulary=VOCABULARY, config=ONE_WORKER)
    file = out / DOCUMENTS_FILE
    content = bytearray(file.read_bytes())
    content[content.index(b"\x89PNG") + 30] ^= 1
    file.write_bytes(content)
    dataset = open_dataset(out, VOCABULARY)
    with pytest.raises(ArtifactError, match=r"documents.parquet: is cut or damaged"):
        list(dataset.iter_documents())


@pytest.mark.parametrize("change", ["drop a column", "change a type", "other version"])
def test_drifted_schema_is_refused(folder: SplitFolder, out: Path, change: str) -> None:
    build_dataset(folder.path, out, vocabulary=VOCABULARY, config=ONE_WORKER)
    written = pq.read_table(out / DOCUMENTS_FILE)
    if change == "drop a column":
        written = written.drop_columns(["width"])
    elif change == "change a type":
        written = written.set_column(
            written.schema.get_field_index("width"), "width", written["width"].cast("int64")
        )
    else:
        written = written.replace_schema_metadata({**written.schema.metadata, b"format_version": b"0"})
    pq.write_table(written, out / DOCUMENTS_FILE)
    with pytest.raises(ArtifactError, match="version 0" if change == "other version" else "column width is"):
        open_dataset(out, VOCABULARY)


def test_output_that_is_not_there_is_refused_before_any_work(folder: SplitFolder, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"documents.parquet: cannot be written"):
        build_dataset(folder.path, tmp_path / "gone", vocabulary=VOCABULARY, config=ONE_WORKER)


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from sap_vision_assets.documents import build_dataset, DatasetConfig
from sap_vision_assets.vocabulary import load_vocabulary
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
folder, out = map(Path, sys.argv[1:3])
build_dataset(folder, out, vocabulary=load_vocabulary(), config=DatasetConfig(workers=1))
"""


@pytest.mark.parametrize("limit", [1000, 0, resource.RLIM_INFINITY])
def test_full_disk_fails_loudly(folder: SplitFolder, out: Path, limit: int) -> None:
    command = [sys.executable, "-c", _FULL_DISK, str(folder.path), str(out), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if limit == resource.RLIM_INFINITY:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    assert "ArtifactError" in done.stderr
    assert "documents.parquet: cannot be written" in done.stderr


def test_limits_are_checked_when_they_are_made() -> None:
    with pytest.raises(InputError, match="max_pixels=0"):
        DatasetConfig(max_pixels=0)
    with pytest.raises(InputError, match="workers=-1"):
        DatasetConfig(workers=-1)
