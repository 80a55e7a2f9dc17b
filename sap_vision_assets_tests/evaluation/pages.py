"""Small labelled pages, and a runner that knows their answers and errs where it is told to."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sap_vision_assets.documents import DatasetConfig, build_dataset
from sap_vision_assets.evaluation.stitching import Logits
from sap_vision_assets.shards import ShardConfig, Shards, build_shards, open_shards
from sap_vision_assets_tests.evaluation.helpers import VOCABULARY, label

WIDTH, HEIGHT = 620, 877


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is printed: lines of (text, field or None) runs."""

    document_id: str
    doc_type: str = "INVOICE"
    po_subtype: str | None = None
    lines: tuple[tuple[tuple[str, str | None], ...], ...] = ()


def write_pages(folder: Path, pages: Sequence[Page]) -> None:
    """images/ and annotations/ of one split."""
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True)
    font = ImageFont.load_default(11)
    for page in pages:
        image = Image.new("RGB", (WIDTH, HEIGHT), "white")
        pen = ImageDraw.Draw(image)
        # Equal lines on two documents must not make equal pages.
        pen.text((480, 850), page.document_id, fill="black", font=font)
        words, boxes, labels = [], [], []
        for row, line in enumerate(page.lines):
            left, top = 40.0, 40 + 22 * row
            for text, field in line:
                for index, word in enumerate(text.split(" ")):
                    pen.text((left, top), word, fill="black", font=font)
                    right = left + pen.textlength(word, font=font)
                    words.append(word)
                    boxes.append(
                        [
                            int(1000 * left / WIDTH),
                            1000 * top // HEIGHT,
                            min(1000, int(1000 * right / WIDTH)),
                            1000 * (top + 13) // HEIGHT,
                        ]
                    )
                    labels.append(0 if field is None else label(f"{'I' if index else 'B'}-{field}"))
                    left = right + 5
                left += 14
        stream = io.BytesIO()
        image.save(stream, "PNG")
        (folder / "images" / f"{page.document_id}.png").write_bytes(stream.getvalue())
        record = {
            "image_path": f"{page.document_id}.png",
            "doc_type": page.doc_type,
            "words": words,
            "boxes": boxes,
            "token_labels": labels,
            "width": WIDTH,
            "height": HEIGHT,
        }
        if page.po_subtype:
            record["po_subtype"] = page.po_subtype
        (folder / "annotations" / f"{page.document_id}.json").write_text(json.dumps(record))


def build(folder: Path, pages: Sequence[Page], **config: int) -> tuple[Path, Path]:
    """The pages' dataset and shards."""
    write_pages(folder / "pages", pages)
    dataset, shards = folder / "dataset", folder / "shards"
    dataset.mkdir()
    shards.mkdir()
    config_of_one = DatasetConfig(workers=1)
    summary = build_dataset(folder / "pages", dataset, vocabulary=VOCABULARY, config=config_of_one)
    assert summary["num_documents"] == len(pages), summary
    build_shards(dataset, shards, vocabulary=VOCABULARY, config=ShardConfig(**config), workers=1)
    return dataset, shards


def shards_of(folder: Path, pages: Sequence[Page], **config: int) -> Shards:
    return open_shards(build(folder, pages, **config)[1], VOCABULARY)


class KnowingRunner:
    """Answers with the truth of the shards' windows; `err` may change a document's or a word's answer.

    A confidence of 0.9 means logits whose softmax gives 0.9 to the answer.
    """

    def __init__(
        self,
        *shards: Shards,
        err_word: Callable[[str, int, int], tuple[int, float]] = lambda _document, _word, truth: (truth, 0.9),
        err_doc_type: Callable[[str, int], tuple[int, float]] = lambda _document, truth: (truth, 0.9),
        err_po_subtype: Callable[[str, int], tuple[int, float]] = lambda _document, truth: (truth, 0.9),
    ) -> None:
        self.err_word, self.err_doc_type, self.err_po_subtype = err_word, err_doc_type, err_po_subtype
        self.windows = {
            one.window(index).input_ids.astype(np.int64).tobytes(): (one, index)
            for one in shards
            for index in range(one.num_windows)
        }
        self.batch_shapes: list[tuple[int, int]] = []

    def __call__(
        self,
        input_ids: NDArray[np.int64],
        bbox: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        pixel_values: NDArray[np.float32],
    ) -> Logits:
        assert bbox.shape == (*input_ids.shape, 4)
        assert pixel_values.shape[:2] == (len(input_ids), 3)
        assert float(np.abs(pixel_values).max()) <= 1
        self.batch_shapes.append(input_ids.shape)
        doc_type, po_subtype, token = [], [], []
        for row, mask in zip(input_ids, attention_mask, strict=True):
            shards, index = self.windows[row[mask == 1].tobytes()]
            document = int(shards.window_document[index])
            name = shards.document_id(document)
            truth = max(0, int(shards.po_subtypes[document]))
            doc_type.append(logits_of(15, *self.err_doc_type(name, int(shards.doc_types[document]))))
            po_subtype.append(logits_of(35, *self.err_po_subtype(name, truth)))
            # Wherever the window is not to be read, it shouts nonsense.
            token_TC = np.full((len(row), 181), 0.0, np.float32)
            token_TC[:, label("B-volume")] = 99
            word_labels = shards.word_labels(document)
            for position, word in zip(*shards.scored_positions(index), strict=True):
                answer = self.err_word(name, int(word), int(word_labels[word]))
                token_TC[position] = logits_of(181, *answer)
            token.append(token_TC)
        return Logits(np.stack(doc_type), np.stack(po_subtype), np.stack(token))


def logits_of(num_classes: int, answer: int, confidence: float) -> NDArray[np.float32]:
    """Logits whose softmax gives `confidence` to `answer`, and the rest to the others evenly."""
    probabilities = np.full(num_classes, (1 - confidence) / (num_classes - 1))
    probabilities[answer] = confidence
    return np.log(probabilities).astype(np.float32)
