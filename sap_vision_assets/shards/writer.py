"""The files of one build, written row by row, and what was counted on the way."""

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sap_vision_assets.artifacts import JsonObject
from sap_vision_assets.documents import Document
from sap_vision_assets.shards.arrays import ArrayWriter
from sap_vision_assets.shards.config import ShardConfig
from sap_vision_assets.shards.encode import NOT_SCORED, EncodedDocument
from sap_vision_assets.shards.reader import DOCUMENT_SCHEMA, DOCUMENTS, DTYPES
from sap_vision_assets.vocabulary import Vocabulary

HISTOGRAM_STEP = 64
"""Tokens: width of a bar of the window length histogram."""
_DOCUMENTS_PER_ROW_GROUP = 1024


class ShardWriter:
    """Appends documents to the shard files in `out`, which are whole after the `with` block."""

    def __init__(self, out: Path, *, vocabulary: Vocabulary, config: ShardConfig) -> None:
        self._vocabulary = vocabulary
        self._config = config
        row_shapes = {"boxes": (4,), "pages": (config.page_size, config.page_size, 3)}
        self._arrays = {
            name: ArrayWriter(out / f"{name}.npy", dtype=dtype, row_shape=row_shapes.get(name, ()))
            for name, dtype in DTYPES.items()
        }
        schema = DOCUMENT_SCHEMA.with_metadata({"vocabulary_digest": vocabulary.digest})
        self._documents = pq.ParquetWriter(out / DOCUMENTS, schema, write_page_checksum=True)
        self._rows: list[dict[str, Any]] = []
        self._num_words = self._num_word_tokens = self._num_truncated_words = 0
        self._lengths: Counter[int] = Counter()
        self._words_by_label: Counter[int] = Counter()

    @property
    def num_documents(self) -> int:
        return self._arrays["pages"].num_rows

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Of every array, so far."""
        return {name: list(array.shape) for name, array in self._arrays.items()}

    def add(self, document: Document, encoded: EncodedDocument, page: NDArray[np.uint8]) -> None:
        for window in encoded.windows:
            self._append_offset()
            for name in ("input_ids", "boxes", "labels", "word_index"):
                self._arrays[name].append(getattr(window, name))
            self._arrays["window_document"].append(np.array([self.num_documents]))
            self._lengths[len(window)] += 1
        self._arrays["pages"].append(page[None])
        names = self._vocabulary.doc_type_names, self._vocabulary.po_subtype_names
        row = {
            "document_id": document.document_id,
            "doc_type": names[0].index(document.doc_type),
            "po_subtype": NOT_SCORED if document.po_subtype is None else names[1].index(document.po_subtype),
            "num_words": len(document.words),
            "word_labels": list(document.labels),
        }
        self._rows.append(row)
        if len(self._rows) == _DOCUMENTS_PER_ROW_GROUP:
            self._write_rows()
        self._num_words += len(document.words)
        self._num_word_tokens += encoded.num_tokens
        self._num_truncated_words += encoded.num_truncated_words
        self._words_by_label.update(document.labels)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._append_offset()
                self._write_rows()
        finally:
            self._close()

    def _close(self) -> None:
        self._documents.close()
        for array in self._arrays.values():
            array.close()

    def _append_offset(self) -> None:
        """Where a window starts; the last of all says where the last window ends."""
        self._arrays["window_offsets"].append(np.array([self._arrays["input_ids"].num_rows]))

    def _write_rows(self) -> None:
        self._documents.write_table(pa.Table.from_pylist(self._rows, schema=self._documents.schema))
        self._rows.clear()

    def statistics(self) -> JsonObject:
        """JSON values; see `build_shards`."""
        num_tokens, num_windows = self._arrays["input_ids"].num_rows, self._lengths.total()
        bars: Counter[int] = Counter()
        for length, count in self._lengths.items():
            bars[_bar(length)] += count
        return {
            "num_documents": self.num_documents,
            "num_windows": num_windows,
            "num_words": self._num_words,
            "num_tokens": num_tokens,
            "tokens_per_word": self._num_word_tokens / self._num_words if self._num_words else 0.0,
            "max_window_length": max(self._lengths, default=0),
            "mean_window_length": num_tokens / num_windows if num_windows else 0.0,
            "window_length_histogram": {
                str(bar): bars[bar]
                for bar in range(HISTOGRAM_STEP, _bar(self._config.max_tokens) + 1, HISTOGRAM_STEP)
            },
            "num_truncated_words": self._num_truncated_words,
            "label_counts": {
                name: self._words_by_label[begin] + self._words_by_label[begin + 1]
                for name in self._vocabulary.field_names
                if self._words_by_label[begin := self._vocabulary.begin_id(name)]
            },
        }


def _bar(length: int) -> int:
    """Upper bound of the bar that counts windows of this length."""
    return -(-length // HISTOGRAM_STEP) * HISTOGRAM_STEP
