"""The folder that production gets: which files it has, and how its classes are read back. No torch here.

model.onnx (+ model.onnx.data)            float32, the product
model.int8.onnx (+ model.int8.onnx.data)  dynamically quantised
config.json  tokenizer files  labels.json what the model's numbers mean
export.json                               parity, task metrics and sizes
manifest.json                             size and SHA-256 of every file, in what the graph has published
"""

import hashlib
import json
import logging
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
MANIFEST_FILE = "manifest.json"
"""Written by the artefact store: {"files": {name: {"size": bytes, "sha256": hex}}} of all others."""

_logger = logging.getLogger(__name__)


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


def verify(folder: Path) -> None:
    """Raises ArtifactError naming the first file of manifest.json that is missing, cut or changed.

    A folder without a manifest, such as `export_onnx` writes, passes with a warning.
    """
    if not (folder / MANIFEST_FILE).exists():
        _logger.warning("%s: has no %s, so its files are not verified", folder, MANIFEST_FILE)
        return
    record = read_json(folder / MANIFEST_FILE)
    try:
        promised = {str(name): (int(of["size"]), str(of["sha256"])) for name, of in record["files"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactError(
            f"{folder / MANIFEST_FILE}: lists no file's size and sha256 ({error!r}); copy the folder again"
        ) from error
    for name, (size, sha256) in promised.items():
        file = folder / name
        if not file.is_file():
            raise ArtifactError(f"{file}: is missing; copy the folder again, with all files that it has")
        found = file.stat().st_size
        if found != size or _sha256(file) != sha256:
            raise ArtifactError(
                f"{file}: its {found} bytes are not the {size} that {MANIFEST_FILE} promises, or one has "
                "changed; copy the folder again, or promote the model again"
            )


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises ArtifactError when there is none."""
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: cannot be read ({error}); export the model again") from error
    if not isinstance(record, dict):
        raise ArtifactError(f"{file}: holds a {type(record).__name__}, expected an object; export it again")
    return record


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_KINDS = ("doc_types", "po_subtypes", "fields")
