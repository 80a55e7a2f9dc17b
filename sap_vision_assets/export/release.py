"""The folder that production gets: which files it has, and how its classes are read back. No torch here.

model.onnx (+ model.onnx.data)            float32, the product
model.int8.onnx (+ model.int8.onnx.data)  dynamically quantised
config.json  tokenizer files  labels.json what the model's numbers mean
export.json                               parity, task metrics and sizes
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sap_vision_assets.errors import ArtifactError
from sap_vision_assets.vocabulary import Term, Vocabulary

MODEL_FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
VARIANT_FILES = {"fp32": MODEL_FILE, "int8": INT8_FILE}
LABELS_FILE = "labels.json"
THRESHOLDS_FILE = "thresholds.json"
EXPORT_FILE = "export.json"
LATENCY_FILE = "latency.json"


def write_labels(folder: Path, vocabulary: Vocabulary) -> None:
    """Writes labels.json: the whole vocabulary, and the token labels in the order of their ids."""
    record = {
        "vocabulary_digest": vocabulary.digest,
        **{kind: [asdict(term) for term in getattr(vocabulary, kind)] for kind in _KINDS},
        "token_labels": vocabulary.labels,
    }
    (folder / LABELS_FILE).write_text(json.dumps(record, indent=1, ensure_ascii=False))


def read_labels(folder: Path) -> Vocabulary:
    """The vocabulary of a released folder. Raises ArtifactError when labels.json is missing or was edited."""
    record = read_json(folder / LABELS_FILE)
    try:
        vocabulary = Vocabulary(**{kind: tuple(Term(**term) for term in record[kind]) for kind in _KINDS})
        promised = record["vocabulary_digest"]
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{folder / LABELS_FILE}: has no {error}; export the model again") from error
    if vocabulary.digest != promised:
        raise ArtifactError(
            f"{folder / LABELS_FILE}: its names have digest {vocabulary.digest}, it promises {promised}; "
            "the file was edited, export the model again"
        )
    return vocabulary


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises ArtifactError when there is none."""
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: cannot be read ({error}); export the model again") from error
    if not isinstance(record, dict):
        raise ArtifactError(f"{file}: holds a {type(record).__name__}, expected an object; export it again")
    return record


_KINDS = ("doc_types", "po_subtypes", "fields")
