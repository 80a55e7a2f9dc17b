"""What one training reads: its documents, their class balance, what leaks between train and val."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sap_vision_assets.documents import open_dataset
from sap_vision_assets.errors import ArtifactError, InputError
from sap_vision_assets.vocabulary import Vocabulary

DOCUMENTS_FILE = "documents.parquet"
TRAINING_SET_FILE = "training_set.json"
_CONTENT = ["doc_type", "po_subtype", "words", "boxes", "token_labels", "page_sha256"]
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("split", "document_id", "page_sha256", "content_sha256")]
)


def describe_training_set(
    datasets: Mapping[str, Path], out: Path, *, vocabulary: Vocabulary
) -> dict[str, Any]:
    """Writes documents.parquet (one row a document) and training_set.json; returns what the latter holds.

    `datasets` are validated datasets by split. Raises InputError when one of them has no documents: nothing
    can be trained, or chosen, on it.
    """
    rows: list[dict[str, str]] = []
    balance: dict[str, dict[str, int]] = {}
    for split, path in datasets.items():
        table = _read(path, vocabulary)
        if table.num_rows == 0:
            raise InputError(f"{split} split ({path}): has no valid documents; label some before training")
        rows += [{"split": split, **row} for row in _describe(table)]
        balance[split] = dict(sorted(Counter(table.column("doc_type").to_pylist()).items()))
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), out / DOCUMENTS_FILE)
    record = {
        "num_documents": dict(Counter(row["split"] for row in rows)),
        "doc_type_counts": balance,
        "leaked_pages": leaked_pages({split: _pages(rows, split) for split in datasets}),
        "vocabulary_digest": vocabulary.digest,
    }
    (out / TRAINING_SET_FILE).write_text(json.dumps(record, indent=1))
    return record


def leaked_pages(pages_by_split: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    """Each page that stands in more than one split, with the documents that show it.

    `pages_by_split` has each split's documents: document id to page_sha256.
    """
    shown: dict[str, dict[str, str]] = {}
    for split, pages in pages_by_split.items():
        for document, page in pages.items():
            shown.setdefault(page, {}).setdefault(split, document)
    return [{"page_sha256": page, **places} for page, places in sorted(shown.items()) if len(places) > 1]


def pages_of_dataset(dataset: Path, vocabulary: Vocabulary) -> dict[str, str]:
    """Document id to page_sha256 of a validated dataset."""
    table = open_dataset(dataset, vocabulary).column(["document_id", "page_sha256"])
    return dict(
        zip(*(table.column(name).to_pylist() for name in ("document_id", "page_sha256")), strict=True)
    )


def pages_of_training_set(training_set: Path) -> dict[str, dict[str, str]]:
    """By split, document id to page_sha256. Raises ArtifactError for a file that cannot be read."""
    rows = _read_documents(training_set)
    return {split: _pages(rows, split) for split in sorted({row["split"] for row in rows})}


def num_changed_documents(datasets: Mapping[str, Path], last: Path | None, vocabulary: Vocabulary) -> int:
    """How many documents of `datasets` are new, changed or gone since the training set `last`.

    A document is what its page, words, boxes, classes and labels are; its name and split do not matter. One
    that changed counts once: as the new one that it is, not as the old one that is gone. None as `last`: all
    are new.
    """
    before = Counter(() if last is None else (row["content_sha256"] for row in _read_documents(last)))
    now = Counter(
        row["content_sha256"] for path in datasets.values() for row in _describe(_read(path, vocabulary))
    )
    return max((now - before).total(), (before - now).total())


def _read(dataset: Path, vocabulary: Vocabulary) -> pa.Table:
    return open_dataset(dataset, vocabulary).column(["document_id", *_CONTENT])


def _describe(table: pa.Table) -> Iterable[dict[str, str]]:
    # Lists as buffers, not as Python objects: the sensor has seconds for all documents of a domain.
    for batch in table.to_batches():
        names = (batch.column(name).to_pylist() for name in ("doc_type", "po_subtype", "page_sha256"))
        words = pc.binary_join(batch.column("words"), "\x1f").to_pylist()  # no word has control characters
        numbers = (_bytes_of_rows(batch.column(name)) for name in ("boxes", "token_labels"))
        rows = zip(batch.column("document_id").to_pylist(), words, *names, *numbers, strict=True)
        for document_id, text, doc_type, po_subtype, page, boxes, labels in rows:
            head = json.dumps([doc_type, po_subtype, page, text])
            yield {
                "document_id": document_id,
                "page_sha256": page,
                "content_sha256": hashlib.sha256(head.encode() + boxes + labels).hexdigest(),
            }


def _bytes_of_rows(lists: pa.ListArray) -> list[bytes]:
    """The numbers of each row of a list column, nested or not."""
    counts = pc.list_value_length(lists).to_numpy()
    values = lists.flatten()
    while pa.types.is_list(values.type):
        values = values.flatten()
    numbers = values.to_numpy()
    width = len(numbers) // max(1, int(counts.sum()))
    ends = np.cumsum(counts) * width
    return [numbers[end - count * width : end].tobytes() for end, count in zip(ends, counts, strict=True)]


def _read_documents(training_set: Path) -> list[dict[str, str]]:
    file = training_set / DOCUMENTS_FILE
    try:
        rows: list[dict[str, str]] = pq.read_table(file).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(
            f"{file}: cannot be read ({error}); materialise the training set again"
        ) from error
    return rows


def _pages(rows: Iterable[Mapping[str, str]], split: str) -> dict[str, str]:
    return {row["document_id"]: row["page_sha256"] for row in rows if row["split"] == split}
