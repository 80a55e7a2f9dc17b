"""The evaluation report of a checkpoint: report.json for machines, report.html and pictures for people."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sap_vision_assets.artifacts import canonical_json
from sap_vision_assets.documents import Document, load_page, open_dataset
from sap_vision_assets.errors import ArtifactError, CheckpointError
from sap_vision_assets.evaluation import analysis
from sap_vision_assets.evaluation.html import render_html
from sap_vision_assets.evaluation.outcomes import DocumentOutcome, compare
from sap_vision_assets.evaluation.pictures import draw_confusion, draw_page, thumbnail
from sap_vision_assets.evaluation.predict import Runner, TorchRunner, predict_documents
from sap_vision_assets.evaluation.scores import Scores, score
from sap_vision_assets.evaluation.thresholds import (
    ThresholdConfig,
    apply_thresholds,
    choose_thresholds,
)
from sap_vision_assets.shards import Shards, open_shards
from sap_vision_assets.vocabulary import Vocabulary

SCHEMA_VERSION = 1
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
THRESHOLDS_JSON = "thresholds.json"
DOC_TYPE_PICTURE = "doc_type_confusion.png"
PO_SUBTYPE_PICTURE = "po_subtype_confusion.png"
THUMBNAILS = "thumbnails"
"""Folder with a small JPEG of each picture."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How to evaluate; no field changes what counts as correct."""

    batch_size: int = 8
    """Windows per forward pass."""
    num_examples: int = 6
    """Pages drawn into the report."""
    thresholds: ThresholdConfig = field(default_factory=ThresholdConfig)
    device: str = "auto"
    """"auto", "cpu", "cuda" or "cuda:1"."""


def evaluate(
    checkpoint: Path,
    *,
    test_shards: Path,
    test_dataset: Path,
    val_shards: Path,
    out: Path,
    vocabulary: Vocabulary,
    config: EvaluationConfig | None = None,
) -> dict[str, Any]:
    """Scores `checkpoint` on the test split and writes the report into `out`; returns the headline figures.

    Files: report.json, report.html (one page, pictures inside), thresholds.json (confidence thresholds,
    chosen on val alone), doc_type_confusion.png, po_subtype_confusion.png, page_*.png, thumbnails/*.jpg.
    Metrics without support are None in the summary ("undefined, n=0"). Raises VocabularyMismatchError,
    CheckpointError (a checkpoint of another tokenizer) or ArtifactError (inputs that do not belong together).
    """
    config = config or EvaluationConfig()
    runner = TorchRunner(checkpoint, device=config.device)
    vocabulary.require_digest(runner.config.vocabulary_digest, str(checkpoint))
    test, val = open_shards(test_shards, vocabulary), open_shards(val_shards, vocabulary)
    for shards, where in ((test, test_shards), (val, val_shards)):
        _require_tokenizer(runner, shards, checkpoint, where)
    return evaluate_runner(
        runner,
        test=test,
        val=val,
        test_dataset=test_dataset,
        out=out,
        vocabulary=vocabulary,
        config=config,
        checkpoint_digest=_file_digest(checkpoint / "model.safetensors"),
    )


def evaluate_runner(
    runner: Runner,
    *,
    test: Shards,
    val: Shards,
    test_dataset: Path,
    out: Path,
    vocabulary: Vocabulary,
    config: EvaluationConfig,
    checkpoint_digest: str | None = None,
) -> dict[str, Any]:
    """`evaluate` with any runner."""
    thresholds = choose_thresholds(
        compare(predict_documents(runner, val, config.batch_size), val), vocabulary, config.thresholds
    )
    scores = score(predict_documents(runner, test, config.batch_size), test, vocabulary)
    examples = analysis.pick_examples(scores.outcomes, config.num_examples)
    test_digest, documents = _read_dataset(test_dataset, vocabulary, test, examples)
    summary = {
        **scores.summary(),
        "vocabulary_digest": vocabulary.digest,
        "checkpoint_digest": checkpoint_digest,
        "test_digest": test_digest,
    }
    report = {
        "schema_version": SCHEMA_VERSION,
        "summary": summary,
        "doc_type": asdict(scores.doc_type),
        "po_subtype": asdict(scores.po_subtype),
        "fields": asdict(scores.fields),
        "analysis": _analysis(scores, vocabulary),
        "thresholds": {
            "chosen_on_val": thresholds.to_json(vocabulary),
            "on_test": apply_thresholds(thresholds, scores.outcomes, vocabulary),
        },
        "examples": [_example(outcome, documents[outcome.document_id], vocabulary) for outcome in examples],
    }
    _write_json(out / REPORT_JSON, report)
    _write_json(out / THRESHOLDS_JSON, thresholds.to_json(vocabulary))
    draw_confusion(scores.doc_type, "Document types", out / DOC_TYPE_PICTURE)
    draw_confusion(scores.po_subtype, "Purchase order subtypes", out / PO_SUBTYPE_PICTURE)
    pages = _draw_pages(out, examples, documents, vocabulary)
    (out / THUMBNAILS).mkdir()
    for name, file in report_pictures(out).items():
        (out / THUMBNAILS / f"{name}.jpg").write_bytes(thumbnail(file))
    (out / REPORT_HTML).write_text(render_html(report, report_pictures(out), pages), encoding="utf-8")
    return summary


