"""Small shards of made-up pages, and the settings that the training tests share."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sap_vision_assets.documents import Document
from sap_vision_assets.shards import ShardConfig, encode_document, load_tokenizer
from sap_vision_assets.shards.reader import FORMAT_VERSION, INFO, TOKENIZER
from sap_vision_assets.shards.writer import ShardWriter
from sap_vision_assets.training import TrainingConfig, TrainingJob
from sap_vision_assets.training.recipes import tiny
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary

KINDS = (
    ("INVOICE", None, "Invoice"),
    ("PURCHASE_ORDER", "STANDARD", "Standard order"),
    ("PURCHASE_ORDER", "BLANKET", "Blanket order"),
    ("CONTRACT", None, "Contract"),
)
CONFIG = ShardConfig(max_tokens=64, stride=16, max_tokens_per_word=16)


def make_shards(
    out: Path, *, num_documents: int = 12, seed: int = 0, vocabulary: Vocabulary | None = None
) -> Path:
    """Pages of 8 to about 100 words, some of several windows, of the four KINDS in turn."""
    vocabulary = vocabulary or load_vocabulary()
    tokenizer = load_tokenizer(CONFIG.tokenizer)
    out.mkdir(parents=True)
    generator = random.Random(seed)
    with ShardWriter(out, vocabulary=vocabulary, config=CONFIG) as writer:
        for index in range(num_documents):
            document = make_document(generator, index, vocabulary)
            encoded = encode_document(
                document.words,
                document.boxes,
                document.labels,
                tokenizer=tokenizer,
                config=CONFIG,
                document=index,
            )
            shade = 40 * KINDS.index(next(kind for kind in KINDS if kind[0] == document.doc_type))
            writer.add(document, encoded, np.full((224, 224, 3), shade, dtype=np.uint8))
    tokenizer.save(out / TOKENIZER)
    info: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "tokenizer": CONFIG.tokenizer,
        "tokenizer_digest": tokenizer.digest,
        "vocabulary_digest": vocabulary.digest,
        "arrays": writer.shapes,
    }
    (out / INFO).write_text(json.dumps(info))
    return out


def make_document(generator: random.Random, index: int, vocabulary: Vocabulary) -> Document:
    doc_type, po_subtype, title = KINDS[index % len(KINDS)]
    number = vocabulary.begin_id("documentNumber")
    sender = vocabulary.begin_id("senderName")
    labelled = [(word, 0) for word in title.split()]
    labelled += [("No", 0), (str(generator.randint(10_000, 99_999)), number)]
    labelled += [("From", 0), ("Acme", sender), (generator.choice(["Ltd", "Inc", "AG"]), sender + 1)]
    labelled += [(generator.choice(["screw", "nut", "bolt", "ring"]), 0) for _ in range(index * 8)]
    boxes = [
        (50 * (at % 18), 20 * (at // 18), 50 * (at % 18) + 40, 20 * (at // 18) + 15)
        for at in range(len(labelled))
    ]
    return Document(
        document_id=f"doc_{index:03}",
        doc_type=doc_type,
        po_subtype=po_subtype,
        words=tuple(word for word, _ in labelled),
        boxes=tuple(boxes),
        labels=tuple(label for _, label in labelled),
        width=1000,
        height=1400,
        image_bytes=b"",
        image_path=f"doc_{index:03}.png",
        page_sha256=f"{index:064}",
    )


def make_job(shards: Path, out: Path, **changes: Any) -> TrainingJob:
    """Trains and validates on `shards`; `changes` are fields of TrainingConfig over the tiny recipe."""
    config: TrainingConfig = replace(tiny(), **changes)
    return TrainingJob(train_shards=shards, val_shards=shards, out=out, config=config)


def losses(out: Path) -> list[float]:
    """Logged losses by step."""
    records = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if "loss" in record]
