"""The validated dataset: a split's folder as Parquet, one row a document, and the rejected ones beside it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sap_vision_assets.documents.config import DatasetConfig
from sap_vision_assets.documents.document import Accepted, Document
from sap_vision_assets.documents.reading import read_folder
from sap_vision_assets.documents.table import (
    DOCUMENTS_FILE,
    FORMAT_VERSION,
    REJECTS_FILE,
    DocumentWriter,
    documents_schema,
    write_rejects,
)
from sap_vision_assets.documents.tally import Tally
from sap_vision_assets.errors import ArtifactError
from sap_vision_assets.vocabulary import Vocabulary

_REMAKE = "make the validated dataset again"


def build_dataset(
    folder: Path, out: Path, *, vocabulary: Vocabulary, config: DatasetConfig | None = None
) -> dict[str, Any]:
    """Writes documents.parquet and rejects.parquet into `out` from <data root>/<domain>/<split>.

    The same folder gives the same bytes, whatever the number of workers. A folder that does not exist, or has
    no annotations, gives zero rows with the schema. Returns the summary: counts of documents, of rejects by
    reason, of classes and words, and of everything that was repaired. Raises InputError when the folder
    cannot be listed, ArtifactError when `out` cannot be written.
    """
    tally = Tally()
    with DocumentWriter(out / DOCUMENTS_FILE, vocabulary.digest) as writer:
        for outcome in read_folder(folder, vocabulary=vocabulary, config=config or DatasetConfig()):
            tally.add(outcome)
            if isinstance(outcome, Accepted):
                writer.add(outcome.document)
    write_rejects(out / REJECTS_FILE, tally.rejections)
    return tally.summary(vocabulary)


def open_dataset(path: Path, vocabulary: Vocabulary) -> "Dataset":
    """The dataset that `build_dataset` wrote into the directory `path`.

    Raises ArtifactError naming the file when it is missing, cut or of another form, and
    VocabularyMismatchError naming both digests when it was made under another vocabulary.
    """
    file = path / DOCUMENTS_FILE
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise ArtifactError(f"{file}: is missing; {_REMAKE}") from error
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, error) from error
    metadata = {key.decode(): value.decode() for key, value in (parquet.schema_arrow.metadata or {}).items()}
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(f"{file}: has format version {version}, needed is {FORMAT_VERSION}; {_REMAKE}")
    vocabulary.require_digest(metadata.get("vocabulary_digest", "(none)"), str(file))
    wanted = documents_schema(vocabulary.digest)
    for field in wanted:
        found = parquet.schema_arrow.field(field.name) if field.name in parquet.schema_arrow.names else None
        if found is None or found.type != field.type:
            found_type = "missing" if found is None else found.type
            raise ArtifactError(f"{file}: column {field.name} is {found_type}, not {field.type}; {_REMAKE}")
    return Dataset(file, parquet)


class Dataset:
    """Documents in the order of their ids. Reads a row group at a time."""

    def __init__(self, file: Path, parquet: pq.ParquetFile) -> None:
        self._file = file
        self._parquet = parquet

    @property
    def num_documents(self) -> int:
        return int(self._parquet.metadata.num_rows)

    def iter_documents(self) -> Iterator[Document]:
        """Raises ArtifactError naming the file when a byte of it has changed."""
        for group in range(self._parquet.num_row_groups):
            for row in self._read(lambda group=group: self._parquet.read_row_group(group)).to_pylist():
                yield _document(row)

    def column(self, names: Sequence[str]) -> pa.Table:
        """The named columns of all documents, in memory at once."""
        return self._read(lambda: self._parquet.read(list(names)))

    def _read(self, read: Any) -> pa.Table:
        try:
            return read()
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self._file, error) from error


def _document(row: dict[str, Any]) -> Document:
    return Document(
        document_id=row["document_id"],
        doc_type=row["doc_type"],
        po_subtype=row["po_subtype"],
        words=tuple(row["words"]),
        boxes=tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in row["boxes"]),
        labels=tuple(row["token_labels"]),
        width=row["width"],
        height=row["height"],
        image_bytes=row["image"]["bytes"],
        image_path=row["image"]["path"],
        page_sha256=row["page_sha256"],
    )


def _damaged(file: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{file}: is cut or damaged ({error}); delete its directory and {_REMAKE}")
