"""FUNSD (Jaume et al., 2019, arXiv 1905.13538): scanned forms with questions, answers and headers.

They are no SAP fields, so they come with a vocabulary extension of their own. The licence of the data set
allows non-commercial, research and educational use.
"""

from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from sap_vision_assets.documents.importers.conversion import (
    VOCABULARY_FILE,
    Notes,
    SourceFiles,
    SourcePage,
    assign_splits,
    check_target,
    convert_each,
    norm_box,
    pair_files,
    read_image_size,
    read_text_file,
    require_folders,
    write_domain,
)
from sap_vision_assets.documents.importers.report import ImportReport
from sap_vision_assets.errors import InputError
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary
from sap_vision_assets.vocabulary.strict_json import parse_json

FUNSD_VOCABULARY = Path(str(resources.files(__package__).joinpath("funsd_vocabulary.json")))
"""The extension file with the fields formHeader, formQuestion and formAnswer."""
SUFFIXES = {"images": ".png", "annotations": ".json"}
FIELDS = {"header": "formHeader", "question": "formQuestion", "answer": "formAnswer"}
OTHER = "other"
"""Entities with this label get the word label "O"."""


def import_funsd(
    src: Path, out: Path, *, domain: str = "forms", test_share: float = 0.2, val_share: float = 0.1
) -> ImportReport:
    """Converts src/images/*.png and src/annotations/*.json to <out>/<domain>; writes <out>/vocabulary.json.

    Words keep the source's order (entity by entity, so an entity is never torn) and their own boxes. Words
    without text are dropped and counted. The document type is OTHER, whose meaning names forms. A form that
    cannot be used is listed as skipped or unpaired. Raises InputError when the source is not there or has no
    form, the domain is there already, or <out>/vocabulary.json is another; ArtifactError when `out` cannot be
    written.
    """
    require_folders(src, tuple(SUFFIXES))
    check_target(out, domain)
    extension = FUNSD_VOCABULARY.read_bytes()
    written = out / VOCABULARY_FILE
    if written.exists() and written.read_bytes() != extension:
        raise InputError(f"{written}: is another vocabulary extension; import into a data root of its own")
    vocabulary = load_vocabulary(FUNSD_VOCABULARY)
    notes = Notes()
    convert = partial(_convert, vocabulary=vocabulary)
    pages = convert_each(src, pair_files(src, SUFFIXES, notes), convert, notes, vocabulary)
    splits = assign_splits(pages, notes, test_share=test_share, val_share=val_share)
    return write_domain(
        pages, splits, out, domain, source="FUNSD", notes=notes, vocabulary=vocabulary, extension=extension
    )


def _convert(name: str, files: SourceFiles, notes: Notes, *, vocabulary: Vocabulary) -> SourcePage:
    width, height = read_image_size(files["images"])
    words, boxes, labels = [], [], []
    for entity in parse_json(read_text_file(files["annotations"]))["form"]:
        kept = [word for word in entity["words"] if word["text"].strip()]
        notes.counters["words_without_text_dropped"] += len(entity["words"]) - len(kept)
        notes.counters["entities_without_text_dropped"] += not kept
        notes.counters["links_dropped"] += len(entity["linking"]) if kept else 0
        for word, label in zip(kept, _labels(entity, len(kept), vocabulary), strict=True):
            words.append(word["text"].strip())
            boxes.append(norm_box(tuple(word["box"]), width, height, notes))
            labels.append(label)
    return SourcePage(
        name=name,
        image=files["images"],
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
