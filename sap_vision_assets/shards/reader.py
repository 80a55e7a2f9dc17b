"""Shards on disk, opened: windows and pages as views of memory-mapped files.

T tokens of a window, W windows, D documents, N tokens of all windows.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sap_vision_assets.errors import ArtifactError
from sap_vision_assets.shards.arrays import REMEDY, map_array
from sap_vision_assets.shards.encode import Window
from sap_vision_assets.shards.tokenizer import Tokenizer, load_tokenizer
from sap_vision_assets.vocabulary import Vocabulary

FORMAT_VERSION = 1
INFO = "shards.json"
DOCUMENTS = "documents.parquet"
TOKENIZER = "tokenizer"
"""Folder with the tokenizer that made the ids."""
LABELS_AT_ONCE = 1 << 22
"""Labels that `label_counts` holds in memory, of as many as the disk has."""

DTYPES = {
    "input_ids": "int32",
    "boxes": "int16",
    "labels": "int16",
    "word_index": "int32",
    "window_offsets": "int64",
    "window_document": "int32",
    "pages": "uint8",
}
DOCUMENT_SCHEMA = pa.schema(
    [
        ("document_id", pa.string()),
        ("doc_type", pa.int16()),
        ("po_subtype", pa.int16()),
        ("num_words", pa.int32()),
        ("word_labels", pa.list_(pa.int16())),
    ]
)


class Shards:
    """All windows of one dataset partition. Safe to share between processes: pickles as its path."""

    def __init__(self, path: Path) -> None:
        """Maps the files; `open_shards` is the way in, which also checks the vocabulary."""
        self.path = path
        self.info = _read_info(path / INFO)
        """shards.json: tokenizer, vocabulary digest, settings, shapes."""
        arrays = {name: self._map(name) for name in DTYPES}
        self._input_ids, self._boxes = arrays["input_ids"], arrays["boxes"]
        self._labels, self._word_index = arrays["labels"], arrays["word_index"]
        self._offsets: NDArray[np.int64] = np.array(arrays["window_offsets"])
        self.window_document: NDArray[np.int32] = np.array(arrays["window_document"])
        """[W] never falling: a document's windows stand together, each document has one at least."""
        self._pages = arrays["pages"]
        self.window_lengths: NDArray[np.int32] = np.diff(self._offsets).astype(np.int32)
        """[W] tokens, specials included."""
        classes = _read_documents(path / DOCUMENTS, ["doc_type", "po_subtype", "num_words"])
        self.doc_types = classes["doc_type"].to_numpy()
        """[D] int16 class ids"""
        self.po_subtypes = classes["po_subtype"].to_numpy()
        """[D] int16 class ids; -100 where there is none, as losses ignore it."""
        self.num_words = classes["num_words"].to_numpy()
        """[D] int32"""
        self._require_consistent()

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.path,)

    @property
    def num_windows(self) -> int:
        return len(self.window_lengths)

    @property
    def num_documents(self) -> int:
        return len(self._pages)

    def document_id(self, document: int) -> str:
        return str(self._named["document_id"][document].as_py())

    def word_labels(self, document: int) -> NDArray[np.int16]:
        """[num_words] label id of every word of a document."""
        return np.array(self._named["word_labels"][document].values, dtype=np.int16)

    def read_pages(self, documents: Sequence[int]) -> NDArray[np.uint8]:
        """The RGB pages of these documents, [N, page_size, page_size, 3].

        One read a page: through a memory map that is not in memory yet, each 4 KB of it is a fault of its
        own, and they took longer than all the rest of a batch (docs/performance.md).
        """
        pages = np.empty((len(documents), *self._pages.shape[1:]), dtype=np.uint8)
        file = self.path / "pages.npy"
        header = file.stat().st_size - self._pages.nbytes
        with file.open("rb", buffering=0) as stream:
            for page_HW3, document in zip(pages, documents, strict=True):
                if not 0 <= document < self.num_documents:
                    raise IndexError(f"document {document} of {self.num_documents}")
                stream.seek(header + document * page_HW3.nbytes)
                if stream.readinto(page_HW3.data.cast("B")) != page_HW3.nbytes:
                    raise ArtifactError(f"{file}: ends within page {document}; {REMEDY}")
        return pages

    def window(self, index: int) -> Window:
        if not 0 <= index < self.num_windows:
            raise IndexError(f"window {index} of {self.num_windows}")
        tokens = slice(self._offsets[index], self._offsets[index + 1])
        return Window(
            document=int(self.window_document[index]),
            input_ids=self._input_ids[tokens],
            boxes=self._boxes[tokens],
            labels=self._labels[tokens],
            word_index=self._word_index[tokens],
        )

    def document_windows(self, document: int) -> range:
        """Indices of the windows of one document, in reading order."""
        first, last = np.searchsorted(self.window_document, [document, document + 1])
        return range(int(first), int(last))

    def scored_positions(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """`Window.scored_positions` of window `index`: positions of scored tokens, and the word of each."""
        return self.window(index).scored_positions()

    def label_counts(self, num_labels: int) -> NDArray[np.int64]:
        """[num_labels] how many scored tokens of all windows have each label."""
        counts = np.zeros(num_labels, dtype=np.int64)
        for start in range(0, len(self._labels), LABELS_AT_ONCE):
            labels = self._labels[start : start + LABELS_AT_ONCE]
            counts += np.bincount(labels[labels >= 0], minlength=num_labels)
        return counts

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer that made the ids, from the shards' own copy."""
        return load_tokenizer(self.path / TOKENIZER)

    @cached_property
    def _named(self) -> pa.Table:
        """What a training does not read, unless it has an error to report."""
        return _read_documents(self.path / DOCUMENTS, ["document_id", "word_labels"])

    def _map(self, name: str) -> NDArray[Any]:
        try:
            shape = tuple(int(size) for size in self.info["arrays"][name])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{self.path / INFO}: has no shape of {name}; {REMEDY}") from error
        return map_array(self.path / f"{name}.npy", dtype=DTYPES[name], shape=shape)

    def _require_consistent(self) -> None:
        """Files of two different builds, or damaged indices, must not be read as one."""
        num_tokens, num_documents = len(self._input_ids), len(self.doc_types)
        sizes = [len(self._boxes), len(self._labels), len(self._word_index)]
        offsets, owners = self._offsets, self.window_document
        wrong = {
            "input_ids.npy": any(size != num_tokens for size in sizes),
            "pages.npy": len(self._pages) != num_documents,
            "window_offsets.npy": len(offsets) != len(owners) + 1
            or offsets[0] != 0
            or offsets[-1] != num_tokens
            or bool((np.diff(offsets) < 2).any()),
            "window_document.npy": not np.array_equal(np.unique(owners), np.arange(num_documents))
            or bool((np.diff(owners) < 0).any()),
        }
        for name in (name for name, is_wrong in wrong.items() if is_wrong):
            raise ArtifactError(f"{self.path / name}: does not fit the files beside it; {REMEDY}")


def open_shards(path: Path, vocabulary: Vocabulary) -> Shards:
    """The shards that `build_shards` wrote to `path`, memory-mapped.

    Raises ArtifactError naming the file that is missing, cut or does not fit the others, and
    VocabularyMismatchError naming both digests. Names and labels of documents are checked when they are read.
    """
    shards = Shards(path)
    vocabulary.require_digest(str(shards.info.get("vocabulary_digest")), f"shards {path}")
    return shards


def _read_info(file: Path) -> dict[str, Any]:
    try:
        info = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: cannot be read ({error}); {REMEDY}") from error
    if not isinstance(info, dict) or info.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(f"{file}: is not of shard format {FORMAT_VERSION}; {REMEDY}")
    return info


def _read_documents(file: Path, columns: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            schema = parquet.schema_arrow
            if not schema.equals(DOCUMENT_SCHEMA):
                raise ArtifactError(f"{file}: has columns {schema.names} of other types; {REMEDY}")
            return parquet.read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{file}: is no readable Parquet file ({error}); {REMEDY}") from error
