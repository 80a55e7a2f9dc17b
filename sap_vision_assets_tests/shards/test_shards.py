"""Building and opening: contents, determinism, and every kind of damage."""

import errno
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sap_vision_assets.artifacts import ArtifactSpec, ArtifactStore
from sap_vision_assets.documents import Document, open_dataset
from sap_vision_assets.errors import ArtifactError, VocabularyMismatchError
from sap_vision_assets.shards import ShardConfig, Shards, build_shards, load_tokenizer, open_shards
from sap_vision_assets.shards import arrays as arrays_module
from sap_vision_assets.shards.build import _with_thumbnails
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary
from sap_vision_assets_tests.shards.conftest import Labelled, MakeDataset, boxes_of

SMALL = ShardConfig(max_tokens=16, stride=4, max_tokens_per_word=8, page_size=32)
DOCUMENTS = [
    Labelled(words=["Invoice", "471102", "1.234,56"], labels=[0, 1, 3], colour=(200, 10, 10)),
    Labelled(words=[], labels=[], doc_type="OTHER", format="JPEG"),
    Labelled(
        words=list("123456789" * 3), labels=[5, *[6] * 26], doc_type="PURCHASE_ORDER", po_subtype="BLANKET"
    ),
    Labelled(words=["4", "5", "x" * 500], labels=[0, 0, 7], doc_type="PURCHASE_ORDER"),
]


def folder(parent: Path, name: str) -> Path:
    out = parent / name
    out.mkdir()
    return out


