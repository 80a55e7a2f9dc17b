"""FUNSD (Jaume et al., 2019, arXiv 1905.13538): scanned forms with questions, answers and headers.

They are no SAP fields, so they come with a vocabulary extension of their own. The licence of the data set
allows non-commercial, research and educational use.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from sap_vision_assets.documents.importers.conversion import (
    Notes,
    SourcePage,
    assign_splits,
    check_target,
    norm_box,
    require_folders,
    write_domain,
)
from sap_vision_assets.documents.importers.report import ImportReport
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary

FUNSD_VOCABULARY = Path(str(resources.files(__package__).joinpath("funsd_vocabulary.json")))
"""The extension file with the fields formHeader, formQuestion and formAnswer."""
FIELDS = {"header": "formHeader", "question": "formQuestion", "answer": "formAnswer"}
OTHER = "other"
"""Entities with this label get the word label "O"."""


def import_funsd(
    src: Path, out: Path, *, domain: str = "forms", test_share: float = 0.2, val_share: float = 0.1
) -> ImportReport:
    """Converts src/images/*.png and src/annotations/*.json to <out>/<domain>; writes <out>/vocabulary.json.

    Words keep the source's order (entity by entity, so an entity is never torn) and their own boxes. Words
    without text are dropped and counted. The document type is OTHER, whose meaning names forms. Raises
    InputError when the source is not there, the domain is there already, or <out>/vocabulary.json is another.
    """
    require_folders(src, ("images", "annotations"))
    check_target(out, domain)
    extension = FUNSD_VOCABULARY.read_bytes()
    written = out / "vocabulary.json"
    if written.exists() and written.read_bytes() != extension:
        raise InputError(f"{written}: is another vocabulary extension; import into a data root of its own")
    vocabulary = load_vocabulary(FUNSD_VOCABULARY)
    notes = Notes()
    pages = []
    for file in sorted((src / "annotations").glob("*.json")):
        try:
            pages.append(_convert(file, src / "images" / f"{file.stem}.png", vocabulary, notes))
        except (OSError, ValueError, KeyError, TypeError) as error:
            notes.add(file.stem, "skipped", f"{type(error).__name__}: {error}")
    splits = assign_splits(pages, notes, test_share=test_share, val_share=val_share)
    out.mkdir(parents=True, exist_ok=True)
    report = write_domain(pages, splits, out, domain, source="FUNSD", notes=notes, vocabulary=vocabulary)
    written.write_bytes(extension)
    return report


def _convert(file: Path, image: Path, vocabulary: Vocabulary, notes: Notes) -> SourcePage:
    with Image.open(image) as opened:
        width, height = opened.size
    words, boxes, labels = [], [], []
    for entity in json.loads(file.read_text(encoding="utf-8"))["form"]:
        kept = [word for word in entity["words"] if word["text"].strip()]
        notes.counters["words_without_text_dropped"] += len(entity["words"]) - len(kept)
        notes.counters["entities_without_text_dropped"] += not kept
        notes.counters["links_dropped"] += len(entity["linking"]) if kept else 0
        for word, label in zip(kept, _labels(entity, len(kept), vocabulary), strict=True):
            words.append(word["text"].strip())
            boxes.append(norm_box(tuple(word["box"]), width, height, notes))
            labels.append(label)
    return SourcePage(
        name=file.stem,
        image=image,
        doc_type="OTHER",
        words=words,
        boxes=boxes,
        token_labels=labels,
        width=width,
        height=height,
    )


def _labels(entity: dict[str, Any], num_words: int, vocabulary: Vocabulary) -> list[int]:
    if entity["label"] == OTHER:
        return [0] * num_words
    begin = vocabulary.begin_id(FIELDS[entity["label"]])
    return [begin, *[begin + 1] * (num_words - 1)][:num_words]
