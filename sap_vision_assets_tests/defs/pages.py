"""Small labelled pages, written in milliseconds."""

import json
from pathlib import Path

from PIL import Image, ImageDraw

DOC_TYPES = ("INVOICE", "PURCHASE_ORDER", "DELIVERY_NOTE")


def write_split(root: Path, domain: str, split: str, count: int, *, first: int = 0) -> Path:
    """`count` pages, each another one, below root/domain/split; returns that folder."""
    folder = root / domain / split
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        write_page(folder, f"{split}_{index:03d}", words=[domain, split, str(index), "total"], index=index)
    return folder


def write_page(
    folder: Path, name: str, *, words: list[str], index: int = 0, doc_type: str | None = None
) -> None:
    doc_type = doc_type or DOC_TYPES[index % len(DOC_TYPES)]
    page = Image.new("RGB", (200, 260), "white")
    draw = ImageDraw.Draw(page)
    boxes = []
    for line, word in enumerate(words):
        draw.text((20, 20 + 40 * line), word, fill="black")
        boxes.append([100, 70 + 150 * line, 500, 130 + 150 * line])
    page.save(folder / "images" / f"{name}.png")
    record = {
        "image_path": f"{name}.png",
        "doc_type": doc_type,
        "words": words,
        "boxes": boxes,
        "token_labels": [0, 0, 1, 0],
        "width": 200,
        "height": 260,
    }
    if doc_type == "PURCHASE_ORDER":
        record["po_subtype"] = "STANDARD"
    (folder / "annotations" / f"{name}.json").write_text(json.dumps(record))


def break_page(folder: Path, name: str) -> None:
    """Makes an annotation that is rejected."""
    file = folder / "annotations" / f"{name}.json"
    record = json.loads(file.read_text())
    record["boxes"][0] = [500, 10, 100, 60]
    file.write_text(json.dumps(record))