def content(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


@pytest.fixture
def built(make_dataset: MakeDataset, tmp_path: Path, vocabulary: Vocabulary) -> Path:
    out = folder(tmp_path, "shards")
    build_shards(make_dataset(DOCUMENTS), out, vocabulary=vocabulary, config=SMALL, workers=2)
    return out


def test_windows_documents_and_pages(built: Path, vocabulary: Vocabulary) -> None:
    shards = open_shards(built, vocabulary)
    assert shards.num_documents == 4
    assert [shards.document_id(index) for index in range(4)] == ["doc_000", "doc_001", "doc_002", "doc_003"]
    names = vocabulary.doc_type_names
    assert [names[index] for index in shards.doc_types] == [document.doc_type for document in DOCUMENTS]
    assert shards.po_subtypes.tolist() == [-100, -100, vocabulary.po_subtype_names.index("BLANKET"), -100]
    assert shards.num_words.tolist() == [3, 0, 27, 3]
    pages = shards.read_pages([1, 0])
    assert pages.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(pages[0, 16, 16], [255, 255, 255])
    np.testing.assert_array_equal(pages[1, 16, 16], [200, 10, 10])
    # 27 words of one token, 14 to a window, 4 shared: 0-13, 10-23, 20-26.
    assert [len(shards.document_windows(index)) for index in range(4)] == [1, 1, 3, 1]
    assert shards.window_lengths.tolist()[1:5] == [2, 16, 16, 9]
    assert len(shards.window_lengths) == shards.num_windows == 6
    empty = shards.window(1)
    assert empty.input_ids.tolist() == [0, 2]
    assert not empty.input_ids.flags.writeable
    second = shards.window(3)
    assert second.document == 2
    assert second.word_index.tolist() == [-1, *range(10, 24), -1]
    assert second.boxes[1:-1].tolist() == boxes_of(27)[10:24]


def test_predictions_can_be_put_back_on_words(built: Path, vocabulary: Vocabulary) -> None:
    shards = open_shards(built, vocabulary)
    for index, document in enumerate(DOCUMENTS):
        seen = np.full(len(document.words), -1)
        for number in shards.document_windows(index):
            positions, words = shards.scored_positions(number)
            assert (seen[words] == -1).all()
            seen[words] = shards.window(number).labels[positions]
        assert seen.tolist() == list(document.labels)
        np.testing.assert_array_equal(shards.word_labels(index), seen)


def test_summary_and_info(make_dataset: MakeDataset, tmp_path: Path, vocabulary: Vocabulary) -> None:
    out = folder(tmp_path, "shards")
    summary = build_shards(make_dataset(DOCUMENTS), out, vocabulary=vocabulary, config=SMALL)
    shards = open_shards(out, vocabulary)
    tokenizer = load_tokenizer("builtin")
    num_word_tokens = sum(
        len(tokenizer.encode_words(document.words, max_tokens_per_word=8).ids) for document in DOCUMENTS
    )
    lengths = shards.window_lengths
    assert summary == {
        "num_documents": 4,
        "num_windows": 6,
        "num_words": 33,
        "num_tokens": int(lengths.sum()),
        "tokens_per_word": pytest.approx(num_word_tokens / 33),
        "max_window_length": 16,
        "mean_window_length": pytest.approx(lengths.mean()),
        "window_length_histogram": {"64": 6},
        "num_truncated_words": 1,
        "label_counts": dict(zip(vocabulary.field_names[:4], [1, 1, 27, 1], strict=True)),
        "tokenizer": "builtin",
        "tokenizer_digest": tokenizer.digest,
        "vocabulary_digest": vocabulary.digest,
    }
    assert json.loads(json.dumps(summary)) == summary
    assert shards.info["tokenizer_digest"] == shards.load_tokenizer().digest == tokenizer.digest
    assert shards.info["vocab_size"] == tokenizer.vocab_size


def test_bytes_do_not_depend_on_workers_or_the_tokenizers_place(
    make_dataset: MakeDataset, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    dataset = make_dataset(DOCUMENTS)
    made = []
    for workers, parent in ((1, "a"), (3, "b")):
        load_tokenizer("builtin").save(tmp_path / parent / "tokens")
        config = ShardConfig(tokenizer=str(tmp_path / parent / "tokens"))
        out = folder(tmp_path, f"shards_{parent}")
        build_shards(dataset, out, vocabulary=vocabulary, config=config, workers=workers)
        made.append(content(out))
    assert made[0] == made[1]
    assert sorted(made[0]) == [
        "boxes.npy",
        "documents.parquet",
        "input_ids.npy",
        "labels.npy",
        "pages.npy",
        "shards.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "window_document.npy",
        "window_offsets.npy",
        "word_index.npy",
    ]


def test_files_are_plain_numpy_and_parquet(built: Path, vocabulary: Vocabulary) -> None:
    shards = open_shards(built, vocabulary)
    np.testing.assert_array_equal(np.load(built / "pages.npy"), shards.read_pages(range(4)))
    np.testing.assert_array_equal(
        np.load(built / "window_offsets.npy"), np.cumsum([0, *shards.window_lengths])
    )
    assert pq.read_table(built / "documents.parquet")["word_labels"][0].as_py() == [0, 1, 3]


def test_an_empty_partition_is_zero_rows_with_the_schema(
    make_dataset: MakeDataset, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    out = folder(tmp_path, "shards")
    summary = build_shards(make_dataset([]), out, vocabulary=vocabulary)
    assert (summary["num_documents"], summary["num_windows"], summary["tokens_per_word"]) == (0, 0, 0.0)
    shards = open_shards(out, vocabulary)
    assert shards.num_windows == shards.num_documents == 0
    assert shards.read_pages([]).shape == (0, 224, 224, 3)
    assert pq.read_schema(out / "documents.parquet").names == [
        "document_id",
        "doc_type",
        "po_subtype",
        "num_words",
        "word_labels",
    ]
    with pytest.raises(IndexError):
        shards.window(0)
    with pytest.raises(IndexError, match="document 0 of 0"):
        shards.read_pages([0])


def test_pickled_shards_are_their_path(built: Path, vocabulary: Vocabulary) -> None:
    shards = open_shards(built, vocabulary)
    data = pickle.dumps(shards)
    assert len(data) < 1000
    again: Shards = pickle.loads(data)
    np.testing.assert_array_equal(again.window(3).input_ids, shards.window(3).input_ids)


def test_another_vocabulary_is_refused_with_both_digests(
    built: Path, make_dataset: MakeDataset, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    extension = tmp_path / "more.json"
    extension.write_text(
        json.dumps(
            {"version": 1, "doc_types": [{"name": "WAYBILL", "sap": "VT01N", "meaning": "A waybill."}]}
        )
    )
    other = load_vocabulary(extension)
    with pytest.raises(VocabularyMismatchError, match=f"{vocabulary.digest}.*{other.digest}"):
        open_shards(built, other)
    with pytest.raises(VocabularyMismatchError, match=f"{vocabulary.digest}.*{other.digest}"):
        build_shards(tmp_path / "dataset", folder(tmp_path, "again"), vocabulary=other)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    # The first of a header; Parquet's readers take the first four bytes for granted, and check the pages.
    data[30 if file.suffix == ".parquet" else 0] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [cut, lengthen, empty, flip_a_byte, Path.unlink])
@pytest.mark.parametrize(
    "name",
    [
        "input_ids.npy",
        "boxes.npy",
        "labels.npy",
        "word_index.npy",
        "window_offsets.npy",
        "window_document.npy",
        "pages.npy",
        "documents.parquet",
        "shards.json",
    ],
)
def test_a_damaged_file_is_named(
    built: Path, vocabulary: Vocabulary, name: str, damage: Callable[[Path], None]
) -> None:
    if name == "shards.json" and damage is cut:
        damage = empty  # its last byte is a line end
    open_shards(built, vocabulary).word_labels(0)
    damage(built / name)
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        open_shards(built, vocabulary).word_labels(0)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("window_offsets", lambda offsets: offsets[::-1]),
        ("window_offsets", lambda offsets: offsets + (offsets > 0)),
        ("window_document", lambda owners: owners[::-1]),
        ("window_document", lambda owners: owners * 0),
        ("window_document", lambda owners: owners - 1),
    ],
)
def test_damaged_indices_are_named(
    built: Path, vocabulary: Vocabulary, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    file = built / f"{name}.npy"
    np.save(file, change(np.load(file)))
    with pytest.raises(ArtifactError, match=rf"{name}\.npy: does not fit"):
        open_shards(built, vocabulary)


def test_columns_of_another_type_and_other_formats_are_refused(built: Path, vocabulary: Vocabulary) -> None:
    shards = open_shards(built, vocabulary)
    file = built / "documents.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(1, "doc_type", pa.array([0, 1, 2, 3], pa.int64())), file)
    with pytest.raises(ArtifactError, match=r"documents\.parquet: .*types"):
        open_shards(built, vocabulary)
    (built / "shards.json").write_text(json.dumps({**shards.info, "format_version": 99}))
    with pytest.raises(ArtifactError, match=r"shards\.json: is not of shard format 1"):
        open_shards(built, vocabulary)


def test_the_store_finds_a_flipped_byte_and_rebuilds_the_same(
    make_dataset: MakeDataset, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    dataset = make_dataset(DOCUMENTS)
    store = ArtifactStore(tmp_path / "store")
    spec = ArtifactSpec(asset="tokenized_shards", partition="general|train")

    def make(out: Path) -> dict[str, object]:
        return build_shards(dataset, out, vocabulary=vocabulary, config=SMALL)

    artifact = store.produce(spec, make)
    before = {name: record["sha256"] for name, record in artifact.files.items()}
    flip_a_byte(artifact.path / "pages.npy")
    with pytest.raises(ArtifactError, match=r"pages\.npy"):
        store.require("tokenized_shards", "general|train")
    shutil.rmtree(artifact.path)
    again = store.produce(spec, make)
    assert {name: record["sha256"] for name, record in again.files.items()} == before


def test_a_full_disk_is_an_error_and_publishes_nothing(
    make_dataset: MakeDataset, tmp_path: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(DOCUMENTS)
    store = ArtifactStore(tmp_path / "store")

    def make(out: Path) -> dict[str, object]:
        return build_shards(dataset, out, vocabulary=vocabulary, config=SMALL)

    good = store.produce(ArtifactSpec(asset="tokenized_shards"), make)
    before = content(good.path)

    def full(self: object, rows: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(arrays_module.ArrayWriter, "append", full)
        with pytest.raises(ArtifactError, match="No space left on device"):
            store.produce(ArtifactSpec(asset="tokenized_shards", code_version="2"), make)
    assert store.require("tokenized_shards").digest == good.digest
    assert content(good.path) == before
    assert store.versions("tokenized_shards") == [good.digest[:20]]


def test_no_more_documents_are_held_than_the_threads_need(
    make_dataset: MakeDataset, vocabulary: Vocabulary
) -> None:
    document = next(open_dataset(make_dataset(DOCUMENTS[:1]), vocabulary).iter_documents())
    read = 0

    def endless() -> Iterator[Document]:
        nonlocal read
        while True:
            read += 1
            yield replace(document, document_id=str(read))

    pages = _with_thumbnails(endless(), size=32, workers=2)
    for expected in range(1, 50):
        assert next(pages)[0].document_id == str(expected)
        assert read - expected < 8
    pages.close()


def test_a_damaged_page_names_its_document(
    make_dataset: MakeDataset, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    dataset = make_dataset(DOCUMENTS)
    file = dataset / "documents.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[2]["image"]["bytes"] = rows[2]["image"]["bytes"][:40]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    with pytest.raises(ArtifactError, match="doc_002: its page in the dataset cannot be decoded"):
        build_shards(dataset, folder(tmp_path, "shards"), vocabulary=vocabulary, config=SMALL)
