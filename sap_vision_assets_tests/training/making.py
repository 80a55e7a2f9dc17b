"""Small shards of made-up pages, and the settings that the training tests share."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sap_vision_assets.documents import Document
from sap_vision_assets.shards import ShardConfig, encode_document, load_tokenizer
from sap_vision_assets.shards.reader import FORMAT_VERSION, INFO, TOKENIZER
from sap_vision_assets.shards.writer import ShardWriter
from sap_vision_assets.training import TrainingJob, folders
from sap_vision_assets.training.distributed import World
from sap_vision_assets.training.loop import train
from sap_vision_assets.training.recipes import tiny
from sap_vision_assets.training.run import Run
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary

KINDS = (
    ("INVOICE", None, "Invoice"),
    ("PURCHASE_ORDER", "STANDARD", "Standard order"),
    ("PURCHASE_ORDER", "BLANKET", "Blanket order"),
    ("CONTRACT", None, "Contract"),
)
CONFIG = ShardConfig(max_tokens=64, stride=16, max_tokens_per_word=16)


def make_shards(
    out: Path,
    *,
    num_documents: int = 12,
    words_per_index: int = 8,
    seed: int = 0,
    vocabulary: Vocabulary | None = None,
    tokenizer: str = CONFIG.tokenizer,
) -> Path:
    """Pages of the four KINDS in turn, each `words_per_index` words longer than the one before.

    With 8, the later ones have several windows.
    """
    vocabulary = vocabulary or load_vocabulary()
    loaded = load_tokenizer(tokenizer)
    out.mkdir(parents=True)
    generator = random.Random(seed)
    with ShardWriter(out, vocabulary=vocabulary, config=CONFIG) as writer:
        for index in range(num_documents):
            document = make_document(generator, index, vocabulary, words_per_index * index)
            encoded = encode_document(
                document.words,
                document.boxes,
                document.labels,
                tokenizer=loaded,
                config=CONFIG,
                document=index,
            )
            shade = 40 * KINDS.index(next(kind for kind in KINDS if kind[0] == document.doc_type))
            writer.add(document, encoded, np.full((224, 224, 3), shade, dtype=np.uint8))
    loaded.save(out / TOKENIZER)
    info: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "tokenizer": tokenizer,
        "tokenizer_digest": loaded.digest,
        "vocabulary_digest": vocabulary.digest,
        "arrays": writer.shapes,
    }
    (out / INFO).write_text(json.dumps(info))
    return out


def make_document(
    generator: random.Random, index: int, vocabulary: Vocabulary, num_more_words: int
) -> Document:
    doc_type, po_subtype, title = KINDS[index % len(KINDS)]
    number = vocabulary.begin_id("documentNumber")
    sender = vocabulary.begin_id("senderName")
    labelled = [(word, 0) for word in title.split()]
    labelled += [("No", 0), (str(generator.randint(10_000, 99_999)), number)]
    labelled += [("From", 0), ("Acme", sender), (generator.choice(["Ltd", "Inc", "AG"]), sender + 1)]
    labelled += [(generator.choice(["screw", "nut", "bolt", "ring"]), 0) for _ in range(num_more_words)]
    corners = [(50 * (at % 18), 20 * (at // 18)) for at in range(len(labelled))]
    return Document(
        document_id=f"doc_{index:03}",
        doc_type=doc_type,
        po_subtype=po_subtype,
        words=tuple(word for word, _ in labelled),
        boxes=tuple((x, y, x + 40, y + 15) for x, y in corners),
        labels=tuple(label for _, label in labelled),
        width=1000,
        height=1400,
        image_bytes=b"",
        image_path=f"doc_{index:03}.png",
        page_sha256=f"{index:064}",
    )


def make_job(
    shards: Path, out: Path, *, initial_checkpoint: Path | None = None, **changes: Any
) -> TrainingJob:
    """Trains and validates on `shards`; `changes` are fields of TrainingConfig over the tiny recipe."""
    return TrainingJob(
        train_shards=shards,
        val_shards=shards,
        out=out,
        config=replace(tiny(), **changes),
        initial_checkpoint=initial_checkpoint,
    )


def losses(out: Path) -> list[float]:
    """Logged losses by step."""
    records = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if "loss" in record]


def train_here(
    job: TrainingJob,
    *,
    change: Callable[[Run], None] = lambda _: None,
    stop_after: int | None = None,
    crash_after: int | None = None,
) -> dict[str, Any] | None:
    """Trains in this process, alone; after `crash_after` steps it leaves the files as a kill would."""
    last_step = 0

    def report(record: dict[str, Any]) -> None:
        nonlocal last_step
        last_step = record["step"]
        if last_step == crash_after:
            raise KilledError

    folders.sweep(job.out)
    job.out.mkdir(exist_ok=True)
    run = Run(job, World(rank=0, size=1, device=torch.device("cpu")))
    change(run)
    return train(run, report=report, stop_requested=lambda: last_step == stop_after)


class KilledError(BaseException):
    """Stands for a process that ends between two lines."""
