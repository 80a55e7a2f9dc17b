"""Small datasets, made the way that a user's are: a folder of pages and annotations, validated."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from sap_vision_assets.documents import DatasetConfig, build_dataset
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One document of a test."""

    words: Sequence[str]
    labels: Sequence[int]
    doc_type: str = "INVOICE"
    po_subtype: str | None = None
    size: tuple[int, int] = (60, 80)
    colour: tuple[int, int, int] = (255, 255, 255)
    format: str = "PNG"
    options: dict[str, object] = field(default_factory=dict)


MakeDataset = Callable[[Sequence[Labelled]], Path]


def boxes_of(num_words: int) -> list[list[int]]:
    """A box for each word, told apart by its left edge."""
    return [[index % 900, 10, index % 900 + 50, 30] for index in range(num_words)]


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return load_vocabulary()


@pytest.fixture
def make_dataset(tmp_path: Path, vocabulary: Vocabulary) -> MakeDataset:
    def make(documents: Sequence[Labelled]) -> Path:
        folder, dataset = tmp_path / "raw", tmp_path / "dataset"
        for name in ("images", "annotations"):
            (folder / name).mkdir(parents=True)
        dataset.mkdir()
        for index, document in enumerate(documents):
            _write(folder, f"doc_{index:03d}", index, document)
        summary = build_dataset(folder, dataset, vocabulary=vocabulary, config=DatasetConfig(workers=1))
        assert summary["num_documents"] == len(documents)
        return dataset

    return make


def _write(folder: Path, name: str, index: int, document: Labelled) -> None:
    page = Image.new("RGB", document.size, document.colour)
    page.putpixel((0, 0), (index % 256, 7, 7))  # equal pages would be duplicates
    image = f"{name}.{'jpg' if document.format == 'JPEG' else 'png'}"
    page.save(folder / "images" / image, document.format, **document.options)
    annotation = {
        "image_path": image,
        "doc_type": document.doc_type,
        "words": list(document.words),
        "boxes": boxes_of(len(document.words)),
        "token_labels": list(document.labels),
        "width": document.size[0],
        "height": document.size[1],
    }
    if document.po_subtype is not None:
        annotation["po_subtype"] = document.po_subtype
    (folder / "annotations" / f"{name}.json").write_text(json.dumps(annotation))
