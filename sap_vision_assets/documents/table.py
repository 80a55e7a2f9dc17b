"""The two Parquet files of a dataset: their schemas, and writers that bound memory and repeat to the byte."""

import json
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sap_vision_assets.documents.document import Document, Rejection
from sap_vision_assets.errors import ArtifactError

DOCUMENTS_FILE = "documents.parquet"
REJECTS_FILE = "rejects.parquet"
FORMAT_VERSION = "1"
ROW_GROUP_BYTES = 32 * 2**20
"""Page bytes that a row group holds, and so what a writer and a reader keep in memory."""
ROW_GROUP_ROWS = 512

# All nullable, though only po_subtype has nulls: from others `datasets` takes no Image feature.
_COLUMNS = pa.schema(
    [
        pa.field("document_id", pa.string()),
        pa.field("doc_type", pa.string()),
        pa.field("po_subtype", pa.string()),
        pa.field("words", pa.list_(pa.string())),
        pa.field("boxes", pa.list_(pa.list_(pa.int16()))),
        pa.field("token_labels", pa.list_(pa.int16())),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        # The Hugging Face convention for images: `datasets` decodes it.
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field("page_sha256", pa.string()),
    ]
)
REJECTS_SCHEMA = pa.schema(
    [
        pa.field("document_id", pa.string()),
        pa.field("file", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)


def documents_schema(vocabulary_digest: str) -> pa.Schema:
    """Columns of documents.parquet, with what a reader must know of them as metadata."""
    return _COLUMNS.with_metadata(
        {
            "format_version": FORMAT_VERSION,
            "vocabulary_digest": vocabulary_digest,
            "huggingface": json.dumps({"info": {"features": _hugging_face_features()}}),
        }
    )


def _hugging_face_features() -> dict[str, object]:
    def value(dtype: str) -> dict[str, object]:
        return {"dtype": dtype, "_type": "Value"}

    def many(feature: dict[str, object]) -> dict[str, object]:
        return {"feature": feature, "_type": "List"}

    return {
        "document_id": value("string"),
        "doc_type": value("string"),
        "po_subtype": value("string"),
        "words": many(value("string")),
        "boxes": many(many(value("int16"))),
        "token_labels": many(value("int16")),
        "width": value("int32"),
        "height": value("int32"),
        "image": {"_type": "Image"},
        "page_sha256": value("string"),
    }


class DocumentWriter:
    """Writes documents.parquet, a row group at a time. A context manager; raises ArtifactError."""

    def __init__(self, path: Path, vocabulary_digest: str) -> None:
        self._path = path
        self._schema = documents_schema(vocabulary_digest)
        self._rows: list[Document] = []
        self._num_bytes = 0
        try:
            self._stream = path.open("xb")
        except OSError as error:
            raise _write_error(path, error) from error
        self._writer = pq.ParquetWriter(
            self._stream,
            self._schema,
            # Page bytes are compressed as they are, and comparing them would be of no use to a reader.
            compression={
                column: "none" if column == "image.bytes" else "zstd"
                for column in _leaf_columns(self._schema)
            },
            use_dictionary=["doc_type", "po_subtype", "words.list.element"],
            write_statistics=["document_id", "doc_type", "po_subtype", "page_sha256"],
            write_page_checksum=True,
        )

    def add(self, document: Document) -> None:
        self._rows.append(document)
        self._num_bytes += len(document.image_bytes)
        if self._num_bytes >= ROW_GROUP_BYTES or len(self._rows) >= ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        try:
            if self._rows:
                self._writer.write_table(_table(self._rows, self._schema))
        except OSError as error:
            raise _write_error(self._path, error) from error
        self._rows, self._num_bytes = [], 0

    def __enter__(self) -> "DocumentWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            try:
                if kind is None:
                    self._flush()
                self._writer.close()
            finally:
                self._stream.close()
        except OSError as failure:
            if kind is None:
                raise _write_error(self._path, failure) from failure


def write_rejects(path: Path, rejections: list[Rejection]) -> None:
    """Writes rejects.parquet, sorted by file. Raises ArtifactError."""
    rows = [
        {
            "document_id": rejection.document_id,
            "file": rejection.file,
            "reason": str(rejection.reason),
            "detail": rejection.detail,
        }
        for rejection in sorted(rejections, key=lambda rejection: (rejection.file, rejection.reason))
    ]
    try:
        pq.write_table(
            pa.Table.from_pylist(rows, schema=REJECTS_SCHEMA),
            path,
            compression="zstd",
            write_page_checksum=True,
        )
    except OSError as error:
        raise _write_error(path, error) from error


def _table(documents: list[Document], schema: pa.Schema) -> pa.Table:
    lengths = [len(document.words) for document in documents]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    # Through numpy: as Python lists, the boxes would cost as much time as all else.
    corners = np.array([corner for d in documents for box in d.boxes for corner in box], np.int16)
    labels = np.array([label for document in documents for label in document.labels], np.int16)
    boxes = pa.ListArray.from_arrays(pa.array(range(0, len(corners) + 1, 4), pa.int32()), pa.array(corners))
    images = [{"bytes": document.image_bytes, "path": document.image_path} for document in documents]
    columns = {
        "document_id": [document.document_id for document in documents],
        "doc_type": [document.doc_type for document in documents],
        "po_subtype": [document.po_subtype for document in documents],
        "words": [document.words for document in documents],
        "boxes": pa.ListArray.from_arrays(offsets, boxes),
        "token_labels": pa.ListArray.from_arrays(offsets, pa.array(labels)),
        "width": [document.width for document in documents],
        "height": [document.height for document in documents],
        "image": images,
        "page_sha256": [document.page_sha256 for document in documents],
    }
    return pa.table(columns, schema=schema)


def _leaf_columns(schema: pa.Schema) -> list[str]:
    paths = []
    for field in schema:
        name, kind = field.name, field.type
        while pa.types.is_list(kind):
            name, kind = f"{name}.list.element", kind.value_type
        children = [f"{name}.{child.name}" for child in kind] if pa.types.is_struct(kind) else [name]
        paths += children
    return paths


def _write_error(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(f"{path}: cannot be written ({error}); free space or fix the rights, and run again")
