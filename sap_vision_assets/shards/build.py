"""Dataset to shards: every document cut into windows, every page made small, in one streaming pass."""

import json
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sap_vision_assets.artifacts import JsonObject
from sap_vision_assets.documents import Document, open_dataset
from sap_vision_assets.errors import ArtifactError
from sap_vision_assets.shards.config import ShardConfig
from sap_vision_assets.shards.encode import encode_document
from sap_vision_assets.shards.pages import page_thumbnail
from sap_vision_assets.shards.reader import FORMAT_VERSION, INFO, TOKENIZER
from sap_vision_assets.shards.tokenizer import Tokenizer, load_tokenizer
from sap_vision_assets.shards.writer import ShardWriter
from sap_vision_assets.vocabulary import Vocabulary


def build_shards(
    dataset: Path,
    out: Path,
    *,
    vocabulary: Vocabulary,
    config: ShardConfig | None = None,
    workers: int = 0,
) -> JsonObject:
    """Writes the shards of the dataset in `dataset` to the empty directory `out`; returns the summary.

    `workers` threads decode pages, 0 is one a core; the bytes written do not depend on it. In memory are a
    row group of the dataset and four pages a worker, whatever the number of documents. In the summary,
    window_length_histogram counts windows by upper bound ("128": 65 to 128 tokens), and label_counts counts
    words, not entities, of each field that occurs.

    Raises ArtifactError for a damaged dataset or a full disk, VocabularyMismatchError for a dataset of
    another vocabulary, and InputError for a tokenizer that cannot be had.
    """
    config = config or ShardConfig()
    tokenizer = load_tokenizer(config.tokenizer)
    source = open_dataset(dataset, vocabulary)
    made_with = {
        "tokenizer": _tokenizer_name(config.tokenizer),
        "tokenizer_digest": tokenizer.digest,
        "vocabulary_digest": vocabulary.digest,
    }
    try:
        writer = _write_documents(
            source.iter_documents(), out, tokenizer, vocabulary=vocabulary, config=config, workers=workers
        )
        tokenizer.save(out / TOKENIZER)
        info = {
            "format_version": FORMAT_VERSION,
            **made_with,
            "vocab_size": tokenizer.vocab_size,
            "cls_id": tokenizer.cls_id,
            "sep_id": tokenizer.sep_id,
            "pad_id": tokenizer.pad_id,
            "max_tokens": config.max_tokens,
            "stride": config.stride,
            "max_tokens_per_word": config.max_tokens_per_word,
            "page_size": config.page_size,
            "arrays": writer.shapes,
        }
        (out / INFO).write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ArtifactError(
            f"{out}: cannot be written ({error.strerror or error}); free space there and materialise again"
        ) from error
    return {**writer.statistics(), **made_with}


def _write_documents(
    documents: Iterable[Document],
    out: Path,
    tokenizer: Tokenizer,
    *,
    vocabulary: Vocabulary,
    config: ShardConfig,
    workers: int,
) -> ShardWriter:
    with (
        closing(_with_thumbnails(documents, size=config.page_size, workers=workers)) as pages,
        ShardWriter(out, vocabulary=vocabulary, config=config) as writer,
    ):
        for document, page in pages:
            encoded = encode_document(
                document.words,
                document.boxes,
                document.labels,
                tokenizer=tokenizer,
                config=config,
                document=writer.num_documents,
            )
            writer.add(document, encoded, page)
    return writer


def _tokenizer_name(name: str) -> str:
    # Where a directory lies says nothing about the artefact, and would make equal ones differ.
    return Path(name).name if Path(name).is_dir() else name


def _num_cores() -> int:
    """Cores that this process may use; a container may have been given fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _with_thumbnails(
    documents: Iterable[Document], *, size: int, workers: int
) -> Generator[tuple[Document, NDArray[np.uint8]], None, None]:
    """Each document with its page, in order.

    Threads: Pillow decodes and resizes without the interpreter lock. On two cores a page of 200 dpi took
    4.5 ms on two threads, 5.1 ms on two processes, 8 ms on one thread.
    """
    workers = workers or _num_cores()
    waiting: deque[tuple[Document, Future[NDArray[np.uint8]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="page") as pool:
        try:
            for document in documents:
                waiting.append((document, pool.submit(page_thumbnail, document.image_bytes, size)))
                if len(waiting) >= 4 * workers:
                    yield _result(*waiting.popleft())
            while waiting:
                yield _result(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _result(document: Document, page: Future[NDArray[np.uint8]]) -> tuple[Document, NDArray[np.uint8]]:
    try:
        return document, page.result()
    except Exception as error:
        raise ArtifactError(
            f"{document.document_id}: its page in the dataset cannot be decoded ({error}); "
            "materialise validated_dataset again"
        ) from error