def report_pictures(out: Path) -> dict[str, Path]:
    """The pictures of a written report, by name: the two confusion matrices first, then the pages."""
    matrices = [out / DOC_TYPE_PICTURE, out / PO_SUBTYPE_PICTURE]
    return {file.stem: file for file in [*matrices, *sorted(out.glob("page_*.png"))] if file.is_file()}


def thumbnails(out: Path) -> dict[str, bytes]:
    """JPEGs below 70 kB of `report_pictures`, by name, for a UI that keeps metadata in its event log."""
    return {name: (out / THUMBNAILS / f"{name}.jpg").read_bytes() for name in report_pictures(out)}


def _analysis(scores: Scores, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "by_doc_type": analysis.by_doc_type(scores.outcomes, vocabulary),
        "by_num_words": analysis.by_num_words(scores.outcomes, vocabulary),
        "doc_type_confusions": analysis.confusion_pairs(scores.doc_type),
        "po_subtype_confusions": analysis.confusion_pairs(scores.po_subtype),
        "entity_errors": analysis.entity_errors(scores.outcomes),
        "field_confusions": analysis.field_confusions(scores.outcomes, vocabulary),
        "worst_fields": analysis.worst_fields(scores.fields),
        "worst_documents": analysis.worst_documents(scores.outcomes, vocabulary),
    }


def _example(outcome: DocumentOutcome, document: Document, vocabulary: Vocabulary) -> dict[str, Any]:
    def text(start: int, end: int) -> str:
        return " ".join(document.words[start:end])

    names = vocabulary.field_names
    spurious = [
        {"kind": "wrong", "field": names[e.field], "words": text(e.start, e.end), "confidence": confidence}
        for e, confidence in outcome.spurious
    ]
    missed = [
        {"kind": "missed", "field": names[e.field], "words": text(e.start, e.end), "confidence": None}
        for e in outcome.missed
    ]
    return {
        "document_id": outcome.document_id,
        "picture": _page_file(outcome.document_id),
        "doc_type": vocabulary.doc_type_names[outcome.doc_type],
        "predicted_doc_type": vocabulary.doc_type_names[outcome.predicted_doc_type],
        "doc_type_confidence": outcome.doc_type_confidence,
        "po_subtype": None if outcome.po_subtype is None else vocabulary.po_subtype_names[outcome.po_subtype],
        "predicted_po_subtype": (
            None if outcome.po_subtype is None else vocabulary.po_subtype_names[outcome.predicted_po_subtype]
        ),
        "num_words": outcome.num_words,
        "num_unscored_words": outcome.num_unscored_words,
        "num_correct": len(outcome.correct),
        "num_missed": len(outcome.missed),
        "num_spurious": len(outcome.spurious),
        "errors": spurious + missed,
    }


def _draw_pages(
    out: Path,
    examples: Sequence[DocumentOutcome],
    documents: Mapping[str, Document],
    vocabulary: Vocabulary,
) -> dict[str, Image.Image]:
    pages = {}
    for outcome in examples:
        document = documents[outcome.document_id]
        page = draw_page(load_page(document.image_bytes), document.boxes, outcome, vocabulary.field_names)
        page.save(out / _page_file(outcome.document_id), optimize=True)
        pages[outcome.document_id] = page
    return pages


def _read_dataset(
    path: Path, vocabulary: Vocabulary, shards: Shards, examples: Sequence[DocumentOutcome]
) -> tuple[str, dict[str, Document]]:
    """Digest of everything that the test asks and knows, and the documents of the examples by id."""
    wanted = {outcome.document_id for outcome in examples}
    digest, found, num_documents = hashlib.sha256(), {}, 0
    for document in open_dataset(path, vocabulary).iter_documents():
        num_documents += 1
        content = (
            document.document_id,
            document.page_sha256,
            document.doc_type,
            document.po_subtype,
            list(document.words),
            [list(box) for box in document.boxes],
            list(document.labels),
        )
        digest.update(canonical_json(content) + b"\n")
        if document.document_id in wanted:
            found[document.document_id] = document
    missing = sorted(wanted - found.keys())
    if num_documents != shards.num_documents or missing:
        raise ArtifactError(
            f"{path}: holds {num_documents} documents, the test shards {shards.num_documents}"
            + (f", and {missing[0]} is not in it" if missing else "")
            + "; pass the dataset that the shards were made from"
        )
    return digest.hexdigest(), found


def _require_tokenizer(runner: TorchRunner, shards: Shards, checkpoint: Path, where: Path) -> None:
    expected, found = runner.config.tokenizer_digest, shards.info["tokenizer_digest"]
    if expected != found:
        raise CheckpointError(
            f"{checkpoint} was trained with tokenizer {expected}, {where} was made with {found}; "
            "build the shards with the checkpoint's tokenizer"
        )


def _page_file(document_id: str) -> str:
    # Ids are file stems of the user's: anything a file system or a URL takes amiss becomes "_".
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", document_id)
    return f"page_{safe[:100]}_{hashlib.sha256(document_id.encode()).hexdigest()[:6]}.png"


def _file_digest(file: Path) -> str | None:
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
