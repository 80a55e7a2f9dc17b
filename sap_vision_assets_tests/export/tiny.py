"""A tiny model, hand-made pages and their export, made once a test run and never written to by a test."""

import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from sap_vision_assets.documents import build_dataset
from sap_vision_assets.encoder import EncoderConfig, MultiTaskLayoutLMv3
from sap_vision_assets.export import ExportConfig, export_onnx
from sap_vision_assets.shards import ShardConfig, build_shards, load_tokenizer
from sap_vision_assets.vocabulary import load_vocabulary

WIDTH_PX, HEIGHT_PX = 300, 400
WORDS_PER_PAGE = (3, 40, 7, 0, 160, 12, 25, 60)
"""0: a page without words. 160: several windows of MAX_TOKENS."""
MAX_TOKENS = 96
CONFIG = ExportConfig(batch_size=3, threads=1, timed_pages=2)


@dataclass(frozen=True)
class Tiny:
    """Paths of everything that an export starts from, and of the export."""

    root: Path
    checkpoint: Path
    shards: Path
    onnx: Path
    record: dict[str, Any]


@cache
def tiny(tokenizer: str = "builtin") -> Tiny:
    """The one export of this test run with this tokenizer; val and test are the same shards."""
    root = Path(tempfile.mkdtemp(prefix="tiny_export_"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    torch.set_num_threads(1)
    vocabulary = load_vocabulary()
    write_checkpoint(root / "checkpoint", tokenizer)
    for index, num_words in enumerate(WORDS_PER_PAGE):
        write_page(root / "data", f"doc_{index}", num_words=num_words, seed=index)
    for name in ("dataset", "shards", "onnx"):
        (root / name).mkdir()
    build_dataset(root / "data", root / "dataset", vocabulary=vocabulary)
    config = ShardConfig(tokenizer=tokenizer, max_tokens=MAX_TOKENS, stride=24, max_tokens_per_word=16)
    build_shards(root / "dataset", root / "shards", vocabulary=vocabulary, config=config, workers=1)
    record = export_onnx(
        root / "checkpoint",
        test_shards=root / "shards",
        val_shards=root / "shards",
        out=root / "onnx",
        vocabulary=vocabulary,
        config=CONFIG,
    )
    return Tiny(root, root / "checkpoint", root / "shards", root / "onnx", record)


def write_checkpoint(directory: Path, tokenizer_name: str = "builtin") -> None:
    """Random weights, with position biases and heads large enough that a wrong one changes the answers."""
    torch.manual_seed(7)
    vocabulary, tokenizer = load_vocabulary(), load_tokenizer(tokenizer_name)
    model = MultiTaskLayoutLMv3(
        EncoderConfig(
            vocab_size=tokenizer.vocab_size,
            pad_token_id=tokenizer.pad_id,
            bos_token_id=tokenizer.cls_id,
            eos_token_id=tokenizer.sep_id,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            coordinate_size=6,
            shape_size=4,
            max_position_embeddings=512 + tokenizer.pad_id + 1,
            vocabulary_digest=vocabulary.digest,
            tokenizer_digest=tokenizer.digest,
        )
    )
    encoder = model.layoutlmv3.encoder
    for bias in (encoder.rel_pos_bias, encoder.rel_pos_x_bias, encoder.rel_pos_y_bias):
        torch.nn.init.normal_(bias.weight, std=2.0)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):  # the exporter drops biases of 0, and merges equal ones
            torch.nn.init.normal_(parameter, std=0.2)
    for head in (model.token_head, model.doc_type_head.out_proj, model.po_subtype_head.out_proj):
        torch.nn.init.normal_(head.weight, std=0.5)
    model.save_pretrained(directory)
    tokenizer.save(directory)


def page_json(num_words: int) -> dict[str, Any]:
    """A page of `num_words` words, 5 a line, without labels."""
    corners = [(40 + 190 * (index % 5), 20 + 25 * (index // 5)) for index in range(num_words)]
    return {
        "image_path": "page.png",
        "words": [f"Pos{index * 7919 % 1000}" if index % 3 else "Menge" for index in range(num_words)],
        "boxes": [[x, y, x + 150, y + 18] for x, y in corners],
        "width": WIDTH_PX,
        "height": HEIGHT_PX,
    }


def write_page(folder: Path, name: str, *, num_words: int, seed: int) -> None:
    """An annotation and its image, in the layout of a split's folder."""
    for part in ("images", "annotations"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    page = page_json(num_words) | {"image_path": f"{name}.png"}
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (255, 250 - seed, 250))
    ImageDraw.Draw(image).rectangle((20 * seed, 30, 20 * seed + 100, 90), fill=(20, 40, 30 * seed))
    image.save(folder / "images" / page["image_path"])
    labels = {"doc_type": "PURCHASE_ORDER", "po_subtype": "STANDARD"} if seed % 2 else {"doc_type": "INVOICE"}
    labels["token_labels"] = [1 + 2 * (index % 4) for index in range(num_words)]
    (folder / "annotations" / f"{name}.json").write_text(json.dumps(page | labels))
